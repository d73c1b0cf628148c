"""What a killed writer left under a temporary name: `.NAME.tmp-<pid>-<random>`, `.NAME.old-<pid>-<random>`.

A name whose process is gone is nobody's. Outputs are cleared by who holds their lock (publish.py); records, keys,
caches, notes of a resume have many writers, and each stage clears after the dead ones when it starts.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path

TEMPORARY = re.compile(r"\..+\.(tmp|old)-(\d+)(-[0-9a-f]+)?")
# Below the project: where `write_atomically` and its kin write outside of outputs.
PLACES = ("lineage", "lineage/keys", "lineage/runs/*", ".whale", ".whale/*", "work/*/*/*")


def remove_files_of_the_dead(project: Path, places: Iterable[str] = PLACES) -> list[Path]:
    """Remove temporary files directly in `places` (globs of folders); returns them, sorted."""
    found = [path for place in places for path in project.glob(f"{place}/.*") if path.is_file()]
    dead = sorted(path for path in found if (match := TEMPORARY.fullmatch(path.name)) and not is_alive(int(match[2])))
    for path in dead:
        path.unlink(missing_ok=True)  # another stage may clear at the same time
    return dead


def is_alive(pid: int) -> bool:
    """Whether another process has this pid."""
    if pid == os.getpid():
        return False  # this process starts only now, so the name is another's with the same pid
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
