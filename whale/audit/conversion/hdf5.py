"""Demos of robomimic's form as h5py reads them: demo_<i> by number, file after file, or those that a mask lists."""

from pathlib import Path
from typing import Any

import h5py

from whale.audit.conversion.pixels import pictures_of
from whale.audit.conversion.plain import PlainEpisode
from whale.common.json_files import parse_object

ALL = "all"


class DemosByH5py:
    how = f"h5py {h5py.__version__}"

    def __init__(self, directory: Path):
        self.paths = sorted(path for path in Path(directory).rglob("*") if path.suffix in (".hdf5", ".h5"))
        self._demos: dict[str, list[tuple[Path, str]]] = {}

    def count(self, split: str) -> int:
        return len(self._listed(split))

    def _listed(self, split: str) -> list[tuple[Path, str]]:
        if split not in self._demos:
            found = []
            for path in self.paths:
                with h5py.File(path, "r", locking=False) as file:
                    names = sorted((name for name in file["data"] if name.startswith("demo_")), key=_number)
                    if split != ALL:
                        masked = {bytes(name).decode() for name in file[f"mask/{split}"][()]}
                        names = [name for name in names if name in masked]
                    found += [(path, name) for name in names]
            self._demos[split] = found
        return self._demos[split]

    def read(self, split: str, ordinal: int) -> PlainEpisode:
        path, name = self._listed(split)[ordinal]
        columns, texts, images = {}, {}, {}
        with h5py.File(path, "r", locking=False) as file:
            demo = file["data"][name]
            arrays: dict[str, Any] = {}
            demo.visititems(lambda key, node: arrays.update({key: node}) if isinstance(node, h5py.Dataset) else None)
            first = next((node for node in arrays.values() if node.shape), None)
            num_steps = len(demo["actions"]) if "actions" in demo else len(first) if first is not None else 0
            for key, node in arrays.items():
                if node.shape and node.dtype.kind in "biuf" and node.ndim < 3:
                    columns[key] = node[()]
                elif node.shape and node.ndim == 1 and node.dtype.kind in "SO":
                    texts[key] = [value if isinstance(value, bytes) else b"" for value in node[()]]
                if node.shape and node.dtype.kind in "uSOV":
                    images[key] = node[()]
            about = _about(file["data"], demo) | {"demo": name.encode()}
        if "rewards" in columns:
            columns["reward"] = columns["rewards"]
        return PlainEpisode(num_steps, columns, texts, about, pictures_of(images.get))


def _number(name: str) -> int:
    digits = name.removeprefix("demo_")
    return int(digits) if digits.isdigit() else -1


def _about(*nodes: Any) -> dict[str, Any]:
    """Text attributes; LIBERO's instruction stands in the JSON of `problem_info`."""
    about: dict[str, Any] = {}
    for node in nodes:
        texts = {name: value for name, value in node.attrs.items() if isinstance(value, str | bytes)}
        about |= {name: value.encode() if isinstance(value, str) else value for name, value in texts.items()}
    if "problem_info" in about:
        problem = parse_object(about["problem_info"], nodes[0].file.filename, "problem_info")
        instruction = problem.get("language_instruction")
        about |= {"language_instruction": str(instruction).encode()} if instruction else {}
    return about
