"""What one training stage asks for, and the files by which it and its workers understand each other."""

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from whale.training.loop.communicator import Communicator
from whale.training.loop.resume.checkpoint import StateFolder
from whale.training.loop.resume.state_mirror import StateMirror
from whale.training.loop.task import Hooks, Task

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
    replay: str = Hooks.replay
    placement: str = "PACK"  # on a Ray cluster: few nodes, or SPREAD
    state_storage: str | None = None  # an fsspec URI: where states are copied to

    def states(self) -> StateFolder:
        """The saved states of this run."""
        mirror = None
        if self.state_storage:  # <profile>/<stage>/<key>, as below `work`
            uri = "/".join([self.state_storage.rstrip("/"), *self.work.parts[-3:]])
            mirror = StateMirror(uri, [self.work / CONTINUED])
        return StateFolder(self.work / "states", identity=self.identity, mirror=mirror)


def hang_files(job: TrainingJob) -> list[Path]:
    """Where workers that hung left their stacks."""
    return sorted(job.work.glob("hang-*.txt"))


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
