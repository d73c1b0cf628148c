"""Kill and resume the stages of the tiny pipeline at named events drawn at random; the end must be the straight run's.

python scripts/soak.py [--cycles 100] [--workers 0] [--seed 0] [--minutes 60] [--project DIR]

One cycle = one process ended by SIGKILL or SIGTERM. A stage starts from the inputs of the straight run, is ended once
or several times, then runs through; what it published must have the straight run's sha256, nothing may be left over.
With --workers 2 only trainings are drawn, and the signal hits the stage or one of its workers. --project keeps the tiny
pipeline in DIR: its straight run is made once and used by the next soak of the same code.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from test_pipeline import BIN, digests, environment, make_project

KILL_AGAIN = 0.5
STAGE_SECONDS = 600
WEIGHTS = {"step": 5, "fsync": 3, "rename": 3}


class Soak:
    """A project after its straight run, and what happened to it since."""

    def __init__(self, root: Path, rng: random.Random, workers: int, only_trainings: bool):
        self.root, self.rng, self.workers = root, rng, workers
        self.phases: Counter = Counter()
        self.runs = self.kills = self.missed = 0
        self.errors: list[str] = []
        os.environ["WHALE_CONFIG_DIR"] = str(root / ".whale/soak")  # its key is not one of the user's
        subprocess.run([BIN / "dvc", "repro"], cwd=root, env=environment(), check=True, stdout=subprocess.DEVNULL)
        self.stages = yaml.safe_load((root / "dvc.lock").read_text())["stages"]
        self.names = [name for name in self.stages if not only_trainings or _has_workers(name)]
        if workers:
            self._make_golden_of_workers()
        self.golden = digests(root / "artifacts")
        self.counts: dict[str, dict[str, int]] = {}

    def _make_golden_of_workers(self) -> None:
        """Sums depend on the number of workers: the straight run of the drawn stages is one with as many."""
        for name in self.names:
            self._reset(name)  # a state of the other number of workers would be gone on with
            if code := self._start(name, "")[0]:
                raise SystemExit(f"{name}: the straight run with {self.workers} workers ended with {code}")

    def _count(self, name: str) -> dict[str, int]:
        """How often each event happens in an undisturbed run of the stage."""
        file = self.root / "counts.jsonl"
        file.unlink(missing_ok=True)
        self._reset(name)
        self._start(name, f"count:{file}")
        counts = json.loads(file.read_text().splitlines()[-1])["counts"]
        return counts if not self.workers else counts | {"step": 8}

    def chain(self) -> None:
        """Kill one stage once or several times, let it end, compare."""
        name = self.rng.choice(self.names)
        if name not in self.counts:
            self.counts[name] = self._count(name)
        self._reset(name)
        while True:
            self._kill(name)
            if self.rng.random() >= KILL_AGAIN:
                break
        code, said = self._start(name, "")
        if code:
            self.errors.append(f"{name}: the run after a kill ended with {code}: {said[-800:]}")
        changed = {path for path, sha in digests(self.root / "artifacts").items() if self.golden.get(path) != sha}
        missing = set(self.golden) - set(digests(self.root / "artifacts"))
        if changed or missing:
            self.errors.append(f"{name}: other bytes than the straight run: {sorted(changed | missing)[:3]}")
        if left := self.leftovers():
            self.errors.append(f"{name}: left over: {left[:3]}")

    def _kill(self, name: str) -> None:
        event = self._draw_event(name)
        marker = self.root / "killed.json"
        marker.unlink(missing_ok=True)
        who = self.rng.choice(["stage", "worker"]) if self.workers and event == "step" else "stage"
        who = "worker" if self.workers and event == "step" else who  # steps happen in workers
        number = self.rng.randrange(max(self.counts[name][event], 1))
        # Workers leave SIGTERM to the stage, so it would end nothing.
        signal_name = "SIGKILL" if who == "worker" else self.rng.choice(["SIGKILL", "SIGTERM"])
        code, said = self._start(name, f"kill:{event}:{number}:{signal_name}:{who}:{marker}")
        if not marker.exists():  # resumed beyond the event, so it ended well
            self.missed += 1
            return
        self.kills += 1
        found = json.loads(marker.read_text())
        self.phases[f"{found['signal']:8} {found['who']:7} {found['phase']}"] += 1
        if code not in (0, -9, 143):
            self.errors.append(f"{name}: ended with {code} at {found}: {said[-800:]}")

    def _draw_event(self, name: str) -> str:
        possible = [event for event, count in self.counts[name].items() if count]
        return self.rng.choices(possible, [WEIGHTS[event] for event in possible])[0]

    def _start(self, name: str, soak: str) -> tuple[int, str]:
        self.runs += 1
        hooks = f"{ROOT / 'scripts/soak_hooks'}{os.pathsep}{self.root}"
        variables = environment() | {"PYTHONPATH": hooks, "WHALE_SOAK": soak, "WHALE_TRAIN_LAUNCHER": "processes"}
        variables |= {"WHALE_TRAIN_WORKERS": str(self.workers)}
        done = subprocess.run(
            [sys.executable, "-m", "whale.run", name],
            cwd=self.root,
            env=variables,
            capture_output=True,
            text=True,
            timeout=STAGE_SECONDS,
        )
        return done.returncode, done.stdout + done.stderr

    def _reset(self, name: str) -> None:
        for out in self.stages[name].get("outs", []):
            path = self.root / out["path"]
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        shutil.rmtree(self.root / "work/demo" / name, ignore_errors=True)

    def leftovers(self) -> list[str]:
        """Temporary files and folders of any writer, outside DVC's own."""
        found = [path for name in ("artifacts", "work", "lineage", ".whale") for path in (self.root / name).rglob(".*")]
        return sorted(
            str(path.relative_to(self.root)) for path in found if ".tmp-" in path.name or ".old-" in path.name
        )


