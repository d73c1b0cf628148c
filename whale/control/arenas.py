"""Where a policy is really tried: the fleet's simulator, or Meta-World where it is installed.

An arena gives starts that no dataset holds, the same for all policies, and says in which a policy succeeds.
Shapes: E episodes, R resolution, A = 7 canonical actions.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from pydantic import Field

from whale.common.config import Config
from whale.common.errors import ConfigError
from whale.policies.protocol import Beginning, Contender, Observation, contender
from whale.sim.metaworld.simulator.policies import Policy as MetaworldPolicy
from whale.sim.metaworld.simulator.studio import Studio, studio
from whale.sim.metaworld.simulator.tasks import TASKS as METAWORLD_TASKS
from whale.trials.episodes.closed_loop import play
from whale.trials.episodes.fleet import fleet_robot, fleet_scenes, scripted
from whale.trials.episodes.true_values import Form, simulate_policy
from whale.worlds.contract import ActionContract


class FleetArenaConfig(Config):
    """The simulated fleet. `actions`: of an episode, at most; a task counts as done if it is at the end."""

    kind: Literal["fleet"]
    actions: int = Field(gt=0)


class MetaworldArenaConfig(Config):
    """Meta-World, drawn as `collect_metaworld` drew the recordings. `actions`: of an episode, at most (P: 100 steps of
    the simulator); success counts at any of them."""

    kind: Literal["metaworld"]
    actions: int = Field(gt=0)
    action_repeat: int = Field(gt=0)
    camera: str
    resolution: int = Field(gt=0)
    supersample: int = Field(gt=0, le=4)
    image: Literal["png", "jpeg"]


ArenaConfig = FleetArenaConfig | MetaworldArenaConfig


class Arena(Protocol):
    """`name` stands in protocol strings; `expert`: the simulator's own, which looks at the true state."""

    name: str
    expert: Contender

    def beginnings(self, count: int, seed: int) -> list[Beginning]: ...

    def successes(self, played: Contender, beginnings: Sequence[Beginning]) -> np.ndarray:
        """bool [E]."""
        ...


def arena_of(config: ArenaConfig, task: str, contract: ActionContract, form: Form) -> Arena:
    """form: what became of recorded frames. ConfigError for a task that the simulator does not have."""
    if isinstance(config, FleetArenaConfig):
        return FleetArena(config, task, contract, form)
    return MetaworldArena(config, task, contract, form)


class FleetArena:
    """All episodes side by side."""

    def __init__(self, config: FleetArenaConfig, task: str, contract: ActionContract, form: Form):
        self.config, self.task, self.contract, self.form = config, task, contract, form
        self.robot = fleet_robot(contract.dataset)
        self.name = f"fleet simulator, {config.actions} actions"
        self.expert = scripted("expert")
        if task not in self.robot.tasks:
            raise _no_task(task, self.robot.tasks)

    def beginnings(self, count: int, seed: int) -> list[Beginning]:
        scenes = fleet_scenes(self.robot, count * len(self.robot.tasks), seed)
        chosen = [scene for scene in scenes if scene.task.name == self.task][:count]
        return [
            Beginning(number, seed * 1_000_003 + number, self.form.of(scene.image()), scene.task.instruction, scene)
            for number, scene in enumerate(chosen)
        ]

    def successes(self, played: Contender, beginnings: Sequence[Beginning]) -> np.ndarray:
        return simulate_policy(played, beginnings, self.config.actions, self.contract, self.form).success


@dataclass
class MetaworldScene:
    """The seed of one start, and what the simulator says of it now: what the scripted expert looks at."""

    task: str
    seed: int
    observation: np.ndarray


class MetaworldArena:
    """One episode after the other: a process has one simulator of a task. An episode ends with its success."""

    def __init__(self, config: MetaworldArenaConfig, task: str, contract: ActionContract, form: Form):
        self.config, self.task, self.contract, self.form = config, task, contract, form
        self.name = f"Meta-World, {config.actions} actions of {config.action_repeat} steps"
        self.expert = contender("expert", lambda beginning: _Expert(beginning.scene))
        if task not in METAWORLD_TASKS:
            raise _no_task(task, METAWORLD_TASKS)

    def beginnings(self, count: int, seed: int) -> list[Beginning]:
        stage, found = self._stage(), []
        for number in range(count):
            key = [seed, zlib.crc32(self.task.encode()), zlib.crc32(b"arena"), number]
            own = int(np.random.SeedSequence(key).generate_state(1)[0]) >> 1
            scene = MetaworldScene(self.task, own, stage.reset(own))
            image = self.form.of(stage.picture())
            found.append(Beginning(number, own, image, METAWORLD_TASKS[self.task], scene))
        return found

    def successes(self, played: Contender, beginnings: Sequence[Beginning]) -> np.ndarray:
        return np.array([self._succeeds(played, each) for each in beginnings])

    def _succeeds(self, played: Contender, beginning: Beginning) -> bool:
        stage, scene, done, shown = self._stage(), beginning.scene, False, beginning.image
        scene.observation = stage.reset(scene.seed)

        def outcome(actions: np.ndarray) -> np.ndarray:
            nonlocal done, shown
            if not done:  # what follows changes nothing, and costs
                scene.observation, _, done = stage.step(of_simulator(actions[0]), self.config.action_repeat)
                shown = self.form.of(stage.picture())
            return shown[None]

        play(played, [beginning], self.config.actions, outcome, self.contract)
        return done

    def _stage(self) -> Studio:
        config = self.config
        return studio(self.task, config.camera, config.resolution, config.supersample)


class _Expert:
    """Meta-World's own scripted policy of the task."""

    def __init__(self, scene: MetaworldScene):
        self.scene = scene

    def reset(self, seed: int, instruction: str) -> None:
        self.policy = MetaworldPolicy("expert", self.scene.task, {}, np.random.default_rng(seed))

    def act(self, observation: Observation) -> np.ndarray:
        return of_dataset(self.policy.act(self.scene.observation))[None]


def of_simulator(action_A: np.ndarray) -> np.ndarray:
    """Canonical float32 [7] -> Meta-World's [4]: dx dy dz in [-1, 1], and above 0 closes."""
    closing = 1.0 - 2.0 * action_A[6:]
    return np.clip(np.concatenate([action_A[:3], closing]), -1.0, 1.0).astype(np.float32)


def of_dataset(action_A: np.ndarray) -> np.ndarray:
    """Meta-World's [4] -> canonical float32 [7], as data_specs/metaworld.yaml says."""
    opening = (1.0 - np.clip(action_A[3:], -1.0, 1.0)) / 2.0
    return np.concatenate([np.clip(action_A[:3], -1.0, 1.0), np.zeros(3), opening]).astype(np.float32)


def _no_task(task: str, known: Any) -> ConfigError:
    return ConfigError("the simulator has no such task", place="task", found=task,
                       expected=f"one of: {', '.join(known)}")  # fmt: skip
