"""Resume state of a training run: folders `step-00000123` that are either complete and verified or do not exist.

Kept outside every DVC output, in a work folder keyed by the run's derivation. There is no pointer to the last one that
could go stale: the newest folder that verifies wins, and every rejected one is named.
"""

import json
import re
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from whale.common.errors import BadDataError, CannotWriteError, MismatchError, WhaleError
from whale.common.files import DISK_ERRORS, MANIFEST_NAME, sha256_of_file, sync_file, temporary_path
from whale.common.json_files import read_json
from whale.seal import seal, verify_sealed
from whale.training.loop.resume.state_mirror import StateMirror

STEP_FOLDER = re.compile(r"step-(\d{8})")
TENSORS, RECORD = "tensors.safetensors", "state.json"
KEEP = 2


@dataclass
class TrainingState:
    """What makes a resumed run equal to a straight one; all noise follows from `step` alone."""

    step: int = 0  # steps that are done
    tensors: dict[str, Tensor] = field(default_factory=dict)
    record: dict = field(default_factory=dict)  # JSON: curve, position of the loader, early stopping


class StateFolder:
    """Writes and finds TrainingStates under `directory`; `identity` says whose they are (the run's derivation).

    With a `mirror` each is copied there as well, and one that is newer there than here is brought back.
    """

    def __init__(
        self,
        directory: Path,
        say: Callable[[str], None] = print,
        identity: str = "",
        mirror: StateMirror | None = None,
    ):
        self.directory, self.say, self.identity, self.mirror = directory, say, identity, mirror
        self._verified = ""

    def clean(self) -> None:
        """Remove what a killed writer left under temporary names; call it with the stage's lock held."""
        for leftover in self.directory.glob(".step-*.tmp-*"):
            shutil.rmtree(leftover)

    def save(self, state: TrainingState) -> Path:
        """Publish `state` atomically; keep it and the one before, drop older ones and those of later steps.

        Raises CannotWriteError when the disk is full or read-only: nothing partial is left, older states are intact.
        """
        final = self.directory / f"step-{state.step:08d}"
        temporary: Path | None = None
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            temporary = temporary_path(final)
            temporary.mkdir()
            self._write(temporary, state)
            if final.exists():  # it did not verify, or this run would have started from it
                shutil.rmtree(final)
            temporary.rename(final)
            sync_file(self.directory)
        except BaseException as error:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)
            if isinstance(error, OSError | safetensors.SafetensorError | CannotWriteError) and _is_disk_error(error):
                raise self._cannot_write(final, error) from error
            raise
        # Newer ones were rejected, or this run would have started from them.
        rejected = [path for step, path in self._folders() if step > state.step]
        good = [path for step, path in self._folders() if step <= state.step]
        for path in [*rejected, *good[KEEP:]]:
            shutil.rmtree(path)
        if self.mirror and (problem := self.mirror.push(final, [path.name for path in good[:KEEP]])):
            self.say(f"{final.name} is not copied to {self.mirror.uri}: {problem}; it is saved on this disk")
        return final

    def newest(self) -> TrainingState | None:
        """The newest state whose every byte is as sealed and that this run wrote; None if there is none."""
        name = self.newest_name()
        return None if name is None else self.load(name)

    def newest_name(self) -> str | None:
        """`<folder>:<sha256 of its manifest>` of the newest good state: what the lead worker tells the others.

        Raises MissingInputError when the mirror cannot be read: an older state must not win unseen.
        """
        here = {path.name for _, path in self._folders()}
        there = set(filter(STEP_FOLDER.fullmatch, self.mirror.names())) if self.mirror else set()
        for name in sorted(here | there, reverse=True):
            if (name in here and self._is_good(name)) or (name in there and self._bring(name) and self._is_good(name)):
                self._verified = f"{name}:{sha256_of_file(self.directory / name / MANIFEST_NAME)}"
                return self._verified
        return None

    def load(self, name: str) -> TrainingState:
        """The state that `newest_name`, perhaps another worker's, named; MismatchError when other bytes lie there."""
        folder_name, _, expected = name.partition(":")
        folder = self.directory / folder_name
        found = _manifest_digest(folder)
        if found != expected and self._bring(folder_name):
            found = _manifest_digest(folder)
        if found != expected:
            raise MismatchError(
                "workers see different saved states",
                file=folder,
                found=found,
                expected=expected,
                remedy="give every worker the same `work` folder (a shared file system), or a `state_storage`",
            )
        if name != self._verified:
            verify_sealed(folder, sha256_of_file)
        step = int(folder_name.removeprefix("step-"))
        return TrainingState(step, safetensors.torch.load_file(folder / TENSORS), self._read_record(step, folder))

    def _is_good(self, name: str) -> bool:
        folder = self.directory / name
        try:
            verify_sealed(folder, sha256_of_file)
            self._read_record(int(name.removeprefix("step-")), folder)
        except (WhaleError, OSError, ValueError, KeyError) as error:
            self._say_rejected(folder, error)
            return False
        return True

    def _bring(self, name: str) -> bool:
        """From the mirror to this disk; False when it is not whole there."""
        if self.mirror is None:
            return False
        try:
            return self.mirror.pull(name, self.directory) is not None
        except (MismatchError, BadDataError) as error:
            self._say_rejected(f"{self.mirror.uri}/{name}", error)
            return False

    def _say_rejected(self, folder: Path | str, error: Exception) -> None:
        self.say(f"rejected {folder}: {'; '.join(line.strip() for line in str(error).splitlines())}")

    def _write(self, temporary: Path, state: TrainingState) -> None:
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(state.tensors.items())}
        safetensors.torch.save_file(tensors, temporary / TENSORS)
        record = {"step": state.step, "identity": self.identity, **state.record}
        (temporary / RECORD).write_text(json.dumps(record, sort_keys=True))
        seal(temporary, sha256_of_file)  # the disk writes while it hashes; Linux tells a failed fsync once, to it alone

    def _read_record(self, step: int, folder: Path) -> dict:
        record = read_json(folder / RECORD)
        found = {"step": record.pop("step"), "identity": record.pop("identity")}
        expected = {"step": step, "identity": self.identity}
        if found != expected:
            raise MismatchError("a state of another run", file=folder / RECORD, found=found, expected=expected)
        return record

    def _cannot_write(self, final: Path, error: Exception) -> CannotWriteError:
        intact = self._folders()
        return CannotWriteError(
            "cannot save the training state",
            file=final,
            found=getattr(error, "found", None) or getattr(error, "strerror", None) or str(error),
            expected=f"room for it; intact: {intact[0][1].name if intact else 'no older state'}",
            remedy="free some space, then run the same command again: it continues from the intact state",
        )

    def _folders(self) -> list[tuple[int, Path]]:
        found = [(STEP_FOLDER.fullmatch(path.name), path) for path in self.directory.glob("step-*")]
        return sorted(((int(match[1]), path) for match, path in found if match), reverse=True)


