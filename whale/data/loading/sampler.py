"""Sampling order: draw i of a mixture as a pure function of (plan, i), for any i, with no table of the data in memory.

Blocks of B draws hold exactly n_d draws of dataset d. The B slots of a block are laid out evenly (those of d at
(j + 1/2) / n_d of the block), the layout is turned by a keyed offset, and strata of 100 neighbouring slots are put in a
keyed random order: so shares are exact at block ends and within half a percent long before, which a free permutation of
the block is not (27 datasets: 1.2 points off after 2,000 draws). Draw i lies in block b = i div B; its slot decides the
dataset d and k = b n_d + rank of the slot within d. In epoch e = k div S_d of d the segment is perm(S_d; seed, d, e)(k
mod S_d): a permutation over ALL segments of d, each once per epoch. `perm` is a Feistel network with cycle walking: a
bijection that is computable at any index. The integer mixing is our own, so the order never depends on a library's
version. Memory: 16 bytes for each of the B slots.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from whale.common.config import Config
from whale.common.errors import MismatchError, MissingInputError
from whale.common.json_files import canonical_json, read_json

NUM_ROUNDS = 8
STRATUM = 100  # slots that are shuffled among themselves
CHUNK = 1024  # draws that are computed at once: some hundred array operations, however few they are for


class PlannedDataset(Config):
    """One dataset of a plan: n_d `per_block` of the block's draws, S_d `num_segments` to draw from."""

    name: str
    weight_raw: float
    weight_source: str
    share: float
    per_block: int = Field(gt=0)
    num_segments: int = Field(gt=0)
    shards_digest: str


class Plan(Config):
    """Everything the order depends on. `plan_digest` covers every other field."""

    order: Literal[2] = 2  # version of this module's arithmetic
    seed: int = Field(ge=0)
    block: int = Field(gt=0)
    split: str
    window: int = Field(gt=0)
    phases: int = Field(gt=0)
    provenance: str
    datasets: list[PlannedDataset] = Field(min_length=1)
    plan_digest: str = ""

    @model_validator(mode="after")
    def _block_is_full(self) -> Self:
        total = sum(dataset.per_block for dataset in self.datasets)
        if total != self.block:
            raise ValueError(f"per_block counts sum to {total}, not to the block of {self.block}")
        return self

    def sealed(self) -> "Plan":
        """The same plan with its digest filled in."""
        content = canonical_json(self.model_dump(mode="json", exclude={"plan_digest"}))
        return self.model_copy(update={"plan_digest": hashlib.sha256(content.encode()).hexdigest()})

    def reseeded(self, seed: int) -> "Plan":
        """The same shares in the order of another seed: what members of an ensemble draw."""
        return self.model_copy(update={"seed": seed}).sealed()

    def restricted(self, num_segments: Mapping[str, int], provenance: str) -> "Plan":
        """The same shares of datasets that have fewer segments to draw from: what a data fraction draws."""
        fewer = [each.model_copy(update={"num_segments": num_segments[each.name]}) for each in self.datasets]
        return self.model_copy(update={"datasets": fewer, "provenance": provenance}).sealed()

    @classmethod
    def load(cls, path: Path, name: str) -> "Plan":  # type: ignore[override]  # a plan is no section of params.yaml
        """Plan `name` of a `plan.json`; a plan whose digest does not fit its content is refused."""
        if not path.is_file():
            raise MissingInputError("no sampling plan", file=path, remedy="run the stage mix")
        plans = read_json(path)
        if name not in plans:
            raise MissingInputError("no such plan", file=path, found=", ".join(sorted(plans)), expected=name)
        plan = cls.parse(plans[name], file=path, place=name)
        if plan.sealed().plan_digest != plan.plan_digest:
            raise MismatchError("plan and digest differ", file=path, place=name, remedy="run the stage mix again")
        return plan


def single_dataset_plan(
    name: str, num_segments: int, seed: int, *, window: int, phases: int, shards_digest: str, split: str = "train"
) -> Plan:
    """The plan of a stage that trains on one dataset only: its segments epoch after epoch."""
    dataset = PlannedDataset(
        name=name,
        weight_raw=1.0,
        weight_source="single dataset",
        share=1.0,
        per_block=num_segments,
        num_segments=num_segments,
        shards_digest=shards_digest,
    )
    return Plan(
        seed=seed,
        block=num_segments,
        split=split,
        window=window,
        phases=phases,
        provenance="single dataset",
        datasets=[dataset],
    ).sealed()


@dataclass(frozen=True)
class Draw:
    """Global sample `index`, and the segment (a number within `dataset`) that it trains on."""

    index: int
    dataset: str
    segment: int


