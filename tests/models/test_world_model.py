import pytest
import tiny_models as tiny
import torch

from whale.errors import ConfigError
from whale.models.categorical import mode
from whale.models.world_model import WorldModel


def world(window: int = tiny.WINDOW) -> WorldModel:
    parts = (tiny.tokenizer(), tiny.behavior(), tiny.dynamics())
    for part in parts:
        part.double().eval()
    return WorldModel(*parts, window=window)


def start(size: int = 2, given: int = 1, horizon: int = 3):
    batch = tiny.pixel_batch(size)
    generator = torch.Generator().manual_seed(1)
    actions = torch.rand(size, given - 1 + horizon, 7, generator=generator, dtype=torch.float64) * 2 - 1
    return batch["frames"][:, :given], actions


def reference_step(model, frames, actions):
    """One step by the definition: encode the given frames from their first, then everything anew."""
    pixels = frames.double() / 255
    z = mode(model.behavior.prior_log_probs(pixels, actions)).flatten(2)
    logits = model.dynamics.logits(model.tokenizer.encode(pixels), actions, z)[:, -1]
    return logits.argmax(-1), -(logits.log_softmax(-1).exp() * logits.log_softmax(-1)).sum(-1).mean(-1)


def test_the_first_step_is_the_definition():
    model = world()
    frames, actions = start(given=3, horizon=1)
    rollout = model.rollout(frames, actions, 1)
    tokens, entropy = reference_step(model, frames, actions)
    assert torch.equal(rollout.tokens[:, 0], tokens)
    torch.testing.assert_close(rollout.entropy[:, 0], entropy.float(), check_dtype=False, rtol=1e-5, atol=0)


def test_a_later_action_changes_nothing_earlier():
    model = world()
    frames, actions = start(horizon=10)
    other = actions.clone()
    other[:, 6:] *= -1
    one, two = model.rollout(frames, actions, 10), model.rollout(frames, other, 10)
    assert torch.equal(one.frames[:, :6], two.frames[:, :6])


def test_a_window_serves_t_predictions_and_then_restarts_from_its_last_half_reencoded():
    model = world()
    frames, actions = start(horizon=tiny.WINDOW + 1)
    whole = model.rollout(frames, actions, tiny.WINDOW + 1)
    keep = tiny.WINDOW // 2
    history = torch.cat([frames, whole.frames[:, : tiny.WINDOW]], dim=1)[:, -keep:]
    again = model.rollout(history, actions[:, -keep:], 1)
    assert torch.equal(again.tokens[:, 0], whole.tokens[:, -1])


def test_a_sequence_does_not_depend_on_the_others_in_its_batch():
    model = world()
    frames, actions = start(size=3, horizon=4)
    together, alone = model.rollout(frames, actions, 4), model.rollout(frames[1:2], actions[1:2], 4)
    assert torch.equal(together.tokens[1], alone.tokens[0])


def test_shapes_that_do_not_fit_are_refused():
    frames, actions = start(given=3, horizon=2)
    with pytest.raises(ConfigError, match="rollout shapes"):
        world().rollout(frames, actions[:, :-1], 2)


def test_a_dynamics_that_needs_z_is_not_built_without_a_behavior_model():
    with pytest.raises(ConfigError, match="behavior model"):
        WorldModel(tiny.tokenizer(), None, tiny.dynamics(), tiny.WINDOW)
