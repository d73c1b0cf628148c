"""What one episode tells the quality gate: faults of its own, and what is added up over the dataset.

Everything is plain numbers that merge by addition, so a file of episodes leaves one small record, however long it is.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from whale.data.ingest.canonical.canonical import kept_steps
from whale.data.ingest.canonical.raw_columns import columns, measured_opening, measured_pose
from whale.data.ingest.quality.motion import LAGS, LEAST_MOTION, MotionSums, correlations, measure_motion, motion
from whale.data.ingest.quality.video import CameraReport, look
from whale.data.spec.episode import Episode, EpisodeError, RawEpisode
from whale.data.spec.spec import DatasetSpec
from whale.data.storage.images import ImageError

LEAST_AGREEMENT_STEPS = 8  # moving steps of one dimension before one episode's agreement means anything
SMALLEST_ACTION = 1.0e-6
GRIPPER_MOTION = 0.02


@dataclass(frozen=True)
class Fault:
    detector: str
    detail: str


@dataclass(frozen=True)
class Inspection:
    """`faults` of this episode; `counts` and `motion` to add up; `agreement`: see `_agreement`, NaN if unknown."""

    faults: list[Fault]
    counts: Counter[str]
    motion: MotionSums
    agreement: float
    warm: float

    def sorted_by(self, accept: Sequence[str]) -> tuple[list[tuple[str, str]], list[Fault]]:
        """(accepted ones as pairs, refused ones); `accept`: detectors whose faults the spec knows."""
        accepted = [(fault.detector, fault.detail) for fault in self.faults if fault.detector in accept]
        return accepted, [fault for fault in self.faults if fault.detector not in accept]


def inspect_episode(
    raw: RawEpisode, episode: Episode, frames: Mapping[str, Sequence[bytes]], spec: DatasetSpec
) -> Inspection:
    """`frames`: the canonical frames of the roles that are kept; other cameras of the spec are looked at as stored."""
    kept = kept_steps(raw, spec)
    pose_T6, opening_T = _proprioception(raw, spec, kept)
    moves_T = _moves(episode, pose_T6, opening_T)
    counts = Counter(episodes=1, steps=episode.num_steps) + _count_actions(episode)
    faults = _boundary_faults(raw, counts)
    reports = {role: look(frames[role], moves_T) for role in frames}
    for role, report in reports.items():
        faults += _camera_faults(role, report)
    for role in spec.cameras.keys() - frames.keys():
        counts.update(_unused_camera(role, raw.steps.get(spec.cameras[role].key), kept, moves_T))
    primary = reports.get("primary", CameraReport(0, 0, 0, 0, 0))
    counts.update(coloured=primary.coloured, warm=primary.warm)
    sums = measure_motion(
        recorded_motion(raw, spec, episode, kept), episode.action_valid, pose_T6, episode.action[:, 6], opening_T
    )
    warm = primary.warm / primary.coloured if primary.coloured else np.nan
    return Inspection(faults, counts, sums, _agreement(sums), warm)


def is_relabelled(spec: DatasetSpec) -> bool:
    """Actions are made from the measured pose: comparing them with it would prove nothing."""
    return spec.state is not None and spec.action.translation.key == spec.state.pose.key


def recorded_motion(raw: RawEpisode, spec: DatasetSpec, episode: Episode, kept: slice) -> np.ndarray:
    """(T, 6) what was commanded: the canonical action, or for relabelled data the command beside the gripper's."""
    if not is_relabelled(spec):
        return episode.action[:, :6].astype(np.float64)
    gripper = spec.action.gripper
    if gripper.key is None or gripper.slice != [6, 7] or spec.state is None or gripper.key == spec.state.pose.key:
        return np.full((episode.num_steps, 6), np.nan)
    return columns(raw, gripper.key, [0, 6])[kept]


