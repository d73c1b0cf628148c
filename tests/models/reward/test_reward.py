import pytest
import torch

from whale.models.reward.reward import RewardHead, RewardHeadConfig, symexp, symlog
from whale.models.trunk.folder import save_model

CONFIG = RewardHeadConfig(feature_size=6, action_size=7, hidden=16)


def batch(generator: torch.Generator, rows: int = 32) -> dict[str, torch.Tensor]:
    """The reward is a function of how one feature changes, and of one action."""
    features = torch.randn(rows, 5, 2, 6, generator=generator)
    features[:, :, 1] = features[:, :, 0]
    action = torch.rand(rows, 4, 7, generator=generator) * 2 - 1
    reward = 3 * (features[:, 1:, 0, 2] - features[:, :-1, 0, 2]).abs() + 2 * action[..., 6].abs()
    valid = torch.ones(rows, 4, dtype=torch.bool)
    return {"features": features, "action": action, "action_valid": valid, "reward": reward}


def test_symlog_has_an_inverse_and_keeps_signs():
    values = torch.tensor([-250.0, -1.0, 0.0, 0.5, 10.0, 1000.0], dtype=torch.float64)
    torch.testing.assert_close(symexp(symlog(values)), values)
    assert symlog(values)[-1] < 7


def test_steps_without_a_valid_action_teach_nothing():
    torch.manual_seed(0)
    head, some = RewardHead(CONFIG), batch(torch.Generator().manual_seed(1))
    some["action_valid"][:, 2:] = False
    loss = head(some)[0]
    some["reward"][:, 2:] = 1.0e6
    torch.testing.assert_close(head(some)[0], loss)


def test_a_head_learns_what_frames_and_action_earn_and_survives_its_folder(tmp_path):
    torch.manual_seed(0)
    generator, head = torch.Generator().manual_seed(2), RewardHead(CONFIG)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        head(batch(generator))[0].backward()
        optimizer.step()
    unseen = batch(torch.Generator().manual_seed(99))
    save_model(tmp_path, head)
    before, after = unseen["features"][:, :-1, 0], unseen["features"][:, 1:, 0]
    found = RewardHead.restore(tmp_path).predict(before, after, unseen["action"])
    variance = (unseen["reward"] - unseen["reward"].mean()).square().mean()
    assert (found - unseen["reward"]).square().mean() < 0.2 * variance
    shuffled = head.predict(before, after.flip(0), unseen["action"])
    assert (shuffled - unseen["reward"]).square().mean() > 0.5 * variance


def test_errors_of_both_versions_are_told_apart():
    torch.manual_seed(0)
    some, head = batch(torch.Generator().manual_seed(3)), RewardHead(CONFIG)
    loss, logs = head(some)
    assert logs["recorded"].item() == logs["reconstructed"].item() == pytest.approx(loss.item())
    some["features"][:, :, 1] = 0
    logs = head(some)[1]
    assert logs["reconstructed"].item() != logs["recorded"].item()
