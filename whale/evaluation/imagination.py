"""Rollouts and reconstructions of held-out windows, and the distance between two images in the tokenizer's latents.

Shapes: B windows, c context, h horizon, L = c + h frames, R resolution, A = 7.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from whale.evaluation.uncertainty import Predict, Prediction
from whale.models.tokenizer import VideoTokenizer
from whale.models.world_model import WorldModel

Normalize = Callable[[np.ndarray], np.ndarray]  # raw actions [..., A] -> normalised


def predictor(world: WorldModel, normalize: Normalize, batch_size: int) -> Predict:
    """The world model as a function of frames and RAW actions: they are normalised and clipped here, after Eq. 5."""

    def predict(frames: np.ndarray, actions: np.ndarray, horizon: int) -> Prediction:
        imagined, entropy = [], []
        normalised = torch.from_numpy(normalize(actions))
        images = torch.from_numpy(np.ascontiguousarray(frames))
        for start in range(0, len(frames), batch_size):
            part = slice(start, start + batch_size)
            rollout = world.rollout(images[part], normalised[part], horizon)
            imagined.append(rollout.frames.numpy())
            entropy.append(rollout.entropy.double().numpy())
        return Prediction(np.concatenate(imagined), np.concatenate(entropy))

    return predict


@torch.inference_mode()
def reconstruct(tokenizer: VideoTokenizer, frames: np.ndarray, batch_size: int) -> np.ndarray:
    """Encode and decode segments, each from its own first frame. uint8 [S, F, R, R, 3] -> the same."""
    parts = []
    for start in range(0, len(frames), batch_size):
        tokens = tokenizer.encode(_float(frames[start : start + batch_size]))
        parts.append(_to_uint8(tokenizer.decode(tokens)))
    return np.concatenate(parts)


def reconstruct_long(tokenizer: VideoTokenizer, frames: np.ndarray, window: int, batch_size: int) -> np.ndarray:
    """Reconstruct windows longer than a segment piece by piece, T + 1 frames each: the ceiling of a rollout."""
    pieces = range(0, frames.shape[1], window + 1)
    return np.concatenate(
        [reconstruct(tokenizer, frames[:, start : start + window + 1], batch_size) for start in pieces], axis=1
    )


def latent_distance(tokenizer: VideoTokenizer, batch_size: int = 256) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """d(image, image): mean squared distance of l2-normalised encoder latents before quantisation.

    Each image is encoded alone, so d does not depend on its history. [B, R, R, 3] x [B, R, R, 3] -> float64 [B].
    """

    def latents(images: np.ndarray) -> Tensor:
        parts = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
        return torch.cat([tokenizer.latents(_float(part[:, None]))[:, 0] for part in parts])

    @torch.inference_mode()
    def distance(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return (latents(left) - latents(right)).double().square().mean((-2, -1)).numpy()

    return distance


def _float(frames: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames)).float() / 255


def _to_uint8(frames: Tensor) -> np.ndarray:
    """Rounded exactly as a rollout rounds, so that ceiling and rollout differ in the tokens only."""
    return (frames * 255).round().clamp(0, 255).to(torch.uint8).numpy()
