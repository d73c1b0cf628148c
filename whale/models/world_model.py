"""World model: tokenizer + prior + dynamics, and the rollout that runs them on their own output (docs: rollout).

Shapes: B batch, c given frames, T window, H horizon, R resolution, N tokens, A action size; actions are normalised.
The window rule: a window serves T predictions; then its last T / 2 frames, re-encoded from pixels, start a new one.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from whale.errors import ConfigError
from whale.models.behavior import BehaviorModel
from whale.models.categorical import mode
from whale.models.dynamics import Dynamics
from whale.models.tokenizer import VideoTokenizer


@dataclass(frozen=True)
class Rollout:
    """`frames` uint8 [B, H, R, R, 3], `tokens` int64 [B, H, N], `entropy` float32 [B, H]: mean over tokens, nats."""

    frames: Tensor
    tokens: Tensor
    entropy: Tensor


@dataclass
class _Window:
    """What one rollout holds at a time: frames o_w..o_t, their tokens, actions a_w..a_{t-1}."""

    frames: Tensor
    tokens: Tensor
    actions: Tensor


class WorldModel:
    """Predicts pixels from a history of pixels and actions; `behavior` may be None for a dynamics without z."""

    def __init__(self, tokenizer: VideoTokenizer, behavior: BehaviorModel | None, dynamics: Dynamics, window: int):
        if tokenizer.config.num_codes != dynamics.config.num_codes:
            raise ConfigError(
                "tokenizer and dynamics do not belong together",
                place="num_codes",
                found=dynamics.config.num_codes,
                expected=tokenizer.config.num_codes,
            )
        if behavior is None and dynamics.config.behavior_conditioning:
            raise ConfigError("this dynamics needs a behavior model", place="behavior_conditioning", found=True)
        self.tokenizer, self.behavior, self.dynamics, self.window = tokenizer, behavior, dynamics, window

    @classmethod
    def restore(cls, tokenizer: Path, behavior: Path | None, dynamics: Path, window: int) -> Self:
        """Load three model folders."""
        prior = BehaviorModel.restore(behavior) if behavior is not None else None
        return cls(VideoTokenizer.restore(tokenizer), prior, Dynamics.restore(dynamics), window)

    @torch.inference_mode()
    def rollout(self, frames: Tensor, actions: Tensor, horizon: int) -> Rollout:
        """Imagine `horizon` frames after the given ones, by argmax tokens and mode z.

        frames uint8 [B, c, R, R, 3] with 1 <= c <= T; actions [B, c - 1 + horizon, A]: a_1 is taken at o_1.
        """
        given = frames.shape[1]
        if not 1 <= given <= self.window or actions.shape[1] != given - 1 + horizon:
            raise ConfigError(
                "rollout shapes",
                found=f"{given} frames, {actions.shape[1]} actions",
                expected=f"1..{self.window} frames and frames - 1 + {horizon} actions",
            )
        window = _Window(frames, self._encode(frames), actions[:, : given - 1])
        steps = []
        for action_BA in actions[:, given - 1 :].unbind(1):
            if window.frames.shape[1] > self.window:
                window = self._restart(window)
            window.actions = torch.cat([window.actions, action_BA[:, None]], dim=1)
            steps.append(self._step(window))
        frames_BH, tokens_BH, entropy_BH = (torch.stack(parts, dim=1) for parts in zip(*steps, strict=True))
        return Rollout(frames_BH, tokens_BH, entropy_BH)

    def _step(self, window: _Window) -> tuple[Tensor, Tensor, Tensor]:
        """Predict one frame and append it to `window`."""
        logits_BNV = self.dynamics.logits(window.tokens, window.actions, self._z(window))[:, -1].float()
        tokens_BN = logits_BNV.argmax(-1)
        window.tokens = torch.cat([window.tokens, tokens_BN[:, None]], dim=1)
        decoded = self.tokenizer.decode(window.tokens)[:, -1]
        # Rounded to uint8, so that a rollout read back from disk continues identically.
        frame = (decoded * 255).round().clamp(0, 255).to(torch.uint8)
        window.frames = torch.cat([window.frames, frame[:, None]], dim=1)
        log_probs = logits_BNV.log_softmax(-1)
        return frame, tokens_BN, -(log_probs.exp() * log_probs).sum(-1).mean(-1)

    def _z(self, window: _Window) -> Tensor:
        batch, steps = window.actions.shape[:2]
        if self.behavior is None or not self.dynamics.config.behavior_conditioning:
            return window.actions.new_zeros(batch, steps, self.dynamics.config.z_size)
        return mode(self.behavior.prior_log_probs(self._pixels(window.frames), window.actions)).flatten(2)

    def _encode(self, frames: Tensor) -> Tensor:
        return self.tokenizer.encode(self._pixels(frames))

    def _pixels(self, frames: Tensor) -> Tensor:
        """uint8 -> [0, 1] in the networks' precision."""
        return frames.to(self.tokenizer.quantizer.codebook.dtype) / 255

    def _restart(self, window: _Window) -> _Window:
        """Re-encode the last T / 2 frames from pixels: deep caches of a causal trunk still hold the dropped frames."""
        keep = self.window // 2
        frames = window.frames[:, -keep:]
        return _Window(frames, self._encode(frames), window.actions[:, window.actions.shape[1] - (keep - 1) :])
