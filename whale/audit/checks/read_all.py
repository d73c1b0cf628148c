"""Read every file that a verification will ask about, once, with all cores: sha256, and md5 where DVC is held to it."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from whale.audit.run_graph import StageRun, Target
from whale.common.files import CHUNK_BYTES, MANIFEST_NAME
from whale.seal import list_files


def files_of(runs: Iterable[StageRun], target: Target) -> list[Path]:
    """Outputs, raw inputs and records of `runs` that lie here, each once."""
    found: dict[Path, None] = {}
    for run in runs:
        for name in run.outputs:
            found |= dict.fromkeys(_below(target.path if run is target.run and name == target.name else Path(name)))
        for each in run.inputs:
            found |= dict.fromkeys(_below(Path(each.path)))
        found |= dict.fromkeys(Path(path) for path, _ in run.byproducts.values())
    return [path for path in found if path.is_file() and not path.is_symlink()]


def digests_of(files: Iterable[Path], with_md5: bool) -> tuple[dict[str, str], dict[str, str]]:
    """({file: sha256}, {file: md5}) by name; hashing runs outside Python's lock, so threads use every core."""
    names = [os.fspath(path) for path in files]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = list(pool.map(lambda name: _read(name, with_md5), names))
    sha256 = {name: row[0] for name, row in zip(names, rows, strict=True)}
    return sha256, {name: row[1] for name, row in zip(names, rows, strict=True)} if with_md5 else {}


def _below(path: Path) -> Iterator[Path]:
    if path.name == MANIFEST_NAME:
        path = path.parent
    if path.is_dir():
        yield from list_files(path)
        yield path / MANIFEST_NAME
    else:
        yield path


def _read(name: str, with_md5: bool) -> tuple[str, str]:
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with open(name, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            sha256.update(chunk)
            if with_md5:
                md5.update(chunk)
    return sha256.hexdigest(), md5.hexdigest()
