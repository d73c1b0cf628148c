"""What one recorded interaction is: as the source wrote it (RawEpisode), as everything behind ingest sees it (Episode).

Shapes: T steps, A = 7 action dimensions. action[t] is taken at observation[t] and leads to observation[t + 1].
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

ACTION_NAMES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
ACTION_SIZE = 7

# Reasons that count as broken data against `max_bad`; the others are decisions of the spec or of a person.
BAD_REASONS = (
    "bad_crc",
    "truncated",
    "not_tfrecord",
    "missing_key",
    "length_mismatch",
    "shape_mismatch",
    "dtype_mismatch",
    "decode_error",
    "time_gap",
    "nan",
    "empty",
    "unsafe",
)
# Reasons of the quality gate: the episode can be read, but it is not what its spec says (quality/ judges).
QUALITY_REASONS = ("black_camera", "zero_frames", "frozen_video", "truncated_episode")


class EpisodeError(ValueError):
    """One record can't become an episode; `reason` is a code of one of the three lists above."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class RawEpisode:
    """One source record, decoded from its container but not yet interpreted.

    `steps` maps the flattened feature name without `steps/` to an array (T, ...) or to T byte strings: text, encoded
    images, or a sequence that reads the frames of a video or an array when asked. `metadata` holds every feature
    outside the steps under its own flattened name.
    """

    steps: Mapping[str, np.ndarray | Sequence[bytes]]
    num_steps: int
    metadata: Mapping[str, object]
    source_file: str
    record_index: int
    byte_offset: int
    payload_sha256: str


@dataclass(frozen=True)
class Rejected:
    """A source record that is not kept: a reason code of the lists above and where and what exactly."""

    reason: str
    detail: str
    source_file: str
    record_index: int
    byte_offset: int = -1
    payload_sha256: str = ""
    num_steps: int = 0

    @classmethod
    def of(cls, raw: RawEpisode, reason: str, detail: str) -> "Rejected":
        where = (raw.source_file, raw.record_index, raw.byte_offset, raw.payload_sha256, raw.num_steps)
        return cls(reason, detail, *where)


@dataclass(frozen=True)
class Episode:
    """The canonical record. Actions are RAW units after the spec's operations, never normalised.

    frames: role -> T encoded images (as the source stored them until ingest makes them JPEG of one size).
    action (T, 7) float32: dx dy dz (m), droll dpitch dyaw (rad), gripper in [0, 1] with 1 = open.
    action_valid (T,): false for padding, an undefined last step, a value beyond the contract's limit, NaN.
    state (T, 7) float32 or None: x y z, roll pitch yaw, gripper.
    """

    key: str
    frames: Mapping[str, Sequence[bytes]]
    action: np.ndarray
    action_valid: np.ndarray
    state: np.ndarray | None
    language: str
    is_first: np.ndarray
    is_last: np.ndarray
    is_terminal: np.ndarray
    reward: np.ndarray
    discount: np.ndarray
    control_hz: float
    metadata: Mapping[str, object] = field(default_factory=dict)

    @property
    def num_steps(self) -> int:
        return len(self.action)


def episode_key(name: str, split: str, ordinal: int) -> str:
    """`ordinal` counts in the SOURCE split before any filter, so keys survive a change of filters."""
    return f"{name}-{split}-{ordinal:07d}"
