"""Faults of training, injected into real runs: killed and hung workers, SIGTERM anywhere, a full disk, bad states.

A run is `whale.runtime.train.supervise.train` on the tiny dynamics model: in this process, or in two forked workers.
"Right" means the bytes of a run that nothing happened to.
"""

import contextlib
import functools
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tiny_training as runs
from faults.outcomes import CLEAR, RIGHT, SILENT, Fault, count_events, killed_at, outcome, worst

from whale.common.errors import BadDataError
from whale.common.files import sha256_of_file
from whale.runtime.train.supervise import train
from whale.runtime.train.training_job import STOP, Engine, TrainingJob
from whale.seal import seal
from whale.training.loop.communicator import Communicator
from whale.training.loop.recomputation import recompute
from whale.training.loop.replay import replay
from whale.training.loop.resume.checkpoint import StateFolder, TrainingState
from whale.training.loop.task import Hooks, Task

STEPS, FAULT_STEP = 8, 5
HANG_SECONDS = 15  # longer than any step of a busy machine
# Bound of what must be quick: tests load the machine; scripts/fault_table.py, alone on it, sets the minute asked for.
PATIENCE = float(os.environ.get("WHALE_FAULT_SECONDS", "900"))


def build(
    communicator: Communicator, inject: Callable[[Task, int], None] | None = None, kind: str = "dynamics"
) -> Task:
    """The tiny task of one worker; `inject(task, rank)` puts the fault in."""
    task = runs.task(kind, STEPS, communicator)
    if inject is not None:
        inject(task, communicator.rank)
    return task


def job(
    folder: Path, inject=None, num_workers: int = 0, kind: str = "dynamics", hang_seconds: int = 120
) -> TrainingJob:
    made = functools.partial(build, inject=inject, kind=kind)
    (folder / "out").mkdir(parents=True, exist_ok=True)
    return TrainingJob(made, folder / "out", folder / "work", num_workers, Engine(hang_seconds=hang_seconds), "tiny")


def run(
    folder: Path, inject=None, num_workers: int = 0, kind: str = "dynamics", restarts: int = 1, hang_seconds: int = 120
) -> str:
    """Train to the end; the digest of what is published."""
    given = job(folder, inject, num_workers, kind, hang_seconds)
    train(given, lambda record: None, lambda step: None, restarts=restarts, start_method="fork")
    return digest(folder)


def digest(folder: Path) -> str:
    return "".join(sha256_of_file(folder / "out" / name) for name in ("model.safetensors", "curves.json"))


@functools.cache
def straight(num_workers: int, kind: str = "dynamics") -> str:
    """What a run without a fault publishes."""
    with tempfile.TemporaryDirectory() as folder:
        return run(Path(folder), None, num_workers, kind)


def at_step(task: Task, act: Callable[[], None], marker: Path) -> None:
    """Call `act` once in this run's life, in the forward pass of FAULT_STEP."""
    forward = task.model.forward

    def faulty(batch):
        if task.model.training and task.loader.step == FAULT_STEP and not marker.exists():
            marker.touch()
            act()
        return forward(batch)

    task.model.forward = faulty


