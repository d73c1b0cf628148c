"""What killed writers left beside outputs, records, keys, caches, notes of a resume and states.

A stage clears after the dead ones when it starts, and `whale init` where nothing has to run. Who makes an output clears
its own temporary names under the lock (publish.py).
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from whale.common.files import is_abandoned

# Below the project: where files are written, and where outputs get their names.
PLACES = [*("lineage", "lineage/keys", "lineage/runs/*", ".whale", ".whale/*", "work/*/*/*")]
PLACES += ["artifacts" + "/*" * depth for depth in range(1, 5)]


def clear_after_the_dead(project: Path) -> list[Path]:
    """Remove temporary files and folders directly in PLACES (globs of folders); returns them, sorted."""
    return remove_abandoned(path for place in PLACES for path in project.glob(f"{place}/.*"))


def remove_abandoned(paths: Iterable[Path]) -> list[Path]:
    """Remove those of `paths` whose writer is dead; returns them, sorted."""
    dead = sorted(filter(is_abandoned, paths))
    for path in dead:  # another stage may clear at the same time
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return dead
