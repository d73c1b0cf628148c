"""Prove a stage's input and name it by one digest, whatever its form.

| form | proven against | digest |
|---|---|---|
| sealed folder | its MANIFEST.json | sha256 of MANIFEST.json |
| folder inside a sealed folder | the part of that manifest | sha256 of the lines `sha256  bytes  path` |
| folder of sealed folders | each one's manifest | sha256 of the lines `digest  path` |
| plain folder (external raw data) | nothing | sha256 of the lines `sha256  bytes  path` |
| plain file | the manifest of its folder, if any | sha256 of its bytes |
"""

import hashlib
from pathlib import Path

from whale.errors import MismatchError, MissingInputError
from whale.lineage.seal import MANIFEST_NAME, Hasher, list_files, read_manifest, verify_file, verify_sealed


def verify_input(path: Path, sha256: Hasher) -> str:
    """Check `path` and return its digest; the errors name the file (seal.verify_sealed)."""
    if not path.exists():
        remedy = "run `dvc repro`, which makes inputs first, or correct the path"
        raise MissingInputError("an input does not exist", file=path, remedy=remedy)
    if path.is_file():
        return _verify_file(path, sha256)
    if (path / MANIFEST_NAME).is_file():
        verify_sealed(path, sha256)
        return sha256(path / MANIFEST_NAME)
    if (owner := _sealed_ancestor(path)) is not None:
        below = path.absolute().relative_to(owner).as_posix()
        return _digest_of_rows(verify_sealed(owner, sha256, below), below)
    if sealed := _sealed_folders(path):
        return _verify_parent(path, sealed, sha256)
    rows = {
        file.relative_to(path).as_posix(): {"bytes": file.stat().st_size, "sha256": sha256(file)}
        for file in list_files(path)
    }
    return _digest_of_rows(rows, "")


def _verify_file(path: Path, sha256: Hasher) -> str:
    owner = _sealed_ancestor(path)
    if owner is None or path.name == MANIFEST_NAME:
        return sha256(path)
    row = read_manifest(owner).get(path.absolute().relative_to(owner).as_posix())
    if row is None:
        raise MismatchError("a file that the manifest does not list", file=path)
    verify_file(path, row, sha256)
    return row["sha256"]


def _sealed_ancestor(path: Path) -> Path | None:
    """The nearest sealed folder above `path`."""
    return next((parent for parent in path.absolute().parents if (parent / MANIFEST_NAME).is_file()), None)


def _sealed_folders(path: Path) -> list[Path]:
    """The sealed folders below `path`, sorted; hidden folders hold unfinished work and are passed over."""
    found: list[Path] = []
    for child in sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        found += [child] if (child / MANIFEST_NAME).is_file() else _sealed_folders(child)
    return found


def _verify_parent(path: Path, sealed: list[Path], sha256: Hasher) -> str:
    for file in list_files(path):
        hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
        if not hidden and not any(folder in file.parents for folder in sealed):
            raise MismatchError("a file outside every manifest", file=file, remedy="remove it, or seal its folder")
    lines = []
    for folder in sealed:
        verify_sealed(folder, sha256)
        lines.append(f"{sha256(folder / MANIFEST_NAME)}  {folder.relative_to(path).as_posix()}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _digest_of_rows(rows: dict[str, dict], below: str) -> str:
    """sha256 over sorted lines, paths relative to the folder `below`, so that a copy elsewhere has the same digest."""
    start = len(below) + 1 if below else 0
    lines = sorted(f"{row['sha256']}  {row['bytes']}  {name[start:]}\n" for name, row in rows.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()
