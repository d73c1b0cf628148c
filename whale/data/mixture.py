"""The mixture: which share of the draws each dataset gets, as a plan of whole numbers and a receipt of what it means.

Weights are what params.yaml says; they are normalised here and never asserted to sum to anything. A block of B draws
holds n_d = largest remainder of p_d B draws of dataset d, ties by name, the same in every block.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from pydantic import Field

from whale.common.config import Config
from whale.common.errors import ConfigError, nearest
from whale.data.loading.sampler import Plan, PlannedDataset, single_dataset_plan
from whale.data.segments.grid import SegmentConfig, SegmentIndex
from whale.data.spec.needed_splits import section
from whale.data.storage.shards import ShardSet

__all__ = ["DatasetSegments", "MixConfig", "Plan", "dynamics_plan", "pretrain_plan", "receipt", "single_dataset_plan"]


class Weight(Config):
    """`source` says where the number comes from: a paper's table, somebody's code, a choice of ours."""

    weight: float = Field(gt=0)
    source: str = Field(min_length=1)


class DynamicsSubset(Config):
    """The datasets the dynamics model is trained on, weighted among themselves as in the whole mixture."""

    datasets: list[str] = Field(min_length=1)
    provenance: str = Field(min_length=1)


class MixConfig(Config):
    """Section `mix`. `block`: B, draws after which the shares are exact; `draws`: what the receipt is computed for."""

    weights: dict[str, Weight] = Field(min_length=1)
    dynamics: DynamicsSubset
    block: int = Field(default=10_000, gt=0)
    draws: int = Field(default=10_000, gt=0)


@dataclass(frozen=True)
class DatasetSegments:
    """What a plan needs to know of a dataset: S_d segments, their unpadded frames, and the digest of its shards."""

    num_segments: int
    num_frames: int
    num_episodes: int
    shards_digest: str

    @classmethod
    def count(cls, shards: ShardSet, split: str, segments: SegmentConfig) -> "DatasetSegments":
        """Count the grid's segments over the episodes of a split."""
        rows = shards.episodes(split)
        index = SegmentIndex(rows.num_steps, segments)
        frames = int(index.num_frames().sum(dtype=np.int64))
        return cls(index.num_segments, frames, len(rows), shards.digest)


def pretrain_plan(
    config: MixConfig, segments: SegmentConfig, found: Mapping[str, DatasetSegments], *, seed: int, split: str = "train"
) -> Plan:
    """Plan over all datasets. Raises ConfigError if weights and shards do not name the same ones."""
    _require_same_names(config.weights, found)
    provenance = "; ".join(sorted({weight.source for weight in config.weights.values()}))
    return _plan(config, sorted(config.weights), segments, found, seed, split, provenance)


def dynamics_plan(
    config: MixConfig, segments: SegmentConfig, found: Mapping[str, DatasetSegments], *, seed: int, split: str = "train"
) -> Plan:
    """Plan over the datasets of `mix.dynamics`."""
    _require_same_names(config.weights, found)
    names = config.dynamics.datasets
    for name in names:
        if name not in config.weights:
            raise ConfigError("no weight for a dataset", place="mix.dynamics.datasets", found=name,
                              expected=nearest(name, config.weights))  # fmt: skip
    if len(set(names)) != len(names):
        raise ConfigError("a dataset is named twice", place="mix.dynamics.datasets", found=", ".join(names))
    return _plan(config, sorted(names), segments, found, seed, split, config.dynamics.provenance)


def normalized(weights: Mapping[str, float]) -> dict[str, Fraction]:
    """Shares that sum to 1 exactly: binary fractions, so no rounding depends on the order of addition."""
    total = sum(Fraction(weight) for weight in weights.values())
    return {name: Fraction(weight) / total for name, weight in weights.items()}


def largest_remainder(shares: Mapping[str, Fraction], block: int) -> dict[str, int]:
    """Whole numbers that sum to `block`: each share rounded down, the rest to the largest remainders, ties by name."""
    counts = {name: int(share * block) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: (counts[name] - shares[name] * block, name))
    for name in by_remainder[: block - sum(counts.values())]:
        counts[name] += 1
    return counts