def exit_code(body: Callable[[], object]) -> int:
    """Run `body` in a forked process, as a stage would run it; what the process ends with."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            body()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def worker_killed(folder: Path, rank: int) -> str:
    """F9: SIGKILL of one of two workers in a step; the group starts again from the saved step."""

    def inject(task: Task, own: int) -> None:
        if own == rank:
            at_step(task, lambda: os.kill(os.getpid(), signal.SIGKILL), folder / "killed")

    expected, started = straight(2), time.monotonic()
    found = run(folder, inject, num_workers=2)
    return RIGHT if found == expected and time.monotonic() - started < PATIENCE else SILENT


def workers_killed_for_ever(folder: Path) -> str:
    """F9: a worker that dies at every attempt ends the run with an error, not in a loop."""

    def inject(task: Task, own: int) -> None:
        at_step(task, lambda: os.kill(os.getpid(), signal.SIGKILL), folder / f"never-{os.getpid()}")

    try:
        run(folder, inject, num_workers=2, restarts=1)
    except Exception as error:
        if "exit code -9" in str(error):
            return CLEAR
        print(f"not the loss of a worker: {error!r}")
    return SILENT


def worker_hangs(folder: Path) -> str:
    """F28: a worker blocks for ever; its watchdog leaves the stacks and ends it, the group starts again."""
    seen: list[str] = []

    def wait_for_ever() -> None:
        threading.Event().wait()

    def inject(task: Task, own: int) -> None:
        if own == 1:
            at_step(task, wait_for_ever, folder / "hung")

    def watch() -> None:
        while not seen:
            with contextlib.suppress(OSError):
                text = (folder / "work/hang-1.txt").read_text()
                seen.extend([text] * ("wait_for_ever" in text))
            time.sleep(0.01)

    expected = straight(2)
    threading.Thread(target=watch, daemon=True).start()
    found = run(folder, inject, num_workers=2, hang_seconds=HANG_SECONDS)
    return RIGHT if found == expected and seen else SILENT


def stage_hangs(folder: Path) -> str:
    """F28: a training without workers blocks for ever: stacks on stderr, exit 1, and the next run goes on."""

    def wait_for_ever() -> None:
        threading.Event().wait()

    def body() -> None:
        os.dup2(os.open(folder / "stderr", os.O_WRONLY | os.O_CREAT), 2)
        run(folder, lambda task, own: at_step(task, wait_for_ever, folder / "hung"), hang_seconds=HANG_SECONDS)

    if exit_code(body) != 1 or "wait_for_ever" not in (folder / "stderr").read_text():
        return SILENT
    return RIGHT if run(folder) == straight(0) else SILENT


def terminated(folder: Path, place: str, num_workers: int = 0) -> str:
    """F13: SIGTERM in `place`: the state of that step is saved, exit 143, the next run ends in the same bytes."""
    kind = "behavior" if place == "validation" else "dynamics"

    def inject(task: Task, own: int) -> None:
        if own == 0:
            _terminate_in(task, place, folder, os.getppid() if num_workers else os.getpid())

    expected = straight(num_workers, kind)
    code = exit_code(lambda: run(folder, inject, num_workers, kind))
    saved = job(folder).states().newest()
    if code != 143 or saved is None or saved.step < FAULT_STEP:
        return SILENT
    return RIGHT if run(folder, None, num_workers, kind) == expected else SILENT


def _terminate_in(task: Task, place: str, folder: Path, pid: int) -> None:
    marker = folder / "terminated"

    def act() -> None:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE
        while not (folder / "work" / STOP).exists() and time.monotonic() < deadline:
            time.sleep(0.01)  # the leader, which may be another process, takes it in

    if place == "forward":
        at_step(task, act, marker)
        return
    model, forward, iterate = task.model, task.model.forward, type(task.loader).__iter__

    def in_validation(batch):
        if not model.training and task.loader.step == FAULT_STEP and not marker.exists():
            marker.touch()
            act()
        return forward(batch)

    class Loader(type(task.loader)):
        def __iter__(self):
            for step, batch in iterate(self):
                if step == FAULT_STEP and not marker.exists():
                    marker.touch()
                    act()
                yield step, batch

    if place == "validation":
        model.forward = in_validation
    else:
        task.loader.__class__ = Loader


def killed_while_saving(folder: Path) -> str:
    """F14: SIGKILL at every write event of a save: the state before it loads, or the new one does; never a mix."""
    states = StateFolder(folder / "states", identity="tiny")
    states.save(_state(1))
    found = []
    for event in range(count_events(lambda: StateFolder(folder / "counted", identity="tiny").save(_state(2)))):
        killed_at(event, lambda: states.save(_state(2)))
        newest = states.newest()
        assert newest is not None
        found.append(RIGHT if float(newest.tensors["model.w"][0, 0]) == newest.step in (1, 2) else SILENT)
        states.clean()
        found.append(RIGHT if not list(states.directory.glob(".*")) else SILENT)
        shutil.rmtree(states.directory / "step-00000002", ignore_errors=True)
    return worst(found)


def second_signal(folder: Path) -> str:
    """F14: a second SIGTERM ends at once with 143; what was saved before is used."""

    def inject(task: Task, own: int) -> None:
        def twice() -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            (folder / "second").write_text(str(time.monotonic()))
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(PATIENCE)

        at_step(task, twice, folder / "twice")

    expected = straight(0)
    code = exit_code(lambda: run(folder, inject))
    was_quick = time.monotonic() - float((folder / "second").read_text()) < 0.9 * PATIENCE
    saved = job(folder).states().newest()
    if code != 143 or not was_quick or saved is None or saved.step != 4:
        return SILENT
    return RIGHT if run(folder) == expected else SILENT


def disk_full(folder: Path) -> str:
    """F4: the kernel refuses to write a state: a clear error, older states intact; continues once there is room."""
    said = folder / "said"
    expected = straight(0)

    def inject(task: Task, own: int) -> None:
        def fill() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

        at_step(task, fill, folder / "filled")

    def body() -> None:
        result = outcome(lambda: run(folder, inject), names="intact: step-00000004")
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        said.write_text(result)

    exit_code(body)
    states = job(folder).states()
    if said.read_text() != CLEAR or list(states.directory.glob(".*")):
        return SILENT
    return RIGHT if run(folder) == expected else SILENT


def damaged_state(folder: Path, damage: str) -> str:
    """F15: the newest state is torn, mixed, foreign or flipped: rejected by name, the one before is used."""
    said: list[str] = []
    states = StateFolder(folder / "states", say=said.append, identity="tiny")
    older, newest = (states.save(_state(step)) for step in (1, 2))
    tensors = newest / "tensors.safetensors"
    if damage == "flipped bit":
        content = bytearray(tensors.read_bytes())
        content[-3] ^= 1
        tensors.write_bytes(content)
    elif damage == "cut":
        tensors.write_bytes(tensors.read_bytes()[:-5])
    elif damage == "missing file":
        (newest / "state.json").unlink()
    elif damage == "not sealed":
        (newest / "MANIFEST.json").unlink()
    elif damage == "mixed with another step":
        shutil.copy(older / "tensors.safetensors", tensors)
    elif damage == "of another run":
        StateFolder(folder / "states", identity="other").save(_state(2))
    else:  # another step's folder under this name, sealed as a whole
        record = json.loads((newest / "state.json").read_text())
        (newest / "state.json").write_text(json.dumps(record | {"step": 7}))
        seal(newest, sha256_of_file)
    used = states.newest()
    is_named = len(said) == 1 and "step-00000002" in said[0]
    return RIGHT if used is not None and used.step == 1 and is_named else SILENT


def not_a_number(folder: Path) -> str:
    """F18: a NaN in the data: the error names step, sample and source; one replay shows the same step again."""

    def inject(task: Task, own: int) -> None:
        make_batch = task.loader.make_batch

        def poisoned(size: int, seed: int) -> dict:
            batch = make_batch(size=size, seed=seed)
            batch["action"][2, 0, 0] = np.nan if seed == FAULT_STEP else batch["action"][2, 0, 0]
            return batch

        task.loader.make_batch = poisoned

    named: list[str] = []
    for num_workers in (0, 2):
        place = folder / str(num_workers)
        try:
            run(place, inject, num_workers)
            return SILENT
        except BadDataError as error:
            named.append(str(error))
    lines: list[str] = []
    again = replay(build(Communicator(), inject), job(folder / "2").states(), FAULT_STEP, say=lines.append)
    is_named = all(f"step {FAULT_STEP}, samples [22] of [20, 21, 22, 23]" in text for text in named)
    return CLEAR if is_named and again == 1 and any("loss nan  sample 22" in line for line in lines) else SILENT


def store_locked(folder: Path) -> str:
    """F23: MLflow's store is locked, then gone: training is not slowed, and one replay later brings each point once."""
    from whale.tracking.mlflow_store import replay as replay_tracking
    from whale.tracking.spool import TrackingSpool

    store = folder / "mlflow.db"
    lock = sqlite3.connect(store)
    lock.execute("BEGIN EXCLUSIVE")
    spool = TrackingSpool(folder / "spool/run.jsonl")
    spool.start("train_dynamics", None, "demo", {})
    started = time.monotonic()
    given = job(folder)
    train(given, lambda record: spool.log_metrics({"loss": record["loss"]}, int(record["step"])), lambda step: None)
    was_quick = time.monotonic() - started < PATIENCE
    spool.end("FINISHED")
    lock.close()
    store.unlink()
    for _ in range(2):
        replay_tracking(folder / "spool", f"sqlite:///{store}", folder / "mlruns")
    counted = sqlite3.connect(store).execute("SELECT count(*), count(DISTINCT step) FROM metrics WHERE key = 'loss'")
    return RIGHT if was_quick and counted.fetchone() == (STEPS, STEPS) and digest(folder) == straight(0) else SILENT


