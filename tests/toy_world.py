"""Any world model can be examined: this one is a point on a line with a wall, seen in a frame of two numbers."""

import torch
from torch import Tensor

from whale.evaluation.uncertainty.world import History, Next


class ToyWorld:
    """A point moves by its action and stops at `wall`; frames [B, C, 2] float64, actions [B, C, 4] (xyz, gripper)."""

    def __init__(self, wall: float = float("inf"), window: int = 8, num_codes: int = 4, logit: float = 0.0):
        self.wall, self.window = wall, window
        self.code_logits = torch.zeros(num_codes, dtype=torch.float64)
        self.code_logits[0] = logit

    def encode(self, frames: Tensor) -> None:
        return None

    def next(self, history: History, noise: Tensor | None = None, z: Tensor | None = None) -> Next:
        moved = (history.frames[:, -1] + history.actions[:, -1, :2]).clamp_max(self.wall)
        return Next(moved, self.code_logits.expand(len(moved), 3, -1))

    def features(self, frames: Tensor) -> Tensor:
        return frames
