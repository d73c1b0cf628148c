"""The judge that knows: the fleet's three tests of an unseen robot, decided from the simulator's state.

The criteria are those of data_specs/questions/fleet.yaml, after the paper's Table 13. A state says it of a simulated
outcome. An imagined frame has no state; what it shows is read by comparing it with drawings of the true end, of the
true end with the test's fact undone, and of the arm moved about. Shapes: T steps, A = 7.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from whale.evaluation.judging.pairs import About, Pair
from whale.evaluation.measuring.rollouts.fidelity import psnr
from whale.sim.fleet import state as table
from whale.sim.fleet.collect import EpisodePlan, simulate
from whale.sim.fleet.dynamics import step
from whale.sim.fleet.render import render
from whale.sim.fleet.robots import ROBOTS
from whale.sim.fleet.state import SceneState
from whale.sim.fleet.tasks import OPEN, TASKS, progress, with_distractors

ROBOT = ROBOTS["fleet_unseen"]
TESTS = {"visual": "open_bin", "motion": "push_plate_left", "task": "open_bin_throw_ball"}
MAX_STEPS, STEPS_AFTER_SUCCESS = {"visual": 40, "motion": 40, "task": 72}, 3
POLICIES = ("expert", "noisy_low", "expert", "noisy_high")  # as for its demonstrations: some fail
ARM_MATCHES = {"motion": 0.06, "task": 0.12}  # metres between fingertips: "match", "not far away"
CLEAR_DB = 20.0  # PSNR with the best drawing below which a frame is not clear
SHOWN = 25  # levels of 255 by which two drawings differ where they differ
MOVES, LIFTS = (-0.16, -0.08, 0.0, 0.08, 0.16), (-0.08, 0.0, 0.08)  # metres along x and y, along z

Recorder = Callable[[np.ndarray], np.ndarray]  # the camera's uint8 [H, W, 3] -> as frames of this dataset are
Outcome = Callable[[np.ndarray, np.ndarray], np.ndarray]  # first frame, actions [T, A] -> last frame


@dataclass(frozen=True)
class Episode:
    """What truly happened: `start` and `end` of batch 1, commands [T, A]."""

    test: str
    name: str
    start: SceneState
    end: SceneState
    actions: np.ndarray

    @property
    def recorded_meets(self) -> bool:
        return meets(self.test, self.end, self.end)

    @property
    def instruction(self) -> str:
        return TASKS[TESTS[self.test]].instruction


def meets(test: str, recorded: SceneState, imagined: SceneState) -> bool:
    """Whether an imagined end is consistent with the recorded one by the criteria of the test."""
    is_near = bool(np.linalg.norm(imagined.pose[0, :3] - recorded.pose[0, :3]) <= ARM_MATCHES.get(test, np.inf))
    return _has_fact(test, imagined) and is_near


def episodes(test: str, count: int, seed: int) -> list[Episode]:
    """Scripted episodes of the unseen robot that no dataset holds; a function of (seed, test, number)."""
    task = TASKS[TESTS[test]]
    task, most = with_distractors(task) if test == "visual" else task, MAX_STEPS[test]
    plans = [
        EpisodePlan(f"{test}-{number:04d}", task, POLICIES[number % len(POLICIES)], most, most,
                    np.random.SeedSequence([seed, zlib.crc32(f"consistency|{test}".encode()), number]))
        for number in range(count)
    ]  # fmt: skip
    states, action_TBA = simulate(ROBOT, plans)
    found = []
    for b, plan in enumerate(plans):
        own = SceneState.stack([state.select(slice(b, b + 1)) for state in states])
        done_T = progress(task, own) == 1.0
        last = min(int(np.argmax(done_T)) + STEPS_AFTER_SUCCESS, most) if done_T.any() else most
        start, end = (own.select(slice(at, at + 1)) for at in (0, last))
        found.append(Episode(test, plan.episode_id, start, end, action_TBA[:last, b]))
    return found


def simulated_pairs(test: str, count: int, seed: int) -> list[Pair]:
    """Pairs of a world whose error is known, since it is the simulator with one fault in turn: a set to test judges."""
    pairs = []
    for number, episode in enumerate(episodes(test, count, seed)):
        fault = tuple(_FAULTS)[number % len(_FAULTS)]
        end, is_blurred = _FAULTS[fault](episode), fault == "blurred"
        image = _blurred(drawn(end)) if is_blurred else drawn(end)
        truth = meets(test, episode.end, end) and not is_blurred
        about = About(instruction=episode.instruction, truth=truth, recorded_meets=episode.recorded_meets)
        pairs.append(Pair(test, TESTS[test], f"{episode.name}-{fault}", drawn(episode.end), image, about))
    return pairs


def imagined_pairs(test: str, count: int, seed: int, imagine: Outcome, record: Recorder) -> list[Pair]:
    """Pairs of a learned world; their truth is read from its frames (`read_truth`)."""
    pairs = []
    for episode in episodes(test, count, seed):
        recorded, image = record(drawn(episode.end)), imagine(record(drawn(episode.start)), episode.actions)
        truth = read_truth(episode, image, record)
        about = About(instruction=episode.instruction, truth=truth, recorded_meets=episode.recorded_meets)
        pairs.append(Pair(test, TESTS[test], episode.name, recorded, image, about))
    return pairs


def read_truth(episode: Episode, image: np.ndarray, record: Recorder = lambda frame: frame) -> bool:
    """`meets` of an end that only a frame is known of: the drawing that it resembles most says which end it shows."""
    ends = _possible_ends(episode)
    drawings = np.stack([record(frame) for frame in render(ends, ROBOT.camera, ROBOT.palette)])
    differs = (np.abs(drawings.astype(np.float32) - drawings.mean(axis=0)) > SHOWN).any(axis=(0, -1))
    error = np.square(drawings.astype(np.float32) - image.astype(np.float32))
    best = int(np.argmin((error * differs[..., None]).sum(axis=(1, 2, 3))))
    is_clear = bool(psnr(drawings[best], image) >= CLEAR_DB)
    return is_clear and meets(episode.test, episode.end, ends.select(slice(best, best + 1)))


def drawn(state: SceneState) -> np.ndarray:
    """As the robot's camera sees a scene of batch 1, uint8 [H, W, 3]."""
    return render(state, ROBOT.camera, ROBOT.palette)[0]


