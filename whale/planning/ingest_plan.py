"""What `dvc repro ingest@NAME` would read and write, before it does: files, bytes, frames, hours, disk. An estimate.

Rates are those of benchmarks/ingest.py on one core of an AMD EPYC: 0.6 ms a frame whose bytes pass through; decoding,
resizing and encoding 3.6 ms for 480 x 640 source pixels, in proportion.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from whale.common.config import load_sections
from whale.common.errors import ConfigError, MissingInputError, WhaleError
from whale.data.ingest.ingest import IngestConfig
from whale.data.ingest.sources.location import SourceDescription, locate, read_description
from whale.data.ingest.sources.opening import open_source
from whale.data.spec.episode import RawEpisode
from whale.data.spec.needed_splits import require_splits
from whale.data.spec.spec import DatasetSpec, load_spec
from whale.data.workbench.draft.sample import first_episodes
from whale.planning.datasets import SPECS, TAR_OVERHEAD, Facts, jpeg_bytes, known_frames, load_facts

GIB, LOOKED_AT = 2**30, 12
PASS_SECONDS, SECONDS_PER_PIXEL = 0.6e-3, 3.6e-3 / (480 * 640)
INDEX_BYTES = 8  # a frame


@dataclass(frozen=True)
class IngestPlan:
    """None: unknown before the data are here. Bytes, except `files`, `frames`, `shards`, `hours` (one core)."""

    name: str
    raw: str
    raw_is_here: bool
    place: str
    files: int | None
    read_bytes: int | None
    frames: int | None
    frames_from: str
    out: str
    write_bytes: int | None
    shards: int | None
    units_done: int
    hours: float | None
    free_bytes: int
    fits: bool | None


def plan_ingest(name: str, root: Path) -> IngestPlan:
    """Raises ConfigError if the active profile has no such dataset, or asks for a split that its spec lacks."""
    params = load_sections(root / "params.yaml")
    if name not in params["datasets"]:
        raise ConfigError("no such dataset in the active profile", place="datasets", found=name,
                          expected=", ".join(sorted(params["datasets"])))  # fmt: skip
    entry, spec, facts = params["datasets"][name], load_spec(name, root / SPECS), load_facts(root)
    require_splits(spec, params)
    config = IngestConfig.parse(params["ingest"], file=root / "params.yaml", place="ingest")
    raw = root / entry["raw"]
    described = _described(raw, root)
    fact = facts.datasets.get(name)
    size = sum(file.bytes for file in described.files) if described else None
    read = size if size is not None else int(fact.gib * GIB) if fact and fact.gib else None
    frames, source = _frames(name, spec, facts, root / entry["raw"], root)
    written = None if frames is None else round(frames * _frame_bytes(config))
    free, here = shutil.disk_usage(root).free, root / described.link if described else raw
    return IngestPlan(
        name=name, raw=entry["raw"], raw_is_here=here.is_dir(), place=facts.place(name),
        files=len(described.files) if described else None, read_bytes=read, frames=frames, frames_from=source,
        out=f"artifacts/{params['profile']}/data/{entry['role']}/shards/{name}", write_bytes=written,
        shards=None if written is None else max(1, -(-written // config.shard_bytes)),
        units_done=len(list((root / "work" / params["profile"] / f"ingest@{name}").glob("*/fragments/?????.json"))),
        hours=None if frames is None else frames * _frame_seconds(spec, config) / 3600, free_bytes=free,
        fits=None if written is None else written < free,
    )  # fmt: skip


def _frames(name: str, spec: DatasetSpec, facts: Facts, raw: Path, root: Path) -> tuple[int | None, str]:
    if known := known_frames(name, spec, facts):
        return known
    try:
        return _extrapolated(spec, raw, root)
    except MissingInputError:
        return None, "until its frames are counted"
    except WhaleError as error:
        return None, f"{error.what}: {error.file}"


def _extrapolated(spec: DatasetSpec, raw: Path, root: Path) -> tuple[int | None, str]:
    """The first episodes' mean length times the episodes that the spec's splits take."""
    kind, dataset, version = spec.source.format, spec.source.dataset, spec.source.version
    source = open_source(kind, locate(raw, dataset, version, root, kind).directory, dataset, version)
    slices = [part for part in spec.source.slices().values() if part.split in source.splits]
    records = {part.split: sum(unit.records for unit in source.splits[part.split]) for part in slices}
    total = sum(part.count(records[part.split]) for part in slices)
    largest = max(records, key=lambda name: records[name], default=None)
    found = [] if largest is None else first_episodes(source, largest, LOOKED_AT, {"is_first"})
    lengths = [each.num_steps for each in found if isinstance(each, RawEpisode)]
    if not lengths:
        return None, "no episode can be read"
    return round(sum(lengths) / len(lengths) * total), f"from the first {len(lengths)} of {total} episodes"


def _described(raw: Path, root: Path) -> SourceDescription | None:
    if raw.suffix != ".json" or not raw.is_file():
        return None
    return read_description(raw)


def _frame_bytes(config: IngestConfig) -> float:
    return len(config.cameras) * (jpeg_bytes(config.resolution) + TAR_OVERHEAD + INDEX_BYTES)


def _frame_seconds(spec: DatasetSpec, config: IngestConfig) -> float:
    total = 0.0
    for role in config.cameras:
        height, width = spec.cameras[role].hw if role in spec.cameras else (0, 0)
        passes = (height, width) == (config.resolution, config.resolution) and spec.cameras[role].channels == "rgb"
        total += PASS_SECONDS if passes else PASS_SECONDS + height * width * SECONDS_PER_PIXEL
    return total