class SavesBehind:
    """Writes states in a thread while training goes on: 2.4 GB take 7 s. One at a time, and never a lost error."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._say: Callable[[str], None] = print

    def save(self, states: StateFolder, state: TrainingState) -> None:
        """Begin to save `state`, which nobody may change; first the one before is finished."""
        self.finish()
        self._say = states.say
        self._thread = threading.Thread(target=self._run, args=(states, state), name="save")
        self._thread.start()

    def wait(self) -> None:
        """Until what was begun is on the disk, or failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def end_with(self, error: BaseException) -> None:
        """Wait, while `error` ends the training: what went wrong with the save is said, too, and noted in it."""
        self.wait()
        if self._error is not None:
            lines = [line.strip() for line in str(self._error).splitlines()]
            said = f"the newest state was not saved: {'; '.join(lines) or type(self._error).__name__}"
            self._error = None
            self._say(said)
            error.add_note(said)

    def finish(self) -> None:
        """Wait, and raise what went wrong: CannotWriteError when the disk is full or read-only."""
        self.wait()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _run(self, states: StateFolder, state: TrainingState) -> None:
        try:
            states.save(state)
        except BaseException as error:
            self._error = error


def _manifest_digest(folder: Path) -> str:
    manifest = folder / MANIFEST_NAME
    return sha256_of_file(manifest) if manifest.is_file() else "no such folder"


def _is_disk_error(error: Exception) -> bool:
    """safetensors writes in Rust and gives the operating system's error as text."""
    if isinstance(error, CannotWriteError):
        return True
    if isinstance(error, OSError):
        return error.errno in DISK_ERRORS
    return any(f"os error {number}" in str(error) for number in DISK_ERRORS)


def section(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under `prefix.`, with the prefix cut off."""
    return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(prefix + ".")}


def prefixed(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The inverse of `section`."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}
