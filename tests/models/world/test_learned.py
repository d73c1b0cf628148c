from types import SimpleNamespace

import pytest
import tiny_models as tiny
import torch
from recomputed_world import chosen_tokens

from whale.common.errors import ConfigError
from whale.models.behavior.categorical import mode
from whale.models.world.learned import LearnedWorld
from whale.models.world.rollout import entropy, frames, rollout, tokens
from whale.models.world.state import WorldState


def world(window: int = tiny.WINDOW, hold_still: int | None = None, **changes) -> LearnedWorld:
    parts = (tiny.tokenizer(hold_still=hold_still), tiny.behavior(), tiny.dynamics(**changes))
    for part in parts:
        part.double().eval()
    return LearnedWorld(*parts, window=window)


def start(size: int = 2, given: int = 1, horizon: int = 3):
    batch = tiny.pixel_batch(size)
    generator = torch.Generator().manual_seed(1)
    actions = torch.rand(size, given - 1 + horizon, 7, generator=generator, dtype=torch.float64) * 2 - 1
    return batch["frames"][:, :given], actions


def imagined(model, given, actions, horizon, **how) -> SimpleNamespace:
    return SimpleNamespace(**rollout(model, given, actions, horizon, (frames, tokens, entropy), **how))


def reference_step(model, frames, actions):
    """One step by the definition: encode the given frames from their first, then everything anew."""
    pixels = frames.double() / 255
    z = mode(model.behavior.prior_log_probs(pixels, actions)).flatten(2)
    logits = model.dynamics.logits(model.tokenizer.encode(pixels), actions, z)[:, -1]
    return logits.argmax(-1), -(logits.log_softmax(-1).exp() * logits.log_softmax(-1)).sum(-1).mean(-1)


def recomputed(model, frames, actions, horizon):
    """The rollout by its definition: every step recomputes the current window, nothing is remembered."""
    held, tokens, taken = frames, model.tokenizer.encode(frames.double() / 255), actions[:, : frames.shape[1] - 1]
    imagined, chosen = [], []
    for step in range(horizon):
        if held.shape[1] > model.window:
            keep = model.window // 2
            held, taken = held[:, -keep:], taken[:, taken.shape[1] - keep + 1 :]
            tokens = model.tokenizer.encode(held.double() / 255)
        taken = torch.cat([taken, actions[:, frames.shape[1] - 1 + step, None]], dim=1)
        z = mode(model.behavior.prior_log_probs(held.double() / 255, taken)).flatten(2)
        chosen.append(chosen_tokens(model.dynamics, tokens, taken, z)[0])
        tokens = torch.cat([tokens, chosen[-1][:, None]], dim=1)
        decoded = (model.tokenizer.decode(tokens)[:, -1] * 255).round().clamp(0, 255).to(torch.uint8)
        imagined.append(model.tokenizer.hold_pixels(decoded, tokens[:, -1], held[:, -1], tokens[:, -2]))
        held = torch.cat([held, imagined[-1][:, None]], dim=1)
    return tuple(torch.stack(part, dim=1) for part in (imagined, chosen))


@pytest.mark.parametrize(
    ("given", "changes"),
    [
        (1, {}),
        (3, {}),
        (tiny.WINDOW, {}),
        (2, {"hold_still": 8}),
        (1, {"action_mode": "prepend"}),
        (3, {"sampler": "maskgit", "maskgit_passes": 3, "action_mode": "prepend"}),
    ],
    ids=str,
)
@torch.no_grad()
def test_the_caches_change_nothing_over_64_steps(given, changes):
    model, horizon = world(**changes), 64
    frames, actions = start(given=given, horizon=horizon)
    found = imagined(model, frames, actions, horizon)
    expected, tokens = recomputed(model, frames, actions, horizon)
    assert torch.equal(found.tokens, tokens) and torch.equal(found.frames, expected)


@torch.no_grad()
def test_logits_in_single_precision_are_those_of_the_recomputed_window_at_every_one_of_64_steps():
    model = world()
    for part in (model.tokenizer, model.behavior, model.dynamics):
        part.float()
    frames, actions = start(horizon=64)
    actions = actions.float()
    state = model.start(frames, actions[:, :0])
    for action in actions.unbind(1):
        state = model.restarted(state)
        taken = torch.cat([state.actions, action[:, None]], dim=1)
        z = mode(model.behavior.prior_log_probs(state.frames.float() / 255, taken)).flatten(2)
        logits = model.dynamics.logits(state.tokens, taken, z)[:, -1]
        state, step = model.step(state, action)
        assert (step.logits - logits).abs().max() < 1e-3


