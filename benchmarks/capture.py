"""What lineage costs a stage: the guard's digests, hook, statement, signature and ledger beside the stage's own time.

python benchmarks/capture.py [--project DIR] [--before TREE --rounds 3 --stages mix ...]

`dvc repro` of the demo (about 20 minutes; --project keeps it and, once made, uses it again), every stage under clocks
(capture_hooks/). --before TREE runs `--stages` again by the code of TREE and of this tree, in turns, on equal inputs.
What one opened file and one MB cost: capture_units.py.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from capture_units import Hook, hook_cost
from measure import ROOT, machine

AIM = 0.02
CLOCKS = ("wall_s", "cpu_s")
COLUMNS = {  # the clocks of capture_hooks/ -> columns of the table
    "digests": ("inputs", "outputs"),
    "code": ("code", "git"),
    "hook": ("hook",),
    "statement": ("statement", "machine", "guard", "imports"),
    "sign": ("sign", "ledger"),
    "tables": ("tables",),
}
SCALING = ("inputs", "outputs", "tables")  # what grows with the data; the other parts are constant
SHORT = ("mix", "ingest@fleet_delta", "pretokenize@fleet_delta", "embed_behavior@fleet_delta", "report")
NO_EVENTS = Hook(0, 0, 0, 0, 0)
Row = dict[str, Any]


def make_project(tree: Path, root: Path) -> None:
    """The demo by the code of `tree`, as a git repository with one commit, so that its state is looked up as usual."""
    for name in ("whale", "pipelines", "data_specs", "profiles", "docs"):
        shutil.copytree(tree / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".gitignore", "constraints.txt", "pyproject.toml"):
        shutil.copy(tree / name, root)
    shutil.copy(tree / "profiles/demo.yaml", root / "params.yaml")
    (root / ".dvc").mkdir()
    settings = (
        f"[core]\n    analytics = false\n    site_cache_dir = {root}/.dvc/tmp/site\n[cache]\n    type = hardlink\n"
    )
    (root / ".dvc/config").write_text(settings)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "the project"]):
        subprocess.run([*git, *arguments], cwd=root, check=True)


def under_clocks(command: Sequence[str], root: Path) -> list[Row]:
    """Run `command` in the project; one row per stage that ended well."""
    file = root / "capture.jsonl"
    file.unlink(missing_ok=True)
    folder = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "WHALE_CAPTURE": str(file)}
    environment |= {"PYTHONPATH": f"{ROOT / 'benchmarks/capture_hooks'}{os.pathsep}{root}"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)}: {done.returncode}\n{done.stderr[-3000:]}")
    return [json.loads(line) for line in file.read_text().splitlines()]


def demo(root: Path) -> list[Row]:
    """`dvc repro` in `root`, or what an earlier one measured there."""
    kept = root / "demo.json"
    if not kept.is_file():
        make_project(ROOT, root)
        started = time.perf_counter()
        rows = under_clocks([str(Path(sys.executable).parent / "dvc"), "repro"], root)
        kept.write_text(json.dumps({"machine": machine(), "wall_s": time.perf_counter() - started, "rows": rows}))
    found = json.loads(kept.read_text())
    print(f"{found['machine']}\ndvc repro: {found['wall_s']:.0f} s", flush=True)
    return found["rows"]


def capture_of(row: Row, clock: int, hook: Hook, parts: Iterable[str] | None = None) -> float:
    """Seconds (`clock`: 0 wall, 1 CPU) of `parts`, of all by default; the hook's events by their measured cost."""
    names = set(row["parts"] if parts is None else parts)
    hooked = row["opens"] * hook.seen + row["others"] * hook.event if "hook" in names else 0.0
    return hooked + sum(row["parts"][name][clock] for name in names & row["parts"].keys())


def share_of(row: Row, clock: int, hook: Hook) -> float:
    """Of the stage's whole time."""
    return capture_of(row, clock, hook) / row[CLOCKS[clock]]


