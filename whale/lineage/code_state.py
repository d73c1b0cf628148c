"""Which code a run had: commit, git tree of what lay in the working folder, and the patch from one to the other.

The tree leaves out what the pipeline itself writes while it runs (`lineage/`, `dvc.lock`), so that all stages of one
`dvc repro` name the same tree. Tracked files count with their edits; of untracked ones those that the stage uses.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from whale.common.limits import GIT_SECONDS

OWN = ("lineage", "dvc.lock")
MAX_PATCH_BYTES = 8 * 2**20


@dataclass(frozen=True)
class CodeState:
    """`patch` turns `commit` (without OWN) into `tree`; None where there is no git, or the patch is too large."""

    commit: str | None
    tree: str | None
    is_dirty: bool | None
    patch: bytes | None


UNKNOWN = CodeState(None, None, None, None)


def code_state(root: Path, used: Sequence[Path] = ()) -> CodeState:
    """State of the repository at `root`; `used`: files (relative) that belong to the code even if untracked."""
    try:
        commit, committed = git(root, "rev-parse", "HEAD", "HEAD^{tree}").decode().split()
        if not _has_changes(root, used):
            return CodeState(commit, committed, False, b"")
        base, tree = _trees(root, used)
        patch = git(root, "diff", "--binary", "--full-index", "--no-ext-diff", "--no-textconv", base, tree)
    except (OSError, ValueError, subprocess.SubprocessError):
        return UNKNOWN
    return CodeState(commit, tree, base != tree, patch if len(patch) <= MAX_PATCH_BYTES else None)


def _has_changes(root: Path, used: Sequence[Path]) -> bool:
    """Whether anything but the plain commit is there; cheap, because most runs are clean."""
    own = [f":!{path}" for path in OWN]
    if git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", *own).strip():
        return True
    names = {path.as_posix() for path in used}
    tracked = git(root, "ls-files", "-z", "--", *OWN, *sorted(names)).decode().split("\0")
    return bool(names - set(tracked)) or any(name.split("/")[0] in OWN for name in tracked)


def _trees(root: Path, used: Sequence[Path]) -> tuple[str, str]:
    """(tree of HEAD without OWN, tree of the working folder), written through a copy of the index."""
    with tempfile.TemporaryDirectory() as scratch:
        index = Path(scratch) / "index"
        own = git(root, "rev-parse", "--git-path", "index").decode().strip()
        environment = os.environ | {"GIT_INDEX_FILE": str(index)}
        git(root, "read-tree", "HEAD", environment=environment)
        git(root, "rm", "-r", "-q", "--cached", "--ignore-unmatch", "--", *OWN, environment=environment)
        base = git(root, "write-tree", environment=environment).decode().strip()
        if (root / own).is_file():  # with the index's knowledge of file times nothing is hashed twice
            shutil.copy2(root / own, index)  # its own time as well: git trusts no file that is as young as its index
            git(root, "rm", "-r", "-q", "--cached", "--ignore-unmatch", "--", *OWN, environment=environment)
        git(root, "add", "--update", "--", ".", environment=environment)
        files = [path.as_posix() for path in used if (root / path).is_file()]
        if files:
            git(root, "add", "--force", "--", *files, environment=environment)
        return base, git(root, "write-tree", environment=environment).decode().strip()


def tree_after_patch(root: Path, commit: str, patch: bytes) -> str:
    """The tree that `git apply` of `patch` onto `commit` (without OWN) gives; CalledProcessError if it does not."""
    with tempfile.TemporaryDirectory() as scratch:
        environment = os.environ | {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
        git(root, "read-tree", commit, environment=environment)
        git(root, "rm", "-r", "-q", "--cached", "--ignore-unmatch", "--", *OWN, environment=environment)
        if patch:
            file = Path(scratch) / "code.patch"
            file.write_bytes(patch)
            git(root, "apply", "--cached", "--whitespace=nowarn", str(file), environment=environment)
        return git(root, "write-tree", environment=environment).decode().strip()


def unpack(root: Path, tree: str, names: Iterable[str], target: Path) -> None:
    """Write the files and folders `names` of a git tree into the folder `target`."""
    archive = git(root, "archive", "--format=tar", tree, *names)
    subprocess.run(["tar", "-x", "-C", str(target)], input=archive, check=True)


def git(root: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> bytes:
    """Standard output of a git command, with nothing of the user's that could change it."""
    command = ["git", "-C", str(root), "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", *arguments]
    variables = {**(environment or os.environ), "GIT_OPTIONAL_LOCKS": "0"}  # no lock in the way of a user's commit
    return subprocess.run(command, capture_output=True, check=True, timeout=GIT_SECONDS, env=variables).stdout


def no_repository(root: Path) -> str | None:
    """Why git cannot be asked about `root`, in its own words; None where it can."""
    try:
        git(root, "rev-parse", "--git-dir")
    except FileNotFoundError:
        return "git is not installed"
    except (OSError, subprocess.SubprocessError) as error:
        return why_git_failed(error)
    return None


def why_git_failed(error: Exception) -> str:
    """One line, in git's own words where it has some."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer within {error.timeout:g} s"
    said = error.stderr.decode("utf-8", "replace").strip() if isinstance(error, subprocess.CalledProcessError) else ""
    return (said or str(error)).partition("\n")[0][:200]
