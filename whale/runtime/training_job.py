"""What one training stage asks for, and what each of its workers runs, wherever that worker lives."""

import faulthandler
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from whale.errors import ConfigError
from whale.lineage.statement import write_json
from whale.models.folder import PublishedModel, save_model
from whale.runtime.torch_process import set_up_torch
from whale.training.checkpoint import StateFolder
from whale.training.communicator import Communicator
from whale.training.loop import FitResult, Surroundings, Task, fit
from whale.training.optimizer import whole
from whale.training.recomputation import recompute
from whale.training.state_mirror import StateMirror

STOP, LIVE, FOUND = "stop", "live.jsonl", "fit.json"
CONTINUED = "continued.json"  # whose state a training went on from, if not its own


@dataclass(frozen=True)
class Engine:
    """How a worker computes: nothing here changes what is learned, float sums apart."""

    threads: int = 1
    device: str = "cpu"  # or "cuda"
    micro_batch: int | None = None  # rows per forward pass
    compile: bool = False
    checkpoint_activations: bool = False
    sharding: str = "ddp"  # or "fsdp"
    hang_seconds: int = 600


@dataclass(frozen=True)
class TrainingJob:
    """`build(communicator)` makes the task in the worker; it must be picklable.

    `out` gets the model folder, `work` keeps the resume state of `identity` (the derivation), `replay` is the command
    that looks at step `<step>` again.
    """

    build: Callable[[Communicator], Task]
    out: Path
    work: Path
    num_workers: int
    engine: Engine = field(default_factory=Engine)
    identity: str = ""
    replay: str = Surroundings.replay
    placement: str = "PACK"  # on a Ray cluster: few nodes, or SPREAD
    state_storage: str | None = None  # an fsspec URI: where states are copied to

    def states(self) -> StateFolder:
        """The saved states of this run."""
        mirror = None
        if self.state_storage:  # <profile>/<stage>/<key>, as below `work`
            uri = "/".join([self.state_storage.rstrip("/"), *self.work.parts[-3:]])
            mirror = StateMirror(uri, [self.work / CONTINUED])
        return StateFolder(self.work / "states", identity=self.identity, mirror=mirror)


def work(job: TrainingJob, communicator: Communicator, prepare: Callable[[nn.Module], nn.Module]) -> None:
    """Train in this worker; the lead publishes the model into `job.out` and what happened into `job.work`."""
    _same_sums(job.engine)
    task = job.build(communicator)
    started = time.monotonic()
    with open(job.work / LIVE, "a") as live, _Watchdog(job, communicator.rank) as watchdog:

        def write(line: dict) -> None:
            live.write(json.dumps(line) + "\n")
            live.flush()

        surroundings = Surroundings(
            wrap=lambda model: _wrapped(model, job.engine, prepare),
            micro_batch=job.engine.micro_batch,
            stop_requested=(job.work / STOP).exists,
            on_record=lambda record: write({"record": record}),
            on_step=lambda step: write({"step": step}),
            on_alive=watchdog.alive,
            replay=job.replay,
        )
        result = fit(task, job.states(), communicator, surroundings)
    _publish(job, task, result, communicator, time.monotonic() - started)


def recompute_steps(job: TrainingJob, start: int, until: int) -> int:
    """Compute the steps between two saved states of a run of one worker again, in this process: see `recompute`."""
    _same_sums(job.engine)
    around = Surroundings(
        wrap=lambda model: _wrapped(model, job.engine, lambda inner: inner), micro_batch=job.engine.micro_batch
    )
    return recompute(job.build(Communicator()), job.states(), start, until, around)


def _same_sums(engine: Engine) -> None:
    set_up_torch(engine.threads)
    # Without this workspace torch refuses products of matrices on a GPU.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # debugging aid, costs 5 %


def _wrapped(model: nn.Module, engine: Engine, prepare: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Recompute activations, compile, put into the process group, in this order.

    Raises ConfigError for what would otherwise be left out in silence.
    """
    from whale.training.wrapping import compile_blocks, recompute_activations, shard

    is_sharded = engine.sharding == "fsdp"
    if is_sharded and engine.compile:
        raise ConfigError("sharded weights are not compiled", place="execution.compile", found=True, expected=False)
    if is_sharded and not torch.distributed.is_initialized():
        raise ConfigError(
            "weights can only be sharded over a group of workers",
            place="execution.sharding",
            found="fsdp, and this process works alone",
            expected="ddp, or train_workers of this stage > 0",
        )
    if engine.checkpoint_activations:
        recompute_activations(model)
    if is_sharded:
        return shard(model)
    if engine.compile:
        compile_blocks(model)
    return prepare(model)


def _publish(job: TrainingJob, task: Task, result: FitResult, communicator: Communicator, seconds: float) -> None:
    """Sharded weights are put together by all, written by the lead."""
    weights = {name: whole(value) for name, value in task.model.state_dict().items()}
    if not communicator.is_lead:
        return
    if not result.is_stopped:
        save_model(job.out, _plain(task.model, weights))
        write_json(job.out / "curves.json", result.curve)
        write_json(job.out / "receipt.json", task.loader.receipt(result.steps))
        write_json(job.out / "training.json", {"steps": result.steps, "best": result.best})
    took = {"resumed_from": result.resumed_from, "is_stopped": result.is_stopped, "seconds": seconds}
    write_json(job.work / FOUND, {"steps": result.steps, "best": result.best} | took)


def _plain(model: PublishedModel, weights: dict[str, torch.Tensor]) -> PublishedModel:
    if not any(hasattr(value, "full_tensor") for value in model.state_dict().values()):
        return model
    plain = type(model)(model.config)
    plain.load_state_dict(weights)
    return plain


def hang_files(job: TrainingJob) -> list[Path]:
    """Where workers that hung left their stacks."""
    return sorted(job.work.glob("hang-*.txt"))


class _Watchdog:
    """Ends a worker that finishes no step for `hang_seconds`, with the stack of every thread in `hang-<rank>.txt`.

    faulthandler's own C thread does it, so a call that never gives the interpreter back is caught as well. Without
    workers nobody is left to read a file: the stacks go to stderr and the stage ends with 1.
    """

    def __init__(self, job: TrainingJob, rank: int):
        self.seconds = job.engine.hang_seconds
        self.path = job.work / f"hang-{rank}.txt" if job.num_workers else None

    def __enter__(self) -> "_Watchdog":
        self.descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644) if self.path else 2
        self.alive()
        return self

    def alive(self) -> None:
        """A step was finished: start waiting anew."""
        faulthandler.dump_traceback_later(self.seconds, exit=True, file=self.descriptor)

    def __exit__(self, *_: object) -> None:
        faulthandler.cancel_dump_traceback_later()
        if self.path:
            os.close(self.descriptor)
            self.path.unlink(missing_ok=True)


class StopSwitch:
    """SIGTERM asks every worker to save and end: the first creates a file they look for, the second ends at once."""

    def __init__(self, path: Path):
        self.path, self.is_requested = path, False

    def __enter__(self) -> "StopSwitch":
        self.path.unlink(missing_ok=True)
        self.is_main = threading.current_thread() is threading.main_thread()
        if self.is_main:
            self.before = signal.signal(signal.SIGTERM, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_main:
            signal.signal(signal.SIGTERM, self.before)
        self.path.unlink(missing_ok=True)

    def _on_signal(self, *_: object) -> None:
        if self.is_requested:
            raise SystemExit(143)
        self.is_requested = True
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
        os.close(descriptor)
        os.write(
            2, b"SIGTERM: saving the state after this step, or the next if it is half done; a second one ends at once\n"
        )
