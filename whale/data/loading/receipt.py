"""What a training run consumed, per dataset: asked, normalised, expected, realised; and which rank took what.

The receipt goes into the checkpoint.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from whale.data.loading.sampler import Draw, SegmentSampler, rank_slice
from whale.data.segments.grid import SegmentConfig

Batch = dict[str, np.ndarray]
RECEIPT_CHUNK = 2**18
ALARM = 1.0e-3


class Segments(Protocol):
    """What a loader needs to know of the data behind a plan."""

    def num_segments(self, dataset: str) -> int: ...

    def shards_digest(self, dataset: str) -> str: ...

    def segment_config(self, dataset: str) -> SegmentConfig: ...

    def buffers(self, num_samples: int) -> Batch: ...

    def fetch(self, draws: Sequence[Draw], buffers: Batch | None = None) -> Batch: ...

    def describe(self, draw: Draw) -> str: ...

    def choice(self, dataset: str) -> dict[str, int | float]: ...

    def memory_bound(self) -> int: ...

    def valid_frames(self, dataset: str, segments: np.ndarray, indices: np.ndarray) -> np.ndarray: ...


def consumption_receipt(sampler: SegmentSampler, segments: Segments, num_draws: int) -> dict:
    """Expected and realised consumption of draws [0, num_draws), counted from the draws themselves.

    Per dataset: the weight asked for, its normalised share, the plan's share (what is expected), the realised share of
    segments and of valid (unpadded) frames, unique segments, effective epochs. `chi_square` holds the realised counts
    against the plan. The counts do not depend on ranks or on interruptions, because the draws do not.
    """
    names = sampler.names
    drawn = np.zeros(len(names), np.int64)
    frames = np.zeros(len(names), np.int64)
    seen = [np.zeros(dataset.num_segments, bool) for dataset in sampler.plan.datasets]
    for start in range(0, num_draws, RECEIPT_CHUNK):
        indices = np.arange(start, min(start + RECEIPT_CHUNK, num_draws))
        datasets, segment_numbers = sampler.arrays(int(indices[0]), int(indices[-1]) + 1)
        for number, name in enumerate(names):
            chosen = datasets == number
            drawn[number] += int(chosen.sum())
            seen[number][segment_numbers[chosen]] = True
            frames[number] += int(segments.valid_frames(name, segment_numbers[chosen], indices[chosen]).sum())
    expected = _expected_frame_shares(sampler, segments)
    planned = {dataset.name: dataset for dataset in sampler.plan.datasets}
    rows = {
        name: {
            "raw_weight": planned[name].weight_raw,
            "normalized_share": planned[name].share,
            "planned_share": planned[name].per_block / sampler.plan.block,
            "segments": int(drawn[number]),
            "segment_share": _share(drawn, number),
            "expected_frame_share": float(expected[number]),
            "valid_frames": int(frames[number]),
            "valid_frame_share": _share(frames, number),
            "unique_segments": int(seen[number].sum()),
            "epochs": int(drawn[number]) / planned[name].num_segments,
        }
        for number, name in enumerate(names)
    }
    planned_shares = [row["planned_share"] for row in rows.values()]
    return {
        "plan_digest": sampler.plan.plan_digest,
        "num_draws": num_draws,
        "chi_square": chi_square(drawn, planned_shares),
        "datasets": rows,
    }


def chi_square(counts: Sequence[int] | np.ndarray, shares: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """Do counts look as if drawn with the given shares? {"statistic", "degrees", "p", "alarm"} by Pearson's test.

    alarm: p < 1e-3, they do not. Counts in whole blocks follow the plan exactly: the statistic is 0 and p is 1.
    """
    from scipy.special import chdtrc  # takes 0.2 s, and one worker asks once, at the end

    observed = np.asarray(counts, np.float64)
    expected = np.asarray(shares, np.float64) * observed.sum()
    degrees = len(observed) - 1
    if degrees == 0 or observed.sum() == 0:
        return {"statistic": 0.0, "degrees": degrees, "p": 1.0, "alarm": False}
    statistic = float((np.square(observed - expected) / expected).sum())
    p = float(chdtrc(degrees, statistic))
    return {"statistic": statistic, "degrees": degrees, "p": p, "alarm": p < ALARM}


def rank_ledger(global_batch: int, world_size: int, num_steps: int) -> dict:
    """Which global samples each rank took in steps [0, num_steps): draws per rank, overlap and missing samples.

    Counted sample by sample from the slices that the loader takes, not from the formula that makes them equal.
    """
    taken = np.zeros(num_steps * global_batch, np.uint8)
    ranks = []
    for rank in range(world_size):
        slices = [rank_slice(step, global_batch, rank, world_size) for step in range(num_steps)]
        for part in slices:
            taken[part.start : part.stop] += 1
        ranks.append({"rank": rank, "draws": sum(map(len, slices))})
    overlap, missing = int((taken > 1).sum()), int((taken == 0).sum())
    return {"world_size": world_size, "ranks": ranks, "overlap": overlap, "missing": missing}


def _expected_frame_shares(sampler: SegmentSampler, segments: Segments) -> np.ndarray:
    """The plan's shares weighted with the mean valid frames of a dataset's segments."""
    means = []
    for dataset in sampler.plan.datasets:
        every = np.arange(min(dataset.num_segments, RECEIPT_CHUNK))
        means.append(float(segments.valid_frames(dataset.name, every, every).mean()))
    weighted = np.array([dataset.per_block for dataset in sampler.plan.datasets]) * np.array(means)
    return weighted / weighted.sum()


def _share(counts: np.ndarray, number: int) -> float:
    total = int(counts.sum())
    return int(counts[number]) / total if total else 0.0