def second_trainer(folder: Path) -> str:
    """F16: a second trainer of the same output is refused and told the pid of the first."""
    from whale.guard import lock

    path, output = folder / "locks/out.lock", folder / "out"
    reader, writer = os.pipe()
    first = os.fork()
    if first == 0:
        lock.acquire(path, output)
        os.write(writer, b"1")
        time.sleep(900)
        os._exit(0)
    os.read(reader, 1)
    try:
        return outcome(lambda: lock.acquire(path, output), names=f"pid {first}")
    finally:
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)


def elsewhere(folder: Path) -> str:
    """F19: a fresh process with another hash seed, locale, time zone, temporary and working folder: the same bytes."""
    (folder / "temporary").mkdir()
    tests = Path(__file__).resolve().parents[1]
    variables = {"PYTHONHASHSEED": "12345", "LC_ALL": "C", "TZ": "Asia/Kathmandu", "TMPDIR": str(folder / "temporary")}
    variables["PYTHONPATH"] = f"{tests.parent}{os.pathsep}{tests}"
    program = "from pathlib import Path; from faults.training_faults import run; print(run(Path('here')))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=os.environ | variables, capture_output=True, text=True
    )
    return RIGHT if done.stdout.split()[-1:] == [straight(0)] else SILENT


def flipped_weight(folder: Path, bit: int, named: tuple[str, ...]) -> str:
    """F20: a bit of one weight flips in memory between two steps; training ends as if nothing were.

    Computing the steps between two saved states again says so, with `named` in its words; of a run without the flip it
    says that every bit is equal.
    """

    def inject(task: Task, own: int) -> None:
        at_step(task, lambda: _flip(task.model.tokens.weight, bit), folder / "flipped")

    found, lines = [], []
    for place, fault in ((folder / "flip", inject), (folder / "straight", None)):
        run(place, fault)
        states = job(place).states()
        found.append(recompute(build(Communicator()), states, 4, 6, Hooks(), lines.append))
    return CLEAR if found == [1, 0] and all(name in "\n".join(lines[:3]) for name in named) else SILENT


