"""A world as a benchmark: what the harness vla-eval asks for, asked as its runner does; no foreign package."""

import asyncio

import numpy as np
import pytest
import tiny_world

import whale
from whale.common.errors import ConfigError, RefusedError
from whale.env.benchmark import FIRST_USES, ImaginedWorld
from whale.env.world_env import WorldEnv


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return str(tiny_world.write_bundle(tmp_path_factory.mktemp("world")))


async def episode(benchmark, task, actions):
    """As vla_eval.runners.sync_runner plays one: frames seen, and the result."""
    await benchmark.start_episode(task)
    seen = [await benchmark.get_observation()]
    for action in actions:
        await benchmark.apply_action({"actions": action})
        if await benchmark.is_done():
            break
        seen.append(await benchmark.get_observation())
    return seen, await benchmark.get_result()


def played(benchmark, number, actions):
    return asyncio.run(episode(benchmark, benchmark.get_tasks()[number], actions))


def test_an_episode_is_the_environments_with_its_rewards_added_up(bundle):
    benchmark = ImaginedWorld(bundle, horizon=5, success_at=0.0)
    env = WorldEnv(bundle, horizon=5)
    actions = env.world.starts[1].actions[:5]
    seen, result = played(benchmark, 1, actions)
    frame, _ = env.reset(options={"start": 1})
    steps = [env.step(action) for action in actions]
    expected = [frame, *(step[0] for step in steps[:-1])]  # the harness does not look at the last one
    assert all(np.array_equal(one["images"]["image"], two) for one, two in zip(seen, expected, strict=True))
    assert {one["task_description"] for one in seen} == {env.world.starts[1].instruction}
    rewards = [step[1] for step in steps]
    assert sum(rewards) > max(rewards) > 0
    assert result["imagined_return"] == pytest.approx(sum(rewards)) and result["imagined_last_reward"] == rewards[-1]
    assert result["success"] is True and result["world"] == env.world.identity
    assert set(benchmark.get_metric_keys()) <= set(result) and benchmark.get_metadata()["max_steps"] == 5


def test_every_recorded_start_is_one_task(bundle):
    world, tasks = whale.load(bundle), ImaginedWorld(bundle).get_tasks()
    assert [task["start"] for task in tasks] == list(range(len(world.starts)))
    assert [task["suite"] for task in tasks] == [start.instruction for start in world.starts]
    assert len({task["name"] for task in tasks}) == len(tasks)


def test_success_is_a_reward_that_is_reached_within_what_is_trusted(bundle):
    actions = whale.load(bundle).starts[0].actions[:3]
    assert played(ImaginedWorld(bundle, horizon=3, success_at=1.1), 0, actions)[1]["success"] is False
    benchmark = ImaginedWorld(bundle, horizon=3, success_at=-1.0, uncertainty="entropy")
    benchmark.env.episodes.limit = 0.0
    seen, result = played(benchmark, 0, actions)
    assert len(seen) == 1 and result["trusted"] is False and result["success"] is False


def test_a_chunk_is_carried_out_action_by_action(bundle):
    actions = whale.load(bundle).starts[1].actions[:4]
    one_by_one = played(ImaginedWorld(bundle, horizon=4), 1, actions)[1]
    assert played(ImaginedWorld(bundle, horizon=4), 1, [actions])[1] == one_by_one


def test_actions_of_another_convention_are_declared(bundle):
    actions = whale.load(bundle).starts[1].actions[:4]
    others = np.concatenate([actions[:, :3] * 1000, actions[:, 3:6], 1 - 2 * actions[:, 6:]], axis=1)
    declared = {"translation": "mm", "gripper": (1.0, -1.0)}
    found = played(ImaginedWorld(bundle, horizon=4, actions=declared), 1, others)[1]
    expected = played(ImaginedWorld(bundle, horizon=4), 1, actions)[1]
    assert found["imagined_return"] == pytest.approx(expected["imagined_return"], abs=1e-4)
    with pytest.raises(RefusedError, match="gripper"):
        played(ImaginedWorld(bundle, horizon=4), 1, others)


def test_actions_of_another_size_are_refused_once_there_are_enough(bundle):
    benchmark = ImaginedWorld(bundle, horizon=2 * FIRST_USES)
    actions = tiny_world.recorded_actions(FIRST_USES)
    actions[:, :6] /= 55
    played(benchmark, 0, actions[:-1])
    with pytest.raises(RefusedError, match="too small"):
        played(benchmark, 1, actions[:1])


def test_a_world_without_a_reward_head_is_no_benchmark(tmp_path):
    bare = tiny_world.write_bundle(tmp_path, with_reward=False)
    with pytest.raises(ConfigError, match="no reward head"):
        ImaginedWorld(str(bare))
    head = tiny_world.write_reward(tmp_path / "head", tiny_world.encoder())
    assert ImaginedWorld(str(bare), reward=str(head)).world.reward is not None


def test_modes_that_go_by_a_clock_are_refused(bundle):
    with pytest.raises(NotImplementedError, match="sync"):
        ImaginedWorld(bundle).get_hold_action(None)
