"""What a policy is really worth on the fleet: the same starts, in the simulator.

Frames go through what ingest does to them, so that a policy sees the same form in both worlds.
Shapes: E episodes, H horizon, R resolution.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from whale.data.storage import images
from whale.policies.protocol import Beginning, Contender
from whale.sim.fleet.dynamics import step
from whale.sim.fleet.render import render
from whale.sim.fleet.state import SceneState
from whale.sim.fleet.tasks import progress as task_progress
from whale.trials.episodes.closed_loop import play
from whale.trials.episodes.fleet import FleetScene, fleet_robot, fleet_scenes, stacked
from whale.worlds.contract import ActionContract


@dataclass(frozen=True)
class Form:
    """How frames of the shards were made: side of a frame, quality of its JPEG (a bundle says none), how raw ones were
    kept."""

    resolution: int
    jpeg_quality: int = images.JPEG_QUALITY
    raw: Literal["jpeg", "png"] = "jpeg"

    def of(self, frame: np.ndarray) -> np.ndarray:
        """A camera's uint8 [H, W, 3] -> uint8 [R, R, 3] as in a shard: recorded, stretched, stored as JPEG."""
        is_jpeg = self.raw == "jpeg"
        recorded = images.decode(images.encode(frame, images.JPEG_QUALITY)) if is_jpeg else frame
        return images.decode(images.encode(images.resize(recorded, self.resolution), self.jpeg_quality))


@dataclass(frozen=True)
class Truth:
    """`rewards` float64 [E, H]: progress of the task in the state each action leads to; frames uint8 [E, H, R, R, 3];
    `success` bool [E]: the task is done at the end; `actions` float32 [E, H, A]."""

    rewards: np.ndarray
    frames: np.ndarray
    success: np.ndarray
    actions: np.ndarray


def fleet_beginnings(robot: str, count: int, seed: int, form: Form) -> list[Beginning]:
    """New starts of a robot, tasks in turn; no dataset holds them."""
    scenes = fleet_scenes(fleet_robot(robot), count, seed)
    return [
        Beginning(number, seed * 1_000_003 + number, form.of(scene.image()), scene.task.instruction, scene)
        for number, scene in enumerate(scenes)
    ]


def simulate_policy(
    contender: Contender, beginnings: Sequence[Beginning], horizon: int, contract: ActionContract, form: Form
) -> Truth:
    """The policy's episodes in the simulator, from the same starts and seeds as in imagination."""
    scenes: list[FleetScene] = [each.scene for each in beginnings]
    states = [stacked(scenes)]

    def outcome(actions: np.ndarray) -> np.ndarray:
        states.append(step(states[-1], actions))
        shown = render(states[-1], scenes[0].robot.camera, scenes[0].robot.palette)
        return np.stack([form.of(frame) for frame in shown])

    frames, actions = play(contender, beginnings, horizon, outcome, contract)
    rewards = np.stack([_progress(scene, states, row) for row, scene in enumerate(scenes)])
    return Truth(rewards[:, 1:], frames, rewards[:, -1] == 1.0, actions)


def fleet_judge(
    horizon: int, contract: ActionContract, form: Form
) -> Callable[[Contender, Sequence[Beginning]], Truth]:
    """`simulate_policy` as run_trials asks for it."""
    return lambda contender, beginnings: simulate_policy(contender, beginnings, horizon, contract, form)


def _progress(scene: FleetScene, states: Sequence[SceneState], row: int) -> np.ndarray:
    episode = SceneState.stack([state.select(slice(row, row + 1)) for state in states])
    return task_progress(scene.task, episode)
