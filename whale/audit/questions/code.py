"""The code of a run: its commit, the patch on it, and whether both together give the tree that ran (Q5)."""

import subprocess
from pathlib import Path
from typing import Any

from whale.audit.run_graph import StageRun
from whale.common.files import sha256_of_file
from whale.lineage.code_state import tree_after_patch


def code(run: StageRun) -> dict[str, Any]:
    """`tree_again`: yes, no, or why it cannot be told; `exit_code` 1 for no, 2 where commit or patch are gone."""
    patch = run.byproduct("code.patch")
    state, exit_code = _tree_again(run, patch)
    closure = run.told("closure.json") or {}
    now = {file: sha256_of_file(file) for file in closure if Path(file).is_file()}
    return {
        "stage": run.name,
        **run.code,
        "patch_bytes": len(patch or b""),
        "tree_again": state,
        "files": {file: row["sha256"] for file, row in closure.items()},
        "changed_since": [file for file, row in closure.items() if now.get(file) != row["sha256"]],
        "exit_code": exit_code,
    }


def _tree_again(run: StageRun, patch: bytes | None) -> tuple[str, int]:
    commit, tree = run.code["commit"], run.code["tree"]
    if commit is None or tree is None:
        return "it ran outside git; the closure's sha256 names its code", 0
    if run.code["dirty"] and patch is None:
        return "the patch is gone", 2
    try:
        found = tree_after_patch(Path.cwd(), commit, patch or b"")
    except (OSError, subprocess.SubprocessError):
        return "the commit is not in this repository, or the patch does not fit it", 2
    return ("yes", 0) if found == tree else (f"no: commit and patch give {found}", 1)
