"""The fleet's scripted policies need the true state, which a simulator of their own keeps."""

import numpy as np
import pytest

from whale.common.errors import ConfigError
from whale.policies.protocol import Beginning, Observation
from whale.sim.fleet.dynamics import step
from whale.sim.fleet.tasks import progress
from whale.trials.episodes.fleet import SCRIPTED, fleet_robot, fleet_scenes, scripted

IMAGE = np.zeros((4, 4, 3), np.uint8)


@pytest.mark.parametrize("name", [*SCRIPTED, "still"])
def test_each_acts_within_the_robots_range_the_same_for_equal_seeds(name):
    scenes = fleet_scenes(fleet_robot("fleet_delta"), 3, seed=0)
    beginnings = [Beginning(n, 5 + n, IMAGE, scene.task.instruction, scene) for n, scene in enumerate(scenes)]

    def played():
        actor = scripted(name).begin(beginnings)
        seen = [Observation(IMAGE, each.instruction, 0) for each in beginnings]
        return np.stack([np.concatenate(actor.act(seen, range(3))) for _ in range(6)])

    actions = played()
    assert actions.shape == (6, 3, 7) and np.abs(actions[..., :3]).max() <= 0.06 + 1e-6
    assert set(np.unique(actions[..., 6])) <= {0.0, 1.0} and np.array_equal(actions, played())


def test_the_expert_ends_its_task_in_a_simulator_that_only_carries_out_its_actions():
    (scene,) = fleet_scenes(fleet_robot("fleet_delta"), 1, seed=0)
    actor = scripted("expert").begin([Beginning(0, 1, IMAGE, scene.task.instruction, scene)])
    states = [scene.state]
    for number in range(26):
        (chunk,) = actor.act([Observation(IMAGE, scene.task.instruction, number)], [0])
        states.append(step(states[-1], chunk))
    assert progress(scene.task, scene.state.stack(states))[-1] == 1.0


def test_starts_are_those_of_no_dataset_and_tasks_come_in_turn():
    robot = fleet_robot("fleet_delta")
    scenes = fleet_scenes(robot, 12, seed=0)
    assert [scene.task.name for scene in scenes] == [*robot.tasks] * 2
    assert np.array_equal(scenes[3].state.pose, fleet_scenes(robot, 4, seed=0)[3].state.pose)
    with pytest.raises(ConfigError, match="no such scripted policy"):
        scripted("experts")
