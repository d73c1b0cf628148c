"""Collect episodes of the fleet: which tasks, policies and starts make up each split of each robot.

A split is simulated as one batch, so that numpy works on all its episodes at once; the result of an episode depends
only on (seed, robot, split, episode number), not on the batch around it.

Shapes: B episodes of a split, T steps of one episode, A = 7.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, model_validator

from whale.common.config import Config
from whale.sim.fleet.dynamics import step
from whale.sim.fleet.operators import OPERATORS, SEEN_OPERATORS, UNSEEN_OPERATORS, Operator
from whale.sim.fleet.policies import TRAIN_POLICIES, UNSEEN_POLICIES, Policy, Scene
from whale.sim.fleet.render import render
from whale.sim.fleet.robots import DRAWN_BY_DEFAULT, ROBOTS, Robot, record
from whale.sim.fleet.state import SceneState
from whale.sim.fleet.tasks import TASKS, Task, progress, sample_scene, with_distractors

STEPS_AFTER_SUCCESS = 3
TWO_STAGE_FACTOR = 1.8  # the two-stage test task gets this much more time
DEMONSTRATORS = ("expert", "noisy_low", "expert", "noisy_high")  # of the robot to fine-tune on: some failures
UNSEEN_TASKS = {"test_motion": "push_plate_left", "test_task": "open_bin_throw_ball"}


class FleetConfig(Config):
    """Which robots are drawn, and sizes; steps are transitions, an episode records one frame more.

    test_steps: fewest and most of every robot's `test` split, where rollouts are longer than training episodes; null:
    as in the other splits. Training episodes stay short: an arm that has done its task stands still.
    """

    unspoken: ClassVar[frozenset[str]] = frozenset({"test_steps"})
    robots: list[str] = Field(default=[*DRAWN_BY_DEFAULT], min_length=1)
    train_episodes: int = Field(gt=0)  # per pretraining robot
    val_episodes: int = Field(gt=0)  # the training policies from other starts: for early stopping
    test_episodes: int = Field(gt=0)  # unseen policies from unseen starts: for evaluation only
    min_steps: int = Field(gt=1)
    max_steps: int = Field(gt=1)
    train_shards: int = Field(gt=0)
    unseen_episodes_per_task: int = Field(gt=0)
    unseen_test_episodes_per_task: int = Field(gt=0)
    unseen_novel_episodes: int = Field(gt=0)  # of each of test_visual, test_motion and test_task
    unseen_min_steps: int = Field(gt=1)
    unseen_max_steps: int = Field(gt=1)
    test_steps: list[Annotated[int, Field(gt=1)]] | None = Field(default=None, min_length=2, max_length=2)

    @model_validator(mode="after")
    def _robots_are_known(self):
        if unknown := [name for name in self.robots if name not in ROBOTS]:
            raise ValueError(f"no such robot: {', '.join(unknown)}; there are {', '.join(ROBOTS)}")
        if len(set(self.robots)) < len(self.robots):
            raise ValueError(f"a robot is named twice: {', '.join(self.robots)}")
        return self

    @model_validator(mode="after")
    def _ranges_are_not_empty(self):
        if self.min_steps > self.max_steps or self.unseen_min_steps > self.unseen_max_steps:
            raise ValueError("min_steps must not exceed max_steps")
        if self.test_steps and self.test_steps[0] > self.test_steps[1]:
            raise ValueError("test_steps: the fewest must not exceed the most")
        if self.train_shards > min(self.train_episodes, self.unseen_episodes_per_task * 4):
            raise ValueError("a split needs at least one episode per shard")
        return self


@dataclass(frozen=True)
class EpisodePlan:
    """What one episode will be; `policy` is a name of policies.py, or of operators.py where the gain is hidden."""

    episode_id: str
    task: Task
    policy: str
    min_steps: int
    max_steps: int
    seed: np.random.SeedSequence


def split_names(robot: Robot) -> tuple[str, ...]:
    """The splits that a robot's dataset has."""
    return ("train", "test", "test_visual", "test_motion", "test_task") if robot.unseen else ("train", "val", "test")


