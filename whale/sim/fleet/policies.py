"""Policies: reactive experts (one per kind of task), noisy and random ones, and the unseen ones of validation.

A policy maps one scene to one action; all its randomness comes from the generator it was given. Gripper commands are
always 0 or 1. Experts read the true state, so they recover from noise instead of replaying a plan.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from whale.sim.fleet import state as table
from whale.sim.fleet.tasks import OPEN, PUSH_LENGTH, TASKS, Task

TRAVEL = 0.15  # fingertip height (m) above the wall's top
GRIP_HEIGHT = 0.025
MAX_TURN = 0.25  # rad per step
PUSHED = PUSH_LENGTH + 0.03
OPEN_COMMAND, CLOSED_COMMAND = 1.0, 0.0
Goal = tuple[float, float, float, float]  # x, y, z, gripper command


@dataclass(frozen=True)
class Scene:
    """One scene in plain floats: what an expert looks at."""

    tip: list[float]  # xyz
    tilt: list[float]  # roll pitch yaw
    held: int
    objects: list[list[float]]
    ball_in_bin: bool
    lid: float
    bin: list[float]


def expert_goal(task: Task, scene: Scene, start: Scene) -> Goal:
    """Where the task's expert wants the fingertips next, and how open; `start` is the episode's first scene."""
    return _EXPERTS[task.kind](task, scene, start)


def _home(start: Scene) -> Goal:
    """Done: swing back, past the start, to a place of this episode's own."""
    return (-start.tip[0], start.tip[1], 0.19, OPEN_COMMAND)


def _distance(at: list[float], x: float, y: float) -> float:
    return float(np.hypot(at[0] - x, at[1] - y))


def _fetch(scene: Scene, k: int) -> Goal:
    """Above object k, then down, then close."""
    x, y, z = scene.objects[k]
    away = _distance(scene.tip, x, y)
    if away > 0.03:
        return (x, y, TRAVEL if away > 0.07 else TRAVEL - 0.02, OPEN_COMMAND)
    low = scene.tip[2] < z + GRIP_HEIGHT + 0.02
    return (x, y, z + GRIP_HEIGHT, CLOSED_COMMAND if low else OPEN_COMMAND)


def _pick(task: Task, scene: Scene, start: Scene) -> Goal:
    plate_x, plate_y, _ = scene.objects[table.PLATE]
    from_plate = _distance(scene.objects[task.target], plate_x, plate_y)
    if scene.held == task.target:
        away = _distance(scene.tip, plate_x, plate_y)
        if away > 0.03:
            return (plate_x, plate_y, TRAVEL, CLOSED_COMMAND)
        return (plate_x, plate_y, GRIP_HEIGHT, OPEN_COMMAND if scene.tip[2] < 0.05 else CLOSED_COMMAND)
    if scene.held != table.NOTHING:
        return _let_go(scene)
    if from_plate < 0.04:
        return _leave(scene, start)
    return _fetch(scene, task.target)


def _let_go(scene: Scene) -> Goal:
    """It holds the wrong thing."""
    return (scene.tip[0], scene.tip[1], scene.tip[2], OPEN_COMMAND)


def _leave(scene: Scene, start: Scene) -> Goal:
    """Straight up first, so that nothing is swept along."""
    return _home(start) if scene.tip[2] > 0.12 else (scene.tip[0], scene.tip[1], 0.20, OPEN_COMMAND)


def _push(task: Task, scene: Scene, start: Scene) -> Goal:
    """Come down behind the object, fingers closed, and drive it along the heading."""
    x, y, _ = scene.objects[task.target]
    if abs(x - start.objects[task.target][0]) > PUSHED:
        return _leave(scene, start)
    reach = table.OBJECT_RADIUS[task.target] + 0.03
    behind, beside = (x - scene.tip[0]) * task.heading, scene.tip[1] - y
    if behind > 0.6 * reach and abs(beside) < 0.03 and scene.tip[2] < 0.045:
        return (scene.tip[0] + 0.08 * task.heading, y, 0.02, CLOSED_COMMAND)
    at = (x - (reach + 0.02) * task.heading, y)
    return (*at, 0.02 if _distance(scene.tip, *at) < 0.03 else 0.12, CLOSED_COMMAND)


