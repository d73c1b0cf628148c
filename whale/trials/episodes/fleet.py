"""The fleet's scripted policies, and the simulator as the judge of any policy.

A scripted policy reads the true state, which no imagined frame holds: it looks at a simulator of its own that carries
out the same actions. So its actions are those of the true episode, and what is imagined is their outcome.
Shapes: E episodes, H steps, A = 7.
"""

import zlib
from collections.abc import Sequence

import numpy as np

from whale.common.errors import ConfigError
from whale.policies.protocol import Beginning, Contender, Observation, contender
from whale.sim.fleet.collect import scenes_of, start_of
from whale.sim.fleet.dynamics import step
from whale.sim.fleet.policies import TRAIN_POLICIES, UNSEEN_POLICIES, Scene
from whale.sim.fleet.policies import Policy as ScriptedPolicy
from whale.sim.fleet.render import render
from whale.sim.fleet.robots import ROBOTS, Robot
from whale.sim.fleet.state import SceneState
from whale.sim.fleet.tasks import TASKS, Task

SCRIPTED = (*TRAIN_POLICIES, *UNSEEN_POLICIES)
CANONICAL = ("fleet_delta", "fleet_unseen")  # robots whose shards hold the commands as they were carried out


class FleetScene:
    """The true start of one episode."""

    def __init__(self, robot: Robot, task: Task, state: SceneState):
        self.robot, self.task, self.state = robot, task, state

    def image(self) -> np.ndarray:
        """As the robot's camera sees it, uint8 [H, W, 3], before ingest brings it to the world's form."""
        return render(self.state, self.robot.camera, self.robot.palette)[0]


def fleet_robot(name: str) -> Robot:
    """ConfigError for a robot whose canonical actions are not the simulator's commands."""
    if name not in CANONICAL:
        raise ConfigError(
            "the simulator cannot carry out this robot's canonical actions", place="robot", found=name,
            expected=f"one of {', '.join(CANONICAL)}",
        )  # fmt: skip
    return ROBOTS[name]


def fleet_scenes(robot: Robot, count: int, seed: int) -> list[FleetScene]:
    """Starts that no dataset holds, tasks in turn: a function of (seed, robot, number) alone."""
    scenes = []
    for number in range(count):
        task = TASKS[robot.tasks[number % len(robot.tasks)]]
        key = [seed, zlib.crc32(robot.name.encode()), zlib.crc32(b"policies"), number]
        scenes.append(FleetScene(robot, task, start_of(robot, task, np.random.default_rng(key))))
    return scenes


class _Scripted:
    def __init__(self, name: str, scene: FleetScene):
        self.name, self.scene = name, scene

    def reset(self, seed: int, instruction: str) -> None:
        rng = np.random.default_rng([seed, zlib.crc32(self.name.encode())])
        self.policy = ScriptedPolicy(self.name, self.scene.task, rng, self.scene.robot.planar)
        self.state, self.first = self.scene.state, _scene(self.scene.state)

    def act(self, observation: Observation) -> np.ndarray:
        action = self.policy.act(_scene(self.state), self.first).astype(np.float32)
        self.state = step(self.state, action[None])
        return action[None]


class _Still:
    """Does nothing, gripper open: the floor of every comparison."""

    def reset(self, seed: int, instruction: str) -> None:
        """Nothing to forget."""

    def act(self, observation: Observation) -> np.ndarray:
        return np.array([[0.0, 0, 0, 0, 0, 0, 1]], np.float32)


def scripted(name: str) -> Contender:
    """`expert`, `noisy_low`, `noisy_high`, `random`, `other_task`, `ou_expert`, `epsilon_greedy_expert`, `still`."""
    if name == "still":
        return contender(name, lambda _: _Still(), identity="still")
    if name not in SCRIPTED:
        raise ConfigError("no such scripted policy", place="policy", found=name,
                          expected=f"one of {', '.join([*SCRIPTED, 'still'])}")  # fmt: skip

    def make(beginning: Beginning) -> _Scripted:
        if not isinstance(beginning.scene, FleetScene):
            raise ConfigError("a scripted policy needs the simulator's state", place=name,
                              expected="episodes that begin in the simulator")  # fmt: skip
        return _Scripted(name, beginning.scene)

    return contender(name, make, identity=f"scripted {name}")


def _scene(state: SceneState) -> Scene:
    return scenes_of(state)[0]


def stacked(scenes: Sequence[FleetScene]) -> SceneState:
    """All starts as one batch."""
    return SceneState.stack([scene.state for scene in scenes])