def num_shards(split: str, config: FleetConfig) -> int:
    return config.train_shards if split == "train" else 1


def num_episodes(robot: Robot, split: str, config: FleetConfig) -> int:
    """How many episodes a split holds."""
    if not robot.unseen:
        return {"train": config.train_episodes, "val": config.val_episodes, "test": config.test_episodes}[split]
    per_task = {"train": config.unseen_episodes_per_task, "test": config.unseen_test_episodes_per_task}
    return per_task[split] * len(robot.tasks) if split in per_task else config.unseen_novel_episodes


def generate_episodes(
    robot: Robot, split: str, config: FleetConfig, seed: int, draw: bool = True, numbers: Sequence[int] | None = None
) -> Iterator[dict]:
    """Yield the split's raw episodes in order: {"steps": ..., "episode_metadata": ...}, nested as robots.SCHEMAS.

    draw: without it every frame is one black pixel, for whoever looks at numbers only. numbers: of the episodes, all by
    default; an episode is the same whichever others are made with it.
    """
    wanted = range(num_episodes(robot, split, config)) if numbers is None else numbers
    plans = [_plan(robot, split, n, config, seed) for n in wanted]
    states, action_TBA = simulate(robot, plans)
    for b, plan in enumerate(plans):
        episode_states = SceneState.stack([state.select(slice(b, b + 1)) for state in states])
        yield _episode(robot, plan, episode_states, action_TBA[:, b], draw)


def simulate(robot: Robot, plans: list[EpisodePlan]) -> tuple[list[SceneState], np.ndarray]:
    """Run all plans side by side to the longest length: T+1 states of batch B and the T commands (T, B, A)."""
    rngs = [np.random.default_rng(plan.seed) for plan in plans]
    starts = [start_of(robot, plan.task, rng) for plan, rng in zip(plans, rngs, strict=True)]
    policies = [_actor(robot, plan, rng) for plan, rng in zip(plans, rngs, strict=True)]
    states, actions = [SceneState.stack(starts)], []
    first = scenes_of(states[0])
    gain_B1 = np.array([[OPERATORS[plan.policy].gain if robot.hidden_gain else 1.0] for plan in plans], np.float32)
    for t in range(max(plan.max_steps for plan in plans)):
        scenes = scenes_of(states[-1])
        action_BA = np.stack([p.act(s, f) for p, s, f in zip(policies, scenes, first, strict=True)])
        if robot.settles and t == 0:
            action_BA = np.tile([0.0, 0, 0, 0, 0, 0, 1], (len(plans), 1))
        if robot.planar:
            action_BA[:, 2:6], action_BA[:, 6] = 0.0, 1.0
        actions.append(action_BA.astype(np.float32))  # what is recorded is what was commanded
        states.append(step(states[-1], _carried_out(actions[-1], gain_B1)))
    return states, np.stack(actions)


def _carried_out(action_BA: np.ndarray, gain_B1: np.ndarray) -> np.ndarray:
    """Motion times the hidden gain; the gripper's command is none of motion."""
    return np.concatenate([action_BA[:, :6] * gain_B1, action_BA[:, 6:]], axis=1)


