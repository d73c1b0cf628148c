"""Simulated episodes on disk while a collection is under way, so that a killed one goes on where it was."""

import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from whale.common.files import write_atomically

META = "meta."


def write_chunk(path: Path, episodes: Iterable[dict], encode: Callable[[np.ndarray], bytes]) -> None:
    """Episodes as one npz, pictures as `encode` makes them; whole or not there at all."""
    arrays: dict[str, np.ndarray] = {}
    for number, episode in enumerate(episodes):
        steps = dict(episode["steps"])
        pictures = [encode(picture) for picture in steps["observation"]["image"]]
        arrays[f"{number}/pictures"] = np.frombuffer(b"".join(pictures), np.uint8)
        arrays[f"{number}/sizes"] = np.array([len(picture) for picture in pictures], np.int64)
        for name in ("state", "simulator"):
            arrays[f"{number}/{name}"] = steps["observation"][name]
        for name in ("action", "reward", "discount", "is_first", "is_last", "is_terminal"):
            arrays[f"{number}/{name}"] = steps[name]
        arrays[f"{number}/language_instruction"] = np.array(steps["language_instruction"])
        arrays |= {f"{number}/{META}{name}": np.array(value) for name, value in episode["episode_metadata"].items()}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # numpy's stub takes a keyword for allow_pickle
    write_atomically(path, buffer.getvalue())


def read_chunk(path: Path) -> list[dict]:
    """The episodes, pictures as encoded bytes."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    count = len({name.partition("/")[0] for name in arrays})
    return [_episode(arrays, f"{number}/") for number in range(count)]


def _episode(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, Any]:
    own = {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
    ends = np.cumsum(own.pop("sizes")).tolist()
    joined = own.pop("pictures").tobytes()
    pictures = [joined[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    metadata = {name.removeprefix(META): own.pop(name) for name in list(own) if name.startswith(META)}
    steps: dict[str, Any] = {
        "observation": {"image": pictures, "state": own.pop("state"), "simulator": own.pop("simulator")},
        "language_instruction": own.pop("language_instruction").tolist(),
        **own,
    }
    return {"steps": steps, "episode_metadata": {name: _plain(value) for name, value in metadata.items()}}


def _plain(value: np.ndarray) -> Any:
    return value.item() if value.dtype.kind in "Ub" else value[()]
