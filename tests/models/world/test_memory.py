"""z that remembers: the prior's own history goes on over window restarts, and begins before the first window."""

import pytest
import tiny_models as tiny
import torch
from recomputed_world import RecomputedWorld

from whale.common.errors import ConfigError
from whale.evaluation.uncertainty.estimation.retracing import retraced
from whale.evaluation.uncertainty.estimation.uncertainty import Ensemble
from whale.models.world.learned import LearnedWorld
from whale.models.world.rollout import frames, rollout, tokens

WINDOW, HORIZON = 4, 21  # over many windows, and over histories that fill up twice
MEMORIES = (4, 7, 11, 16)


def world(memory: int | None, window: int = WINDOW, **changes) -> LearnedWorld:
    parts = (tiny.tokenizer(), tiny.behavior(memory=memory), tiny.dynamics(**changes))
    for part in parts:
        part.double().eval()  # so that no argmax flips
    return LearnedWorld(*parts, window=window, normalize=lambda raw: raw / 2)


def recorded(count: int, horizon: int = HORIZON, size: int = 2):
    generator = torch.Generator().manual_seed(7)
    given = torch.randint(0, 256, (size, count, 16, 16, 3), dtype=torch.uint8, generator=generator)
    return given, torch.rand(size, count - 1 + horizon, 7, generator=generator, dtype=torch.float64) * 4 - 2


def z(query):
    return {"z": query.step.z}


def observed(model, given, actions, **how):
    return rollout(model, given, actions, actions.shape[1] - given.shape[1] + 1, (frames, tokens, z), **how)


