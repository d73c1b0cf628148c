"""Tasks: how a table is laid out at the start, how far a state is from done, and what done means.

Shapes: T steps of ONE episode as the batch of a SceneState (progress is judged over a whole episode at once).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from whale.sim.fleet import state as table
from whale.sim.fleet.state import SceneState

PUSH_LENGTH = 0.20  # metres that push tasks ask for
ON_PLATE = 0.045
OPEN = 0.9


@dataclass(frozen=True)
class Task:
    """One thing to do. `target` is the object it is about; `heading` is +1 for a push to the right, -1 to the left."""

    name: str
    instruction: str
    kind: str  # pick (onto the plate), push, open, throw, open_throw, patrol (from place to place, never done)
    target: int = table.NOTHING
    heading: float = 0.0
    distractors: bool = False


_TASKS = (
    Task("move_bottle", "put the bottle on the plate", "pick", table.BOTTLE),
    Task("place_block", "put the block on the plate", "pick", table.BLOCK),
    Task("open_bin", "open the bin", "open"),
    Task("throw_ball", "throw the ball into the bin", "throw", table.BALL),
    Task("push_plate", "push the plate to the right", "push", table.PLATE, 1.0),
    Task("push_plate_left", "push the plate to the left", "push", table.PLATE, -1.0),
    Task("push_block", "push the block to the right", "push", table.BLOCK, 1.0),
    Task("push_block_left", "push the block to the left", "push", table.BLOCK, -1.0),
    Task("push_bottle", "slide the bottle to the right", "push", table.BOTTLE, 1.0),
    Task("open_bin_throw_ball", "open the bin, then put the ball in", "open_throw", table.BALL),
    Task("patrol", "move about above the table", "patrol"),
)
TASKS = {task.name: task for task in _TASKS}


def with_distractors(task: Task) -> Task:
    """The same task on a table where two objects stand that training never shows."""
    return replace(task, distractors=True)


def sample_scene(task: Task, rng: np.random.Generator) -> SceneState:
    """A start for this task, batch 1: the bin stands at the far right, the wall in the far middle."""
    wall_x = rng.uniform(-0.03, 0.03)
    bin_position = np.array([rng.uniform(0.17, 0.23), rng.uniform(0.05, 0.11)])
    objects = np.full((table.NUM_OBJECTS, 3), 0.0)
    objects[:, :2] = table.ABSENT
    placed = [(bin_position, 0.075)]
    for k in _cast(task, rng):
        position = _free_spot(_region(task, k), table.OBJECT_RADIUS[k], placed, wall_x, rng)
        objects[k, :2] = position
        placed.append((position, table.OBJECT_RADIUS[k]))
    pose = np.array([rng.uniform(-0.16, 0.16), rng.uniform(-0.12, 0.04), rng.uniform(0.13, 0.20), 0.0, 0.0, 0.0])
    pose[5] = rng.uniform(-0.5, 0.5)
    return SceneState(
        pose=pose[None],
        gripper=np.ones(1),
        held=np.full(1, table.NOTHING),
        objects=objects[None],
        ball_velocity=np.zeros((1, 2)),
        ball_in_bin=np.zeros(1, bool),
        lid=np.array([1.0 if task.kind == "throw" else 0.0]),
        bin_position=bin_position[None],
        wall_x=np.array([wall_x]),
    )


def progress(task: Task, state_T: SceneState) -> np.ndarray:
    """(T,) in [0, 1]: 1 exactly where the task is done, else how near, relative to the episode's first step."""
    return _PROGRESS[task.kind](task, state_T)


def _cast(task: Task, rng: np.random.Generator) -> list[int]:
    """Which objects stand on the table, the target first so that it gets the best place."""
    others = {
        "pick": [table.PLATE, table.BALL],
        "push": [table.BALL, table.BOTTLE if task.target == table.BLOCK else table.BLOCK],
        "open": [table.BLOCK, table.BOTTLE],
    }
    others |= {"throw": [table.BOTTLE, table.PLATE], "open_throw": [table.BOTTLE], "patrol": [table.BLOCK, table.BALL]}
    cast = [k for k in [task.target] if k != table.NOTHING] + others[task.kind]
    return cast + [table.CUP, table.CONE] * task.distractors


