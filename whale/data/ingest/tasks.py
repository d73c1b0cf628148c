"""What an ingest has to do: its configuration, and one task per source file, planned before anything is read."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pydantic import Field

from whale.common.config import Config
from whale.common.errors import BadDataError, ConfigError, MismatchError
from whale.common.files import sha256_of_file
from whale.data.ingest.canonical.canonical import check_keys
from whale.data.ingest.quality.gate import QualityConfig
from whale.data.ingest.sources.location import DescribedFile, Location, locate
from whale.data.ingest.sources.opening import open_source
from whale.data.ingest.sources.source import ALL, ShardFile, Source, require_files
from whale.data.spec.spec import DatasetSpec, SplitSlice

RATE_TOLERANCE = 0.05
METADATA = (".json", ".jsonl", ".parquet")


class IngestConfig(Config):
    """resolution: pixels of a side; shard_bytes: a tar is closed before it grows beyond; max_bad: broken episodes
    accepted before the stage fails; cameras: roles to keep (primary is required, others where the spec has them);
    quality: what happens to episodes that can be read but are not what the spec says."""

    resolution: int = Field(ge=16, le=1024)
    jpeg_quality: int = Field(ge=1, le=100)
    shard_bytes: int = Field(ge=2**14)
    max_bad: int = Field(ge=0)
    cameras: list[str] = ["primary"]
    quality: QualityConfig


@dataclass(frozen=True)
class Assignment:
    """Records `start` to `stop` - 1 of the source split belong to our `split`, as far as `part` holds them."""

    split: str
    start: int
    stop: int
    part: SplitSlice

    def holds(self, ordinal: int) -> bool:
        return self.start <= ordinal < self.stop and self.part.holds(ordinal)


@dataclass(frozen=True)
class IngestTask:
    """One source file, with all that its outputs depend on; small enough to send to a worker."""

    directory: str
    source_split: str
    index: int
    shard: ShardFile
    assignments: tuple[Assignment, ...]
    spec: DatasetSpec
    config: IngestConfig
    work: str
    file_number: int
    expected: tuple[DescribedFile, ...]

    @property
    def fragment(self) -> Path:
        return Path(self.work) / "fragments" / f"{self.file_number:05d}.json"

    @property
    def progress(self) -> Path:
        """How many records are done, while the task runs."""
        return self.fragment.with_suffix(".progress")

    @property
    def train_actions(self) -> Path:
        return self.fragment.with_suffix(".actions.npy")

    @property
    def rows(self) -> Path:
        """Rows of episodes.parquet, with the detail of what was dropped."""
        return self.fragment.with_suffix(".rows.parquet")

    def split_of(self, ordinal: int) -> str | None:
        return next((a.split for a in self.assignments if a.holds(ordinal)), None)

    def splits(self) -> set[str]:
        """Those that a record of this file falls into."""
        first = self.shard.first_ordinal
        ordinals = range(first, first + self.shard.records)
        return {a.split for a in self.assignments if any(map(a.holds, ordinals))}

    def holds_train(self) -> bool:
        return "train" in self.splits()


def plan_tasks(
    raw: Path, spec: DatasetSpec, config: IngestConfig, work: Path, links: Path = Path()
) -> list[IngestTask]:
    """One task per source file that holds records of a split the spec names, in a fixed order.

    Raises MissingInputError (no such folder or file), BadDataError (another dataset or version, keys that
    features.json lacks, an empty split), ConfigError (no split train, no camera primary).
    """
    if "train" not in spec.source.splits or "primary" not in config.cameras:
        raise ConfigError(
            "ingest needs a split named train and the camera primary", place=f"spec {spec.name}",
            found=[list(spec.source.splits), config.cameras],
        )  # fmt: skip
    location, source, assignments = find_source(raw, spec, config.cameras, links)
    return [
        IngestTask(
            directory=str(source.directory), source_split=split, index=index, shard=shard,
            assignments=tuple(assignments[split]), spec=spec, config=config, work=str(work), file_number=number,
            expected=tuple(location.expected[file] for file in shard.files if file in location.expected),
        )
        for number, (split, index, shard) in enumerate(_files(source, assignments))
    ]  # fmt: skip


def find_source(
    raw: Path, spec: DatasetSpec, cameras: Collection[str], links: Path = Path()
) -> tuple[Location, Source, dict[str, list[Assignment]]]:
    """Where the data lie, what reads them, and which records of its splits go to which of ours; raises as `plan_tasks`.

    Checked: sizes and metadata as described, identity, features, rate, splits, and that the files of these splits are
    there. No episode is read.
    """
    _opened.cache_clear()  # what lies there now
    location = locate(raw, spec.source.dataset, spec.source.version, links, spec.source.format)
    source = _open(location.directory, spec)
    _check_metadata(location, source)
    _check_identity(source, spec)
    check_keys(spec, source.features, cameras, source.directory, source.left_out)
    _check_rate(source, spec)
    assignments = _assign(source, spec)
    require_files(source, [unit for split, _, unit in _files(source, assignments)])
    return location, source, assignments


def left_out(source: Source, spec: DatasetSpec) -> list[str]:
    """What the dataset holds and nobody takes, in words: splits without a name in the spec, what cannot be read."""
    named = {part.split for part in spec.source.slices().values()}
    unnamed = {split: sum(unit.records for unit in units) for split, units in source.splits.items()}
    told = [
        f"split {split} of the source: {records} episodes, not named in source.splits"
        for split, records in unnamed.items()
        if records and split not in named and split != ALL
    ]
    return told + [f"{name}: {' '.join(why.split())}" for name, why in source.left_out.items()]


def empty_splits(tasks: list[IngestTask]) -> list[str]:
    """Splits that the spec names and no record falls into."""
    held = set[str]().union(*(task.splits() for task in tasks))
    return sorted(tasks[0].spec.source.splits.keys() - held) if tasks else []


def source_of(task: IngestTask) -> Source:
    """The source of a task, opened once in each process; opened again if it has other units than planned."""
    source = _open(Path(task.directory), task.spec)
    if task.shard not in source.splits.get(task.source_split, [])[task.index : task.index + 1]:
        _opened.cache_clear()
        source = _open(Path(task.directory), task.spec)
    return source


def _open(directory: Path, spec: DatasetSpec) -> Source:
    return _opened(spec.source.format, directory, spec.source.dataset, spec.source.version)


@lru_cache(maxsize=1)
def _opened(kind: str, directory: Path, dataset: str, version: str) -> Source:
    return open_source(kind, directory, dataset, version)


def _check_metadata(location: Location, source: Source) -> None:
    """What says where episodes are is compared with its description too; data files are when they are read."""
    read_later = {file for units in source.splits.values() for unit in units for file in unit.files}
    for file in sorted(location.expected.keys() - read_later):
        if file.endswith(METADATA):
            location.check_sha256(file, sha256_of_file(location.directory / file))


def _check_identity(source: Source, spec: DatasetSpec) -> None:
    found = (source.name, source.version)
    if found != (spec.source.dataset, spec.source.version):
        raise MismatchError(
            "another dataset than the spec's", file=source.directory, found=" ".join(found),
            expected=f"{spec.source.dataset} {spec.source.version}", remedy="pin folder and version in the spec",
        )  # fmt: skip


def _check_rate(source: Source, spec: DatasetSpec) -> None:
    """The rate turns velocities into steps, and tells one robot's step from another's."""
    rate = source.rate
    if rate is not None and abs(spec.robot.control_hz / rate - 1.0) > RATE_TOLERANCE:
        raise MismatchError(
            "another rate than the spec's", file=source.directory, found=f"{rate:g} frames a second",
            place="robot.control_hz", expected=f"{spec.robot.control_hz:g}, as the spec says",
            remedy="correct robot.control_hz; if the files are wrong, correct them",
        )  # fmt: skip


def _assign(source: Source, spec: DatasetSpec) -> dict[str, list[Assignment]]:
    """Source split -> which of its records go to which of our splits."""
    assignments: dict[str, list[Assignment]] = {}
    for name, part in spec.source.slices().items():
        if part.split not in source.splits:
            raise BadDataError(
                "no such split", file=source.directory, place=f"source.splits.{name}", found=list(source.splits),
                expected=part.split,
            )  # fmt: skip
        total = sum(shard.records for shard in source.splits[part.split])
        if total == 0:
            raise BadDataError("a split without records", file=source.directory, place=part.split, found=0)
        assignments.setdefault(part.split, []).append(Assignment(name, *part.bounds(total), part))
    return assignments


def _files(source: Source, assignments: dict[str, list[Assignment]]) -> list[tuple[str, int, ShardFile]]:
    """Files with at least one assigned record; one that promises none (a writer's empty shard) is not opened."""
    return [
        (split, index, shard)
        for split in sorted(assignments)
        for index, shard in enumerate(source.splits[split])
        if shard.records
        and any(
            a.start < shard.first_ordinal + shard.records and shard.first_ordinal < a.stop for a in assignments[split]
        )
    ]
