"""Recorded beginnings: where an imagined episode can start, with what was done from there.

One .npz per dataset, without pickle. Shapes: E episodes, c given frames, L actions kept, R resolution, A action.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from whale.common.errors import BadDataError
from whale.data.storage.npy import read_npz

KINDS = {"frames": "uint8", "actions": "float", "keys": "text", "instructions": "text", "lengths": "integer"}


@dataclass(frozen=True)
class Start:
    """`frames` uint8 [c, R, R, 3]; `actions` float32 [L, A], raw, from the first frame on; `key` of the episode."""

    key: str
    instruction: str
    frames: np.ndarray
    actions: np.ndarray


def write_starts(path: Path, starts: Sequence[Start]) -> None:
    """Equal starts give equal bytes; actions of unlike lengths are padded with zeros and `lengths` tells the truth."""
    longest = max(len(start.actions) for start in starts)
    actions = np.zeros((len(starts), longest, starts[0].actions.shape[-1]), np.float32)
    for row, start in zip(actions, starts, strict=True):
        row[: len(start.actions)] = start.actions
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path, frames=np.stack([start.frames for start in starts]), actions=actions,
        keys=np.array([start.key for start in starts]),
        instructions=np.array([start.instruction for start in starts]),
        lengths=np.array([len(start.actions) for start in starts], np.int64),
    )  # fmt: skip


def read_starts(path: Path, resolution: int, action_size: int) -> list[Start]:
    """Frames of R = resolution, A = action_size. BadDataError for what is no such file."""
    arrays = read_npz(path, KINDS)
    _require_sound(arrays, path, resolution, action_size)
    rows = zip(*(arrays[name] for name in ("keys", "instructions", "frames", "actions", "lengths")), strict=True)
    return [Start(str(key), str(text), frames, actions[:length]) for key, text, frames, actions, length in rows]


def _require_sound(arrays: Mapping[str, np.ndarray], path: Path, resolution: int, action_size: int) -> None:
    frames, actions, lengths = arrays["frames"], arrays["actions"], arrays["lengths"]
    given, longest = (array.shape[1] if array.ndim > 1 else 0 for array in (frames, actions))
    count = len(frames) if frames.ndim else 0
    expected = {
        "frames": ((count, given, resolution, resolution, 3), "u"), "actions": ((count, longest, action_size), "f"),
        "keys": ((count,), "U"), "instructions": ((count,), "U"), "lengths": ((count,), "i"),
    }  # fmt: skip
    for name, (shape, kind) in expected.items():
        array = arrays[name]
        fits = array.shape == shape and array.dtype.kind == kind and (name != "frames" or array.dtype == np.uint8)
        if not fits or not array.size:
            raise BadDataError("starts do not fit together", file=path, place=name,
                               found=f"{array.dtype} {array.shape}",
                               expected=f"{KINDS[name]} {shape}, none of them 0")  # fmt: skip
    if lengths.min() < given or lengths.max() > longest:
        raise BadDataError("starts without an action for each frame", file=path, place="lengths",
                           found=f"{lengths.min()} to {lengths.max()}", expected=f"{given} to {longest}")  # fmt: skip
    if not np.isfinite(actions).all():
        raise BadDataError("a recorded action is not finite", file=path, place="actions", expected="finite numbers")
