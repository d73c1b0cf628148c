"""What a rollout knows: the frames of its window, and what the networks remember of them. A state is a value.

Memory: the caches (cache.py), T positions for prior and dynamics, T + 1 for the decoder.
Shapes: B batch, C frames held, R resolution, N tokens, A action size, Z behavior embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from whale.models.trunk.cache import TemporalCache


@dataclass(frozen=True)
class WorldState:
    """Frames o_w..o_t uint8 [B, C, R, R, 3], their tokens [B, C, N], actions a_w..a_{t-1} [B, C - 1, A], the caches.

    `conditioning`: the z that each a_w..a_{t-1} was taken with [B, C - 1, Z]; `z`: what every step is conditioned on
    instead of the prior's own mode [B, Z], if anything.
    """

    frames: Tensor
    tokens: Tensor
    actions: Tensor
    conditioning: Tensor
    dynamics: TemporalCache
    decoder: TemporalCache
    prior: TemporalCache | None = None
    z: Tensor | None = None

    @property
    def length(self) -> int:
        """C, frames held."""
        return self.frames.shape[1]

    @property
    def num_bytes(self) -> int:
        """Memory of the caches."""
        caches = (self.dynamics, self.decoder, self.prior)
        return sum(cache.num_bytes for cache in caches if cache is not None)

    def appended(self, frame: Tensor, tokens_BN: Tensor, action_BA: Tensor, decoder: TemporalCache) -> "WorldState":
        """With one more frame and the action that led to it."""
        return replace(
            self,
            frames=torch.cat([self.frames, frame[:, None]], dim=1),
            tokens=torch.cat([self.tokens, tokens_BN[:, None]], dim=1),
            actions=torch.cat([self.actions, action_BA[:, None]], dim=1),
            decoder=decoder,
        )

    def cut(self, length: int) -> "WorldState":
        """As it was when its window held `length` frames."""
        return replace(
            self,
            frames=self.frames[:, :length],
            tokens=self.tokens[:, :length],
            actions=self.actions[:, : length - 1],
            conditioning=self.conditioning[:, : length - 1],
            dynamics=self.dynamics.cut(length - 1),
            decoder=self.decoder.cut(length),
            prior=None if self.prior is None else self.prior.cut(length - 1),
        )

    def take(self, rows: slice) -> "WorldState":
        """Some rows of the batch."""
        return WorldState(
            self.frames[rows],
            self.tokens[rows],
            self.actions[rows],
            self.conditioning[rows],
            self.dynamics.take(rows),
            self.decoder.take(rows),
            None if self.prior is None else self.prior.take(rows),
            None if self.z is None else self.z[rows],
        )

    @staticmethod
    def stack(states: Sequence["WorldState"]) -> "WorldState":
        """Rows of several states of one length and one kind of conditioning as one batch."""
        priors = [state.prior for state in states if state.prior is not None]
        chosen = [state.z for state in states if state.z is not None]
        return WorldState(
            torch.cat([state.frames for state in states]),
            torch.cat([state.tokens for state in states]),
            torch.cat([state.actions for state in states]),
            torch.cat([state.conditioning for state in states]),
            TemporalCache.stack([state.dynamics for state in states]),
            TemporalCache.stack([state.decoder for state in states]),
            TemporalCache.stack(priors) if priors else None,
            torch.cat(chosen) if chosen else None,
        )