def assert_same(found, expected):
    for name in ("frames", "tokens"):
        assert torch.equal(found[name], expected[name]), name
    torch.testing.assert_close(found["z"], expected["z"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize(("count", "seen"), [(1, None), (4, 1), (9, None), (14, 2)])
def test_the_caches_change_nothing_whatever_is_given_and_however_long_the_memory(memory, count, seen):
    model, (given, actions) = world(memory), recorded(count)
    expected = observed(RecomputedWorld(model), given, actions, seen=seen)
    assert_same(observed(model, given, actions, seen=seen), expected)


@pytest.mark.parametrize(
    ("how", "changes"),
    [
        ({"temperature": 0.7, "seed": 3}, {}),
        ({"temperature": 0.7, "seed": [3, 11]}, {}),
        ({"z": "frozen"}, {}),
        ({"z": "off"}, {}),
        ({}, {"z_input": "probabilities"}),
        ({}, {"sampler": "maskgit", "maskgit_passes": 3, "action_mode": "prepend"}),
    ],
    ids=str,
)
def test_nor_do_they_with_other_ways_to_decode_and_to_condition(how, changes):
    model, (given, actions) = world(11, **changes), recorded(6)
    assert_same(observed(model, given, actions, **how), observed(RecomputedWorld(model), given, actions, **how))


def test_a_memory_as_long_as_the_window_is_none():
    given, actions = recorded(2)
    assert_same(observed(world(WINDOW), given, actions), observed(world(None), given, actions))


def test_what_lies_before_the_window_decides_z_of_the_first_imagined_step_and_of_those_after_a_restart():
    model, (given, actions) = world(16, z_input="probabilities"), recorded(6)
    other = given.clone()
    other[:, 0] = 255 - other[:, 0]
    change = (observed(model, given, actions, seen=1)["z"] - observed(model, other, actions, seen=1)["z"]).abs()
    assert (change[:, :4].amax(-1) > 1e-6).all()  # the first window and beyond
    plain = world(None, z_input="probabilities")
    assert torch.equal(
        observed(plain, given, actions, seen=1)["z"], observed(plain, other, actions, seen=1)["z"]
    )  # without memory the window is all there is


def test_a_forgetting_history_is_told_from_one_that_goes_on():
    """The comparison with the definition has teeth: a world that starts its history with the window fails it."""
    model, (given, actions) = world(11, z_input="probabilities"), recorded(1)
    right, forgetful = (observed(each, given, actions)["z"] for each in (model, world(None, z_input="probabilities")))
    assert torch.equal(right[:, :WINDOW], forgetful[:, :WINDOW])  # one window, one history
    assert ((right - forgetful)[:, WINDOW:].abs().amax(-1) > 1e-9).all()


@pytest.mark.parametrize("memory", MEMORIES)
def test_no_history_grows_beyond_the_memory(memory):
    model, (given, actions) = world(memory), recorded(9)
    lengths, rooms = [], set()

    def watch(query):
        lengths.append(query.following.caches["prior"].length)
        rooms.add(query.state.caches["prior"].num_bytes)
        assert lengths[-1] == query.state.history.length + query.state.length
        return {}

    rollout(model, given, actions, HORIZON, [watch])
    assert max(lengths) <= memory and len(rooms) == 1
    assert min(lengths[WINDOW:]) > (memory - WINDOW) // 2  # and a new history is no empty one


@pytest.mark.parametrize("form", ["batched", "looped"])
@pytest.mark.parametrize("freeze_z", [False, True])
def test_branches_of_retracing_infer_z_from_the_history_before_the_window_too(form, freeze_z):
    model, (given, actions) = world(11), recorded(9, horizon=9)
    found = []
    for each in (model, RecomputedWorld(model)):

        def branches(query):
            made = retraced(query, (1, 2, 3), form=form, freeze_z=freeze_z)
            return {"plain": made.step.frame, "deepest": list(made.branches.values())[-1]}

        found.append(rollout(each, given, actions, 9, [branches], seen=4))
    for name in ("plain", "deepest"):
        assert torch.equal(found[0][name], found[1][name]), name


def test_other_draws_of_a_question_infer_z_from_the_history_before_the_window_too():
    model, (given, actions) = world(11), recorded(9, horizon=9)
    found = []
    for each in (model, RecomputedWorld(model)):

        def drawn(query):
            others = {f"sample {sample}": retraced(query.redrawn(sample), (1, 2)) for sample in (0, 1)}
            return {"plain": query.step.tokens} | {name: made.step.tokens for name, made in others.items()}

        found.append(rollout(each, given, actions, 9, [drawn], seen=4, temperature=1.0, seed=[3, 11]))
    for name in ("plain", "sample 0", "sample 1"):
        assert torch.equal(found[0][name], found[1][name]), name
    assert torch.equal(found[0]["plain"], found[0]["sample 0"])
    assert not torch.equal(found[0]["plain"], found[0]["sample 1"])


def test_an_ensemble_asks_its_members_after_the_same_history():
    model, (given, actions) = world(11), recorded(9, horizon=9)
    scores = rollout(model, given, actions, 9, [Ensemble([world(11)])])["ensemble"]
    assert torch.equal(scores, torch.zeros_like(scores))


def test_a_state_can_be_cut_back_and_continued_otherwise():
    model, (given, actions) = world(8), recorded(7, horizon=3)
    state = model.start_behind(given, actions[:, :6], 2)
    further = model.step(model.step(state, actions[:, 6])[0], actions[:, 7])[0]
    again = model.step(further.cut(2), actions[:, 6])[1]
    assert torch.equal(again.logits, model.step(state, actions[:, 6])[1].logits)


def test_more_frames_than_a_window_holds_need_a_memory_or_how_many_are_seen():
    given, actions = recorded(9)
    with pytest.raises(ConfigError, match="seen"):
        observed(world(None), given, actions)
    assert observed(world(None), given, actions, seen=4)["frames"].shape[1] == HORIZON
    with pytest.raises(ConfigError, match="rollout shapes"):
        observed(world(8), given, actions, seen=5)


def test_a_memory_shorter_than_the_window_is_refused():
    with pytest.raises(ConfigError, match="remembers less than the window"):
        world(3)
