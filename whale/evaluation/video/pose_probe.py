"""Where a frame shows the end effector: a small CNN from pixels to recorded positions.

A robot that records its state lets a rollout be judged in metres. What the probe reads in recorded frames that it was
not fitted on is its floor: an error near it says nothing. The same frames and seed give the same probe: CPU, 1 thread.
Shapes: M frames, R resolution, 3 position (m).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from whale.evaluation.measuring.rollouts.heldout import shrunk

LARGEST = 64  # pixels; larger frames are averaged down to it
CHANNELS, HIDDEN = (24, 48, 64, 16), 128
STEPS, BATCH, LEARNING_RATE, WARMUP = 1700, 64, 3e-3, 0.1
PASSES = 30  # over the frames, at most: a handful of episodes is learned by heart long before
CONTRAST = 0.25  # of pixels in [0, 1] around their mean image


class PoseNet(nn.Module):
    """Pixels and two coordinate channels -> position; the place on the map stays known to the last layers."""

    def __init__(self, size: int):
        super().__init__()
        first, second, third, last = CHANNELS
        self.trunk = nn.Sequential(
            nn.Conv2d(5, first, 4, stride=4), nn.ReLU(),
            nn.Conv2d(first, second, 4, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(second, third, 3, padding=1), nn.ReLU(),
            nn.Conv2d(third, last, 1),
        )  # fmt: skip
        features = last * (size // 8) ** 2
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(features, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 3))
        line = torch.linspace(-1, 1, size)
        self.register_buffer("place_1YX", torch.stack(torch.meshgrid(line, line, indexing="ij"))[None])

    def forward(self, images_MCHW: Tensor) -> Tensor:
        place = self.place_1YX.expand(len(images_MCHW), -1, -1, -1)  # type: ignore[operator]
        found: Tensor = self.head(self.trunk(torch.cat([images_MCHW, place], dim=1)).flatten(1))
        return found


@dataclass(frozen=True)
class PoseProbe:
    """position = net(frame - mean image) x scale + offset."""

    net: PoseNet
    mean_CHW: Tensor
    offset_3: np.ndarray
    scale: float

    @torch.inference_mode()
    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """uint8 [..., R, R, 3] -> metres float64 [..., 3]."""
        flat = frames.reshape(-1, *frames.shape[-3:])
        with _one_thread():
            parts = [self.net(_images(flat[at : at + 256], self.mean_CHW)).numpy() for at in range(0, len(flat), 256)]
        found = np.concatenate(parts).astype(np.float64) * self.scale + self.offset_3
        return found.reshape(*frames.shape[:-3], 3)


def fit_pose_probe(frames: np.ndarray, position: np.ndarray, seed: int) -> PoseProbe:
    """Adam on the Euclidean error. frames uint8 [M, R, R, 3], position [M, 3] in metres."""
    position = np.asarray(position, np.float64)
    offset = position.mean(axis=0)
    scale = max(float(np.sqrt(position.var(axis=0).sum())), 1e-6)
    mean_CHW = torch.zeros(_pixels(frames[:1]).shape[1:])
    for at in range(0, len(frames), 256):
        mean_CHW += _pixels(frames[at : at + 256]).sum(dim=0) / len(frames)
    target = torch.from_numpy(((position - offset) / scale).astype(np.float32))
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(seed)  # of first weights and dropout; restored afterwards
        net = PoseNet(mean_CHW.shape[-1])
        optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
        steps = max(1, min(STEPS, PASSES * len(frames) // BATCH))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step / steps))
        for _ in range(steps):
            drawn = rng.integers(0, len(frames), BATCH)
            error = (net(_images(frames[drawn], mean_CHW)) - target[drawn]).square().sum(dim=-1)
            optimizer.zero_grad()
            (error + 1e-6).sqrt().mean().backward()
            optimizer.step()
            schedule.step()
    return PoseProbe(net.eval(), mean_CHW, offset, scale)


def _rate(done: float) -> float:
    """Rises over the first tenth of the steps, then falls to zero as a cosine."""
    return done / WARMUP if done < WARMUP else 0.5 + 0.5 * math.cos(math.pi * (done - WARMUP) / (1 - WARMUP))


def _pixels(frames: np.ndarray) -> Tensor:
    return torch.from_numpy(shrunk(frames, LARGEST)).permute(0, 3, 1, 2).float() / 255


def _images(frames: np.ndarray, mean_CHW: Tensor) -> Tensor:
    return (_pixels(frames) - mean_CHW) / CONTRAST


@contextmanager
def _one_thread() -> Iterator[None]:
    """More threads add in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
