"""Segments of frames with their rewards, and what the frozen tokenizer makes of them."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from whale.data.loading.receipt import Batch
from whale.data.loading.sampler import Draw
from whale.data.loading.segment_reading import PixelSegments
from whale.models.tokenizer.tokenizer import VideoTokenizer
from whale.reward.reading import features
from whale.training.loop.task import Loader


class RewardSegments(PixelSegments):
    """Pixel segments that also say what each of their actions earned, in which task, and how the episode began."""

    @cached_property
    def instructions(self) -> list[str]:
        """Of all episodes, sorted: the number of a task is its place."""
        return sorted({row.language for rows in self._rows.values() for row in rows})

    def bounds(self) -> tuple[float, float]:
        """Least and greatest reward of a valid action of all episodes."""
        found = [np.zeros(0, np.float32)]
        for name, rows in self._rows.items():
            for row in rows:
                arrays = self.shards[name].read_arrays(row, ("reward", "action_valid"))
                found.append(arrays["reward"][arrays["action_valid"]])
        earned = np.concatenate(found)
        return (float(earned.min()), float(earned.max())) if len(earned) else (0.0, 0.0)

    def fetch(self, draws: Sequence[Draw], buffers: Batch | None = None) -> Batch:
        """As PixelSegments, and reward float32 [n, T], zero where the action is not valid.

        first uint8 [n, R, R, 3]: the first frame of the episode; task int64 [n].
        """
        batch = super().fetch(draws, buffers)
        reward = np.zeros(batch["action_valid"].shape, np.float32)
        first = np.empty((len(draws), *batch["frames"].shape[2:]), np.uint8)
        task = np.zeros(len(draws), np.int64)
        for i, (draw, shift) in enumerate(zip(draws, self._shifts(draws), strict=True)):
            episode, start = self._index[draw.dataset].start_of(draw.segment)
            row, shards = self._rows[draw.dataset][episode], self.shards[draw.dataset]
            earned = shards.read_arrays(row, ("reward",))["reward"][start + shift :]
            count = min(len(earned), self.config.window)
            reward[i, :count] = earned[:count]
            shards.read_frames_into(row, 0, first[i : i + 1])
            task[i] = self.instructions.index(row.language)
        valid = np.where(batch["action_valid"], reward, 0.0).astype(np.float32)
        return {**batch, "reward": valid, "first": first, "task": task}


class FeatureLoader:
    """A loader whose frames have become features [n, T+1, 2, F] of the recorded and of the reconstructed ones.

    The episode's first frame [n, F] is recorded in both: imagination begins at a recorded frame, too.
    """

    def __init__(self, loader: Any, tokenizer: VideoTokenizer):
        self.loader, self.tokenizer = loader, tokenizer

    @property
    def step(self) -> int:
        return self.loader.step

    def __iter__(self) -> Iterator[tuple[int, Mapping[str, np.ndarray]]]:
        for step, batch in self.loader:
            yield step, self._described(batch)

    def receipt(self, num_steps: int) -> dict:
        return self.loader.receipt(num_steps)

    def position(self, step: int) -> dict:
        return self.loader.position(step)

    def resume(self, position: Mapping[str, Any]) -> None:
        self.loader.resume(position)

    def describe(self, samples: list[int]) -> list[str]:
        return self.loader.describe(samples)

    @torch.inference_mode()
    def _described(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        frames = self.tokenizer.pixels(batch["frames"])
        decoded = self.tokenizer.decode(self.tokenizer.encode(frames))
        drawn = (decoded * 255).round() / 255  # as the world model's frames are rounded
        both = torch.stack([features(self.tokenizer, each) for each in (frames, drawn)], dim=2)
        first = features(self.tokenizer, self.tokenizer.pixels(batch["first"])[:, None])[:, 0]
        described = {"features": both.float().cpu().numpy(), "first": first.float().cpu().numpy()}
        return {name: values for name, values in batch.items() if name != "frames"} | described


def as_loader(loader: FeatureLoader) -> Loader:
    """For the type checker: a FeatureLoader has everything that the loop asks of a loader."""
    return loader  # type: ignore[return-value]  # `step` is read only, which the loop does
