"""What killed writers left beside records, keys, caches and notes of a resume.

Outputs are cleared by who holds their lock (publish.py); these places have many writers, and each stage clears after
the dead ones when it starts.
"""

from collections.abc import Iterable
from pathlib import Path

from whale.files import is_abandoned

# Below the project: where files are written outside of outputs.
PLACES = ("lineage", "lineage/keys", "lineage/runs/*", ".whale", ".whale/*", "work/*/*/*")


def remove_files_of_the_dead(project: Path, places: Iterable[str] = PLACES) -> list[Path]:
    """Remove temporary files directly in `places` (globs of folders); returns them, sorted."""
    found = [path for place in places for path in project.glob(f"{place}/.*") if path.is_file()]
    dead = sorted(path for path in found if is_abandoned(path))
    for path in dead:
        path.unlink(missing_ok=True)  # another stage may clear at the same time
    return dead
