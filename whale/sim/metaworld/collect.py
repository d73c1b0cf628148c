"""Collect episodes of Meta-World: which tasks, policies and seeds make up each split, and what is recorded of a step.

train and val: the six training policies, other seeds each; test: three policies that training never saw (P C.1). An
episode depends on (seed, task, policy, split, number) alone, not on what was simulated before it.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from whale.common.config import Config
from whale.sim.metaworld.simulator.policies import SCRIPTED, TRAIN_POLICIES, UNSEEN_POLICIES, Policy
from whale.sim.metaworld.simulator.studio import Studio, studio
from whale.sim.metaworld.simulator.tasks import MOST_STEPS, TASKS

SPLITS = ("train", "val", "test")
EPISODES_PER_CHUNK = 4  # simulated by one process at once, and kept when the stage is killed


class CrossPolicies(Config):
    """Other tasks whose scripted experts act on this one: a and b in training, c unseen."""

    cross_a: str
    cross_b: str
    cross_c: str


class MetaworldConfig(Config):
    """Sizes of one source; episodes are per task and policy, `frames` of an episode include the first one."""

    tasks: dict[str, CrossPolicies] = Field(min_length=1)
    train_episodes: int = Field(gt=0)
    val_episodes: int = Field(gt=0)
    test_episodes: int = Field(gt=0)
    frames: int = Field(ge=3)
    action_repeat: int = Field(gt=0)  # simulator steps (80 a second) that an action is held for
    camera: Literal["corner", "corner2", "corner3", "corner4", "topview"]
    resolution: int = Field(gt=0)
    supersample: int = Field(gt=0, le=4)
    image: Literal["png", "jpeg"]
    episodes_per_file: int = Field(gt=0)

    @model_validator(mode="after")
    def _tasks_and_policies_exist(self) -> Self:
        if unknown := sorted(set(self.tasks) - set(TASKS)):
            raise ValueError(f"tasks: {', '.join(unknown)} is none of: {', '.join(TASKS)}")
        for task, cross in self.tasks.items():
            names = list(cross.model_dump().values())
            if unknown := sorted(set(names) - set(SCRIPTED)):
                raise ValueError(f"tasks.{task}: {', '.join(unknown)} is none of: {', '.join(SCRIPTED)}")
            if len({task, *names}) < 4:
                raise ValueError(f"tasks.{task}: three policies of other tasks, each another one, not {names}")
        if (self.frames - 1) * self.action_repeat > MOST_STEPS:
            raise ValueError(f"frames x action_repeat: the simulator ends an episode after {MOST_STEPS} steps")
        return self

    def policies(self, split: str) -> tuple[str, ...]:
        """Of a split, in order."""
        return UNSEEN_POLICIES if split == "test" else TRAIN_POLICIES

    def episodes(self, split: str) -> int:
        """Of one policy of one task."""
        return {"train": self.train_episodes, "val": self.val_episodes, "test": self.test_episodes}[split]

    def total(self, split: str) -> int:
        """Episodes of a split."""
        return len(self.tasks) * len(self.policies(split)) * self.episodes(split)

    def files(self, split: str) -> int:
        """Files of a split, all of about `episodes_per_file`."""
        return -(-self.total(split) // self.episodes_per_file)

    def steps_schema(self) -> dict[str, Any]:
        """What a step records, as whale/runtime/collecting/rlds_writer.py reads it."""
        image = f"{self.image}[{self.resolution},{self.resolution},3]"
        return {
            "observation": {"image": image, "state": "float32[7]", "simulator": "float32[39]"},
            "action": "float32[4]",
            "language_instruction": "text",
            "reward": "float32[]",
            "discount": "float32[]",
            "is_first": "bool[]",
            "is_last": "bool[]",
            "is_terminal": "bool[]",
        }


METADATA_SCHEMA = {
    "episode_id": "text",
    "task": "text",
    "policy": "text",
    "acted_by": "text",  # whose scripted expert a cross policy is
    "seed": "int64[]",
    "success": "bool[]",
}


@dataclass(frozen=True)
class Chunk:
    """Episodes `first` to `stop - 1` of one policy of one task in one split."""

    split: str
    task: str
    policy: str
    first: int
    stop: int

    @property
    def name(self) -> str:
        return f"{self.split}-{self.task}-{self.policy}-{self.first:05d}"


def chunks(config: MetaworldConfig, split: str) -> Iterator[Chunk]:
    """All episodes of a split, in the order in which they are written: by task, policy and number."""
    count = config.episodes(split)
    for task in config.tasks:
        for policy in config.policies(split):
            for first in range(0, count, EPISODES_PER_CHUNK):
                yield Chunk(split, task, policy, first, min(first + EPISODES_PER_CHUNK, count))


def simulate(chunk: Chunk, config: MetaworldConfig, seed: int) -> Iterator[dict]:
    """The chunk's raw episodes, nested as the schemas say; pictures are uint8 (T, R, R, 3)."""
    stage = studio(chunk.task, config.camera, config.resolution, config.supersample)
    for number in range(chunk.first, chunk.stop):
        yield _episode(stage, chunk, number, config, seed)


