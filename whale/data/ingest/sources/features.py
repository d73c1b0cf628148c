"""features.json of a TFDS dataset, read as data: class names are compared with a list, never imported.

A feature's flattened name joins the dictionary keys with '/'; keys may hold '/' themselves, so names are never split.
"""

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from whale.common.boundary import reading
from whale.common.errors import BadDataError
from whale.common.limits import FEATURES, INFLATED_BYTES
from whale.data.ingest.sources.tf_example import Feature as Stored
from whale.data.spec.episode import EpisodeError

PACKAGE = "tensorflow_datasets.core.features."
CLASSES = {
    "features_dict.FeaturesDict": "dict",
    "dataset_feature.Dataset": "sequence",
    "sequence_feature.Sequence": "sequence",
    "tensor_feature.Tensor": "tensor",
    "scalar.Scalar": "tensor",
    "image_feature.Image": "image",
    "text_feature.Text": "text",
    "class_label_feature.ClassLabel": "class_label",
}
DTYPES = {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
DTYPES |= {"bool", "float16", "float32", "float64", "bfloat16", "string", "object"}
Kind = Literal["tensor", "bytes", "unsupported"]


@dataclass(frozen=True)
class Feature:
    """One leaf. `kind` bytes: text and encoded images stay byte strings; unsupported: `why` it cannot be read."""

    name: str
    kind: Kind
    shape: tuple[int | None, ...] = ()
    dtype: str = "string"
    encoding: str = "none"
    in_steps: bool = False
    why: str = ""

    @property
    def stored_name(self) -> str:
        return f"steps/{self.name}" if self.in_steps else self.name

    def decode(self, stored: Stored | None, num_steps: int) -> np.ndarray | list[bytes]:
        """(num_steps, *shape) of the declared dtype, or num_steps byte strings; EpisodeError says what is wrong."""
        if stored is None:
            raise EpisodeError("missing_key", f"{self.stored_name} is not in the record")
        if self.kind == "unsupported":
            raise EpisodeError("dtype_mismatch", f"{self.stored_name}: {self.why}")
        if self.kind == "bytes":
            return self._bytes(stored, num_steps)
        return self._encoded(stored, num_steps) if self.encoding != "none" else self._tensor(stored, num_steps)

    def _bytes(self, stored: Stored, num_steps: int) -> list[bytes]:
        if not isinstance(stored, list):
            raise EpisodeError("dtype_mismatch", f"{self.stored_name} holds {stored.dtype}, expected byte strings")
        self._check_length(len(stored), num_steps)
        return stored

    def _encoded(self, stored: Stored, num_steps: int) -> np.ndarray:
        size = math.prod(self._known_shape()) * np.dtype(self.dtype).itemsize
        if size * num_steps > INFLATED_BYTES:
            detail = f"{self.stored_name}: {num_steps} steps of {size} bytes, more than {INFLATED_BYTES}"
            raise EpisodeError("unsafe", detail)
        values = [self._inflate(data, size) for data in self._bytes(stored, num_steps)]
        return np.frombuffer(b"".join(values), np.dtype(self.dtype).newbyteorder("<")).reshape(num_steps, *self.shape)

    def _inflate(self, data: bytes, size: int) -> bytes:
        if self.encoding == "zlib":
            try:
                data = zlib.decompressobj().decompress(data, size + 1)
            except zlib.error as error:
                raise EpisodeError("decode_error", f"{self.stored_name}: {error}") from None
        if len(data) != size:
            raise EpisodeError("shape_mismatch", f"{self.stored_name}: a step has {len(data)} bytes, expected {size}")
        return data

    def _tensor(self, stored: Stored, num_steps: int) -> np.ndarray:
        if isinstance(stored, list):
            if stored:
                raise EpisodeError("dtype_mismatch", f"{self.stored_name} holds byte strings, expected {self.dtype}")
            stored = np.zeros(0, np.int64)
        if len(stored) and (self.dtype.startswith("float") or self.dtype == "bfloat16") != (stored.dtype.kind == "f"):
            raise EpisodeError("dtype_mismatch", f"{self.stored_name} holds {stored.dtype}, expected {self.dtype}")
        per_step = math.prod(self._known_shape())
        if None not in self.shape:
            self._check_length(len(stored) / per_step if per_step else 0, num_steps)
        dtype = "float32" if self.dtype == "bfloat16" else self.dtype
        try:
            array = stored.reshape(num_steps, *(-1 if size is None else size for size in self.shape))
        except ValueError:
            detail = f"{self.stored_name}: {len(stored)} values do not make {num_steps} x {self.shape}"
            raise EpisodeError("length_mismatch", detail) from None
        return array.view(np.uint64) if dtype == "uint64" else array.astype(dtype)

    def _check_length(self, found: float, num_steps: int) -> None:
        if found != num_steps:
            detail = f"{self.stored_name} has {found:g} steps, steps/is_first has {num_steps}"
            raise EpisodeError("length_mismatch", detail if self.in_steps else f"{self.name} has {found:g} values")

    def _known_shape(self) -> list[int]:
        return [size for size in self.shape if size is not None]


def parse_features(tree: object, file: str = "features.json") -> dict[str, Feature]:
    """Flattened name -> Feature; step features lose the prefix `steps/`. BadDataError names the path of a problem."""
    if not isinstance(tree, Mapping):
        raise BadDataError("features.json is not a mapping", file=file, found=type(tree).__name__)
    found: dict[str, Feature] = {}
    with reading(file, "features.json is malformed"):
        _walk(tree, "", False, found, file, 0)
    return found


def _walk(node: Mapping[str, Any], name: str, in_steps: bool, found: dict[str, Feature], file: str, depth: int) -> None:
    kind = _class_of(node)
    if kind is None and not name:
        raise BadDataError("unknown feature class at the root of features.json", file=file, found=str(node)[:120],
                           expected=f"{PACKAGE} + one of {', '.join(CLASSES)}")  # fmt: skip
    if depth > 16 or len(found) > FEATURES:
        raise BadDataError("features.json is too deep or too large", file=file, place=name)
    if kind == "dict":
        for key, child in node["featuresDict"]["features"].items():
            _walk(child, f"{name}/{key}" if name else key, in_steps, found, file, depth + 1)
    elif kind == "sequence" and name == "steps" and not in_steps:
        _walk(node["sequence"]["feature"], "", True, found, file, depth + 1)
    else:
        found[name] = _leaf(node, kind, name, in_steps)


def _class_of(node: Mapping[str, Any]) -> str | None:
    """None for a class that is not read (Video, BBox, Audio, somebody's own)."""
    class_name = str(node.get("pythonClassName", node.get("type")))
    return CLASSES.get(class_name.removeprefix(PACKAGE)) if class_name.startswith(PACKAGE) else None


def _leaf(node: Mapping[str, Any], kind: str | None, name: str, in_steps: bool) -> Feature:
    if kind is None:
        class_name = str(node.get("pythonClassName", node.get("type")))[:120]
        return Feature(name, "unsupported", in_steps=in_steps, why=f"a feature of the class {class_name}, not read")
    if kind in ("text", "image"):
        return Feature(name, "bytes", in_steps=in_steps)
    if kind == "class_label":
        return Feature(name, "tensor", (), "int64", in_steps=in_steps)
    if kind == "sequence":
        return Feature(name, "unsupported", in_steps=in_steps, why="a sequence inside of a step, not read")
    tensor = node["tensor"]
    shape = tuple(None if int(d) < 0 else int(d) for d in tensor.get("shape", {}).get("dimensions", []))
    dtype, encoding = str(tensor["dtype"]), str(tensor.get("encoding", "none")).lower()
    if dtype not in DTYPES or encoding not in ("none", "zlib", "bytes"):
        why = f"a tensor of dtype {dtype[:40]}, encoding {encoding[:40]}, not read"
        return Feature(name, "unsupported", in_steps=in_steps, why=why)
    if dtype in ("string", "object"):
        if shape == ():
            return Feature(name, "bytes", in_steps=in_steps)
        return Feature(name, "unsupported", shape, in_steps=in_steps, why=f"text of shape {shape}, not read")
    unknown = shape.count(None)
    supported = unknown == 0 if encoding != "none" else unknown <= 1
    why = "" if supported else f"a tensor of shape {shape}, encoding {encoding}, not read"
    return Feature(name, "tensor" if supported else "unsupported", shape, dtype, encoding, in_steps, why)
