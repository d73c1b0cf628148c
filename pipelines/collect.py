"""Collect: simulator and policies -> RLDS datasets on disk, one per robot of the fleet."""

from collections.abc import Callable, Iterator
from pathlib import Path

from whale.config import load_seed, stage_args
from whale.runtime.ahead import made_ahead
from whale.runtime.guard.stage import stage
from whale.runtime.rlds_writer import Episode, SplitSource, write_rlds
from whale.sim.fleet.collect import FleetConfig, generate_episodes, num_episodes, num_shards, robots, split_names
from whale.sim.fleet.robots import METADATA_SCHEMA, SCHEMAS, Robot

VERSION = "1.0.0"
DRAWING = 2  # processes


def main() -> None:
    args = stage_args("out", doc=__doc__)
    config, seed = FleetConfig.load("collect", args.item), load_seed()
    with stage("collect", args, {"collect": config, "seed": seed}) as run, run.compute():
        calls = [(robot, split, config, seed) for robot in robots() for split in split_names(robot)]
        total = sum(num_episodes(robot, split, config) for robot, split, *_ in calls)
        run.note(workers=DRAWING)
        # Episodes are drawn while TensorFlow loads, and while it writes those before.
        with run.progress(total, "episodes") as progress, made_ahead(split_episodes, calls, DRAWING) as splits:
            for robot in robots():
                write_robot(run.out, robot, config, splits, progress.update)


def split_episodes(robot: Robot, split: str, config: FleetConfig, seed: int) -> list[Episode]:
    """All episodes of one split, in order."""
    return list(generate_episodes(robot, split, config, seed))


def write_robot(
    out: Path,
    robot: Robot,
    config: FleetConfig,
    splits: Iterator[list[Episode]],
    done: Callable[[], object] = lambda: None,
) -> None:
    """All splits of one robot as the dataset `out/<robot>/1.0.0`; their episodes are the next ones of `splits`."""
    sources = (
        SplitSource(
            name=split,
            num_episodes=num_episodes(robot, split, config),
            num_shards=num_shards(split, config),
            episodes=next(splits),
        )
        for split in split_names(robot)
    )
    write_rlds(out, robot.name, VERSION, SCHEMAS[robot.name], METADATA_SCHEMA, sources, done)


if __name__ == "__main__":
    main()
