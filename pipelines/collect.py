"""Collect: simulator and policies -> RLDS datasets on disk, one per robot of the fleet."""

from collections.abc import Callable
from pathlib import Path

from whale.config import load_seed, stage_args
from whale.runtime.guard.stage import stage
from whale.runtime.rlds_writer import SplitSource, write_rlds
from whale.sim.fleet.collect import FleetConfig, generate_episodes, num_episodes, num_shards, robots, split_names
from whale.sim.fleet.robots import METADATA_SCHEMA, SCHEMAS, Robot

VERSION = "1.0.0"


def main() -> None:
    args = stage_args("out", doc=__doc__)
    config, seed = FleetConfig.load("collect", args.item), load_seed()
    with stage("collect", args, {"collect": config, "seed": seed}) as run, run.compute():
        total = sum(num_episodes(robot, split, config) for robot in robots() for split in split_names(robot))
        with run.progress(total, "episodes") as progress:
            for robot in robots():
                write_robot(run.out, robot, config, seed, progress.update)


def write_robot(
    out: Path, robot: Robot, config: FleetConfig, seed: int, done: Callable[[], object] = lambda: None
) -> None:
    """All splits of one robot as the dataset `out/<robot>/1.0.0`."""
    splits = (
        SplitSource(
            name=split,
            num_episodes=num_episodes(robot, split, config),
            num_shards=num_shards(split, config),
            episodes=generate_episodes(robot, split, config, seed),
        )
        for split in split_names(robot)
    )
    write_rlds(out, robot.name, VERSION, SCHEMAS[robot.name], METADATA_SCHEMA, splits, done)


if __name__ == "__main__":
    main()