def _episode(stage: Studio, chunk: Chunk, number: int, config: MetaworldConfig, seed: int) -> dict:
    keys = [zlib.crc32(text.encode()) for text in (chunk.task, chunk.policy, chunk.split)]
    scene, noise = np.random.SeedSequence([seed, *keys, number]).spawn(2)
    scene_seed = int(scene.generate_state(1)[0]) >> 1
    cross = config.tasks[chunk.task].model_dump()
    policy = Policy(chunk.policy, chunk.task, cross, np.random.default_rng(noise))
    observation = stage.reset(scene_seed)
    observations, pictures, actions, rewards, succeeded = [observation], [stage.picture()], [], [], False
    for _ in range(config.frames - 1):
        actions.append(policy.act(observation))
        observation, reward, success = stage.step(actions[-1], config.action_repeat)
        observations.append(observation)
        pictures.append(stage.picture())
        rewards.append(reward)
        succeeded |= success
    metadata = {
        "episode_id": f"{chunk.split}-{chunk.task}-{chunk.policy}-{number:05d}",
        "task": chunk.task,
        "policy": chunk.policy,
        "acted_by": cross.get(chunk.policy, ""),
        "seed": np.int64(scene_seed),
        "success": succeeded,
    }
    steps = _steps(np.stack(observations), np.stack(pictures), np.stack(actions), rewards, TASKS[chunk.task])
    return {"steps": steps, "episode_metadata": metadata}


def _steps(
    observation_TO: np.ndarray, pictures: np.ndarray, actions: np.ndarray, rewards: list[float], instruction: str
) -> dict:
    """Steps as RLDS has them: the last one acts with zeros, and nothing is terminal, for the simulator never ends."""
    number = len(observation_TO)
    position_T3, opening_T = observation_TO[:, :3], observation_TO[:, 3]  # m; 1 = open
    turned_T3 = np.zeros((number, 3))  # the hand keeps its orientation
    state_T7 = np.concatenate([position_T3, turned_T3, opening_T[:, None]], axis=1)
    first, last = np.arange(number) == 0, np.arange(number) == number - 1
    return {
        "observation": {
            "image": pictures, "state": state_T7.astype(np.float32), "simulator": observation_TO.astype(np.float32),
        },
        "action": np.concatenate([actions, np.zeros((1, 4), np.float32)]),
        "language_instruction": [instruction] * number,
        "reward": np.append(rewards, 0.0).astype(np.float32),  # for the state that the action leads to
        "discount": np.ones(number, np.float32),
        "is_first": first, "is_last": last, "is_terminal": np.zeros(number, bool),
    }  # fmt: skip
