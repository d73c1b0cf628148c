"""Write episodes as an RLDS dataset on disk, through TensorFlow Datasets (imported for writing here only).

TFDS serialises a protobuf map in another order in every process; the serializer below fixes the order, so that equal
episodes give equal bytes in every file.

A schema is a nested mapping whose leaves are strings, as in whale/sim/fleet/robots.py: `float32[7]`, `bool[]`,
`int32[512]`, `text`, `jpeg[64,64,3]`, `png[96,96,3]`; `image[64,64,3]`, a JPEG of which features.json says no encoding;
`float32[7]:zlib`, packed step by step. Images come as uint8 (T, H, W, 3) arrays and are encoded here, in the channel
order they have, or as a list of bytes that `encode` made elsewhere: TFDS sees finished bytes only, so that no second
encoder has a say.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from whale.common.errors import BadDataError
from whale.data.storage import images
from whale.runtime.workers.process import environment

LEAF = re.compile(r"(?P<kind>[a-z0-9]+)(\[(?P<shape>[0-9,]*)\])?(:(?P<encoding>zlib))?")
Schema = Mapping[str, Any]
Episode = Mapping[str, Any]  # {"steps": {name: (T, ...) array or list of T str, nested}, other features of `outside`}


@dataclass(frozen=True)
class SplitSource:
    """What goes into one split: `num_episodes` are taken from `episodes` in order, spread evenly over the shards."""

    name: str
    num_episodes: int
    num_shards: int
    episodes: Iterable[Episode]


def write_rlds(
    directory: Path,
    name: str,
    version: str,
    steps: Schema,
    outside: Schema,
    splits: Iterable[SplitSource],
    done: Callable[[], object] = lambda: None,
    file_names: str | None = None,
) -> Path:
    """Write `directory/name/version/...` and return that folder; `done` is called after each episode.

    outside: features of the episode beside its steps, e.g. {"episode_metadata": {...}}; file_names: a template of
    TFDS's for the names of files, e.g. "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}"; its own by default.

    Raises BadDataError for an episode that does not fit the schema and for a split with too few or too many episodes.
    """
    environment.apply()
    import tensorflow_datasets as tfds

    folder = directory / name / version
    folder.mkdir(parents=True)
    features = tfds.features.FeaturesDict({"steps": tfds.features.Dataset(_features(steps)), **_features(outside)})
    template = tfds.core.ShardedFileTemplate(folder, dataset_name=name, filetype_suffix="tfrecord", template=file_names)
    infos = [_write_split(split, steps, features, template, done) for split in splits]
    tfds.folder_dataset.write_metadata(
        data_dir=folder, features=features, split_infos=infos, filename_template=template, check_data=False
    )
    return folder


def _write_split(split: SplitSource, steps: Schema, features, template, done: Callable[[], object]):
    """All shards of one split; returns its SplitInfo. Shard i ends at round(n (i + 1) / shards), as in TFDS."""
    from tensorflow_datasets import core
    from tensorflow_datasets.core import file_adapters, writer

    template = template.replace(split=split.name)
    bounds = [round(split.num_episodes * shard / split.num_shards) for shard in range(split.num_shards + 1)]
    lengths = np.diff(bounds).tolist()
    if min(lengths) < 1:
        raise BadDataError(
            "a shard would be empty",
            place=split.name,
            found=f"{split.num_episodes} episodes, {split.num_shards} shards",
        )
    episodes, sizes = iter(split.episodes), []
    output = writer.ExampleWriter(file_format=file_adapters.FileFormat.TFRECORD)
    serialize = _serializer(features)
    for shard, length in enumerate(lengths):
        records = [serialize(_encoded(episode, steps, done)) for episode in islice(episodes, length)]
        if len(records) != length:
            found = bounds[shard] + len(records)
            raise BadDataError("too few episodes", place=split.name, found=found, expected=split.num_episodes)
        path = template.sharded_filepath(shard_index=shard, num_shards=split.num_shards)
        output.write(path, enumerate(records, start=bounds[shard]))
        sizes += [len(record) for record in records]
    if (surplus := sum(1 for _ in episodes)) > 0:
        found = split.num_episodes + surplus
        raise BadDataError("too many episodes", place=split.name, found=found, expected=split.num_episodes)
    return core.SplitInfo(name=split.name, shard_lengths=lengths, num_bytes=sum(sizes), filename_template=template)


def _serializer(features) -> Callable[[Any], bytes]:
    """Episode -> tf.Example bytes, the protobuf's map in sorted order."""
    from tensorflow_datasets.core.example_serializer import ExampleSerializer

    serializer = ExampleSerializer(features.get_serialized_info())

    def serialize(episode: Any) -> bytes:
        return serializer.get_tf_example(features.encode_example(episode)).SerializeToString(deterministic=True)

    return serialize


