"""What a world model must offer to be examined here; ours and anybody's. Nothing in whale.models imports this file.

Two protocols. `FrameModel` is the small one: a history of frames and actions goes in, the next frame comes out, with
its token logits; and the features in which two frames are compared. `WorldModel` is the same, stepwise, for models
that keep caches; `Recomputing` makes one of any FrameModel. Uncertainty and rollouts are written on `WorldModel`.

Shapes: B rows, C frames of history, A action size, N tokens per frame, V codes, Z conditioning, h horizon. A history
is o_w..o_t with w the start of the window; all rows of a batch share its length. Actions are in RAW units: a model
normalises and clips them itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from whale.common.errors import ConfigError
from whale.models.behavior.categorical import token_entropy


@dataclass(frozen=True)
class History:
    """o_w..o_t, a_w..a_{t-1}, and the model's own codes of the frames, which are kept because they are not a function
    of the frames alone: an imagined frame's tokens are what the dynamics chose, not what the encoder would say."""

    frames: Tensor  # [B, C, ...]
    actions: Tensor  # [B, C-1, A]; [B, C, A] once a_t is chosen
    tokens: Tensor | None = None  # [B, C, N]; None for a model without codes

    @property
    def length(self) -> int:
        """C, frames."""
        return self.frames.shape[1]


@dataclass(frozen=True)
class Next:
    """The prediction of o_{t+1}; `z` is whatever conditioning of the steps w..t the model inferred itself."""

    frame: Tensor  # [B, ...]
    logits: Tensor | None = None  # [B, N, V]; None for a model without token probabilities
    tokens: Tensor | None = None  # [B, N]
    z: Tensor | None = None  # [B, C, Z]

    def rows(self, rows: slice) -> "Next":
        """Some rows."""
        logits, tokens, z = (None if part is None else part[rows] for part in (self.logits, self.tokens, self.z))
        return Next(self.frame[rows], logits, tokens, z)

    def entropy(self) -> Tensor:
        """Hbar [B]: entropy of the token probabilities at temperature 1, mean over tokens, nats (P B.3)."""
        if self.logits is None:
            raise ConfigError(
                "this world model has no token probabilities",
                place="entropy",
                remedy="use a method without entropy, or return logits",
            )
        return token_entropy(self.logits)


class FrameModel(Protocol):
    """The least that a world model must do."""

    @property
    def window(self) -> int:
        """T: after that many predictions a rollout starts a new window from its last T / 2 frames."""

    def encode(self, frames: Tensor) -> Tensor | None:
        """Codes [B, C, N] of a window of frames from its first one on; None for a model without codes."""

    def next(self, history: History, noise: Tensor | None = None, z: Tensor | None = None) -> Next:
        """Predict o_{t+1} from `history`, whose actions end with a_t.

        noise: Gumbel noise [B, N, V] to sample with, None for argmax. z: conditioning instead of the model's own.
        """

    def features(self, frames: Tensor) -> Tensor:
        """[B, ...] images -> [B, ...] features; each image by itself, whatever its history."""


class WorldModel(Protocol):
    """A FrameModel that goes step by step. A state is a history with its caches; it is never changed in place."""

    @property
    def window(self) -> int:
        """As in FrameModel."""

    def start(self, frames: Tensor, actions: Tensor) -> Any:
        """State of o_w..o_t [B, C, ...] and a_w..a_{t-1} [B, C-1, A]."""

    def step(
        self, state: Any, action: Tensor, noise: Tensor | None = None, z: Tensor | None = None
    ) -> tuple[Any, Next]:
        """Predict with a_t [B, A]; the new state ends in the predicted frame."""

    def cut(self, state: Any, length: int) -> Any:
        """The state as it was when its window held `length` frames: causal models cut their caches."""

    def stack(self, states: Sequence[Any]) -> Any:
        """Rows of several states of one length as one batch."""

    def take(self, state: Any, rows: slice) -> Any:
        """Some rows."""

    def history(self, state: Any) -> History:
        """What a state holds, without a_t."""

    def features(self, frames: Tensor) -> Tensor:
        """As in FrameModel."""


class Recomputing:
    """Steps any FrameModel by giving it the whole window each time: right for every model, fast for none."""

    def __init__(self, model: FrameModel):
        self.model, self.window = model, model.window

    def start(self, frames: Tensor, actions: Tensor) -> History:
        return History(frames, actions, self.model.encode(frames))

    def step(
        self, state: History, action: Tensor, noise: Tensor | None = None, z: Tensor | None = None
    ) -> tuple[History, Next]:
        decided = replace(state, actions=torch.cat([state.actions, action[:, None]], dim=1))
        predicted = self.model.next(decided, noise, z)
        return _appended(decided, predicted), predicted

    def cut(self, state: History, length: int) -> History:
        tokens = None if state.tokens is None else state.tokens[:, :length]
        return History(state.frames[:, :length], state.actions[:, : length - 1], tokens)

    def stack(self, states: Sequence[History]) -> History:
        tokens = None if states[0].tokens is None else torch.cat([_tokens(state) for state in states])
        return History(torch.cat([s.frames for s in states]), torch.cat([s.actions for s in states]), tokens)

    def take(self, state: History, rows: slice) -> History:
        tokens = None if state.tokens is None else state.tokens[rows]
        return History(state.frames[rows], state.actions[rows], tokens)

    def history(self, state: History) -> History:
        return state

    def features(self, frames: Tensor) -> Tensor:
        return self.model.features(frames)


def restarted(model: WorldModel, state: Any) -> Any:
    """`state`, or a new window if this one has served its T predictions: its last T / 2 frames, encoded anew.

    Deep caches of a causal model still contain the frames that would be dropped.
    """
    history = model.history(state)
    if history.length <= model.window:
        return state
    keep = max(model.window // 2, 1)
    return model.start(history.frames[:, -keep:], history.actions[:, history.actions.shape[1] - (keep - 1) :])


def imagine(model: WorldModel, frames: Tensor, actions: Tensor, horizon: int) -> Tensor:
    """Imagined frames [B, h, ...] after the given [B, c, ...], by argmax; actions [B, c-1+h, A], a_1 taken at o_1."""
    given = frames.shape[1]
    state, imagined = model.start(frames, actions[:, : given - 1]), []
    for action in actions[:, given - 1 : given - 1 + horizon].unbind(1):
        state, predicted = model.step(restarted(model, state), action)
        imagined.append(predicted.frame)
    return torch.stack(imagined, dim=1)


def _appended(history: History, predicted: Next) -> History:
    tokens = history.tokens
    if tokens is not None and predicted.tokens is not None:
        tokens = torch.cat([tokens, predicted.tokens[:, None]], dim=1)
    return History(torch.cat([history.frames, predicted.frame[:, None]], dim=1), history.actions, tokens)


def _tokens(history: History) -> Tensor:
    assert history.tokens is not None
    return history.tokens
