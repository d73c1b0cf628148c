"""Which DVC run a stage belongs to, and where the project is when DVC runs an experiment in a copy of it.

`dvc exp run --temp` and `--queue` work in `.dvc/tmp/exps/<name>`, a clone without what git ignores, thrown away at the
end. Outputs go to the shared cache and the ledger comes back with the experiment's commit. The tracking does not: it is
the project's own. The root of trust is the project's too, also where git does not know it yet.
"""

import os
import subprocess
from pathlib import Path

from whale.common.files import write_atomically
from whale.guard.parent_watch import find_dvc
from whale.lineage import ledger, signing
from whale.lineage.code_state import git
from whale.lineage.trust import TRUST

NAME, ROOT = "DVC_EXP_NAME", "DVC_ROOT"  # set by DVC: an experiment's name, the project that it is one of
RUN = "WHALE_RUN"  # set by `whale run`


def home() -> Path:
    """The project's own folder, absolute: the current one, or where DVC copied it from."""
    return Path(os.environ[ROOT]) if os.environ.get(NAME) and os.environ.get(ROOT) else Path.cwd()


def carry_trust() -> None:
    """Into a copy of the project: its root of trust and public keys, or the copy would pin a second root."""
    if (home() / TRUST).is_file() and not TRUST.exists():
        for path in sorted((home() / signing.PUBLIC_KEYS).glob("*.pub")):
            write_atomically(signing.PUBLIC_KEYS / path.name, path.read_bytes())
        write_atomically(TRUST, (home() / TRUST).read_bytes())


def facts() -> dict[str, str]:
    """`dvc`: one name for all stages of one `dvc repro` or `whale run`; `experiment`: DVC's name of it. Empty without
    DVC."""
    name = os.environ.get(NAME, "")
    found = {"experiment": name} if name else {}
    if (process := _process()) is not None:
        found["dvc"] = f"{name}-{process}" if name else process
    return found


def keep_with_experiment() -> None:
    """Add the new files of `lineage/` to git's index: DVC commits an experiment with `git add --update`, so that a file
    git does not know would be lost, and with it the record of a run that the ledger names. Outside of an experiment
    the person adds them, as all files.
    """
    if os.environ.get(NAME):
        try:
            git(Path.cwd(), "add", "--", str(ledger.LEDGER.parent))
        except (OSError, subprocess.SubprocessError) as error:
            print(f"warning: {ledger.LEDGER.parent}/ is not in the experiment's commit: {error}", flush=True)


def start_run() -> None:
    """For `whale run`, which starts DVC many times: to its stages all of it is one run."""
    os.environ[RUN] = str(_started(os.getpid()))


def _process() -> str | None:
    """What no other process of this machine is called: the DVC above this process, or the `whale run` above that."""
    if "DVC_STAGE" not in os.environ:
        return None
    return os.environ.get(RUN) or _started(find_dvc())


def _started(pid: int | None) -> str | None:
    """`<pid>-<start in clock ticks>`."""
    try:
        return None if pid is None else f"{pid}-{Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[19]}"
    except OSError:
        return None
