"""Outputs appear whole or not at all: write beside the final name, seal, rename."""

import os
import shutil
from pathlib import Path

from whale.common.errors import RefusedError
from whale.common.files import sync_file, temporary_name_of, temporary_path
from whale.guard.leftovers import remove_abandoned
from whale.seal import Hasher, seal


def require_contained(output: Path) -> None:
    """RefusedError, before any work, if `output` is a symbolic link or lies below one, or outside the project.

    Through a link a stage would write and delete elsewhere.
    A path that is given whole, outside of the project, is somebody's will: of it only the last name is looked at.
    """
    project = Path.cwd()
    inner = output.relative_to(project) if output.is_absolute() and output.is_relative_to(project) else output
    if not inner.is_absolute() and ".." in inner.parts:
        raise RefusedError("an output outside the project", file=output, expected="a path without `..`",
                           remedy="name a path below the project, or a whole one")  # fmt: skip
    parts = [] if inner.is_absolute() else list(inner.parents)[-2::-1]
    for part in (*parts, inner):
        if part.is_symlink():
            raise RefusedError(
                "an output outside the project: it is a symbolic link or lies below one", file=output, place=str(part),
                found=f"{part} -> {os.readlink(part)}", expected="a folder or file of the project itself",
                remedy=f"remove the link `{part}` (DVC makes outputs anew); `dvc cache dir` moves what takes the space",
            )  # fmt: skip


def open_temporary(output: Path) -> Path:
    """A fresh folder with a temporary name beside `output`; the caller holds the output's lock."""
    output.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(output)
    temporary = temporary_path(output)
    temporary.mkdir()
    return temporary


def remove_leftovers(output: Path) -> list[Path]:
    """Remove the temporary folders of `output` whose process is dead; returns what was removed."""
    return remove_abandoned(path for path in output.parent.iterdir() if temporary_name_of(path) == output.name)


def publish(temporary: Path, output: Path, sha256: Hasher) -> str:
    """Seal `temporary` and give it the name `output`; an older output is replaced. Returns the folder's digest."""
    digest = seal(temporary, sha256)
    old = temporary_path(output, "old")
    if output.exists():
        os.rename(output, old)
    os.rename(temporary, output)
    sync_file(output.parent)
    if old.is_dir():
        shutil.rmtree(old)
    else:
        old.unlink(missing_ok=True)
    return digest
