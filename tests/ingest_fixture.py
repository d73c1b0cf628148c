"""A whole ingest of tiny datasets in one call."""

import hashlib
from pathlib import Path

from rlds_fixture import tiny_spec

from whale.data.ingest.finish import finish
from whale.data.ingest.ingest import IngestConfig, plan_tasks, process_source_shard

CONFIG = {"resolution": 16, "jpeg_quality": 95, "shard_bytes": 2**16, "max_bad": 0}
CONFIG |= {"quality": {"policy": "fail", "budget": 0}}


def config(**changes) -> IngestConfig:
    return IngestConfig.parse(CONFIG | changes, file="params.yaml")


def ingest(raw, tmp_path, spec=None, order=1, name="out", links=None, **changes) -> tuple[Path, dict]:
    """(folder, report); `order` -1 works through the source files backwards."""
    spec = spec or tiny_spec()
    work, out = tmp_path / f"{name}-work", tmp_path / name
    tasks = plan_tasks(raw, spec, config(**changes), work, links or tmp_path)
    for task in tasks[::order]:
        process_source_shard(task)
    return out, finish(tasks, work, out)


def digests(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