@torch.no_grad()
def test_branches_of_one_state_are_rollouts_of_their_own():
    """Cut, step otherwise, stack and take: what retracing asks of a state."""
    model = world()
    frames, actions = start(given=tiny.WINDOW, horizon=1)
    whole = model.start(frames, actions[:, :-1])
    short = model.start(frames[:, :2], actions[:, :1])
    other = -actions[:, 1]
    joined = WorldState.stack([whole.cut(2), short])
    _, step = model.step(joined, torch.cat([actions[:, 1], other]))
    assert torch.equal(step.tokens[:2], model.step(short, actions[:, 1])[1].tokens)
    assert torch.equal(step.tokens[2:], model.step(short, other)[1].tokens)
    alone = whole.take(slice(1, 2))
    after = model.step(whole, actions[:, -1])[1]
    assert torch.equal(model.step(alone, actions[1:, -1])[1].tokens, after.tokens[1:])


def test_a_full_window_takes_no_step():
    model = world()
    frames, actions = start(given=tiny.WINDOW, horizon=1)
    full, _ = model.step(model.start(frames, actions[:, :-1]), actions[:, -1])
    with pytest.raises(ConfigError, match="window is full"):
        model.step(full, actions[:, -1])


def test_drawn_tokens_follow_the_seed_and_a_low_temperature_is_argmax():
    model = world()
    frames, actions = start(horizon=6)
    drawn = [imagined(model, frames, actions, 6, temperature=1.0, seed=seed).tokens for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    cold = imagined(model, frames, actions, 6, temperature=1e-6).tokens
    assert torch.equal(cold, imagined(model, frames, actions, 6).tokens)


def test_drawn_tokens_have_the_frequencies_of_the_softmax():
    model = world()
    frames, actions = (part.expand(400, *part.shape[1:]) for part in start(size=1, horizon=1))
    state = model.start(frames[:1], actions[:1, :0])
    probs = model.step(state, actions[:1, 0])[1].logits.softmax(-1)
    tokens = imagined(model, frames, actions, 1, temperature=1.0).tokens[:, 0]
    found = torch.nn.functional.one_hot(tokens, tiny.NUM_CODES).double().mean(0)
    assert (found - probs[0]).abs().max() < 5 * (probs.max() / 400).sqrt()


def test_z_is_inferred_frozen_off_or_chosen():
    model, horizon = world(), 2 * tiny.WINDOW
    frames, actions = start(horizon=horizon)
    chosen = mode(torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(3))).flatten(1)
    found = {
        name: imagined(model, frames, actions, horizon, z=z).tokens
        for name, z in {"off": "off", "zeros": chosen * 0, "chosen": chosen, "frozen": "frozen"}.items()
    }
    assert torch.equal(found["off"], found["zeros"])
    first = model.step(model.start(frames, actions[:, :0]), actions[:, 0])[1].z.double()
    assert torch.equal(found["frozen"], imagined(model, frames, actions, horizon, z=first).tokens)
    with pytest.raises(ConfigError, match="rollout shapes"):
        imagined(model, frames, actions, horizon, z=chosen[:1])


def test_a_chosen_z_reaches_the_dynamics():
    model = world()
    frames, actions = start(horizon=1)
    state = model.start(frames, actions[:, :0], z=torch.ones(2, 256, dtype=torch.float64))
    zero = model.start(frames, actions[:, :0], z=torch.zeros(2, 256, dtype=torch.float64))
    one, other = (model.step(each, actions[:, 0])[1].logits for each in (state, zero))
    assert (one - other).abs().max() > 1e-3


def test_the_first_step_is_the_definition():
    model = world()
    frames, actions = start(given=3, horizon=1)
    found = imagined(model, frames, actions, 1)
    tokens, entropy = reference_step(model, frames, actions)
    assert torch.equal(found.tokens[:, 0], tokens)
    torch.testing.assert_close(found.entropy[:, 0], entropy)


def test_a_later_action_changes_nothing_earlier():
    model = world()
    frames, actions = start(horizon=10)
    other = actions.clone()
    other[:, 6:] *= -1
    one, two = imagined(model, frames, actions, 10), imagined(model, frames, other, 10)
    assert torch.equal(one.frames[:, :6], two.frames[:, :6])


def test_a_window_serves_t_predictions_and_then_restarts_from_its_last_half_reencoded():
    model = world()
    frames, actions = start(horizon=tiny.WINDOW + 1)
    whole = imagined(model, frames, actions, tiny.WINDOW + 1)
    keep = tiny.WINDOW // 2
    history = torch.cat([frames, whole.frames[:, : tiny.WINDOW]], dim=1)[:, -keep:]
    again = imagined(model, history, actions[:, -keep:], 1)
    assert torch.equal(again.tokens[:, 0], whole.tokens[:, -1])


def test_a_sequence_does_not_depend_on_the_others_in_its_batch():
    model = world()
    frames, actions = start(size=3, horizon=4)
    together, alone = imagined(model, frames, actions, 4), imagined(model, frames[1:2], actions[1:2], 4)
    assert torch.equal(together.tokens[1], alone.tokens[0])


def test_a_dynamics_that_needs_z_is_not_built_without_a_behavior_model():
    with pytest.raises(ConfigError, match="behavior model"):
        LearnedWorld(tiny.tokenizer(), None, tiny.dynamics(), tiny.WINDOW)
