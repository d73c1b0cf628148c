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
from dataclasses import dataclass
from pathlib import Path

from whale.common.errors import MismatchError, MissingInputError
from whale.common.files import MANIFEST_NAME
from whale.seal import Hasher, list_files, names_below, read_manifest, verify_file, verify_sealed

MAX_HOLDERS = 64


@dataclass(frozen=True)
class ProvenInput:
    """`digest` names the input. `holders`: path -> sha256 of each MANIFEST.json that it was proven against, or of each
    plain file; whoever made a holder made the input. Empty for a plain folder of more than MAX_HOLDERS files."""

    digest: str
    holders: dict[str, str]


def prove_input(path: Path, sha256: Hasher, unread: str | None = None) -> ProvenInput:
    """Check `path` and name it; the errors name the file (seal.verify_sealed).

    unread: of files in sealed folders whose names end so only the size is compared, for a stage that opens none of
    them. The digest is the same: it is that of the manifests, which list them.
    """
    if not path.exists():
        remedy = "run `dvc repro`, which makes inputs first, or correct the path"
        raise MissingInputError("an input does not exist", file=path, remedy=remedy)
    if path.is_file():
        return _prove_file(path, sha256)
    if (path / MANIFEST_NAME).is_file():
        verify_sealed(path, sha256, unread=unread)
        digest = sha256(path / MANIFEST_NAME)
        return ProvenInput(digest, {name_in_statements(path / MANIFEST_NAME): digest})
    if (owner := _sealed_ancestor(path)) is not None:
        below = path.absolute().relative_to(owner).as_posix()
        digest = _digest_of_rows(verify_sealed(owner, sha256, below, unread), below)
        return ProvenInput(digest, {name_in_statements(owner / MANIFEST_NAME): sha256(owner / MANIFEST_NAME)})
    if sealed := _sealed_folders(path):
        return _prove_parent(path, sealed, sha256, unread)
    files = {file: sha256(file) for file in list_files(path)}
    rows = {
        file.relative_to(path).as_posix(): {"bytes": file.stat().st_size, "sha256": digest}
        for file, digest in files.items()
    }
    few = files if len(files) <= MAX_HOLDERS else {}
    return ProvenInput(_digest_of_rows(rows, ""), {name_in_statements(file): digest for file, digest in few.items()})


def _prove_file(path: Path, sha256: Hasher) -> ProvenInput:
    owner = _sealed_ancestor(path)
    if owner is None:
        return ProvenInput(sha256(path), {name_in_statements(path): sha256(path)})
    holder = {name_in_statements(owner / MANIFEST_NAME): sha256(owner / MANIFEST_NAME)}
    if path.name == MANIFEST_NAME:
        return ProvenInput(sha256(path), holder)
    row = read_manifest(owner).get(path.absolute().relative_to(owner).as_posix())
    if row is None:
        raise MismatchError("a file that the manifest does not list", file=path)
    verify_file(path, row, sha256)
    return ProvenInput(row["sha256"], holder)


def name_in_statements(path: Path) -> str:
    """Relative to the current folder where it lies below it: statements hold no path of a machine."""
    full = path.absolute()
    return full.relative_to(Path.cwd()).as_posix() if full.is_relative_to(Path.cwd()) else path.as_posix()


def _sealed_ancestor(path: Path) -> Path | None:
    """The nearest sealed folder above `path`."""
    return next((parent for parent in path.absolute().parents if (parent / MANIFEST_NAME).is_file()), None)


def _sealed_folders(path: Path) -> list[Path]:
    """The sealed folders below `path`, sorted; hidden folders hold unfinished work and are passed over."""
    found: list[Path] = []
    for child in sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        found += [child] if (child / MANIFEST_NAME).is_file() else _sealed_folders(child)
    return found


def _prove_parent(path: Path, sealed: list[Path], sha256: Hasher, unread: str | None) -> ProvenInput:
    inside = tuple(f"{folder.relative_to(path).as_posix()}/" for folder in sealed)
    for name in sorted(names_below(path)):
        if not name.startswith((".", *inside)) and "/." not in name and name != MANIFEST_NAME:
            raise MismatchError(
                "a file outside every manifest", file=path / name, remedy="remove it, or seal its folder"
            )
    lines, holders = [], {}
    for folder in sealed:
        verify_sealed(folder, sha256, unread=unread)
        digest = holders[name_in_statements(folder / MANIFEST_NAME)] = sha256(folder / MANIFEST_NAME)
        lines.append(f"{digest}  {folder.relative_to(path).as_posix()}\n")
    return ProvenInput(hashlib.sha256("".join(lines).encode()).hexdigest(), holders)


def _digest_of_rows(rows: dict[str, dict], below: str) -> str:
    """sha256 over sorted lines, paths relative to the folder `below`, so that a copy elsewhere has the same digest."""
    start = len(below) + 1 if below else 0
    lines = sorted(f"{row['sha256']}  {row['bytes']}  {name[start:]}\n" for name, row in rows.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()