class SegmentSampler:
    """Random access to the endless sequence of draws of a plan."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.names = [dataset.name for dataset in plan.datasets]
        self._per_block = np.array([dataset.per_block for dataset in plan.datasets], np.uint64)
        self._num_segments = np.array([dataset.num_segments for dataset in plan.datasets], np.uint64)
        self._slot_dataset, self._slot_rank = spread_slots([dataset.per_block for dataset in plan.datasets])
        # Keyed by name, so that adding a dataset does not reshuffle the others.
        self._dataset_keys = np.array([text_key(f"segments/{name}") for name in self.names], np.uint64)
        self._seed_key = mix(np.uint64(plan.seed % 2**64))
        self._chunk = lru_cache(maxsize=2)(self._draws_of_chunk)

    def arrays(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Dataset numbers and segment numbers (int64 each) of draws start..stop-1."""
        index = np.arange(start, stop, dtype=np.uint64)
        block, position = np.divmod(index, np.uint64(self.plan.block))
        block_key = combine(combine(self._seed_key, text_key("block")), block)
        slot = self._slots(position, block_key)
        dataset = self._slot_dataset[slot]
        per_block = self._per_block[dataset]
        rank = self._slot_rank[slot]
        epoch, within = np.divmod(block * per_block + rank, self._num_segments[dataset])
        key = combine(combine(self._seed_key, self._dataset_keys[dataset]), epoch)
        segment = permute(within, self._num_segments[dataset], key)
        return dataset.astype(np.int64), segment.astype(np.int64)

    def _slots(self, position: np.ndarray, block_key: np.ndarray) -> np.ndarray:
        """Slot of the layout at each position of its block."""
        block = np.uint64(self.plan.block)
        stratum, within = np.divmod(position, np.uint64(STRATUM))
        first = stratum * np.uint64(STRATUM)
        shuffled = first + permute(within, np.minimum(np.uint64(STRATUM), block - first), combine(block_key, stratum))
        turn = combine(block_key, text_key("turn")) % block
        return (shuffled + turn) % block

    def draws(self, start: int, stop: int) -> list[Draw]:
        """Draws start..stop-1; a pure function of the plan."""
        found: list[Draw] = []
        for number in range(start // CHUNK, -(-stop // CHUNK)):
            first = number * CHUNK
            found += self._chunk(number)[max(0, start - first) : stop - first]
        return found

    def _draws_of_chunk(self, number: int) -> list[Draw]:
        first = number * CHUNK
        pairs = zip(*(each.tolist() for each in self.arrays(first, first + CHUNK)), strict=True)
        return [Draw(first + i, self.names[dataset], segment) for i, (dataset, segment) in enumerate(pairs)]


def rank_slice(step: int, global_batch: int, rank: int, world_size: int) -> range:
    """The global sample indices of one rank's part of a step."""
    size = global_batch // world_size
    start = step * global_batch + rank * size
    return range(start, start + size)


def spread_slots(per_block: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Dataset (int64) and rank within it (uint64) of every slot of a block: slot j of n lies at (j + 1/2) / n."""
    datasets = np.repeat(np.arange(len(per_block)), per_block)
    ranks = np.concatenate([np.arange(count) for count in per_block])
    places = (ranks + 0.5) / np.asarray(per_block, np.float64)[datasets]
    order = np.lexsort((datasets, places))
    return datasets[order], ranks[order].astype(np.uint64)


def permute(index: np.ndarray, size: np.ndarray, key: np.ndarray) -> np.ndarray:
    """perm(size; key)(index), element by element; all uint64, index < size.

    A Feistel network permutes the smallest 4^h >= size; values beyond `size` walk on along their cycle until they fall
    back, which they do because the cycle started inside.
    """
    num_bits = np.frexp((size - np.uint64(1)).astype(np.float64))[1]  # bit length, exact below 2^53
    half = np.maximum(1, (num_bits + 1) // 2).astype(np.uint64)
    value = _feistel(index, half, key)
    outside = np.flatnonzero(value >= size)
    while len(outside):
        value[outside] = _feistel(value[outside], half[outside], key[outside])
        outside = outside[value[outside] >= size[outside]]
    return value


def _feistel(value: np.ndarray, half: np.ndarray, key: np.ndarray) -> np.ndarray:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = value >> half, value & mask
    for round_number in range(1, NUM_ROUNDS + 1):
        round_key = mix(key + np.uint64(round_number))
        left, right = right, left ^ (mix(round_key ^ right) & mask)
    return (left << half) | right


def mix(bits: np.ndarray | np.uint64) -> np.ndarray:
    """Scramble 64 bits (the finalizer of SplitMix64, a bijection)."""
    value: np.ndarray = np.atleast_1d(np.asarray(bits, np.uint64))  # of scalars numpy reports the wanted overflow
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def combine(key: np.ndarray, value: np.ndarray | np.uint64) -> np.ndarray:
    """A new key from a key and a number; order matters."""
    return mix(mix(key + np.uint64(0x9E3779B97F4A7C15)) ^ np.asarray(value, np.uint64))


def text_key(text: str) -> np.uint64:
    """64 bits that stand for a name."""
    return np.uint64(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little"))
