"""Motion for a rehearsal: an arm that wanders over the fleet's table, pushes and grasps what it meets.

What is commanded is what happens (nothing bounds the arm but the places it is sent to), so that actions and measured
poses agree as the action contract says. Roll, pitch and yaw use all of their range: yaw crosses pi.

Shapes: B episodes, T steps, A = 7 commanded: dx dy dz (m), droll dpitch dyaw (rad), gripper (1 = open).
"""

from dataclasses import dataclass

import numpy as np

from whale.sim.fleet import state as table
from whale.sim.fleet.dynamics import step
from whale.sim.fleet.state import SceneState
from whale.sim.fleet.tasks import TASKS, Task, sample_scene

LETTERS = "xyzrpwg"
SEEN_TASKS = ("move_bottle", "push_plate", "open_bin", "place_block")
LOW = np.array([*(table.WORKSPACE_LOW + 0.02), -0.45, -0.45])  # places and tilts that the arm is sent to
HIGH = np.array([*(table.WORKSPACE_HIGH - 0.02), 0.45, 0.45])
REACH, FASTEST, TREMOR = 0.4, np.array([0.045] * 3 + [0.12] * 2), np.array([0.008] * 3 + [0.02] * 3)
YAW_RATE, START_YAW = 0.12, np.pi - 0.15
PLACE_STEPS, GRIP_STEPS = 5, (4, 7)  # so long is a place aimed at, and a grip held


@dataclass(frozen=True)
class Motion:
    """T scenes and the commands (T, A) that lead from each to the next; the last row commands nothing."""

    states: SceneState
    command_TA: np.ndarray
    task: Task
    number: int
    success: bool = True

    def __len__(self) -> int:
        return len(self.command_TA)


def wander(
    seeds: list[np.random.SeedSequence], lengths: list[int], moves: str, shut: bool, idle_BT: np.ndarray
) -> list[Motion]:
    """One motion per seed; `moves`: letters of the dimensions in use; idle_BT: steps at which nothing is commanded."""
    rngs = [np.random.default_rng(seed) for seed in seeds]
    tasks = [TASKS[SEEN_TASKS[number % len(SEEN_TASKS)]] for number in range(len(seeds))]
    states = [SceneState.stack([_start(task, moves, shut, r) for task, r in zip(tasks, rngs, strict=True)])]
    live_A = np.array([letter in moves for letter in LETTERS])
    plan = _Plan(rngs, idle_BT.shape[1])
    commands = []
    for t in range(idle_BT.shape[1]):
        command_BA = plan.command(t, states[-1])
        command_BA[:, :6] *= live_A[:6] & ~idle_BT[:, t, None]
        if not live_A[6]:
            command_BA[:, 6] = 0.0 if shut else 1.0
        commands.append(command_BA.astype(np.float32))  # what is recorded is what was commanded
        states.append(step(states[-1], commands[-1]))
    return [_cut(states, commands, b, length, tasks[b]) for b, length in enumerate(lengths)]


class _Plan:
    """Where each arm is sent, drawn at once: (B, T, ...)."""

    def __init__(self, rngs: list[np.random.Generator], steps: int):
        places = -(-steps // PLACE_STEPS)
        self.place = np.stack([rng.uniform(LOW, HIGH, (places, 5)) for rng in rngs])
        self.yaw = np.stack([rng.choice([-YAW_RATE, YAW_RATE], places) for rng in rngs])
        self.tremor = np.stack([np.clip(rng.normal(size=(steps, 6)), -2, 2) * TREMOR for rng in rngs])
        self.open = np.stack([_grips(rng, steps) for rng in rngs])

    def command(self, t: int, state: SceneState) -> np.ndarray:
        """(B, A)"""
        gap = self.place[:, t // PLACE_STEPS] - state.pose[:, :5]
        towards = np.clip(REACH * gap, -FASTEST, FASTEST)
        wanted = np.column_stack([towards, self.yaw[:, t // PLACE_STEPS]]) + self.tremor[:, t]
        bounded = np.clip(state.pose[:, :5] + wanted[:, :5], LOW - 0.01, HIGH + 0.01) - state.pose[:, :5]
        return np.column_stack([bounded, wanted[:, 5], self.open[:, t]])


def _grips(rng: np.random.Generator, steps: int) -> np.ndarray:
    """(T,) open first, then changing every few steps."""
    changes = np.cumsum(rng.integers(*GRIP_STEPS, size=steps))
    return 1.0 - np.searchsorted(changes, np.arange(steps), side="right") % 2


def _start(task: Task, moves: str, shut: bool, rng: np.random.Generator) -> SceneState:
    state = sample_scene(task, rng)
    state.wall_x[:] = table.ABSENT  # what it blocks would be commanded and not done
    state.pose[:, :5] = np.clip(state.pose[:, :5], LOW, HIGH)
    state.pose[:, 5] = START_YAW if "w" in moves else state.pose[:, 5]
    state.pose[:, 2] = LOW[2] if "z" not in moves else state.pose[:, 2]
    state.gripper[:] = 0.0 if shut else 1.0
    return state


def _cut(states: list[SceneState], commands: list[np.ndarray], b: int, length: int, task: Task) -> Motion:
    scenes = SceneState.stack([state.select(slice(b, b + 1)) for state in states[:length]])
    command_TA = np.stack([command[b] for command in commands[:length]])
    command_TA[-1, :6] = 0.0
    return Motion(scenes, command_TA, task, b)