def _features(schema: Schema) -> dict[str, Any]:
    """The schema's tree as TFDS features."""
    import tensorflow_datasets as tfds

    tree: dict[str, Any] = {}
    for name, leaf in schema.items():
        if isinstance(leaf, Mapping):
            tree[name] = _features(leaf)
            continue
        kind, shape = parse_leaf(leaf)
        if kind == "text":
            tree[name] = tfds.features.Text()
        elif kind in ENCODERS:
            named = kind if kind != "image" else None
            tree[name] = tfds.features.Image(shape=shape, dtype=np.uint8, encoding_format=named)
        else:
            encoding = "zlib" if leaf.endswith(":zlib") else "none"
            tree[name] = tfds.features.Tensor(shape=shape, dtype=np.dtype(kind), encoding=encoding)
    return tree


def parse_leaf(leaf: str) -> tuple[str, tuple[int, ...]]:
    """`float32[7]` -> ("float32", (7,)); `text` -> ("text", ())."""
    match = LEAF.fullmatch(leaf)
    if match is None:
        raise BadDataError("not a feature", found=leaf, expected="float32[7], bool[], text, jpeg[64,64,3], ...")
    return match["kind"], tuple(int(size) for size in (match["shape"] or "").split(",") if size)


def _encoded(episode: Episode, schema: Schema, done: Callable[[], object]) -> dict[str, Any]:
    """The episode as TFDS wants it: a list of steps, images as finished bytes."""
    num_steps = len(episode["steps"]["is_first"])
    columns = _columns(episode["steps"], schema, num_steps, "steps")
    done()
    return {**episode, "steps": [_at(columns, t) for t in range(num_steps)]}


def _columns(values: Mapping, schema: Schema, num_steps: int, place: str) -> dict[str, Any]:
    """The schema's tree with a sequence of num_steps values at each leaf, checked."""
    if set(values) != set(schema):
        raise BadDataError("other features than the schema", place=place, found=sorted(values), expected=sorted(schema))
    return {name: _column(values[name], leaf, num_steps, f"{place}/{name}") for name, leaf in schema.items()}


def _column(values: Any, leaf: Any, num_steps: int, place: str) -> Any:
    if isinstance(leaf, Mapping):
        return _columns(values, leaf, num_steps, place)
    kind, shape = parse_leaf(leaf)
    if kind == "text":
        _expect(len(values), num_steps, place)
        return list(values)
    if kind in ENCODERS and isinstance(values, list):  # encoded already, by whoever drew them
        _expect(len(values), num_steps, place)
        return values
    _expect(values.shape, (num_steps, *shape), place)
    _expect(str(values.dtype), "uint8" if kind in ENCODERS else kind, place)
    return [encode(kind, image) for image in values] if kind in ENCODERS else values


def _at(columns: Mapping[str, Any], t: int) -> dict[str, Any]:
    return {name: _at(each, t) if isinstance(each, Mapping) else each[t] for name, each in columns.items()}


def encode(kind: str, image_HWC: np.ndarray) -> bytes:
    """One uint8 RGB picture as "jpeg", "png" or "image", as a schema names it."""
    return ENCODERS[kind](image_HWC)


def _expect(found: object, expected: object, place: str) -> None:
    if found != expected:
        raise BadDataError("an episode does not fit the schema", place=place, found=found, expected=expected)


def _jpeg(image_HWC: np.ndarray) -> bytes:
    return images.encode(image_HWC, images.JPEG_QUALITY)


ENCODERS: dict[str, Callable[[np.ndarray], bytes]] = {"jpeg": _jpeg, "png": images.encode_png, "image": _jpeg}