def _flip(weight, bit: int) -> None:
    """In the largest element, so that an exponent's bit is felt."""
    import torch

    place = int(weight.detach().abs().argmax())
    weight.data.view(torch.int32).view(-1)[place] ^= 1 << bit


def _state(step: int) -> TrainingState:
    import torch

    return TrainingState(step, {"model.w": torch.full((64, 64), float(step))}, {"curve": []})


EXPONENT = ("steps 4 to 5", "model.tokens.weight")
DAMAGES = ("flipped bit", "cut", "missing file", "not sealed", "mixed with another step", "of another run", "renamed")
TRAINING_FAULTS = [
    Fault("F4", "disk full while a state is saved", disk_full),
    Fault("F9", "SIGKILL of the lead worker in a step", functools.partial(worker_killed, rank=0)),
    Fault("F9", "SIGKILL of the other worker in a step", functools.partial(worker_killed, rank=1)),
    Fault("F9", "a worker that dies at every attempt", workers_killed_for_ever),
    *(Fault("F13", f"SIGTERM in {place}", functools.partial(terminated, place=place)) for place in ("load", "forward")),
    Fault("F13", "SIGTERM in validation", functools.partial(terminated, place="validation")),
    Fault("F13", "SIGTERM in a step of two workers", functools.partial(terminated, place="forward", num_workers=2)),
    Fault("F14", "SIGKILL at every event of a save", killed_while_saving),
    Fault("F14", "second SIGTERM before the state is saved", second_signal),
    *(Fault("F15", f"newest state: {name}", functools.partial(damaged_state, damage=name)) for name in DAMAGES),
    Fault("F16", "two trainers on one output", second_trainer),
    Fault("F18", "NaN in the data, 1 and 2 workers, and its replay", not_a_number),
    Fault("F19", "another hash seed, locale, time zone, folder", elsewhere),
    Fault("F20", "the last bit of a weight", functools.partial(flipped_weight, bit=0, named=("steps 4 to 5",))),
    Fault("F20", "a bit of a weight's exponent", functools.partial(flipped_weight, bit=28, named=EXPONENT)),
    Fault("F23", "MLflow's store locked, then gone", store_locked),
    Fault("F28", "a worker blocks for ever", worker_hangs),
    Fault("F28", "a training without workers blocks for ever", stage_hangs),
]
