"""Collect: simulator and policies -> RLDS datasets on disk, one per robot of the fleet."""

from collections.abc import Callable, Iterable
from itertools import chain, islice
from pathlib import Path
from typing import Annotated

from whale.common.run import Run
from whale.common.stage_args import OF_ITEM, StageArgs
from whale.runtime.collecting.ahead import made_ahead
from whale.runtime.collecting.rlds_writer import Episode, SplitSource, write_rlds
from whale.runtime.workers.process.execution import load_execution
from whale.sim.fleet.collect import FleetConfig, drawn_robots, generate_episodes, num_episodes, num_shards, split_names
from whale.sim.fleet.robots import METADATA_SCHEMA, SCHEMAS, Robot

VERSION = "1.0.0"
PIECE = 32  # episodes that a process draws before it hands them on: 10 MB of frames


class Args(StageArgs):
    """How many episodes of which length."""

    collect: Annotated[FleetConfig, OF_ITEM]
    seed: int


def run(args: Args, run: Run) -> None:
    """Episodes are drawn while TensorFlow loads, and while it writes those before."""
    config = args.collect
    robots = drawn_robots(config)
    with run.compute():
        splits = [(robot, split, pieces(robot, split, config)) for robot in robots for split in split_names(robot)]
        calls = [(robot, split, config, args.seed, piece) for robot, split, cut in splits for piece in cut]
        total = sum(len(piece) for *_, piece in calls)
        workers = min(load_execution().collect_workers, len(calls))
        run.note(workers=workers)
        with run.progress(total, "episodes") as progress, made_ahead(drawn, calls, workers) as made:
            for robot in robots:
                episodes = (
                    (split, chain.from_iterable(islice(made, len(cut)))) for by, split, cut in splits if by is robot
                )
                write_robot(run.out, robot, config, episodes, progress.update)


def pieces(robot: Robot, split: str, config: FleetConfig) -> list[range]:
    """A split in pieces of PIECE episodes: what one process draws at a time."""
    count = num_episodes(robot, split, config)
    return [range(first, min(first + PIECE, count)) for first in range(0, count, PIECE)]


def drawn(robot: Robot, split: str, config: FleetConfig, seed: int, numbers: range) -> list[Episode]:
    """Episodes of these numbers, in order."""
    return list(generate_episodes(robot, split, config, seed, numbers=numbers))


def write_robot(
    out: Path,
    robot: Robot,
    config: FleetConfig,
    splits: Iterable[tuple[str, Iterable[Episode]]],
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
