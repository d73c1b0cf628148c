"""Recorded beginnings: where an imagined episode can start, with what was done from there.

One .npz per dataset, without pickle. Shapes: E episodes, c given frames, L actions kept, R resolution, A action.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from whale.common.errors import BadDataError

MAX_BYTES = 512 * 2**20
KINDS = {"frames": "u", "actions": "f", "keys": "U", "instructions": "U", "lengths": "i"}


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


def read_starts(path: Path) -> list[Start]:
    """BadDataError for what is no such file."""
    if path.stat().st_size > MAX_BYTES:
        raise BadDataError("file too large", file=path, found=path.stat().st_size, expected=f"<= {MAX_BYTES}")
    try:
        with np.load(path, allow_pickle=False) as found:
            arrays = {name: found[name] for name in KINDS}
    except (ValueError, OSError, KeyError) as error:
        raise BadDataError("not a file of recorded starts", file=path, found=str(error)[:200]) from None
    wrong = [name for name, kind in KINDS.items() if arrays[name].dtype.kind != kind]
    sizes = {name: len(array) for name, array in arrays.items()}
    if wrong or len(set(sizes.values())) != 1 or arrays["frames"].ndim != 5 or arrays["actions"].ndim != 3:
        raise BadDataError("starts do not fit together", file=path, place=", ".join(wrong) or None, found=sizes)
    rows = zip(*(arrays[name] for name in ("keys", "instructions", "frames", "actions", "lengths")), strict=True)
    return [Start(str(key), str(text), frames, actions[:length]) for key, text, frames, actions, length in rows]
