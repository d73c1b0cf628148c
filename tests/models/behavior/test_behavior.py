import math

import numpy as np
import pytest
import tiny_models as tiny
import torch

from whale.common.errors import ConfigError
from whale.models.behavior.behavior import BehaviorConfig, gaussian_nll
from whale.training.tasks.behavior import steps_before


def test_the_policy_at_step_h_sees_no_action_from_h_on():
    model, batch = tiny.behavior(), tiny.pixel_batch()
    frames, z = batch["frames"][:, : tiny.WINDOW].float() / 255, torch.randn(3, 256)
    actions = batch["action"].requires_grad_()
    mean, log_std = model.policy(frames, actions, z)
    for step in range(tiny.WINDOW):
        (seen,) = torch.autograd.grad((mean[:, step] + log_std[:, step]).sum(), actions, retain_graph=True)
        assert seen[:, step:].abs().max() == 0
        assert step == 0 or seen[:, :step].abs().min() > 0


def test_the_prior_at_step_h_reads_the_action_of_h_and_nothing_later():
    model, batch = tiny.behavior(), tiny.pixel_batch()
    frames = (batch["frames"][:, : tiny.WINDOW].float() / 255).requires_grad_()
    actions = batch["action"].requires_grad_()
    log_probs = model.prior_log_probs(frames, actions)
    weight = torch.randn(16, 16)
    by_frame, by_action = torch.autograd.grad((log_probs[:, 1] * weight).sum(), (frames, actions))
    assert by_action[:, 1].abs().min() > 0 and by_action[:, 2:].abs().max() == 0
    assert by_frame[:, 1].abs().max() > 0 and by_frame[:, 2:].abs().max() == 0


def test_the_posterior_reads_out_at_the_last_valid_step():
    model, batch = tiny.behavior(), tiny.pixel_batch()
    frames, num_steps = batch["frames"][:, : tiny.WINDOW].float() / 255, torch.tensor([2, 4, 3])
    log_q = model.posterior_log_probs(frames, batch["action"], num_steps)
    padded = frames.clone()
    padded[0, 2:], padded[2, 3:] = 0, 1
    torch.testing.assert_close(model.posterior_log_probs(padded, batch["action"], num_steps), log_q)


def test_gaussian_nll_equals_a_float64_reference_and_leaves_masked_dimensions_out():
    rng = np.random.default_rng(0)
    action, mean, log_std = (rng.normal(size=(2, 3, 7)) for _ in range(3))
    mask = np.array([[1, 1, 1, 1, 1, 1, 1], [1, 0, 1, 0, 1, 0, 1]], bool)
    density = np.exp(-0.5 * ((action - mean) / np.exp(log_std)) ** 2) / (np.exp(log_std) * math.sqrt(2 * math.pi))
    reference = -(np.log(density) * mask[:, None]).sum(-1)
    found = gaussian_nll(*(torch.from_numpy(value) for value in (action, mean, log_std, mask)))
    np.testing.assert_allclose(found.numpy(), reference, rtol=1e-9)


def test_invalid_actions_are_never_targets():
    model, batch = tiny.behavior(), tiny.pixel_batch()
    batch["action_valid"][:, -1] = False
    loss = model(batch)[1]["policy_nll"]
    batch["frames"][:, -1] = 0  # the frame after the last action is never seen
    torch.testing.assert_close(model(batch)[1]["policy_nll"], loss)


def test_one_batch_can_be_overfitted():
    model, batch = tiny.behavior(), tiny.pixel_batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    first = model(batch)[0].item()
    for _ in range(120):
        optimizer.zero_grad()
        model(batch)[0].backward()
        optimizer.step()
    assert model(batch)[0].item() < first - 5


def test_a_config_without_memory_is_written_as_before_there_was_any_and_one_with_it_comes_back():
    plain, longer = tiny.behavior().config, tiny.behavior(memory=12).config
    assert "memory" not in plain.model_dump(mode="json") and "memory" not in plain.deciding_values()
    assert longer.model_dump(mode="json")["memory"] == 12
    for config in (plain, longer):
        assert BehaviorConfig.parse(config.model_dump(mode="json"), file="config.json") == config


def test_a_sample_begins_before_its_segment_by_what_the_prior_remembers_beyond_the_window():
    assert steps_before(tiny.behavior().config, window=4) == 0
    assert steps_before(tiny.behavior(memory=12).config, window=4) == 8
    with pytest.raises(ConfigError, match="remembers less than a segment"):
        steps_before(tiny.behavior(memory=3).config, window=4)