def _push_flat(task: Task, scene: Scene, start: Scene) -> Goal:
    """`_push` for an effector that cannot leave the table: it goes round the object, on the side away from the wall."""
    x, y, _ = scene.objects[task.target]
    if abs(x - start.objects[task.target][0]) > PUSHED:
        return (x - 0.16 * task.heading, y - 0.10, 0.02, OPEN_COMMAND)
    reach = table.OBJECT_RADIUS[task.target] + 0.03
    behind, beside = (x - scene.tip[0]) * task.heading, scene.tip[1] - y
    if behind > 0.7 * reach and abs(beside) < 0.025:
        return (scene.tip[0] + 0.08 * task.heading, y, 0.02, OPEN_COMMAND)
    if behind > reach:
        return (x - (reach + 0.02) * task.heading, y, 0.02, OPEN_COMMAND)
    lane = max(y - reach - 0.04, -0.19) if y > -0.10 else min(y + reach + 0.03, -0.025)  # both miss the wall
    in_lane = abs(scene.tip[1] - lane) < 0.025
    return (x - (reach + 0.04) * task.heading if in_lane else scene.tip[0], lane, 0.02, OPEN_COMMAND)


def _open(task: Task, scene: Scene, start: Scene) -> Goal:
    """Take the handle, follow its arc, let go where the lid stays open by itself."""
    bin_x, bin_y = scene.bin
    if scene.held == table.LID:
        ahead = min(scene.lid + 0.42, 1.0)
        y, z = _handle(bin_y, ahead)
        return (bin_x, y, z, OPEN_COMMAND if scene.lid > 0.85 else CLOSED_COMMAND)
    if scene.held != table.NOTHING:
        return _let_go(scene)
    if scene.lid > 0.5:
        return _home(start)
    y, z = _handle(bin_y, scene.lid)
    gap = np.sqrt((scene.tip[0] - bin_x) ** 2 + (scene.tip[1] - y) ** 2 + (scene.tip[2] - z) ** 2)
    return (bin_x, y, z, CLOSED_COMMAND if gap < 0.075 else OPEN_COMMAND)


def _handle(bin_y: float, lid: float) -> tuple[float, float]:
    angle = lid * table.LID_ANGLE
    away, rise = table.LID_LENGTH * float(np.cos(angle)), table.LID_LENGTH * float(np.sin(angle))
    return bin_y + table.BIN_HALF - away, table.BIN_HEIGHT + rise


def _throw(task: Task, scene: Scene, start: Scene) -> Goal:
    """Swing the ball towards the open bin and let go one step before it: it flies the rest."""
    bin_x, bin_y = scene.bin
    if scene.ball_in_bin:
        return _leave(scene, start)
    if scene.held == table.NOTHING and scene.objects[task.target][2] > 0.03:  # in flight
        return (scene.tip[0], scene.tip[1], 0.20, OPEN_COMMAND)
    if scene.held == task.target:
        away = max(abs(scene.tip[0] - bin_x), abs(scene.tip[1] - bin_y))
        release = away < 2.0 * table.MAX_STEP and scene.tip[2] > TRAVEL - 0.03
        # Half of what is left now, half in flight: the ball keeps the speed of the step in which it is let go.
        x = scene.tip[0] + (bin_x - scene.tip[0]) / 2 if release else bin_x
        y = scene.tip[1] + (bin_y - scene.tip[1]) / 2 if release else bin_y
        return (x, y, TRAVEL, OPEN_COMMAND if release else CLOSED_COMMAND)
    if scene.held != table.NOTHING:
        return _let_go(scene)
    return _fetch(scene, task.target)


