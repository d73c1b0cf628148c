"""From folders to loaders: what the training stages read, opened in the worker that needs it.

Pretraining draws from several datasets by the plan of `mix`; fine-tuning draws from one, epoch after epoch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from whale.common.json_files import read_json
from whale.data.loading.data_fraction import DataFraction
from whale.data.loading.loader import SegmentLoader, share_of_cores
from whale.data.loading.sampler import Draw, Plan, SegmentSampler, single_dataset_plan
from whale.data.loading.segment_reading import PixelSegments, TokenSegments
from whale.data.segments.actions import ActionNormalizer
from whale.data.segments.grid import SegmentConfig, open_each, spread
from whale.data.segments.token_shards import TokenSet, ZSet
from whale.data.storage.shards import ShardSet
from whale.training.loop.communicator import Communicator

MEAN_IMAGE_SEGMENTS = 64


class TrainingLoader(SegmentLoader):
    """A loader that can say where its samples come from."""

    def describe(self, samples: list[int]) -> list[str]:
        """`sample 7: <dataset, episode, frames>` for global sample indices."""
        draws = [self.sampler.draws(index, index + 1)[0] for index in samples]
        return [f"sample {draw.index}: {self.segments.describe(draw)}" for draw in draws]


@dataclass(frozen=True)
class PixelInputs:
    """Shards of one role (pretrain, with the plan of `mix`; finetune, `mix` is None).

    A training loader keeps `decoded_bytes` of decoded frames, in every worker; `noise_size`: numbers that a model draws
    with in each step; `history`: steps of a sample before its segment; `decode_threads` of a worker, "auto": its share
    of the cores.
    """

    shards: Path
    mix: Path | None
    segments: SegmentConfig
    resolution: int
    seed: int
    decoded_bytes: int = 0
    noise_size: int = 0
    history: int = 0
    decode_threads: int | Literal["auto"] = "auto"

    def statistics(self) -> dict[str, dict]:
        """Action statistics per dataset, from the train split."""
        if self.mix is not None:
            return read_json(self.mix / "statistics.json")
        return {name: shard_set.statistics for name, shard_set in open_each(self.shards, ShardSet.open).items()}

    def contracts(self) -> dict[str, dict]:
        """What an action means, per dataset."""
        return {name: shard_set.contract for name, shard_set in open_each(self.shards, ShardSet.open).items()}

    def loader(
        self, communicator: Communicator, batch_size: int, stream: str, kind: type[PixelSegments] = PixelSegments
    ) -> TrainingLoader:
        """Training batches of this worker; segment starts are jittered, noise is keyed by `stream`."""
        segments = self._segments("train", jitter=True, stream=stream, decoded_bytes=self.decoded_bytes, kind=kind)
        plan = Plan.load(self.mix / "plan.json", "pretrain") if self.mix is not None else None
        names = sorted(segments.shards)
        plan = plan or _single(segments, names, self.segments, self.seed)
        threads = share_of_cores(communicator.world_size) if self.decode_threads == "auto" else self.decode_threads
        return _loader(plan, segments, communicator, batch_size, threads)

    def held_out(self, split: str, num_segments: int, batch_size: int) -> list[Mapping[str, np.ndarray]]:
        """The same `num_segments` segments of `split` every time, spread evenly over datasets and episodes."""
        segments = self._segments(split, jitter=False, stream="held-out")
        names = sorted(segments.shards)
        draws: list[Draw] = []
        for place, name in enumerate(names):
            share = len(range(place, num_segments, len(names)))
            draws += [
                Draw(len(draws) + i, name, chosen)
                for i, chosen in enumerate(spread(range(segments.num_segments(name)), share))
            ]
        return [segments.fetch(draws[i : i + batch_size]) for i in range(0, len(draws), batch_size)]

    def mean_image(self) -> Tensor:
        """float32 [R, R, 3] in [0, 1]: the mean of first frames of training segments, every dataset weighing the same.

        At most MEAN_IMAGE_SEGMENTS of each dataset, spread evenly over its episodes.
        """
        segments = self._segments("train", jitter=False, stream="mean-image")

        def first_frame(draw: Draw) -> np.ndarray:
            return segments.fetch([draw])["frames"][0, 0]

        means = [
            np.mean([first_frame(Draw(0, name, each)) for each in chosen], axis=0, dtype=np.float64)
            for name in sorted(segments.shards)
            if (chosen := spread(range(segments.num_segments(name)), MEAN_IMAGE_SEGMENTS))
        ]
        return torch.from_numpy(np.mean(means, axis=0) / 255).float()

    def _segments(
        self, split: str, jitter: bool, stream: str, decoded_bytes: int = 0, kind: type[PixelSegments] = PixelSegments
    ) -> PixelSegments:
        return kind(
            open_each(self.shards, ShardSet.open),
            split,
            self.segments,
            _normalizers(self.statistics()),
            self.resolution,
            jitter,
            self.seed,
            stream,
            decoded_bytes,
            self.noise_size,
            self.history,
        )


@dataclass(frozen=True)
class TokenInputs:
    """Token and z sets of one role, and where its statistics come from (`mix`, or the datasets themselves).

    seed: of this training, its order and its noise; `mix` decides what is drawn, not when. data_fraction: of the
    episodes of each dataset of `mix`, by its seed (DataFraction); 1 takes all, and changes nothing.
    """

    tokens: Path
    z: Path
    mix: Path | None
    statistics: Mapping[str, dict]
    segments: SegmentConfig
    seed: int
    data_fraction: float = 1.0

    def z_shape(self) -> tuple[int, int]:
        """(K, M) of the behavior model that made z: one made all of it."""
        return next(iter(open_each(self.z, ZSet.open).values())).shape

    def loader(self, communicator: Communicator, batch_size: int, stream: str) -> TrainingLoader:
        """Training batches of this worker, over the stored segment grid."""
        tokens, z = open_each(self.tokens, TokenSet.open), open_each(self.z, ZSet.open)
        plan = Plan.load(self.mix / "plan.json", "dynamics") if self.mix is not None else None
        chosen = DataFraction(self.data_fraction, plan.seed) if plan and self.data_fraction < 1 else None
        names = [dataset.name for dataset in plan.datasets] if plan else sorted(tokens)
        segments = TokenSegments(
            {name: tokens[name] for name in names},
            {name: z[name] for name in names},
            _normalizers(self.statistics),
            "train",
            self.seed,
            stream,
            chosen,
        )
        if plan and chosen:
            counts = {name: segments.num_segments(name) for name in names}
            plan = plan.restricted(counts, chosen.provenance(plan.provenance))
        plan = plan and plan.reseeded(self.seed)
        return _loader(plan or _single(segments, names, self.segments, self.seed), segments, communicator, batch_size)


def _single(segments: PixelSegments | TokenSegments, names: list[str], grid: SegmentConfig, seed: int) -> Plan:
    (name,) = names  # fine-tuning is on one dataset
    return single_dataset_plan(
        name,
        segments.num_segments(name),
        seed,
        window=grid.window,
        phases=grid.phases,
        shards_digest=segments.shards_digest(name),
    )


def _normalizers(statistics: Mapping[str, dict]) -> dict[str, ActionNormalizer]:
    return {name: ActionNormalizer.from_statistics(of_one) for name, of_one in statistics.items()}


def _loader(plan: Plan, segments, communicator: Communicator, batch_size: int, threads: int = 1) -> TrainingLoader:
    rank, world_size = communicator.rank, communicator.world_size
    return TrainingLoader(SegmentSampler(plan), segments, batch_size, rank, world_size, decode_threads=threads)
