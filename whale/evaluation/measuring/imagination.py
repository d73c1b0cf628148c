"""Rollouts and reconstructions of held-out windows.

Shapes: B windows, c context, h horizon, L = c + h frames, R resolution, A = 7.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from whale.models.tokenizer.tokenizer import VideoTokenizer
from whale.models.world.world_model import Conditioning, WorldModel

Normalize = Callable[[np.ndarray], np.ndarray]  # raw actions [..., A] -> normalised


@dataclass(frozen=True)
class Prediction:
    """`frames` [B, n, ...], imagined; `entropy` [B, n], mean over tokens in nats."""

    frames: np.ndarray
    entropy: np.ndarray


class Predict(Protocol):
    """A world model: given frames [B, c, ...] and RAW actions [B, c-1+horizon, A], imagine `horizon` frames."""

    def __call__(self, frames: np.ndarray, actions: np.ndarray, horizon: int) -> Prediction: ...


def predictor(
    world: WorldModel, normalize: Normalize, batch_size: int, *,
    temperature: float = 0.0, seed: int = 0, z: Conditioning = "prior",
) -> Predict:  # fmt: skip
    """The world model as a function of frames and RAW actions: they are normalised and clipped here, after Eq. 5.

    temperature, seed, z: as `WorldModel.rollout` takes them; the defaults are those of every metric.
    """

    def predict(frames: np.ndarray, actions: np.ndarray, horizon: int) -> Prediction:
        imagined, entropy = [], []
        normalised, placed = normalize(actions), world.tokenizer.placed
        for start in range(0, len(frames), batch_size):
            images, taken = (placed(values[start : start + batch_size]) for values in (frames, normalised))
            rollout = world.rollout(images, taken, horizon, temperature=temperature, seed=seed, z=z)
            imagined.append(rollout.frames.cpu().numpy())
            entropy.append(rollout.entropy.double().cpu().numpy())
        return Prediction(np.concatenate(imagined), np.concatenate(entropy))

    return predict


@torch.inference_mode()
def reconstruct(tokenizer: VideoTokenizer, frames: np.ndarray, batch_size: int) -> np.ndarray:
    """Encode and decode segments, each from its own first frame. uint8 [S, F, R, R, 3] -> the same."""
    parts = []
    for start in range(0, len(frames), batch_size):
        tokens = tokenizer.encode(tokenizer.pixels(frames[start : start + batch_size]))
        parts.append(_to_uint8(tokenizer.decode(tokens)))
    return np.concatenate(parts)


def reconstruct_long(tokenizer: VideoTokenizer, frames: np.ndarray, window: int, batch_size: int) -> np.ndarray:
    """Reconstruct windows longer than a segment piece by piece, T + 1 frames each: the ceiling of a rollout."""
    pieces = range(0, frames.shape[1], window + 1)
    return np.concatenate(
        [reconstruct(tokenizer, frames[:, start : start + window + 1], batch_size) for start in pieces], axis=1
    )


def _to_uint8(frames: Tensor) -> np.ndarray:
    """Rounded exactly as a rollout rounds, so that ceiling and rollout differ in the tokens only."""
    return (frames * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
