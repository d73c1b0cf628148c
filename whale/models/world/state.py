"""What a rollout holds, and what a step adds to it. A state is a value: whatever follows it leaves it as it was.

Shapes: B batch, C frames held, N tokens per frame, V codes, A action size, Z behavior embedding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from whale.common.errors import ConfigError
from whale.models.behavior.categorical import token_entropy
from whale.models.trunk.cache import TemporalCache


@dataclass(frozen=True)
class Step:
    """The prediction of o_{t+1}: `frame` [B, ...], `tokens` [B, N], `logits` [B, N, V], and the z_t [B, Z] behind it.

    A world without codes or without z leaves these out.
    """

    frame: Tensor
    tokens: Tensor | None = None
    logits: Tensor | None = None
    z: Tensor | None = None

    def take(self, rows: slice) -> "Step":
        """Some rows of the batch."""
        return Step(self.frame[rows], _rows(self.tokens, rows), _rows(self.logits, rows), _rows(self.z, rows))

    def entropy(self) -> Tensor:
        """Of the token probabilities at temperature 1, mean over tokens, nats: [B] (P B.3). ConfigError without any."""
        if self.logits is None:
            raise ConfigError(
                "this world model has no token probabilities",
                place="entropy",
                remedy="use a method without entropy, or return logits",
            )
        return token_entropy(self.logits)


@dataclass(frozen=True)
class History:
    """What happened before o_w: frames [B, P, ...], each with the RAW action [B, P, A] that was taken at it."""

    frames: Tensor
    actions: Tensor

    @property
    def length(self) -> int:
        """P, steps."""
        return self.frames.shape[1]

    def followed_by(self, frames: Tensor, actions: Tensor) -> "History":
        """With later steps behind it."""
        return History(torch.cat([self.frames, frames], dim=1), torch.cat([self.actions, actions], dim=1))

    def last(self, count: int) -> "History":
        """Its last steps."""
        first = max(self.length - count, 0)
        return History(self.frames[:, first:], self.actions[:, first:])


@dataclass(frozen=True)
class WorldState:
    """Frames o_w..o_t [B, C, ...] from the window's first on, and the actions a_w..a_{t-1} [B, C - 1, A] between them.

    Actions are in RAW units. `tokens` [B, C, N]: of an imagined frame those that the dynamics chose, not what the
    encoder would say of it. `z` [B, C - 1, Z]: what each action was taken with; `fixed_z` [B, Z]: what every step is
    conditioned on instead of what the world would infer. `caches`: what its networks remember, by name.
    `history`: the steps before o_w that z is inferred from too, in a world with memory.
    """

    frames: Tensor
    actions: Tensor
    tokens: Tensor | None = None
    z: Tensor | None = None
    fixed_z: Tensor | None = None
    caches: Mapping[str, TemporalCache] = field(default_factory=dict)
    history: History | None = None

    @property
    def length(self) -> int:
        """C, frames held."""
        return self.frames.shape[1]

    def followed_by(
        self, action_BA: Tensor, step: Step, caches: Mapping[str, TemporalCache] | None = None
    ) -> "WorldState":
        """With the frame of `step`, and the action that led to it."""
        return replace(
            self,
            frames=torch.cat([self.frames, step.frame[:, None]], dim=1),
            actions=torch.cat([self.actions, action_BA[:, None]], dim=1),
            tokens=_longer(self.tokens, step.tokens),
            z=_longer(self.z, step.z),
            caches=caches or {},
        )

    def cut(self, length: int) -> "WorldState":
        """As it was when its window held `length` frames."""
        dropped = self.length - length
        return replace(
            self,
            frames=self.frames[:, :length],
            actions=self.actions[:, : length - 1],
            tokens=None if self.tokens is None else self.tokens[:, :length],
            z=None if self.z is None else self.z[:, : length - 1],
            caches={name: cache.cut(cache.length - dropped) for name, cache in self.caches.items()},
        )

    def take(self, rows: slice) -> "WorldState":
        """Some rows of the batch."""
        return WorldState(
            self.frames[rows],
            self.actions[rows],
            _rows(self.tokens, rows),
            _rows(self.z, rows),
            _rows(self.fixed_z, rows),
            {name: cache.take(rows) for name, cache in self.caches.items()},
            None if self.history is None else History(self.history.frames[rows], self.history.actions[rows]),
        )

    @staticmethod
    def stack(states: Sequence["WorldState"]) -> "WorldState":
        """Rows of several states of one world, one length and one kind of conditioning as one batch."""
        return WorldState(
            torch.cat([state.frames for state in states]),
            torch.cat([state.actions for state in states]),
            _stacked([state.tokens for state in states]),
            _stacked([state.z for state in states]),
            _stacked([state.fixed_z for state in states]),
            {name: TemporalCache.stack([state.caches[name] for state in states]) for name in states[0].caches},
            _stacked_histories([state.history for state in states]),
        )


def _longer(held: Tensor | None, last: Tensor | None) -> Tensor | None:
    return None if held is None or last is None else torch.cat([held, last[:, None]], dim=1)


def _rows(part: Tensor | None, rows: slice) -> Tensor | None:
    return None if part is None else part[rows]


def _stacked(parts: Sequence[Tensor | None]) -> Tensor | None:
    held = [part for part in parts if part is not None]
    return torch.cat(held) if held else None


def _stacked_histories(histories: Sequence[History | None]) -> History | None:
    held = [history for history in histories if history is not None]
    if not held:
        return None
    lengths = {None if history is None else history.length for history in histories}
    if len(lengths) != 1:
        found = ", ".join(sorted(map(str, lengths)))
        raise ConfigError("states with unlike histories are no one batch", place="WorldState.stack",
                          found=f"lengths {found}", expected="one length for all")  # fmt: skip
    return History(torch.cat([each.frames for each in held]), torch.cat([each.actions for each in held]))
