"""Which episodes a rehearsal has: sizes, seeds, lengths, and the faults that lie in the motion itself."""

import zlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from pydantic import Field, model_validator

from whale.common.config import Config
from whale.sim.rehearsal.errata import FEWEST_STEPS, IDLE, has_it, plant
from whale.sim.rehearsal.motion import Motion, wander
from whale.sim.rehearsal.recording import Encode, nested, record
from whale.sim.rehearsal.schemas import Schema

MAIN = "train"  # the split that has the shards; others of a source have a few episodes in one file


class RehearsalConfig(Config):
    """Which datasets of schemas.yaml, and how much of each; an episode records up to max_steps frames."""

    datasets: list[str] = Field(min_length=1)
    train_episodes: int = Field(gt=0)
    other_episodes: int = Field(gt=0)  # of each other split of a source
    min_steps: int = Field(ge=FEWEST_STEPS)
    max_steps: int = Field(ge=FEWEST_STEPS)
    train_shards: int = Field(gt=0)

    @model_validator(mode="after")
    def _sizes_fit(self):
        if self.min_steps > self.max_steps:
            raise ValueError("min_steps must not exceed max_steps")
        if self.train_shards > self.train_episodes:
            raise ValueError("a split needs at least one episode per shard")
        if len(set(self.datasets)) < len(self.datasets):
            raise ValueError(f"a dataset is named twice: {', '.join(self.datasets)}")
        return self

    def episodes(self, split: str) -> int:
        return self.train_episodes if split == MAIN else self.other_episodes

    def shards(self, split: str) -> int:
        return self.train_shards if split == MAIN else 1


def motions(name: str, schema: Schema, split: str, config: RehearsalConfig, seed: int) -> list[Motion]:
    """What the arm does in every episode of a split; depends on (seed, dataset, split, number) alone."""
    key = [seed, zlib.crc32(name.encode()), zlib.crc32(split.encode())]
    seeds = [np.random.SeedSequence([*key, number]) for number in range(config.episodes(split))]
    rng = np.random.default_rng([*key, len(seeds)])
    # Idle steps come on top, so that as much motion is left as elsewhere.
    longer = 1.0 / (1.0 - IDLE) if "idle" in schema.errata else 1.0
    lengths = np.rint(longer * rng.integers(config.min_steps, config.max_steps + 1, len(seeds))).astype(int).tolist()
    idle_BT = rng.uniform(size=(len(seeds), max(lengths))) < (IDLE if "idle" in schema.errata else 0.0)
    if schema.settles:
        idle_BT[:, 0] = True
    made = wander(seeds, lengths, schema.moves, schema.shut, idle_BT)
    failing = "unsuccessful" in schema.errata
    return [replace(motion, success=not (failing and has_it(motion.number))) for motion in made]


def generate_episodes(
    name: str, schema: Schema, split: str, config: RehearsalConfig, seed: int, encode: Encode
) -> Iterator[dict]:
    """The split's raw episodes in order, nested as the schema; pictures come encoded by `encode`."""
    for motion in motions(name, schema, split, config, seed):
        steps, outside = record(name, schema, motion, encode)
        plant(schema, motion.number, steps, encode)
        yield {"steps": nested(steps, schema.all_steps()), **nested(outside, schema.outside)}