def _open_throw(task: Task, scene: Scene, start: Scene) -> Goal:
    is_open = scene.lid > OPEN or (scene.lid > 0.5 and scene.held != table.LID)
    return (_throw if is_open or scene.ball_in_bin else _open)(task, scene, start)


_EXPERTS: dict[str, Callable[[Task, Scene, Scene], Goal]] = {
    "pick": _pick,
    "push": _push,
    "open": _open,
    "throw": _throw,
    "open_throw": _open_throw,
}


def expert_action(task: Task, scene: Scene, start: Scene, planar: bool = False) -> np.ndarray:
    """(7,) the expert's canonical action: a straight line to its goal, at most MAX_STEP per axis."""
    return towards(_push_flat(task, scene, start) if planar else expert_goal(task, scene, start), scene)


def towards(goal: Goal, scene: Scene, largest: float = table.MAX_STEP) -> np.ndarray:
    """(7,) the canonical action straight to a goal, at most `largest` metres per axis."""
    delta = np.subtract(goal[:3], scene.tip)
    delta *= min(1.0, largest / max(float(np.abs(delta).max()), 1e-9))
    turn = np.array([0.0, 0.0, 1.8 * goal[0]]) - scene.tilt
    return np.concatenate([delta, np.clip(turn, -MAX_TURN, MAX_TURN), [goal[3]]])


class Policy:
    """`name` decides how the expert of `task` is spoiled; `rng` is this episode's own."""

    def __init__(self, name: str, task: Task, rng: np.random.Generator, planar: bool = False):
        self.name, self.rng, self.planar = name, rng, planar
        self.task: Task | None = None if name == "other_task" else task
        self.given_task = task
        self.drift, self.command = np.zeros(6), OPEN_COMMAND

    def act(self, scene: Scene, start: Scene) -> np.ndarray:
        """(7,) canonical action; motion within MAX_STEP per axis, the gripper command 0 or 1."""
        if self.task is None:
            self.task = _other_task(self.given_task, start, self.rng, self.planar)
        action = self._random() if self.name == "random" else expert_action(self.task, scene, start, self.planar)
        if self.name == "noisy_low":
            action[:6] += self.rng.normal(0.0, 0.25, 6) * UNIT
        elif self.name == "noisy_high":
            action[:6] += self.rng.normal(0.0, 0.7, 6) * UNIT
        elif self.name == "ou_expert":
            self.drift = 0.85 * self.drift + self.rng.normal(0.0, 0.3, 6)
            action[:6] += self.drift * UNIT
        elif self.name == "epsilon_greedy_expert" and self.rng.random() < 0.4:
            action[:6] = self.rng.uniform(-1.0, 1.0, 6) * UNIT
        action[:6] = np.clip(action[:6], -UNIT, UNIT)
        return action

    def _random(self) -> np.ndarray:
        """Half persistence, half fresh noise: plain noise would hover on the spot."""
        self.drift = 0.6 * self.drift + self.rng.uniform(-0.8, 0.8, 6)
        if self.rng.random() < 0.15:
            self.command = 1.0 - self.command
        return np.concatenate([self.drift * UNIT, [self.command]])


UNIT = np.array([table.MAX_STEP] * 3 + [MAX_TURN] * 3)
TRAIN_POLICIES = ("expert", "noisy_low", "noisy_high", "random", "other_task")
UNSEEN_POLICIES = ("ou_expert", "epsilon_greedy_expert")


def _other_task(task: Task, start: Scene, rng: np.random.Generator, planar: bool) -> Task:
    """Another task that this table allows: what it is about stands on it."""
    others = [
        other
        for other in TASKS.values()
        if other.name != task.name
        and (other.kind == "push" if planar else other.kind not in ("open_throw", "patrol"))
        and (other.target == table.NOTHING or start.objects[other.target][0] < table.ABSENT_LIMIT)
        and (other.kind != "pick" or start.objects[table.PLATE][0] < table.ABSENT_LIMIT)
    ]
    return others[int(rng.integers(len(others)))]
