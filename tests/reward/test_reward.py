"""The reward head: what its inputs are for, its scale, and what does not teach it."""

import pytest
import torch

from whale.common.errors import ConfigError
from whale.models.trunk.folder import save_model
from whale.reward.reward import RewardHead, RewardHeadConfig, Seen, symexp, symlog

CONFIG = RewardHeadConfig(
    feature_size=6, action_size=7, hidden=16, instructions=["open", "shut"], bounds=[-12.0, 12.0], encoder="0" * 64
)


def batch(generator: torch.Generator, rows: int = 32) -> dict[str, torch.Tensor]:
    """The reward is how one feature changed since the episode began, up or down by the task, and the effort."""
    features = torch.randn(rows, 5, 2, 6, generator=generator)
    features[:, :, 1] = features[:, :, 0]
    first = torch.randn(rows, 6, generator=generator)
    action = torch.rand(rows, 4, 7, generator=generator) * 2 - 1
    task = torch.randint(2, (rows,), generator=generator)
    sign = 1.0 - 2.0 * task[:, None]
    reward = 3 * sign * (features[:, 1:, 0, 2] - first[:, None, 2]) + 2 * action[..., 6].abs()
    valid = torch.ones(rows, 4, dtype=torch.bool)
    told = {"first": first, "task": task, "action": action, "action_valid": valid, "reward": reward}
    return {"features": features, **told}


def seen(batch: dict[str, torch.Tensor], **changes: torch.Tensor) -> Seen:
    shape = batch["action"].shape[:2]
    parts = {"first": batch["first"][:, None].expand(*shape, -1), "before": batch["features"][:, :-1, 0]}
    parts |= {"after": batch["features"][:, 1:, 0], "action": batch["action"]}
    return Seen(**(parts | {"task": batch["task"][:, None].expand(shape)} | changes))


def trained() -> RewardHead:
    torch.manual_seed(0)
    generator, head = torch.Generator().manual_seed(2), RewardHead(CONFIG)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        head(batch(generator, 64))[0].backward()
        optimizer.step()
    return head.eval()


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


def test_a_head_learns_what_frames_task_and_beginning_earn_and_survives_its_folder(tmp_path):
    head, unseen = trained(), batch(torch.Generator().manual_seed(99), 256)
    save_model(tmp_path, head.measured({"blocks": {"recorded": 0.5}}))
    again = RewardHead.restore(tmp_path)
    assert again.config.r2 == {"blocks": {"recorded": 0.5}}
    true = unseen["reward"].clamp(*CONFIG.bounds)
    variance = (true - true.mean()).square().mean()

    def missed(**changes):
        return (again.predict(seen(unseen, **changes)) - true).square().mean() / variance

    whole = seen(unseen)
    assert missed() < 0.25
    for name, value in (("after", whole.after.flip(0)), ("task", 1 - whole.task), ("first", whole.first.flip(0))):
        assert missed(**{name: value}) > missed() + 0.3, name


def test_predictions_stay_within_what_was_recorded():
    head, some = trained(), batch(torch.Generator().manual_seed(5))
    found = head.predict(seen(some, after=torch.full_like(some["features"][:, 1:, 0], 1e4)))
    assert found.abs().max() == 12.0


def test_a_task_without_recorded_rewards_is_named():
    head = RewardHead(CONFIG)
    assert head.tasks(["shut", "open", "shut"]).tolist() == [1, 0, 1]
    with pytest.raises(ConfigError, match=r"(?s)no reward was recorded.*sing.*open; shut"):
        head.tasks(["open", "sing"])


def test_errors_of_both_versions_are_told_apart():
    torch.manual_seed(0)
    some, head = batch(torch.Generator().manual_seed(3)), RewardHead(CONFIG)
    loss, logs = head(some)
    assert logs["recorded"].item() == logs["reconstructed"].item() == pytest.approx(loss.item())
    some["features"][:, :, 1] = 0
    logs = head(some)[1]
    assert logs["reconstructed"].item() != logs["recorded"].item()
