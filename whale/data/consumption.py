"""What a training run consumed, per dataset, planned against realised: the receipt that goes into its checkpoint."""

from typing import Protocol

import numpy as np

from whale.data.sampler import Draw, SegmentSampler
from whale.data.segments import SegmentConfig

Batch = dict[str, np.ndarray]
RECEIPT_CHUNK = 2**18


class Segments(Protocol):
    """What a loader needs to know of the data behind a plan."""

    def num_segments(self, dataset: str) -> int: ...

    def shards_digest(self, dataset: str) -> str: ...

    def segment_config(self, dataset: str) -> SegmentConfig: ...

    def fetch(self, draw: Draw) -> Batch: ...

    def describe(self, draw: Draw) -> str: ...

    def valid_frames(self, dataset: str, segments: np.ndarray, indices: np.ndarray) -> np.ndarray: ...


def consumption_receipt(sampler: SegmentSampler, segments: Segments, num_draws: int) -> dict:
    """Planned and realised consumption of draws [0, num_draws), counted from the draws themselves.

    Per dataset: segments and their share, valid (unpadded) frames and their share, effective epochs. The counts do not
    depend on ranks or on interruptions, because the draws do not.
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
    planned = {dataset.name: dataset for dataset in sampler.plan.datasets}
    rows = {
        name: {
            "raw_weight": planned[name].weight_raw,
            "planned_share": planned[name].per_block / sampler.plan.block,
            "segments": int(drawn[number]),
            "segment_share": _share(drawn, number),
            "valid_frames": int(frames[number]),
            "valid_frame_share": _share(frames, number),
            "unique_segments": int(seen[number].sum()),
            "epochs": int(drawn[number]) / planned[name].num_segments,
        }
        for number, name in enumerate(names)
    }
    return {"plan_digest": sampler.plan.plan_digest, "num_draws": num_draws, "datasets": rows}


def _share(counts: np.ndarray, number: int) -> float:
    total = int(counts.sum())
    return int(counts[number]) / total if total else 0.0
