"""Our tokenizer, prior and dynamics as a FrameModel: one window in, the next frame out; and its ensembles.

Shapes: B rows, C frames of history, R resolution, N tokens, V codes, A action, Z = 256.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from whale.evaluation.world import History, Next
from whale.models.behavior import BehaviorModel
from whale.models.categorical import mode
from whale.models.dynamics import Dynamics
from whale.models.tokenizer import VideoTokenizer

Normalize = Callable[[np.ndarray], np.ndarray]  # raw actions [..., A] -> normalised and clipped


@dataclass(frozen=True)
class LearnedWorld:
    """Predicts by argmax tokens and mode z, or with the Gumbel noise it is given at `temperature` (model.md 4).

    The tokens of imagined frames are those the dynamics chose: a history of one window continues as a rollout does.
    """

    tokenizer: VideoTokenizer
    behavior: BehaviorModel
    dynamics: Dynamics
    window: int
    normalize: Normalize
    temperature: float = 1.0

    @torch.inference_mode()
    def encode(self, frames: Tensor) -> Tensor:
        return self.tokenizer.encode(self._pixels(frames))

    @torch.inference_mode()
    def next(self, history: History, noise: Tensor | None = None, z: Tensor | None = None) -> Next:
        actions = torch.from_numpy(self.normalize(history.actions.cpu().numpy())).to(history.actions.device)
        z = self._z(history, actions) if z is None else z
        assert history.tokens is not None
        logits_BNV = self.dynamics.logits(history.tokens, actions, z)[:, -1].float()
        drawn = logits_BNV if noise is None else logits_BNV / self.temperature + noise
        tokens_BN = drawn.argmax(-1)
        decoded = self.tokenizer.decode(torch.cat([history.tokens, tokens_BN[:, None]], dim=1))[:, -1]
        # Rounded as a rollout rounds, so that what is read back from disk continues identically.
        frame = (decoded * 255).round().clamp(0, 255).to(torch.uint8)
        return Next(frame, logits_BNV, tokens_BN, z)

    @torch.inference_mode()
    def features(self, frames: Tensor) -> Tensor:
        """l2-normalised encoder latents before quantisation, each image encoded alone: [B, N, E]."""
        return self.tokenizer.latents(self._pixels(frames[:, None]))[:, 0]

    def _z(self, history: History, actions: Tensor) -> Tensor:
        if not self.dynamics.config.behavior_conditioning:
            return actions.new_zeros(*actions.shape[:2], self.dynamics.config.z_size)
        return mode(self.behavior.prior_log_probs(self._pixels(history.frames), actions)).flatten(2)

    def _pixels(self, frames: Tensor) -> Tensor:
        return frames.to(self.tokenizer.quantizer.codebook.dtype) / 255


def gumbel(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Standard Gumbel noise: argmax(logits + noise) draws from softmax(logits)."""
    uniform = torch.rand(shape, generator=generator).clamp_min(torch.finfo(torch.float32).tiny)
    return -(-uniform.log()).log()
