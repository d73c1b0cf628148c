"""Collect: simulator and policies -> RLDS datasets on disk, one per robot of the fleet."""

from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path
from typing import Annotated

from whale.common.run import Run
from whale.common.stage_args import OF_ITEM, StageArgs
from whale.runtime.ahead import made_ahead
from whale.runtime.rlds_writer import Episode, SplitSource, write_rlds
from whale.runtime.workers.execution import load_execution
from whale.sim.fleet.collect import FleetConfig, drawn_robots, generate_episodes, num_episodes, num_shards, split_names
from whale.sim.fleet.robots import METADATA_SCHEMA, ROBOTS, SCHEMAS, Robot

VERSION = "1.0.0"


class Args(StageArgs):
    """How many episodes of which length."""

    collect: Annotated[FleetConfig, OF_ITEM]
    seed: int


def run(args: Args, run: Run) -> None:
    """Episodes are drawn while TensorFlow loads, and while it writes those before."""
    config = args.collect
    with run.compute():
        calls = [(robot, split, config, args.seed) for robot in drawn_robots(config) for split in split_names(robot)]
        total = sum(num_episodes(robot, split, config) for robot, split, *_ in calls)
        workers = min(load_execution().collect_workers, len(calls))
        run.note(workers=workers)
        with run.progress(total, "episodes") as progress, made_ahead(split_episodes, calls, workers) as made:
            for name, pairs in groupby(zip(calls, made, strict=True), key=lambda pair: pair[0][0].name):
                splits = ((split, episodes) for (_, split, *_), episodes in pairs)
                write_robot(run.out, ROBOTS[name], config, splits, progress.update)


def split_episodes(robot: Robot, split: str, config: FleetConfig, seed: int) -> list[Episode]:
    """All episodes of one split, in order."""
    return list(generate_episodes(robot, split, config, seed))


def write_robot(
    out: Path,
    robot: Robot,
    config: FleetConfig,
    splits: Iterable[tuple[str, list[Episode]]],
    done: Callable[[], object] = lambda: None,
) -> None:
    """Splits of one robot, each with its episodes, as the dataset `out/<robot>/1.0.0`."""
    sources = (
        SplitSource(
            name=split,
            num_episodes=num_episodes(robot, split, config),
            num_shards=num_shards(split, config),
            episodes=episodes,
        )
        for split, episodes in splits
    )
    write_rlds(out, robot.name, VERSION, SCHEMAS[robot.name], {"episode_metadata": METADATA_SCHEMA}, sources, done)
