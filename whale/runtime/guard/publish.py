"""Outputs appear whole or not at all: write beside the final name, seal, rename."""

import os
import re
import shutil
import uuid
from pathlib import Path

from whale.lineage.atomic_file import sync_directory
from whale.lineage.seal import Hasher, seal
from whale.runtime.guard.leftovers import is_alive


def open_temporary(output: Path) -> Path:
    """A fresh folder `.NAME.tmp-<pid>-<uuid>` beside `output`; the caller holds the output's lock."""
    output.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(output)
    temporary = output.parent / f".{output.name}.tmp-{os.getpid()}-{uuid.uuid4().hex}"
    temporary.mkdir()
    return temporary


def remove_leftovers(output: Path) -> list[Path]:
    """Remove the temporary folders of `output` whose process is dead; returns what was removed."""
    pattern = re.compile(re.escape(f".{output.name}.") + r"(tmp|old)-(\d+)-[0-9a-f]{32}")
    matches = [(path, pattern.fullmatch(path.name)) for path in output.parent.iterdir()]
    stale = [path for path, match in matches if match and not is_alive(int(match[2]))]
    for path in stale:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return stale


def publish(temporary: Path, output: Path, sha256: Hasher) -> str:
    """Seal `temporary` and give it the name `output`; an older output is replaced. Returns the folder's digest."""
    digest = seal(temporary, sha256)
    old = output.parent / f".{output.name}.old-{os.getpid()}-{uuid.uuid4().hex}"
    if output.exists():
        os.rename(output, old)
    os.rename(temporary, output)
    sync_directory(output.parent)
    if old.is_dir():
        shutil.rmtree(old)
    else:
        old.unlink(missing_ok=True)
    return digest
