"""Recorded beginnings: where an imagined episode can start, with what was done, and may have been seen, from there.

One .npz per dataset, without pickle. Shapes: E episodes, c given frames, L actions kept, R resolution, A action;
F = L - c + 1 frames that were recorded after the given ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from whale.common.errors import BadDataError
from whale.data.storage.npy import read_npz

KINDS = {"frames": "uint8", "actions": "float", "keys": "text", "instructions": "text", "lengths": "integer"}
FOLLOWING = "following"  # the one array that may be absent: frames [E, F, R, R, 3], each less the one before, mod 256


@dataclass(frozen=True)
class Start:
    """`frames` uint8 [c, R, R, 3]; `actions` float32 [L, A], raw, from the first frame on; `key` of the episode.

    `following` uint8 [F, R, R, 3]: what was recorded after the given frames, where that was kept.
    """

    key: str
    instruction: str
    frames: np.ndarray
    actions: np.ndarray
    following: np.ndarray | None = None


def write_starts(path: Path, starts: Sequence[Start]) -> None:
    """Equal starts give equal bytes; episodes of unlike lengths are padded and `lengths` tells the truth.

    `following` is written if all have it.
    """
    longest = max(len(start.actions) for start in starts)
    actions = np.zeros((len(starts), longest, starts[0].actions.shape[-1]), np.float32)
    for row, start in zip(actions, starts, strict=True):
        row[: len(start.actions)] = start.actions
    path.parent.mkdir(parents=True, exist_ok=True)
    more: dict[str, Any] = {}
    if all(start.following is not None for start in starts):
        more[FOLLOWING] = _differences(starts, longest)
    np.savez_compressed(
        path, **more, frames=np.stack([start.frames for start in starts]), actions=actions,
        keys=np.array([start.key for start in starts]),
        instructions=np.array([start.instruction for start in starts]),
        lengths=np.array([len(start.actions) for start in starts], np.int64),
    )  # fmt: skip


def _differences(starts: Sequence[Start], longest: int) -> np.ndarray:
    """Frames as they are packed: what stands still is 0, and so is what follows the last one."""
    given = len(starts[0].frames)
    packed = np.zeros((len(starts), longest - given + 1, *starts[0].frames.shape[1:]), np.uint8)
    for row, start in zip(packed, starts, strict=True):
        assert start.following is not None
        before = np.concatenate([start.frames[-1:], start.following[:-1]])
        row[: len(start.following)] = start.following - before  # mod 256
    return packed


def read_starts(path: Path, resolution: int, action_size: int) -> list[Start]:
    """Frames of R = resolution, A = action_size. BadDataError for what is no such file."""
    arrays = read_npz(path, KINDS, optional=[FOLLOWING])
    _require_sound(arrays, path, resolution, action_size)
    rows = zip(*(arrays[name] for name in ("keys", "instructions", "frames", "actions", "lengths")), strict=True)
    starts = [Start(str(key), str(text), frames, actions[:length]) for key, text, frames, actions, length in rows]
    if FOLLOWING not in arrays:
        return starts
    sums = np.cumsum(arrays[FOLLOWING], axis=1, dtype=np.uint8)  # mod 256
    return [
        replace(start, following=start.frames[-1] + rest[: len(start.actions) - len(start.frames) + 1])
        for start, rest in zip(starts, sums, strict=True)
    ]


def _require_sound(arrays: Mapping[str, np.ndarray], path: Path, resolution: int, action_size: int) -> None:
    frames, actions, lengths = arrays["frames"], arrays["actions"], arrays["lengths"]
    given, longest = (array.shape[1] if array.ndim > 1 else 0 for array in (frames, actions))
    count = len(frames) if frames.ndim else 0
    expected = {
        "frames": ((count, given, resolution, resolution, 3), "u"), "actions": ((count, longest, action_size), "f"),
        "keys": ((count,), "U"), "instructions": ((count,), "U"), "lengths": ((count,), "i"),
        FOLLOWING: ((count, longest - given + 1, resolution, resolution, 3), "u"),
    }  # fmt: skip
    for name, array in arrays.items():
        shape, kind = expected[name]
        fits = array.shape == shape and array.dtype.kind == kind and (kind != "u" or array.dtype == np.uint8)
        if not fits or not array.size:
            raise BadDataError("starts do not fit together", file=path, place=name,
                               found=f"{array.dtype} {array.shape}",
                               expected=f"{KINDS.get(name, 'uint8')} {shape}, none of them 0")  # fmt: skip
    if lengths.min() < given or lengths.max() > longest:
        raise BadDataError("starts without an action for each frame", file=path, place="lengths",
                           found=f"{lengths.min()} to {lengths.max()}", expected=f"{given} to {longest}")  # fmt: skip
    if not np.isfinite(actions).all():
        raise BadDataError("a recorded action is not finite", file=path, place="actions", expected="finite numbers")
