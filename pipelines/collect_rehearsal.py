"""Collect a rehearsal: simulated motion -> small RLDS datasets with the real schema of each named one."""

from itertools import groupby
from pathlib import Path
from typing import Annotated

from whale.common.run import Run
from whale.common.stage_args import OF_ITEM, StageArgs
from whale.runtime.collecting.ahead import made_ahead
from whale.runtime.collecting.rlds_writer import Episode, SplitSource, encode, write_rlds
from whale.runtime.workers.process.execution import load_execution
from whale.sim.rehearsal.checks import require_sound
from whale.sim.rehearsal.collect import RehearsalConfig, generate_episodes
from whale.sim.rehearsal.schemas import Schema, features, load_schemas


class Args(StageArgs):
    """How the datasets look on disk; which of them, and how small."""

    schemas: Path
    collect_rehearsal: Annotated[RehearsalConfig, OF_ITEM]
    seed: int


def run(args: Args, run: Run) -> None:
    """Episodes are drawn by other processes while TensorFlow loads, and while it writes those before."""
    config = args.collect_rehearsal
    schemas = load_schemas(args.schemas, config.datasets)
    require_sound(schemas, args.schemas)
    with run.compute():
        calls = [(name, schemas[name], split, config, args.seed) for name in schemas for split in schemas[name].splits]
        total = sum(config.episodes(split) for _, _, split, *_ in calls)
        workers = min(load_execution().collect_workers, len(calls))
        run.note(workers=workers)
        with run.progress(total, "episodes") as progress, made_ahead(split_episodes, calls, workers) as made:
            for name, pairs in groupby(zip(calls, made, strict=True), key=lambda pair: pair[0][0]):
                sources = (
                    SplitSource(split, config.episodes(split), config.shards(split), episodes)
                    for (_, _, split, *_), episodes in pairs
                )
                schema = schemas[name]
                steps, outside = features(schema.all_steps()), features(schema.outside)
                write_rlds(
                    run.out, schema.dataset, schema.version, steps, outside, sources, progress.update, schema.file_names
                )


def split_episodes(name: str, schema: Schema, split: str, config: RehearsalConfig, seed: int) -> list[Episode]:
    """All episodes of one split, in order."""
    return list(generate_episodes(name, schema, split, config, seed, encode))
