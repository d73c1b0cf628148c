"""Collect Meta-World: the simulator and nine policies a task -> one RLDS dataset on disk."""

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

from whale.common.json_files import canonical_json, write_json
from whale.common.run import Run
from whale.common.stage_args import OF_ITEM, StageArgs
from whale.runtime.collecting.ahead import made_ahead
from whale.runtime.collecting.rlds_writer import SplitSource, encode, write_rlds
from whale.runtime.workers.process.execution import load_execution
from whale.sim.metaworld.chunk_files import read_chunk, write_chunk
from whale.sim.metaworld.collect import METADATA_SCHEMA, SPLITS, Chunk, MetaworldConfig, chunks, simulate
from whale.sim.metaworld.simulator.opengl import drawn_by

VERSION = "1.0.0"
DRAWN_BY = "drawn_by.json"  # names what decides the pixels; not a part of the dataset's folder, which ingest reads


class Args(StageArgs):
    """Tasks, policies and sizes; the entry's name is the dataset's."""

    collect_metaworld: Annotated[MetaworldConfig, OF_ITEM]
    seed: int


def run(args: Args, run: Run) -> None:
    """Chunks are simulated by processes, ahead of the writer; those of a killed run are not simulated again."""
    config, name = args.collect_metaworld, args.item or "metaworld"
    # Not in this process: Mesa and TensorFlow bring an LLVM each, and together they end it with a segmentation fault.
    with made_ahead(drawn_by, [()], workers=1) as found:
        (drawn,) = found
    # Another OpenGL may draw other pixels: what a killed run drew is gone on with under the same one only.
    work = run.work / hashlib.sha256(canonical_json(drawn).encode()).hexdigest()[:16]
    work.mkdir(exist_ok=True)
    calls = [(chunk, config, args.seed, work) for split in SPLITS for chunk in chunks(config, split)]
    done = sum(_path(work, chunk).is_file() for chunk, *_ in calls)
    workers = min(load_execution().collect_workers, len(calls))
    run.note(workers=workers, resumed_from=done, drawn_by=drawn)
    with run.compute():
        total = sum(map(config.total, SPLITS))
        with run.progress(total, "episodes") as progress, made_ahead(make_chunk, calls, workers) as made:
            splits = (
                SplitSource(split, config.total(split), config.files(split), _episodes(config, split, made))
                for split in SPLITS
            )
            outside = {"episode_metadata": METADATA_SCHEMA}
            write_rlds(run.out, name, VERSION, config.steps_schema(), outside, splits, progress.update)
    write_json(run.out / DRAWN_BY, drawn)
    for chunk, *_ in calls:
        _path(work, chunk).unlink()


def make_chunk(chunk: Chunk, config: MetaworldConfig, seed: int, work: Path) -> Path:
    """The file of a chunk; simulated only where it is not there yet."""
    path = _path(work, chunk)
    if not path.is_file():
        write_chunk(path, simulate(chunk, config, seed), partial(encode, config.image))
    return path


def _episodes(config: MetaworldConfig, split: str, made: Iterator[Path]) -> Iterator[dict]:
    for _ in chunks(config, split):
        yield from read_chunk(next(made))


def _path(work: Path, chunk: Chunk) -> Path:
    return work / f"{chunk.name}.npz"
