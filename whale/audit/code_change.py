"""How a stage's code differs from the one that made what lies there: not at all, by definition, or unknown."""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whale.audit.run_graph import RunGraph, StageRun
from whale.lineage.closure import code_files, import_closure
from whale.lineage.code_state import git, tree_after_patch
from whale.lineage.syntax import changed_definitions


@dataclass(frozen=True)
class CodeChange:
    """`files`: path -> row now (None: gone) of every file whose bytes differ; `before`: path -> sha256 of then.

    `definitions`: path -> names of what differs as syntax; an entry without names stands for a file whose old text is
    gone. Empty `definitions` is the proof that the code computes the same.
    """

    run: StageRun
    files: dict[str, dict[str, Any] | None]
    before: dict[str, str | None]
    definitions: dict[str, list[str]] = field(default_factory=dict)

    @property
    def is_same_syntax(self) -> bool:
        return not self.definitions

    def describe(self) -> list[str]:
        """`path: names` of each file that differs as syntax."""
        return [
            f"{file}: {', '.join(names) or 'nobody knows what, for its text of then is gone'}"
            for file, names in self.definitions.items()
        ]


def code_change(run: StageRun, graph: RunGraph, root: Path) -> CodeChange:
    """The code below `root` of today against the one that ran, or was accepted for it since."""
    then = graph.code_now(run)
    entry = Path("pipelines") / f"{run.stage}.py"
    now = code_files(root, import_closure(root, entry)) if (root / entry).is_file() else {}
    differing = [
        name
        for name in sorted({*then, *now})
        if (then.get(name) or {}).get("sha256") != now.get(name, {}).get("sha256")
    ]
    definitions = {}
    for name in differing:
        if name not in then or name not in now:
            definitions[name] = ["the whole file is new" if name in now else "the whole file is gone"]
        elif then[name].get("syntax") != now[name]["syntax"]:
            definitions[name] = _changed(name, run, graph, root)
    before = {name: str(then[name]["sha256"]) if name in then else None for name in differing}
    return CodeChange(run, {name: now.get(name) for name in differing}, before, definitions)


def _changed(name: str, run: StageRun, graph: RunGraph, root: Path) -> list[str]:
    if not name.endswith(".py"):
        return ["no Python, so every byte counts"]
    source = source_then(name, run, graph, root)
    try:
        return changed_definitions(source, (root / name).read_bytes()) if source is not None else []
    except (SyntaxError, ValueError):
        return ["it is no Python any more"]


def source_then(name: str, run: StageRun, graph: RunGraph, root: Path) -> bytes | None:
    """The text of a code file as it ran, or was accepted last; None where git has it no more."""
    for tree in _trees(run, graph, root):
        try:
            return git(root, "show", f"{tree}:{name}")
        except (OSError, subprocess.SubprocessError):
            continue
    return None


def tree_of(run: StageRun, root: Path) -> str | None:
    """The git tree that ran, put together again from commit and patch where git has dropped it."""
    commit, tree = run.code["commit"], run.code["tree"]
    if commit is None or tree is None:
        return None
    try:
        git(root, "cat-file", "-e", f"{tree}^{{tree}}")
        return tree
    except (OSError, subprocess.SubprocessError):
        pass
    try:
        found = tree_after_patch(root, commit, run.byproduct("code.patch") or b"")
    except (OSError, subprocess.SubprocessError):
        return None
    return found if found == tree else None


def _trees(run: StageRun, graph: RunGraph, root: Path) -> list[str]:
    accepted = [each.tree for each in reversed(graph.acceptances(run)) if each.tree]
    own = tree_of(run, root)
    return [*accepted[:1], *([own] if own else [])]
