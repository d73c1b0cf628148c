"""Outputs appear whole or not at all: write beside the final name, seal, rename."""

import os
import shutil
from pathlib import Path

from whale.common.files import sync_file, temporary_name_of, temporary_path
from whale.guard.leftovers import remove_abandoned
from whale.seal import Hasher, seal


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
