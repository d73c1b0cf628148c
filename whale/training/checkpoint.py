"""Resume state of a training run: folders `step-00000123` that are either complete and verified or do not exist.

Kept outside every DVC output, in a work folder keyed by the run's derivation. There is no pointer to the last one that
could go stale: the newest folder that verifies wins, and every rejected one is named.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from whale.errors import WhaleError
from whale.lineage.atomic_file import sync_directory
from whale.lineage.file_digests import sha256_of_file
from whale.lineage.seal import seal, verify_sealed

STEP_FOLDER = re.compile(r"step-(\d{8})")
KEEP = 2


@dataclass
class TrainingState:
    """What makes a resumed run equal to a straight one; the loader and all noise follow from `step` alone."""

    step: int = 0  # steps that are done
    tensors: dict[str, Tensor] = field(default_factory=dict)
    record: dict = field(default_factory=dict)  # JSON: curves, early stopping


class StateFolder:
    """Writes and finds TrainingStates under `directory`."""

    def __init__(self, directory: Path, say: Callable[[str], None] = print):
        self.directory, self.say = directory, say

    def clean(self) -> None:
        """Remove what a killed writer left under temporary names; call it with the stage's lock held."""
        for leftover in self.directory.glob(".step-*.tmp-*"):
            shutil.rmtree(leftover)

    def save(self, state: TrainingState) -> Path:
        """Publish `state` atomically and drop all but the newest folders."""
        self.directory.mkdir(parents=True, exist_ok=True)
        final = self.directory / f"step-{state.step:08d}"
        temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}.tmp-{os.getpid()}-", dir=self.directory))
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(state.tensors.items())}
        (temporary / "tensors.safetensors").write_bytes(safetensors.torch.save(tensors))
        (temporary / "state.json").write_text(json.dumps({"step": state.step, **state.record}, sort_keys=True))
        seal(temporary, sha256_of_file)
        if final.exists():  # it did not verify, or this run would have started from it
            shutil.rmtree(final)
        temporary.rename(final)
        sync_directory(self.directory)
        for _, old in self._folders()[KEEP:]:
            shutil.rmtree(old)
        return final

    def newest(self) -> TrainingState | None:
        """The newest state whose every byte is as sealed; None if there is none."""
        for step, folder in self._folders():
            try:
                verify_sealed(folder, sha256_of_file)
                record = json.loads((folder / "state.json").read_text())
                tensors = safetensors.torch.load((folder / "tensors.safetensors").read_bytes())
            except (WhaleError, OSError, ValueError, safetensors.SafetensorError) as error:
                self.say(f"rejected {folder}: {str(error).splitlines()[0]}")
                continue
            del record["step"]
            return TrainingState(step, tensors, record)
        return None

    def _folders(self) -> list[tuple[int, Path]]:
        found = [(STEP_FOLDER.fullmatch(path.name), path) for path in self.directory.glob("step-*")]
        return sorted(((int(match[1]), path) for match, path in found if match), reverse=True)


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The moments and step counts of AdamW under `optimizer.<moment>.<parameter name>`."""
    return {
        f"optimizer.{key}.{name}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`."""
    for name, parameter in model.named_parameters():
        for key in ("step", "exp_avg", "exp_avg_sq"):
            if (value := tensors.get(f"optimizer.{key}.{name}")) is not None:
                optimizer.state[parameter][key] = value if key == "step" else value.to(parameter.device)


def section(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under `prefix.`, with the prefix cut off."""
    return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(prefix + ".")}