def _proprioception(raw: RawEpisode, spec: DatasetSpec, kept: slice) -> tuple[np.ndarray, np.ndarray]:
    num_steps = kept.stop - kept.start
    if spec.state is None:
        return np.full((num_steps, 6), np.nan), np.full(num_steps, np.nan)
    pose_T6, opening_T = measured_pose(raw, spec.state)[kept], measured_opening(raw, spec.state)[kept]
    unknown = spec.state.gripper is None or spec.state.gripper.rises_when == "unknown"
    if unknown or spec.action.gripper.key is None:
        opening_T = np.full(num_steps, np.nan)
    return pose_T6, opening_T


def _moves(episode: Episode, pose_T6: np.ndarray, opening_T: np.ndarray) -> np.ndarray:
    """(T - 1,) did the robot move: as measured, or as commanded where nothing is measured."""
    motion_T9 = motion(pose_T6)
    if np.isfinite(motion_T9).any():
        moves_T = (np.abs(np.nan_to_num(motion_T9)) > LEAST_MOTION).any(axis=1)
        return moves_T | (np.abs(np.nan_to_num(np.diff(opening_T))) > GRIPPER_MOTION)
    return (np.abs(episode.action[:-1, :6]) > SMALLEST_ACTION).any(axis=1)


def _count_actions(episode: Episode) -> Counter[str]:
    """Idle steps, and whether the first action is nothing while others are something."""
    idle_T = (np.abs(episode.action[:, :6]) <= SMALLEST_ACTION).all(axis=1)
    valid_T = episode.action_valid
    first_zero = bool(idle_T[0] and valid_T[0] and not idle_T[valid_T].all())
    return Counter(
        valid_steps=int(valid_T.sum()), idle_steps=int((idle_T & valid_T).sum()), first_zero=int(first_zero),
        empty_language=int(not episode.language.strip()),
    )  # fmt: skip


def _boundary_faults(raw: RawEpisode, counts: Counter[str]) -> list[Fault]:
    """is_first at step 0 only, is_last at the last step only; sources without is_last are counted, not judged."""
    faults = []
    for name, place in (("is_first", 0), ("is_last", raw.num_steps - 1)):
        if name not in raw.steps:
            counts[f"without_{name}"] += 1
            continue
        found = np.flatnonzero(np.asarray(raw.steps[name]).reshape(raw.num_steps, -1)[:, 0]).tolist()
        if found != [place]:
            shown = str(found[:5]) if found else "never"
            faults.append(Fault("truncated_episode", f"{name} is set {shown}, expected at step {place} of the episode"))
    return faults


def _camera_faults(role: str, report: CameraReport) -> list[Fault]:
    if report.is_black:
        return [Fault("black_camera", f"{role}: {report.black} of {report.looked} frames looked at are black")]
    faults = []
    if report.black:
        faults.append(Fault("zero_frames", f"{role}: {report.black} frames are black"))
    if report.is_frozen:
        faults.append(Fault("frozen_video", f"{role}: equal frames during {report.frozen} steps of motion"))
    return faults


def _unused_camera(role: str, images: Any, kept: slice, moves_T: np.ndarray) -> Counter[str]:
    """A camera of the spec that is not ingested: its state is counted, for whoever wants to use it."""
    if images is not None and not isinstance(images, list):
        return Counter()  # a video: looking would mean decoding all of it
    if not images or not any(images):
        return Counter({f"camera/{role}/absent": 1})
    try:
        report = look(images[kept], moves_T)
    except (ImageError, EpisodeError):
        return Counter({f"camera/{role}/undecodable": 1})
    place = f"camera/{role}"
    return Counter({f"{place}/seen": 1, f"{place}/black": +report.is_black, f"{place}/frozen": +report.is_frozen})


def _agreement(sums: MotionSums) -> float:
    """Mean correlation of action and motion at lag 0 over x, y, z as far as they move enough; NaN if none does."""
    judged = np.flatnonzero(sums.moving[:3] >= LEAST_AGREEMENT_STEPS)
    if not len(judged):
        return float("nan")
    return float(correlations(sums.lagged[LAGS.index(0), judged]).mean())