def _has_workers(name: str) -> bool:
    return (
        name.startswith(("train_", "finetune_")) and not name.startswith("finetune_embed") and "untrained" not in name
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=100, help="processes to end")
    parser.add_argument("--workers", type=int, default=0, help="training workers (0: the stage itself)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60, help="stop after this time, with what was reached")
    parser.add_argument("--project", type=Path, help="where the tiny pipeline lies, or is made and kept")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        root = options.project or Path(folder)
        root.mkdir(parents=True, exist_ok=True)
        root = root.resolve() if (root / "dvc.yaml").is_file() else make_project(root.resolve())
        soak = Soak(root, random.Random(options.seed), options.workers, options.workers > 0)
        print(f"straight run: {(time.monotonic() - started) / 60:.1f} min", flush=True)
        while soak.kills < options.cycles and time.monotonic() - started < 60 * options.minutes and not soak.errors:
            soak.chain()
            if soak.kills % 10 == 0:
                print(f"{soak.kills} kills, {soak.runs} runs, {(time.monotonic() - started) / 60:.1f} min", flush=True)
        return report(soak, options, time.monotonic() - started)


def report(soak: Soak, options: argparse.Namespace, seconds: float) -> int:
    """The histogram and the verdict; 0 when every end was the straight run's."""
    print(f"\n{'kills':>6}  signal   whom    phase")
    for phase, count in sorted(soak.phases.items(), key=lambda pair: -pair[1]):
        print(f"{count:6}  {phase}")
    inside = sum(count for phase, count in soak.phases.items() if "step" in phase or ":" in phase)
    print(f"in steps or writes: {inside} of {soak.kills}; draws beyond the end of a resumed run: {soak.missed}")
    for error in soak.errors:
        print(f"ERROR {error}")
    good = soak.kills - len(soak.errors)
    print(f"{good} of {soak.kills} kills (asked: {options.cycles}) ended in the bytes of the straight run, ", end="")
    print(f"{len(soak.leftovers())} leftovers, workers {options.workers}, seed {options.seed}, {seconds / 60:.1f} min")
    return 1 if soak.errors or soak.kills < options.cycles else 0


if __name__ == "__main__":
    sys.exit(main())