def print_table(rows: list[Row], hook: Hook) -> None:
    """CPU seconds by part, and the share of the stage's time; the aim is for the clock's, which counts Ray's processes.

    Those of Ray are nobody's children, so their CPU seconds are missing where a stage starts it.
    """
    print(f"{'stage':31}{'wall s':>8}{'CPU s':>8}" + "".join(f"{name:>10}" for name in COLUMNS)
          + f"{'CPU %':>8}{'wall %':>8}  aim 2 %")  # fmt: skip
    for row in [*rows, total(rows)]:
        spent = "".join(f"{capture_of(row, 1, hook, parts):10.3f}" for parts in COLUMNS.values())
        cpu, wall = share_of(row, 1, hook), share_of(row, 0, hook)
        print(f"{row['stage']:31}{row['wall_s']:8.1f}{row['cpu_s']:8.1f}{spent}{100 * cpu:8.2f}{100 * wall:8.2f}  "
              f"{'met' if wall <= AIM else 'missed'}")  # fmt: skip
    constant = [capture_of(row, 1, NO_EVENTS, row["parts"].keys() - {*SCALING}) for row in rows]
    print(f"constant part: median {median(constant):.3f} CPU s, most {max(constant):.3f}: under 2 % of a stage of "
          f"{median(constant) / AIM:.0f} s, at most {max(constant) / AIM:.0f} s")  # fmt: skip


def total(rows: list[Row]) -> Row:
    numbers = {name: sum(row[name] for row in rows) for name in ("wall_s", "cpu_s", "opens", "others")}
    names = {name for row in rows for name in row["parts"]}
    parts = {
        name: [sum(row["parts"].get(name, (0, 0))[clock] for row in rows) for clock in (0, 1)] for name in sorted(names)
    }
    return {"stage": f"all {len(rows)}", "parts": parts, **numbers}


def compare(before: Path, root: Path, stages: Sequence[str], rounds: int, hook: Hook) -> None:
    """Capture of `stages` by two states of the code, which take turns: CPU seconds, median of the rounds."""
    commands = {name: each["cmd"] for name, each in yaml.safe_load((root / "dvc.lock").read_text())["stages"].items()}
    with tempfile.TemporaryDirectory() as scratch:
        roots = [Path(scratch) / "before", Path(scratch) / "after"]
        for each, tree in zip(roots, (before, ROOT), strict=True):
            make_project(tree, each)
            for name in ("artifacts", "lineage", ".whale"):
                shutil.copytree(root / name, each / name)
        print(f"{'stage':31}{'CPU s, before':>14}{'after':>8}{'CPU %, before':>15}{'after':>8}"
              f"{'wall %, before':>16}{'after':>8}   medians of {rounds}")  # fmt: skip
        for stage in stages:
            command = [sys.executable, *shlex.split(commands[stage])[1:]]
            for each in roots:  # caches of this code, and what DVC has linked anew
                under_clocks(command, each)
            pairs = [[under_clocks(command, each)[0] for each in roots] for _ in range(rounds)]
            sides = list(zip(*pairs, strict=True))
            before_s, after_s = (median(capture_of(row, 1, hook) for row in side) for side in sides)
            shares = [100 * median(share_of(row, clock, hook) for row in side) for clock in (1, 0) for side in sides]
            print(f"{stage:31}{before_s:14.3f}{after_s:8.3f}{shares[0]:15.2f}{shares[1]:8.2f}"
                  f"{shares[2]:16.2f}{shares[3]:8.2f}", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--project", type=Path, help="a folder to make the demo in, or one where it was made")
    parser.add_argument("--before", type=Path, help="another tree of this project, to compare with")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stages", nargs="+", default=SHORT)
    arguments = parser.parse_args()
    print(machine())
    hook = hook_cost()
    with tempfile.TemporaryDirectory() as scratch:
        root = (arguments.project or Path(scratch) / "demo").absolute()
        root.mkdir(parents=True, exist_ok=True)
        print_table(demo(root), hook)
        if arguments.before:
            compare(arguments.before.absolute(), root, arguments.stages, arguments.rounds, hook)


if __name__ == "__main__":
    main()
