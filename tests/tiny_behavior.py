"""A tiny dataset of two tasks and three policies whose z is written by hand: a function of who acts."""

from pathlib import Path

import numpy as np
import tiny_models
from tiny_shards import write_tiny_shards

from whale.data.segments.actions import ActionNormalizer
from whale.data.segments.grid import SegmentConfig
from whale.data.segments.token_shards import ZSet, write_manifest
from whale.data.storage.shards import ShardSet
from whale.evaluation.behavior.measurement import EvaluateBehaviorConfig
from whale.evaluation.behavior.segments import Source
from whale.runtime.maps.segment_maps import Embedder, embed_shard, grid_of_shards, shard_tasks

TASKS, POLICIES, EPISODES = ("push", "pull"), ("expert", "noisy", "random"), 24
ABOUT = [{"task": TASKS[number % 2], "policy": POLICIES[number // 2 % 3]} for number in range(EPISODES)]
SEGMENTS = SegmentConfig(window=4, phases=2)
VALUES = {
    "seed": 0, "splits": ["train"], "segments": 48, "per_episode": 2, "folds": 4, "inverse_penalty": 0.1,
    "perplexity": 8.0, "resamples": 100,
}  # fmt: skip


def config(**changes) -> EvaluateBehaviorConfig:
    return EvaluateBehaviorConfig.parse(VALUES | changes, file="params.yaml", place="evaluate_behavior.cups")


def embedded(frames: np.ndarray, _: np.ndarray) -> np.ndarray:
    """Log-probabilities [S, T, 16, 16]: the first category says the policy. tiny_shards paints the episode green."""
    ordinal = np.round(frames[:, 0, 0, 0, 1] / 10).astype(int)
    found = np.full((len(frames), frames.shape[1], 16, 16), np.log(0.01), np.float16)
    for place, number in enumerate(ordinal):
        found[place, :, 0, POLICIES.index(ABOUT[number % EPISODES]["policy"])] = np.log(0.85)
    return found


def write_dataset(root: Path, about: list[dict], length: int = 14) -> Path:
    """Shards and z of episodes of `length` frames: 14 hold three whole segments of phase 0."""
    shards = write_tiny_shards(root / "shards", "cups", [length] * len(about), about=about, green=10)
    embedder = Embedder(embedded, ActionNormalizer.from_statistics(ShardSet.open(shards).statistics))
    (root / "z").mkdir()
    fragments = [embed_shard(embedder, task) for task in shard_tasks(shards, root / "z", SEGMENTS)]
    write_manifest(root / "z", "z", "cups", grid_of_shards(shards, SEGMENTS), "0" * 64, fragments)
    return root


def opened(root: Path) -> Source:
    return Source(ShardSet.open(root / "shards"), ZSet.open(root / "z"), tiny_models.behavior())
