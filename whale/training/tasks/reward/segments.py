"""Segments of frames with their rewards, and what the frozen tokenizer makes of them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whale.data.loading.receipt import Batch
from whale.data.loading.sampler import Draw
from whale.data.loading.segment_reading import PixelSegments
from whale.models.tokenizer.tokenizer import VideoTokenizer
from whale.training.loop.task import Loader


class RewardSegments(PixelSegments):
    """Pixel segments that also say what each of their actions earned."""

    def fetch(self, draws: Sequence[Draw], buffers: Batch | None = None) -> Batch:
        """As PixelSegments, and reward float32 [n, T], zero where the action is not valid."""
        batch = super().fetch(draws, buffers)
        reward = np.zeros(batch["action_valid"].shape, np.float32)
        for i, (draw, shift) in enumerate(zip(draws, self._shifts(draws), strict=True)):
            episode, start = self._index[draw.dataset].start_of(draw.segment)
            row = self._rows[draw.dataset][episode]
            earned = self.shards[draw.dataset].read_arrays(row, ("reward",))["reward"][start + shift :]
            count = min(len(earned), self.config.window)
            reward[i, :count] = earned[:count]
        return {**batch, "reward": np.where(batch["action_valid"], reward, 0.0).astype(np.float32)}


class FeatureLoader:
    """A loader whose frames have become features [n, T+1, 2, F] of the recorded and of the reconstructed ones."""

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
        kept = {name: values for name, values in batch.items() if name != "frames"}
        return {**kept, "features": both.float().cpu().numpy()}


def features(tokenizer: VideoTokenizer, frames_BTRRC: Tensor) -> Tensor:
    """Frames in [0, 1] -> [B, T, F]: the encoder's latents, each frame described by itself."""
    flat = frames_BTRRC.flatten(0, 1)[:, None]
    return tokenizer.latents(flat).flatten(1).unflatten(0, frames_BTRRC.shape[:2])


def as_loader(loader: FeatureLoader) -> Loader:
    """For the type checker: a FeatureLoader has everything that the loop asks of a loader."""
    return loader  # type: ignore[return-value]  # `step` is read only, which the loop does
