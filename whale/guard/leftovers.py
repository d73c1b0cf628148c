"""What killed writers left beside records, keys, caches, notes of a resume and states.

Outputs are cleared by who holds their lock (publish.py); these places have many writers, and each stage clears after
the dead ones when it starts.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from whale.common.files import is_abandoned

# Below the project: where files are written outside of outputs.
PLACES = ("lineage", "lineage/keys", "lineage/runs/*", ".whale", ".whale/*", "work/*/*/*")


def clear_after_the_dead(project: Path, places: Iterable[str] = PLACES) -> list[Path]:
    """Remove temporary files and folders directly in `places` (globs of folders); returns them, sorted."""
    found = [path for place in places for path in project.glob(f"{place}/.*")]
    dead = sorted(path for path in found if is_abandoned(path))
    for path in dead:  # another stage may clear at the same time
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return dead
