"""RLDS datasets on disk without TensorFlow: <dataset>/<version>/{dataset_info.json, features.json, *.tfrecord-*}.

Folder, name and version are given; nothing is looked up by name, nothing in the files is imported or evaluated.
"""

import hashlib
import logging
import re
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from whale.common.boundary import told
from whale.common.errors import BadDataError
from whale.common.limits import EPISODE_STEPS
from whale.data.ingest.sources.arrays import pictures
from whale.data.ingest.sources.features import Feature, parse_features
from whale.data.ingest.sources.json_files import read_json
from whale.data.ingest.sources.source import ShardFile
from whale.data.ingest.sources.tf_example import ExampleError, parse_example
from whale.data.ingest.sources.tf_example import Feature as Stored
from whale.data.ingest.sources.tfrecord import FRAMING_BYTES, Record, TFRecordError, TFRecordFile
from whale.data.spec.episode import EpisodeError, RawEpisode, Rejected
from whale.data.storage.files import inside

REMEDY = "name the folder <dataset>/<version>"
DEFAULT_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
log = logging.getLogger(__name__)


class RldsSource:
    """One dataset version. Opening reads the two JSON files only; BadDataError names the file and the field.

    A file that is missing matters to whoever reads its split (`require_files`).
    """

    rate = columns = None

    def __init__(self, directory: Path):
        self.directory = Path(directory)
        self.info: dict[str, Any] = read_json(self.directory / "dataset_info.json", REMEDY)
        self.name, self.version = str(self.info.get("name")), str(self.info.get("version"))
        if self.info.get("fileFormat", "tfrecord") != "tfrecord":
            raise BadDataError(
                "file format not supported", file=self.directory / "dataset_info.json", place="fileFormat",
                found=self.info["fileFormat"], expected="tfrecord",
            )  # fmt: skip
        self.splits: dict[str, list[ShardFile]] = {}
        for split in self.info.get("splits", []):
            self.splits[str(split["name"])] = self._shard_files(split)

    @cached_property
    def declared(self) -> dict[str, Feature]:
        """Flattened name (without `steps/`) -> feature; `in_steps` tells step features from metadata."""
        path = self.directory / "features.json"
        return parse_features(read_json(path, REMEDY), str(path))

    @cached_property
    def features(self) -> dict[str, Feature]:
        """Those that can be read."""
        return {name: feature for name, feature in self.declared.items() if feature.kind != "unsupported"}

    @cached_property
    def left_out(self) -> dict[str, str]:
        return {name: feature.why for name, feature in self.declared.items() if feature.kind == "unsupported"}

    def read_shard(
        self, split: str, index: int, keys: Collection[str] | None = None, hashed: bool = True
    ) -> "ShardReader":
        """Iterate over the episodes of one file; `keys`: decode only these step features (None: all supported).

        A file is hashed as it is read, so `hashed` changes nothing here.
        """
        return ShardReader(self, self.splits[split][index], keys)

    def _shard_files(self, split: dict[str, Any]) -> list[ShardFile]:
        try:
            records = [int(count) for count in split.get("shardLengths", [])]
            template = split.get("filepathTemplate", DEFAULT_TEMPLATE)
            names = [self._file_name(template, split["name"], i, len(records)) for i in range(len(records))]
            num_bytes = int(split.get("numBytes", 0))
        except (KeyError, TypeError, ValueError) as error:
            place = f"splits.{split.get('name')}"
            file = self.directory / "dataset_info.json"
            raise BadDataError("dataset_info.json is malformed", file=file, place=place, found=str(error)) from None
        firsts = np.concatenate([[0], np.cumsum(records)]).tolist()
        shards = [ShardFile(*three, (three[0],)) for three in zip(names, records, firsts, strict=False)]
        self._check_bytes(str(split["name"]), shards, num_bytes)
        return shards

    def _file_name(self, template: str, split: str, index: int, total: int) -> str:
        tokens = {
            "DATASET": self.name, "SPLIT": split, "FILEFORMAT": "tfrecord", "SHARD_INDEX": f"{index:05d}",
            "NUM_SHARDS": f"{total:05d}", "SHARD_X_OF_Y": f"{index:05d}-of-{total:05d}",
        }  # fmt: skip
        name = re.sub(r"\{([A-Z_]+)\}", lambda match: tokens[match[1]], template)
        inside(self.directory, name)
        return name

    def _check_bytes(self, split: str, shards: list[ShardFile], num_bytes: int) -> None:
        paths = [self.directory / shard.file for shard in shards]
        if not all(path.is_file() for path in paths):
            return  # told by whoever reads them
        found = sum(path.stat().st_size for path in paths)
        expected = num_bytes + FRAMING_BYTES * sum(shard.records for shard in shards)
        if found != expected:  # only a hint: a cut file is found record by record
            log.warning("%s split %s: %d bytes on disk, dataset_info.json says %d", self.name, split, found, expected)