def _region(task: Task, k: int) -> tuple[float, float, float, float]:
    """x_low, x_high, y_low, y_high of where object k may start."""
    if task.kind == "push" and k == task.target:
        return (-0.20, -0.10, -0.14, -0.07) if task.heading > 0 else (0.10, 0.20, -0.14, -0.07)
    if k == task.target:
        return (-0.20, 0.02, -0.14, 0.10)
    if k == table.PLATE:
        return (0.02, 0.20, -0.15, -0.07)
    if task.kind == "push":
        return (-0.25, 0.10, 0.05, 0.17)
    return (-0.25, 0.22, -0.16, 0.14)


def _free_spot(region, radius: float, placed: list, wall_x: float, rng: np.random.Generator) -> np.ndarray:
    """A place that touches nothing; after 50 tries the least crowded one, so that every seed ends."""
    best, best_gap = np.zeros(2), -np.inf
    for _ in range(50):
        spot = np.array([rng.uniform(region[0], region[1]), rng.uniform(region[2], region[3])])
        gaps = [np.hypot(*(spot - other)) - other_radius - radius - 0.03 for other, other_radius in placed]
        if spot[1] > -0.06:  # beside the wall's reach along y
            gaps.append(abs(spot[0] - wall_x) - radius - 0.05)
        if min(gaps) >= 0.0:
            return spot
        if min(gaps) > best_gap:
            best, best_gap = spot, min(gaps)
    return best


def _near(distance_T: np.ndarray, done_T: np.ndarray) -> np.ndarray:
    share_T = 1.0 - distance_T / np.maximum(distance_T[0], 1e-6)
    return np.where(done_T, 1.0, np.clip(0.9 * share_T, 0.0, 0.9))


def _pick_progress(task: Task, state_T: SceneState) -> np.ndarray:
    position_T3 = state_T.objects[:, task.target]
    distance_T = np.hypot(*(position_T3 - state_T.objects[:, table.PLATE])[:, :2].T)
    rests_T = (state_T.held != task.target) & (position_T3[:, 2] < 0.02)
    return _near(distance_T, (distance_T < ON_PLATE) & rests_T)


def _push_progress(task: Task, state_T: SceneState) -> np.ndarray:
    travel_T = (state_T.objects[:, task.target, 0] - state_T.objects[0, task.target, 0]) * task.heading
    return _near(PUSH_LENGTH - np.minimum(travel_T, PUSH_LENGTH), travel_T >= PUSH_LENGTH)


def _open_progress(task: Task, state_T: SceneState) -> np.ndarray:
    return np.where(state_T.lid > OPEN, 1.0, 0.9 * np.clip(state_T.lid, 0.0, 1.0))


def _throw_progress(task: Task, state_T: SceneState) -> np.ndarray:
    distance_T = np.hypot(*(state_T.objects[:, table.BALL, :2] - state_T.bin_position).T)
    return _near(distance_T, state_T.ball_in_bin)


def _open_throw_progress(task: Task, state_T: SceneState) -> np.ndarray:
    opened_T, thrown_T = _open_progress(task, state_T), _throw_progress(task, state_T)
    return np.where(state_T.ball_in_bin, 1.0, 0.5 * opened_T + 0.4 * thrown_T * (opened_T == 1.0))


def _patrol_progress(task: Task, state_T: SceneState) -> np.ndarray:
    return np.zeros(len(state_T.pose))


_PROGRESS: dict[str, Callable[[Task, SceneState], np.ndarray]] = {
    "pick": _pick_progress,
    "push": _push_progress,
    "open": _open_progress,
    "throw": _throw_progress,
    "open_throw": _open_throw_progress,
    "patrol": _patrol_progress,
}
