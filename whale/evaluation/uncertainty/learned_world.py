"""Our tokenizer, prior and dynamics for the protocols of world.py, with actions in RAW units.

`LearnedWorld` is the FrameModel: one window in, the next frame out. `CachedWorld` is the same model stepwise, with
temporal caches; both give the same predictions (tested), the cached one for the price of one frame a step.

Shapes: B rows, C frames of history, R resolution, N tokens, V codes, A action, Z = 256.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from whale.evaluation.uncertainty.world import History, Next
from whale.models.behavior.behavior import BehaviorModel
from whale.models.behavior.categorical import mode
from whale.models.dynamics.dynamics import Dynamics
from whale.models.dynamics.maskgit import MASKED
from whale.models.tokenizer.tokenizer import VideoTokenizer
from whale.models.world.world_model import Precision, WorldModel
from whale.models.world.world_state import WorldState

Normalize = Callable[[np.ndarray], np.ndarray]  # raw actions [..., A] -> normalised and clipped


@dataclass(frozen=True)
class LearnedWorld:
    """Predicts by argmax tokens and mode z, or with the Gumbel noise it is given at `temperature`.

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
        return self.tokenizer.encode(self.tokenizer.pixels(frames))

    @torch.inference_mode()
    def next(self, history: History, noise: Tensor | None = None, z: Tensor | None = None) -> Next:
        actions = self.normalised(history.actions)
        z = self._z(history, actions) if z is None else z
        tokens_BCN = history.tokens
        assert tokens_BCN is not None
        logits_BNV = self.dynamics.logits(tokens_BCN, actions, z)[:, -1]
        logits_BNV = logits_BNV.to(torch.promote_types(logits_BNV.dtype, torch.float32))

        def again(revealed_BN: Tensor) -> Tensor:
            masked = torch.full_like(tokens_BCN[:, :-1], MASKED)
            revealed = torch.cat([masked, revealed_BN[:, None]], dim=1)
            return self.dynamics.logits(tokens_BCN, actions, z, revealed)[:, -1]

        tokens_BN = self.dynamics.choose(logits_BNV, again, noise, self.temperature)
        decoded = self.tokenizer.decode(torch.cat([tokens_BCN, tokens_BN[:, None]], dim=1))[:, -1]
        # Rounded as a rollout rounds, so that what is read back from disk continues identically.
        frame = (decoded * 255).round().clamp(0, 255).to(torch.uint8)
        return Next(frame, logits_BNV, tokens_BN, z)

    @torch.inference_mode()
    def features(self, frames: Tensor) -> Tensor:
        """l2-normalised encoder latents before quantisation, each image encoded alone: [B, N, E]."""
        return self.tokenizer.latents(self.tokenizer.pixels(frames[:, None]))[:, 0]

    def normalised(self, raw: Tensor) -> Tensor:
        """RAW actions as the networks take them."""
        return torch.from_numpy(self.normalize(raw.cpu().numpy())).to(raw.device)

    def _z(self, history: History, actions: Tensor) -> Tensor:
        if not self.dynamics.config.behavior_conditioning:
            return actions.new_zeros(*actions.shape[:2], self.dynamics.config.z_size)
        return mode(self.behavior.prior_log_probs(self.tokenizer.pixels(history.frames), actions)).flatten(2)


@dataclass(frozen=True)
class CachedState:
    """The caches of a window, and its actions a_w..a_{t-1} in RAW units [B, C-1, A]."""

    window: WorldState
    actions: Tensor


class CachedWorld:
    """A LearnedWorld that goes step by step (protocol `WorldModel`). z of a step: the last of what is given."""

    def __init__(self, world: LearnedWorld, precision: Precision = "float32"):
        self.world, self.window = world, world.window
        behavior = world.behavior if world.dynamics.config.behavior_conditioning else None
        self._model = WorldModel(world.tokenizer, behavior, world.dynamics, world.window, precision)

    def start(self, frames: Tensor, actions: Tensor) -> CachedState:
        return CachedState(self._model.start(frames, self.world.normalised(actions)), actions)

    def step(
        self, state: CachedState, action: Tensor, noise: Tensor | None = None, z: Tensor | None = None
    ) -> tuple[CachedState, Next]:
        following, predicted = self._model.step(
            state.window, self.world.normalised(action), noise, None if z is None else z[:, -1],
            temperature=self.world.temperature,
        )  # fmt: skip
        actions = torch.cat([state.actions, action[:, None]], dim=1)
        found = Next(predicted.frame, predicted.logits, predicted.tokens, following.conditioning)
        return CachedState(following, actions), found

    def cut(self, state: CachedState, length: int) -> CachedState:
        return CachedState(state.window.cut(length), state.actions[:, : length - 1])

    def stack(self, states: Sequence[CachedState]) -> CachedState:
        windows = WorldState.stack([state.window for state in states])
        return CachedState(windows, torch.cat([state.actions for state in states]))

    def take(self, state: CachedState, rows: slice) -> CachedState:
        return CachedState(state.window.take(rows), state.actions[rows])

    def history(self, state: CachedState) -> History:
        return History(state.window.frames, state.actions, state.window.tokens)

    def features(self, frames: Tensor) -> Tensor:
        return self.world.features(frames)