def receipt(plan: Plan, found: Mapping[str, DatasetSegments], num_draws: int) -> dict[str, Any]:
    """What `num_draws` draws of a plan are expected to consume, per dataset; segments and frames are expectations."""
    segments = {d.name: num_draws * d.per_block / plan.block for d in plan.datasets}
    frames = {d.name: segments[d.name] * found[d.name].num_frames / d.num_segments for d in plan.datasets}
    rows = {
        dataset.name: {
            "raw_weight": dataset.weight_raw,
            "weight_source": dataset.weight_source,
            "normalized_share": dataset.share,
            "planned_share": dataset.per_block / plan.block,
            "draws_per_block": dataset.per_block,
            "num_episodes": found[dataset.name].num_episodes,
            "num_segments": dataset.num_segments,
            "expected_segments": segments[dataset.name],
            "expected_frames": frames[dataset.name],
            "expected_frame_share": frames[dataset.name] / sum(frames.values()),
            "expected_epochs": segments[dataset.name] / dataset.num_segments,
        }
        for dataset in plan.datasets
    }
    return {
        "plan_digest": plan.plan_digest,
        "provenance": plan.provenance,
        "num_draws": num_draws,
        "block": plan.block,
        "datasets": rows,
        "absent": sorted(set(found) - set(rows)),
    }


def _plan(
    config: MixConfig,
    names: list[str],
    segments: SegmentConfig,
    found: Mapping[str, DatasetSegments],
    seed: int,
    split: str,
    provenance: str,
) -> Plan:
    shares = normalized({name: config.weights[name].weight for name in names})
    counts = largest_remainder(shares, config.block)
    _require_drawable(counts, shares, found, config.block)
    datasets = [
        PlannedDataset(
            name=name,
            weight_raw=config.weights[name].weight,
            weight_source=config.weights[name].source,
            share=float(shares[name]),
            per_block=counts[name],
            num_segments=found[name].num_segments,
            shards_digest=found[name].shards_digest,
        )
        for name in names
    ]
    return Plan(
        seed=seed,
        block=config.block,
        split=split,
        window=segments.window,
        phases=segments.phases,
        provenance=provenance,
        datasets=datasets,
    ).sealed()


def missing_weight(name: str, params: Mapping[str, Any]) -> ConfigError | None:
    """What is wrong if `params` pretrain on a dataset that they give no weight: told before it is ingested."""
    role = section(section(params, "datasets"), name).get("role")
    if role != "pretrain" or name in section(section(params, "mix"), "weights"):
        return None
    return ConfigError(
        "a pretraining dataset without a weight", file="params.yaml", place="mix.weights", found=f"no {name}",
        expected=f"{name}: {{weight: 1.0, source: ours}}", remedy="add it, or take the dataset out of `datasets`",
    )  # fmt: skip


def _require_same_names(weights: Mapping[str, Weight], found: Mapping[str, DatasetSegments]) -> None:
    for name in sorted(set(weights) - set(found)):
        raise ConfigError("a weight without shards", file="params.yaml", place=f"mix.weights.{name}",
                          expected=nearest(name, found), remedy="ingest the dataset, or remove its weight")  # fmt: skip
    for name in sorted(set(found) - set(weights)):
        remove = f"rm -r artifacts/PROFILE/data/pretrain/shards/{name}"
        raise ConfigError(
            "shards without a weight", file="params.yaml", place="mix.weights", found=f"shards of {name}",
            expected=f"{name}: {{weight: 1.0, source: ours}}",
            remedy=f"add a weight; or, where the dataset was removed, `{remove}`, too (DVC's cache still has them)",
        )  # fmt: skip


def _require_drawable(
    counts: Mapping[str, int], shares: Mapping[str, Fraction], found: Mapping[str, DatasetSegments], block: int
) -> None:
    for name in sorted(counts):
        if not counts[name]:
            raise ConfigError("a weight too small to be drawn", place=f"mix.weights.{name}",
                              found=f"{float(shares[name]) * block:.3g} of a block of {block} draws",
                              remedy="set a larger `mix.block`, or remove the dataset")  # fmt: skip
        if not found[name].num_segments:
            raise ConfigError("a dataset without segments", place=f"mix.weights.{name}",
                              remedy="its episodes have fewer than two frames: remove it")  # fmt: skip