class ShardReader:
    """The records of one file in order, each a RawEpisode or a Rejected; exactly as many as promised.

    After a damaged frame the rest of the file is unreachable: every promised record there is Rejected, so read = kept +
    dropped still holds. More records than promised raise BadDataError. `files` is set at the end.
    """

    def __init__(self, source: RldsSource, shard: ShardFile, keys: Collection[str] | None):
        self.path, self.shard = source.directory / shard.file, shard
        self.files: dict[str, tuple[int, str]] = {}
        self._features = [f for f in source.features.values() if _is_wanted(f, keys)]

    def __iter__(self) -> Iterator[RawEpisode | Rejected]:
        index = 0
        with TFRecordFile(self.path) as records:
            while index < self.shard.records:
                outcome, stop = self._next(records, index)
                yield outcome
                index += 1
                if stop:
                    break
            else:
                self._require_end(records)
            self.files = {self.shard.file: (self.path.stat().st_size, records.sha256())}
        for rest in range(index, self.shard.records):
            yield Rejected("truncated", f"unreachable: {outcome_detail(outcome)}", self.shard.file, rest)

    def _next(self, records: TFRecordFile, index: int) -> tuple[RawEpisode | Rejected, bool]:
        """The next outcome, and whether the file is unreadable from here on."""
        try:
            record = next(records)
        except StopIteration:
            detail = f"the file ends after {index} records, dataset_info.json says {self.shard.records}"
            return Rejected("truncated", detail, self.shard.file, index, self.path.stat().st_size), True
        except TFRecordError as error:
            detail = f"{error.what} at byte {error.offset}"
            return Rejected(error.reason, detail, self.shard.file, index, error.offset), not error.skippable
        return self._episode(record, index), False

    def _episode(self, record: Record, index: int) -> RawEpisode | Rejected:
        digest = hashlib.sha256(record.payload).hexdigest()
        num_steps = 0
        try:
            stored = parse_example(record.payload)
            num_steps = _num_steps(stored)
            steps, metadata = self._decode(stored, num_steps)
        except Exception as error:  # of one record: those behind it can still be read
            detail = str(error) if isinstance(error, ExampleError | EpisodeError) else told(error)
            return Rejected(
                getattr(error, "reason", "decode_error"),
                detail,
                self.shard.file,
                index,
                record.offset,
                digest,
                num_steps,
            )
        return RawEpisode(steps, num_steps, metadata, self.shard.file, index, record.offset, digest)

    def _decode(self, stored: dict[str, Stored], num_steps: int) -> tuple[dict[str, Any], dict[str, Any]]:
        steps, metadata = {}, {}
        for feature in self._features:
            value = stored.get(feature.stored_name)
            if feature.in_steps:
                if value is None and feature.kind == "bytes":
                    continue  # a camera that an episode does not have; whoever needs it says so
                steps[feature.name] = pictures(feature.decode(value, num_steps))
            else:
                metadata[feature.name] = feature.decode(value, 1)[0]
        return steps, metadata

    def _require_end(self, records: TFRecordFile) -> None:
        try:
            extra = next(records, None)
        except TFRecordError as error:
            raise BadDataError("damaged bytes behind the last record", file=self.path, place=error.place) from None
        if extra is not None:
            raise BadDataError(
                "more records than dataset_info.json promises", file=self.path, place=f"byte {extra.offset}",
                expected=self.shard.records, remedy="dataset_info.json is of another version: download it again",
            )  # fmt: skip


def outcome_detail(outcome: RawEpisode | Rejected) -> str:
    return outcome.detail if isinstance(outcome, Rejected) else ""


def _is_wanted(feature: Feature, keys: Collection[str] | None) -> bool:
    return not feature.in_steps or keys is None or feature.name in keys


def _num_steps(stored: dict[str, Stored]) -> int:
    if "steps/is_first" not in stored:
        raise EpisodeError("missing_key", "steps/is_first is not in the record; the number of steps is its length")
    num_steps = len(stored["steps/is_first"])
    if num_steps > EPISODE_STEPS:
        raise EpisodeError("unsafe", f"{num_steps} steps, more than {EPISODE_STEPS}")
    return num_steps
