"""A model folder: `model.safetensors` + `config.json`, no pickle. How every checkpoint is published and loaded.

The safetensors header carries no metadata: more than one key gives other bytes in every process (measured).
"""

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from whale.common.config import Config
from whale.common.errors import BadDataError, MissingInputError

WEIGHTS, CONFIG = "model.safetensors", "config.json"


class PublishedModel(nn.Module):
    """A module that says what it is and how it was built, so that a folder can hold it."""

    kind: ClassVar[str]
    config_class: ClassVar[type[Config]]
    needs_whole_weights: ClassVar[str | None] = None  # why its weights may not lie in pieces on several workers
    config: Any

    @classmethod
    def restore(cls, directory: Path, device: torch.device | str = "cpu") -> Self:
        """The model in `directory`, in evaluation mode, on `device`.

        Raises MissingInputError if there is none, BadDataError if it is of another kind or its tensors do not fit.
        """
        return load_model(directory, cls).to(device)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self._weight.device

    def placed(self, values: np.ndarray | Tensor) -> Tensor:
        """`values` as an input: a tensor where the weights lie."""
        tensor = values if isinstance(values, Tensor) else torch.from_numpy(np.ascontiguousarray(values))
        return tensor.to(self.device)

    def pixels(self, frames: np.ndarray | Tensor) -> Tensor:
        """Frames uint8 [...] as an input in [0, 1]: float32, float64 for weights in that."""
        return self.placed(frames).to(torch.promote_types(self._weight.dtype, torch.float32)) / 255

    @property
    def _weight(self) -> Tensor:
        return next(self.parameters())


Model = TypeVar("Model", bound=PublishedModel)


def save_model(directory: Path, model: PublishedModel) -> None:
    """Write weights (float32, contiguous, sorted by name) and config of `model` into an existing `directory`."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(model.state_dict().items())}
    (directory / WEIGHTS).write_bytes(safetensors.torch.save(tensors))
    config = {"kind": model.kind, "config": model.config.model_dump(mode="json")}
    (directory / CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


def load_model(directory: Path, model_class: type[Model]) -> Model:
    """`model_class.restore(directory)`, on the CPU."""
    directory = Path(directory)
    values = read_config(directory, model_class.kind)
    model = model_class(model_class.config_class.parse(values, file=directory / CONFIG, place="config"))
    tensors = safetensors.torch.load((directory / WEIGHTS).read_bytes())
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if expected != found:
        wrong = sorted(name for name in expected | found if expected.get(name) != found.get(name))
        raise BadDataError("tensors do not fit the config", file=directory / WEIGHTS, place=", ".join(wrong[:5]))
    model.load_state_dict(tensors)
    return model.eval()


def read_config(directory: Path, kind: str) -> Any:
    """The config of the model in `directory` as plain data.

    Raises MissingInputError if there is none, BadDataError if it is not of this `kind`.
    """
    if not (directory / CONFIG).is_file():
        raise MissingInputError("no model here", file=directory, expected=f"{CONFIG} and {WEIGHTS}")
    record = json.loads((directory / CONFIG).read_text())
    if record.get("kind") != kind:
        raise BadDataError("another kind of model", file=directory / CONFIG, found=record.get("kind"), expected=kind)
    return record["config"]


def tensor_digest(tensors: dict[str, Tensor]) -> str:
    """sha256 over (name, dtype, shape, bytes) sorted by name: equal weights, equal digest, whatever the file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
