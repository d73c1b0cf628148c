"""A sealed folder: MANIFEST.json lists every file with its size and sha256, and is written last.

A folder without MANIFEST.json was never finished; one with it can be proven byte by byte. The folder's digest is the
sha256 of MANIFEST.json, which stands for every byte below.
"""

import hashlib
import json
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from whale.common.errors import BadDataError, MismatchError, MissingInputError
from whale.common.files import MANIFEST_NAME, leads_out, sync_file, write_atomically
from whale.common.json_files import read_json

WRITERS = 4
Hasher = Callable[[Path], str]


def seal(directory: Path, sha256: Hasher) -> str:
    """List every file of `directory` in MANIFEST.json, all on disk before it; returns the folder's digest.

    Raises BadDataError for a symbolic link or a special file: neither can be sealed.
    """
    paths = list_files(directory)
    for path in paths:
        if path.is_symlink() or not path.is_file():
            raise BadDataError("only plain files can be published", file=path, found="a link or a special file")
    with ThreadPoolExecutor(WRITERS) as pool:  # the disk writes while the processor hashes
        written = [pool.submit(sync_file, path) for path in paths]
        written += [pool.submit(sync_file, folder) for folder, _, _ in os.walk(directory)]
        files = {
            path.relative_to(directory).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
            for path in paths
        }
        for each in written:
            each.result()  # raises what fsync raised
    payload = (json.dumps({"files": files}, sort_keys=True, indent=1, ensure_ascii=True) + "\n").encode()
    write_atomically(directory / MANIFEST_NAME, payload)
    return hashlib.sha256(payload).hexdigest()


def list_files(directory: Path) -> list[Path]:
    """Every file (not folder) below `directory`, sorted by name; its own MANIFEST.json is left out."""
    found = [Path(root) / name for root, _, names in os.walk(directory) for name in names]
    links = [Path(root) / name for root, names, _ in os.walk(directory) for name in names]
    found += [path for path in links if path.is_symlink()]
    return sorted(path for path in found if path != directory / MANIFEST_NAME)


def read_manifest(directory: Path) -> dict[str, dict]:
    """{relative path: {"bytes", "sha256"}} of a sealed folder; BadDataError when the file is not that."""
    path = directory / MANIFEST_NAME
    try:
        files = read_json(path)["files"]
        rows = {str(name): {"bytes": int(row["bytes"]), "sha256": str(row["sha256"])} for name, row in files.items()}
    except (BadDataError, ValueError, KeyError, TypeError, AttributeError):
        raise BadDataError("unreadable manifest", file=path, remedy="run the stage that made this folder") from None
    for name in rows:
        if leads_out(name):
            raise BadDataError("a manifest leaves its folder", file=path, found=name)
    return rows


def verify_sealed(directory: Path, sha256: Hasher, below: str = "", unread: str | None = None) -> dict[str, dict]:
    """Compare `directory` (only what lies under the relative folder `below`, if given) with its manifest.

    unread: of files whose names end so only the size is compared. Returns the rows compared. MissingInputError: a
    listed file is absent. MismatchError: other bytes, or a file that the manifest does not list.
    """
    prefix = f"{below}/" if below else ""
    rows = {name: row for name, row in read_manifest(directory).items() if name.startswith(prefix)}
    unlisted = names_below(directory, below) - rows.keys() - {MANIFEST_NAME}
    if unlisted:
        remedy = f"remove it, or make {directory} again"
        raise MismatchError("a file that the manifest does not list", file=directory / min(unlisted), remedy=remedy)
    for name, row in rows.items():
        verify_file(directory / name, row, None if unread and name.endswith(unread) else sha256)
    return rows


def names_below(directory: Path, below: str = "") -> set[str]:
    """Names, relative to `directory`, of all that is no folder under `below`. Text: a Path a file would cost most."""
    found: set[str] = set()
    base = os.fspath(directory / below)
    for root, folders, names in os.walk(base):
        start = "/".join(filter(None, (below, root[len(base) :].strip("/"))))
        links = [name for name in folders if os.path.islink(os.path.join(root, name))]
        found.update(f"{start}/{name}" if start else name for name in [*names, *links])
    return found


def verify_file(path: Path, row: dict, sha256: Hasher | None) -> None:
    """One file against its row {"bytes", "sha256"}; without a hasher its size alone."""
    remedy = "run the stage that made it again: `dvc repro -f -s STAGE`"
    try:
        found_here = os.stat(path)
    except OSError:
        found_here = None
    if found_here is None or not stat.S_ISREG(found_here.st_mode):
        raise MissingInputError("a file of the manifest is missing", file=path, remedy=remedy)
    size = found_here.st_size
    if size != row["bytes"]:
        expected = f"{row['bytes']} bytes"
        raise MismatchError("a file differs from its manifest", file=path, found=f"{size} bytes", expected=expected)
    found = row["sha256"] if sha256 is None else sha256(path)
    if found != row["sha256"]:
        expected = f"sha256 {row['sha256']}"
        raise MismatchError(
            "a file differs from its manifest", file=path, found=f"sha256 {found}", expected=expected, remedy=remedy
        )
