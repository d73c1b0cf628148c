"""The environments are gymnasium's, and many of them are one call of the model."""

import math
import warnings
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import tiny_models
import tiny_world
from gymnasium.utils.env_checker import check_env

import whale
from whale.common.errors import ConfigError, RefusedError
from whale.env.registration import make_env
from whale.env.world_env import WorldEnv, WorldVectorEnv
from whale.models.world.learned import LearnedWorld
from whale.models.world.state import WorldState
from whale.worlds.trust import TrustLimit


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_world.write_bundle(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def world(bundle):
    return whale.load(bundle, checking="off")  # a checker's random actions are no robot's


def test_gymnasiums_checker_passes_without_a_warning(world):
    settings = {"world": world, "horizon": 5, "uncertainty": "retracing"}
    env = gymnasium.make("whale.env.registration:whale/World-v0", render_mode="rgb_array", **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*symmetric and normalized.*")
        check_env(env.unwrapped)


def test_both_are_made_by_their_id(bundle, world):
    env = gymnasium.make("whale.env.registration:whale/World-v0", world=bundle)
    assert env.reset(seed=1)[0].shape == (16, 16, 3)
    many = gymnasium.make_vec("whale/World-v0", num_envs=3, vectorization_mode="vector_entry_point", world=world)
    assert many.reset(seed=1)[0].shape == (3, 16, 16, 3)


def test_the_bundles_own_make_env_is_what_envhub_calls(bundle):
    text = (bundle / "env.py").read_text()
    found: dict = {"__file__": str(bundle / "env.py")}
    exec(compile(text, "env.py", "exec"), found)
    suites = found["make_env"](n_envs=2)
    (env,) = suites["whale_world"].values()
    assert env.reset()[0].shape == (2, 16, 16, 3) and make_env(bundle)["whale_world"][0].num_envs == 1


def test_an_episode_is_what_the_world_imagines_with_its_reward_uncertainty_and_origin(world):
    env = WorldEnv(world, horizon=6, uncertainty="entropy", render_mode="rgb_array")
    start = world.starts[4]
    frame, info = env.reset(options={"start": 4})
    assert np.array_equal(frame, start.frames[0]) and info["episode"] == start.key and info["step"] == 0
    low, high = world.contract.bounds
    actions = np.clip(start.actions, low, high)
    expected, before = world.imagine(start.frames, actions, horizon=6, uncertainty="entropy"), frame
    for number in range(6):
        frame, reward, terminated, truncated, info = env.step(actions[number])
        assert np.array_equal(frame, expected.frames[number]) and np.array_equal(env.render(), frame)
        assert info["uncertainty"] == expected.uncertainty[number] and info["step"] == number + 1
        shown, taken = np.stack([before, frame])[None], actions[None, number : number + 1]
        assert reward == float(world.rewards(shown, taken, [start.instruction], start.frames[-1:])[0, 0])
        before = frame
        assert (terminated, truncated) == (False, number == 5)


def test_it_ends_where_the_trust_limit_is_passed(world):
    env = WorldEnv(world, horizon=50, uncertainty="entropy", limit=0.0)
    env.reset(seed=0)
    *_, truncated, info = env.step(world.starts[0].actions[0])
    assert truncated and info["trusted"] is False


def steps_of(env, actions, count):
    return [env.step(actions[:, number]) for number in range(count)]


def test_many_are_one_call_of_the_model_and_give_the_frames_of_one(world, monkeypatch):
    many = WorldVectorEnv(world, 4, horizon=12)
    frames, infos = many.reset(seed=3)
    actions = np.stack([start.actions[:10] for start in world.starts[:4]])
    calls = []
    inner = world.model.step
    monkeypatch.setattr(world.model, "step", lambda *given, **named: calls.append(1) or inner(*given, **named))
    found = steps_of(many, actions, 10)
    assert len(calls) == 10
    keys = [start.key for start in world.starts]
    for row in range(4):
        alone = WorldEnv(world, horizon=12)
        first, _ = alone.reset(options={"start": keys.index(infos["episode"][row])})
        assert np.array_equal(first, frames[row])
        for number in range(10):
            near = np.abs(alone.step(actions[row, number])[0].astype(int) - found[number][0][row].astype(int))
            assert near.max() <= 1  # kernels of another batch size may round a pixel otherwise


def test_an_ended_episode_begins_again_at_the_next_step_while_the_others_go_on(world):
    many = WorldVectorEnv(world, 3, horizon=4)
    many.reset(seed=3)
    actions = np.stack([start.actions[:10] for start in world.starts[:3]])
    steps_of(many, actions, 2)
    many._steps[1] = 3  # this one ends first
    *_, truncated, infos = many.step(actions[:, 2])
    assert truncated.tolist() == [False, True, False]
    frames, rewards, _, truncated, infos = many.step(actions[:, 3])
    assert infos["step"].tolist() == [4, 0, 4] and rewards[1] == 0 and truncated.tolist() == [True, False, True]
    beginning = next(start for start in world.starts if start.key == infos["episode"][1])
    assert np.array_equal(frames[1], beginning.frames[0])
    frames, *_, infos = many.step(actions[:, 4])
    assert infos["step"].tolist() == [0, 1, 0] and len(many.episodes.groups) == 2


@pytest.fixture(scope="module")
def remembering(world):
    """Its prior looks back on 8 steps, its window holds 4."""
    parts = tiny_models.tokenizer(), tiny_models.behavior(memory=8), tiny_models.dynamics(z_input="probabilities")
    model = LearnedWorld(*(part.eval() for part in parts), world.window, normalize=world.model.normalize)
    return replace(world, model=model)


def test_rows_out_of_phase_in_a_world_with_memory_are_each_what_they_are_alone(remembering):
    """A limit ends rows at steps of their own: equally long windows then have histories of unlike lengths."""
    actions = np.stack([start.actions[:1] for start in remembering.starts[:4]]).repeat(24, axis=1)
    free = WorldVectorEnv(remembering, 4, horizon=99, uncertainty="entropy")
    free.reset(seed=3)
    doubts = np.array([step[-1]["uncertainty"] for step in steps_of(free, actions, 24)])
    first, second = np.sort(doubts[4])[::-1][:2]
    values = (*[math.inf] * 4, float(first + second) / 2, math.inf)  # one of the four passes it at its fifth step
    limit = TrustLimit("entropy", values, 0.1, 0.8, 0.1, 0.1, "here")
    many = WorldVectorEnv(remembering, 4, horizon=99, uncertainty="entropy", limit=limit)
    _, infos = many.reset(seed=3)
    keys, unlike = [start.key for start in remembering.starts], 0
    alone = [WorldEnv(remembering, horizon=99) for _ in range(4)]
    for row in range(4):
        alone[row].reset(options={"start": keys.index(infos["episode"][row])})
    for number in range(24):
        frames, *_, infos = many.step(actions[:, number])
        unlike += len({state.length for _, state in many.episodes.groups}) < len(many.episodes.groups)
        for row in range(4):
            if infos["step"][row] == 0:
                expected, _ = alone[row].reset(options={"start": keys.index(infos["episode"][row])})
            else:
                expected = alone[row].step(actions[row, number])[0]
            assert np.abs(expected.astype(int) - frames[row].astype(int)).max() <= 1
    assert unlike  # windows of one length with unlike histories were there


def test_states_with_and_without_a_history_are_not_stacked(remembering):
    state = remembering.start(remembering.starts[0].frames).inner
    assert state.history is not None and WorldState.stack([state, state]).history.length == state.history.length
    with pytest.raises(ConfigError, match="unlike histories"):
        WorldState.stack([state, replace(state, history=None)])


def test_equal_seeds_give_equal_episodes(world):
    runs = []
    for _ in range(2):
        env = WorldEnv(world, horizon=5)
        runs.append([env.reset(seed=11)[0], *(env.step(world.starts[0].actions[n])[0] for n in range(5))])
    assert all(np.array_equal(left, right) for left, right in zip(*runs, strict=True))


def test_wrong_actions_and_starts_are_refused(world):
    env = WorldEnv(world)
    with pytest.raises(ConfigError, match="reset comes before step"):
        env.step(np.zeros(7, np.float32))
    with pytest.raises(ConfigError, match="0 to 5"):
        env.reset(options={"start": 6})
    env.reset()
    with pytest.raises(RefusedError, match="gripper"):
        env.step(np.full(7, -1.0, np.float32))
    with pytest.raises(ConfigError, match="nothing to begin with"):
        WorldEnv(world, starts=[])
