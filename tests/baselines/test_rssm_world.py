"""The recurrent model as a world: rollouts of rows by themselves, states that are values, the same draws as asked."""

import pytest
import tiny_models as tiny
import torch
from toy_world import ToyWorld

from whale.baselines.rssm_world import RSSMWorld
from whale.common.errors import ConfigError
from whale.models.world.rollout import frames as shown
from whale.models.world.rollout import rollout, tokens

HORIZON = 3 * tiny.WINDOW


@pytest.fixture(scope="module")
def world() -> RSSMWorld:
    model = tiny.rssm().eval()
    with torch.no_grad():  # an untrained prior guesses the same class for ever
        for parameter in model.prior_head[-1].parameters():
            parameter.mul_(20)
    return RSSMWorld(model, tiny.WINDOW)


def given(rows: int, frames: int = 2, seed: int = 0):
    batch = tiny.pixel_batch(rows, seed)
    actions = torch.rand(rows, frames - 1 + HORIZON, tiny.ACTION, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return batch["frames"][:, :frames], actions


@pytest.mark.parametrize("how", [{}, {"temperature": 1.0, "seed": [5, 6, 7]}])
def test_a_row_is_imagined_alike_whoever_stands_beside_it(world, how):
    frames, actions = given(3)
    others, their_actions = given(3, seed=1)
    alone = rollout(world, frames, actions, HORIZON, (shown, tokens), **how)
    beside = (torch.cat([others[:2], frames[2:]]), torch.cat([their_actions[:2], actions[2:]]))
    again = rollout(world, *beside, HORIZON, (shown, tokens), **how)
    assert torch.equal(again["frames"][2], alone["frames"][2])
    assert not torch.equal(again["tokens"][0], alone["tokens"][0])
    one = {**how, "seed": how["seed"][2:]} if how else {}
    single = rollout(world, frames[2:], actions[2:], HORIZON, (shown, tokens), **one)
    assert torch.equal(single["tokens"][0], alone["tokens"][2])
    assert (single["frames"][0].int() - alone["frames"][2].int()).abs().max() <= 1  # sums of other batch sizes


def test_its_rollout_is_the_recurrence_written_out(world):
    frames, actions = given(2)
    model, imagined = world.model, rollout(world, frames, actions, HORIZON, (shown, tokens))
    with torch.no_grad():
        seen = model.observe(model.encode(frames / 255), actions[:, :1])
        state, z = seen.state[:, -1], seen.z[:, -1]
        for step in range(HORIZON):
            state = model.advance(state, z, actions[:, 1 + step])
            classes = model.prior(state).argmax(-1)
            z = torch.nn.functional.one_hot(classes, 6).float()
            frame = (model.decode(state, z) * 255).round().to(torch.uint8)
            assert torch.equal(classes, imagined["tokens"][:, step]) and torch.equal(frame, imagined["frames"][:, step])


def test_actions_and_seeds_decide_what_is_imagined(world):
    frames, actions = given(3)
    latents = [
        rollout(world, frames, each, HORIZON, (tokens,), **how)["tokens"]
        for each, how in ((actions, {}), (-actions, {}), (actions, {"temperature": 1.0}))
    ]
    drawn = rollout(world, frames, actions, HORIZON, (tokens,), temperature=1.0, seed=1)["tokens"]
    assert not torch.equal(latents[0], latents[1]) and not torch.equal(latents[2], drawn)


def test_a_state_is_a_value_that_can_be_cut_back_taken_apart_and_begun_again(world):
    frames, actions = given(3)
    state = world.start(frames, actions[:, :1])
    longer, _ = world.step(state, actions[:, 1])
    further, _ = world.step(longer, actions[:, 2])
    assert (state.length, longer.length, further.length) == (2, 3, 4)
    again, step = world.step(further.cut(3), actions[:, 2])
    assert torch.equal(step.frame, further.frames[:, -1]) and torch.equal(again.recurrent, further.recurrent)
    part, _ = world.step(longer.take(slice(1, 3)), actions[1:3, 2])
    assert torch.equal(part.tokens, further.tokens[1:3])
    like = world.start_like(longer)
    torch.testing.assert_close(like.recurrent, longer.recurrent)
    assert world.restarted(further) is further


def test_a_state_of_another_world_is_refused(world):
    frames, actions = given(2)
    other = ToyWorld().start(frames, actions[:, :1])
    with pytest.raises(ConfigError, match="another world"):
        world.step(other, actions[:, 1])
