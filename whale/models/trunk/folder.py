"""A model folder: `model.safetensors` + `config.json`, no pickle. How every checkpoint is published and loaded.

The safetensors header carries no metadata: more than one key gives other bytes in every process (measured).
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from whale.common.boundary import reading
from whale.common.config import Config
from whale.common.errors import BadDataError, ConfigError, MissingInputError
from whale.common.files import WEIGHTS
from whale.common.json_files import flatten, parse_object
from whale.common.limits import HEADER_BYTES, HIDDEN_BYTES, LAYERS, TENSORS, WIDTH

CONFIG = "config.json"


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
    """`model_class.restore(directory)`, on the CPU.

    What the config asks for is compared with the header of the weights before any of it is built: a config is text, and
    one line of it can ask for terabytes.
    """
    directory = Path(directory)
    values = read_config(directory, model_class.kind)
    config = _parsed(values, model_class, directory / CONFIG)
    with reading(directory / CONFIG, "a config of which no model can be built"), torch.device("meta"), _Unfilled():
        planned = model_class(config)
    expected = {name: tuple(tensor.shape) for name, tensor in planned.state_dict().items()}
    _require_same(expected, tensor_shapes(directory / WEIGHTS), directory / WEIGHTS)
    beside = sum(each.nbytes for name, each in planned.named_buffers() if name not in expected)
    if beside > HIDDEN_BYTES:  # what a published file does not hold, so that the comparison above says nothing of it
        raise BadDataError("a model that needs too much beside its weights", file=directory / CONFIG,
                           found=f"{beside} bytes", expected=f"<= {HIDDEN_BYTES}")  # fmt: skip
    model = model_class(config)
    model.load_state_dict(load_tensors(directory / WEIGHTS))
    return model.eval()


class _Unfilled(TorchFunctionMode):
    """Shapes are all that is asked for: no random numbers, whose first use here imports for 3 s (measured).

    What is filled in place (by torch's convention its name ends with one underscore) or by `out` keeps its shape; a
    factory that torch marks as drawing from a seed makes an empty tensor of that size.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        given = kwargs or {}
        if isinstance(given.get("out"), Tensor):
            return given["out"]
        name, filled = getattr(func, "__name__", ""), next(iter([*args, *given.values()]), None)
        if isinstance(filled, Tensor) and name.endswith("_") and not name.endswith("__"):
            return filled
        return (torch.empty if _draws(name) else func)(*args, **given)


def _draws(name: str) -> bool:
    """Is it a factory of random numbers whose first argument is a size: randn, rand?"""
    known = getattr(torch.ops.aten, name, None)
    default = getattr(known, "default", None)
    if default is None or torch.Tag.nondeterministic_seeded not in default.tags:
        return False
    return default._schema.arguments[0].name == "size"


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of what a safetensors file says that it holds; nothing of it is read."""
    with reading(path, "not a safetensors file"), open(path, "rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        if size > min(HEADER_BYTES, path.stat().st_size):
            raise BadDataError("not a safetensors file", file=path, place="header", found=f"{size} bytes",
                               expected=f"<= {HEADER_BYTES}, and no more than the file has")  # fmt: skip
        header = parse_object(stream.read(size), path, "header")
        header.pop("__metadata__", None)
        if len(header) > TENSORS:
            raise BadDataError("too many tensors", file=path, found=len(header), expected=f"<= {TENSORS}")
        return {name: tuple(map(int, each["shape"])) for name, each in header.items()}


def load_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of one file; MissingInputError, or BadDataError for what is no whole safetensors file."""
    if not path.is_file():
        raise MissingInputError("no weights here", file=path)
    tensor_shapes(path)
    with reading(path, "not a safetensors file"):
        return safetensors.torch.load(path.read_bytes())


def require_shapes(module: nn.Module, path: Path) -> None:
    """BadDataError unless the file's header lists the tensors of `module`, no other and in their shapes."""
    _require_same({name: tuple(each.shape) for name, each in module.state_dict().items()}, tensor_shapes(path), path)


def _require_same(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], path: Path) -> None:
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        raise BadDataError(
            "tensors do not fit the config", file=path, place=", ".join(wrong[:5]),
            found=[found.get(name) for name in wrong[:5]], expected=[expected.get(name) for name in wrong[:5]],
        )  # fmt: skip


def read_config(directory: Path, kind: str) -> Any:
    """The config of the model in `directory` as plain data.

    Raises MissingInputError if there is none, BadDataError if it is not of this `kind`.
    """
    record = parse_object(_config_bytes(directory), directory / CONFIG)
    if record.get("kind") != kind:
        raise BadDataError("another kind of model", file=directory / CONFIG, found=record.get("kind"), expected=kind)
    _require_small(record.get("config"), directory / CONFIG)
    return record["config"]


def _config_bytes(directory: Path) -> bytes:
    path = directory / CONFIG
    if not path.is_file():
        raise MissingInputError("no model here", file=directory, expected=f"{CONFIG} and {WEIGHTS}")
    if path.stat().st_size > HEADER_BYTES:
        raise BadDataError("file too large", file=path, found=path.stat().st_size, expected=f"<= {HEADER_BYTES}")
    return path.read_bytes()


def _require_small(config: object, file: Path) -> None:
    """No width, depth or count beyond our limits: also a model that is never filled costs time to be made."""
    if not isinstance(config, dict):
        raise BadDataError("not a config", file=file, place="config", found=type(config).__name__, expected="{...}")
    for name, value in flatten(config).items():
        limit = LAYERS if name.endswith("num_layers") else WIDTH
        if isinstance(value, int) and not -limit <= value <= limit:
            raise BadDataError("a config of which no model can be built", file=file, place=f"config.{name}",
                               found=value, expected=f"<= {limit}")  # fmt: skip


def _parsed(values: Any, model_class: type[PublishedModel], file: Path) -> Any:
    try:
        return model_class.config_class.parse(values, file=file, place="config")
    except ConfigError as error:  # nobody wrote this file by hand
        raise BadDataError("a config that does not hold", file=file, place=error.place) from None


def tensor_digest(tensors: dict[str, Tensor]) -> str:
    """sha256 over (name, dtype, shape, bytes) sorted by name: equal weights, equal digest, whatever the file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