def _has_fact(test: str, end: SceneState) -> bool:
    if test == "motion":
        plate = end.objects[:, table.PLATE]
        is_left = ROBOT.camera.project(plate)[0, 0] < (ROBOT.camera.width - 1) / 2
        return bool(abs(plate[0, 0]) <= table.ABSENT_LIMIT and is_left)
    return bool(end.lid[0] > OPEN and (test == "visual" or end.ball_in_bin[0]))


def _possible_ends(episode: Episode) -> SceneState:
    """The true end first, then with the fact undone, each with the fingertips moved about."""
    ends = []
    for end in (episode.end, _undone(episode), *_halfway(episode)):
        for move in [np.array([x, y, z]) for x in MOVES for y in MOVES for z in LIFTS]:
            moved = end.copy()
            moved.pose[:, :3] = np.clip(end.pose[:, :3] + move, table.WORKSPACE_LOW, table.WORKSPACE_HIGH)
            ends.append(moved)
    return SceneState.stack(ends)


def _undone(episode: Episode) -> SceneState:
    """The end without what was done: lid, plate and ball as they were at the start."""
    end, start = episode.end.copy(), episode.start
    end.lid, end.objects, end.ball_in_bin = start.lid.copy(), start.objects.copy(), start.ball_in_bin.copy()
    return end


def _vanished(episode: Episode) -> SceneState:
    """The end without its plate; where no plate matters, with the lid shut."""
    end = episode.end.copy()
    if episode.test == "motion":
        end.objects[:, table.PLATE, :2] = table.ABSENT
    else:
        end.lid[:] = 0.0
    return end


def _halfway(episode: Episode) -> list[SceneState]:
    """Further ends that a frame may show."""
    start = replace(episode.start.copy(), pose=episode.end.pose.copy())
    return [_vanished(episode), start]


def _carried_out(episode: Episode, gain: float) -> SceneState:
    """The end where every motion is `gain` times what was commanded."""
    state = episode.start
    for action in episode.actions:
        state = step(state, np.concatenate([action[:6] * gain, action[6:]])[None])
    return state


def _blurred(frame: np.ndarray) -> np.ndarray:
    """Shrunk to 6 x 6 and enlarged: nothing can be told."""
    small = cv2.resize(frame, (6, 6), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, frame.shape[1::-1], interpolation=cv2.INTER_LINEAR)


_FAULTS: dict[str, Callable[[Episode], SceneState]] = {
    "none": lambda episode: episode.end,
    "halved": lambda episode: _carried_out(episode, 0.5),
    "shorter": lambda episode: _carried_out(episode, 0.98),
    "still": lambda episode: episode.start,
    "longer": lambda episode: _carried_out(episode, 1.02),
    "vanished": _vanished,
    "exact": lambda episode: _carried_out(episode, 1.0),
    "blurred": lambda episode: episode.end,
}