def _plan(robot: Robot, split: str, number: int, config: FleetConfig, seed: int) -> EpisodePlan:
    tasks = (UNSEEN_TASKS[split],) if split in UNSEEN_TASKS else robot.tasks
    task = TASKS[tasks[number % len(tasks)]]
    policies = _policies(robot, split)
    low, high = _steps(robot, split, config)
    factor = TWO_STAGE_FACTOR if task.kind == "open_throw" else 1.0
    return EpisodePlan(
        episode_id=f"{robot.name}-{split}-{number:05d}",
        task=with_distractors(task) if split == "test_visual" else task,
        policy=policies[number // len(tasks) % len(policies)],
        min_steps=low,
        max_steps=round(high * factor),
        seed=np.random.SeedSequence([seed, zlib.crc32(robot.name.encode()), zlib.crc32(split.encode()), number]),
    )


def _steps(robot: Robot, split: str, config: FleetConfig) -> tuple[int, int]:
    """The fewest and the most steps of a split's episodes."""
    if split == "test" and config.test_steps:
        return config.test_steps[0], config.test_steps[1]
    if robot.unseen:
        return config.unseen_min_steps, config.unseen_max_steps
    return config.min_steps, config.max_steps


def _policies(robot: Robot, split: str) -> tuple[str, ...]:
    if robot.hidden_gain:
        return tuple(UNSEEN_OPERATORS if split == "test" else SEEN_OPERATORS)
    return DEMONSTRATORS if robot.unseen else UNSEEN_POLICIES if split == "test" else TRAIN_POLICIES


def _actor(robot: Robot, plan: EpisodePlan, rng: np.random.Generator) -> Policy | Operator:
    return Operator(plan.policy, rng) if robot.hidden_gain else Policy(plan.policy, plan.task, rng, robot.planar)


def start_of(robot: Robot, task: Task, rng: np.random.Generator) -> SceneState:
    """Where an episode of this task begins with this robot, batch 1."""
    state = sample_scene(task, rng)
    if robot.planar:
        state.pose[:, 1] = 0.8 * state.pose[:, 1] - 0.07  # in front of the wall
        state.pose[:, 2:] = [0.02, 0.0, 0.0, 0.0]
    return state


def scenes_of(state: SceneState) -> list[Scene]:
    """Each scene of a batch as a policy looks at it."""
    pose, rest = state.pose.tolist(), (state.held, state.objects, state.ball_in_bin, state.lid, state.bin_position)
    rows = zip(pose, *(values.tolist() for values in rest), strict=True)
    return [Scene(p[:3], p[3:], *others) for p, *others in rows]


def _episode(robot: Robot, plan: EpisodePlan, states: SceneState, action_TA: np.ndarray, draw: bool) -> dict:
    """Cut to the episode's own length, draw it and record it in the robot's convention."""
    done_T = progress(plan.task, states)
    num_steps = _length(plan, done_T)
    states, done_T = states.select(slice(0, num_steps + 1)), done_T[: num_steps + 1]
    action_TA = np.concatenate([action_TA[:num_steps], np.zeros((1, 7), np.float32)])  # none is taken at the last step
    frames = render(states, robot.camera, robot.palette) if draw else np.zeros((num_steps + 1, 1, 1, 3), np.uint8)
    success = bool(done_T[-1] == 1.0)
    is_last_T = np.arange(num_steps + 1) == num_steps
    steps = record(robot, frames, states, action_TA, plan.task.instruction)
    steps |= {
        "reward": np.append(done_T[1:], 0.0).astype(np.float32),  # for the state the action leads to
        "discount": np.where(is_last_T & success, 0.0, 1.0).astype(np.float32),
        "is_first": np.arange(num_steps + 1) == 0,
        "is_last": is_last_T,
        "is_terminal": is_last_T & success,
    }
    metadata = {"episode_id": plan.episode_id, "robot": robot.name, "task": plan.task.name}
    return {"steps": steps, "episode_metadata": metadata | {"policy": plan.policy, "success": success}}


def _length(plan: EpisodePlan, done_T: np.ndarray) -> int:
    """A few steps past success; without success a length of the episode's own."""
    if (done_T[: plan.max_steps + 1] == 1.0).any():
        wanted = int(np.argmax(done_T == 1.0)) + STEPS_AFTER_SUCCESS
    else:
        wanted = int(np.random.default_rng(plan.seed.spawn(1)[0]).integers(plan.min_steps, plan.max_steps + 1))
    return int(np.clip(wanted, plan.min_steps, plan.max_steps))


def drawn_robots(config: FleetConfig) -> list[Robot]:
    """Those of the section, in the order their datasets are written."""
    return [robot for name, robot in ROBOTS.items() if name in config.robots]
