"""The learned world: tokenizer, prior and dynamics, stepping on their own output with temporal caches.

Its caches hold T positions of prior and dynamics, T + 1 of the decoder; of a prior with memory, H.
Shapes: B batch, C frames held, F new frames, T window, R resolution, N tokens, V codes, A action size, Z = K * M.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from whale.common.errors import ConfigError
from whale.models.behavior.behavior import BehaviorModel
from whale.models.dynamics.dynamics import Dynamics
from whale.models.tokenizer.tokenizer import VideoTokenizer
from whale.models.trunk.cache import TemporalCache
from whale.models.world.state import History, Step, WorldState
from whale.models.world.world import Draw, World

Normalize = Callable[[Tensor], Tensor]  # raw actions [..., A] -> normalised and clipped, where they lie
Precision = Literal["float32", "bfloat16"]


class LearnedWorld(World):
    """Predicts pixels uint8 [B, R, R, 3]; z is the mode of the prior, or its probabilities if `dynamics` takes those.

    `behavior` may be None for a dynamics without z; its memory is the world's. While a history goes on, a new window
    takes over the prior's cache and the z of the frames that stay.
    `normalize`: None where actions come normalised. `precision` bfloat16 computes as training does under autocast;
    `round_matrices` saves it the conversion.
    """

    def __init__(
        self, tokenizer: VideoTokenizer, behavior: BehaviorModel | None, dynamics: Dynamics, window: int,
        normalize: Normalize | None = None, precision: Precision = "float32",
    ):  # fmt: skip
        if tokenizer.config.num_codes != dynamics.config.num_codes:
            raise ConfigError(
                "tokenizer and dynamics do not belong together",
                place="num_codes",
                found=dynamics.config.num_codes,
                expected=tokenizer.config.num_codes,
            )
        if behavior is None and dynamics.config.behavior_conditioning:
            raise ConfigError("this dynamics needs a behavior model", place="behavior_conditioning", found=True)
        self.tokenizer, self.dynamics, self.window = tokenizer, dynamics, window
        self.behavior = behavior if dynamics.config.behavior_conditioning else None
        self.normalize, self.precision = normalize, precision
        self.codes = (tokenizer.config.num_tokens, tokenizer.config.num_codes)
        self.z_size = dynamics.config.z_size
        self.memory = 0 if self.behavior is None else self.behavior.config.memory or 0
        if 0 < self.memory < window:
            raise ConfigError(
                "the prior remembers less than the window holds",
                place="train_behavior.model.memory",
                found=self.memory,
                expected=f"at least the window, {window}",
            )

    def start(
        self, frames: Tensor, actions: Tensor, *, tokens: Tensor | None = None, z: Tensor | None = None
    ) -> WorldState:
        return self._started(frames, actions, tokens, z, None)

    def start_behind(self, frames: Tensor, actions: Tensor, seen: int, *, z: Tensor | None = None) -> WorldState:
        first = frames.shape[1] - seen
        before = History(frames[:, :first], actions[:, :first]).last(self.memory - self.window) if self.memory else None
        return self._started(frames[:, first:], actions[:, first:], None, z, before)

    def start_like(self, state: WorldState) -> WorldState:
        before = state.history.last(self.memory - self.window) if self.memory and state.history else None
        return self._started(state.frames, state.actions, state.tokens, None, before)

    def restarted(self, state: WorldState) -> WorldState:
        if not self.memory or state.fixed_z is not None or state.length <= self.window:
            return super().restarted(state)
        left = state.length - max(self.window // 2, 1)
        history = _history(state).followed_by(state.frames[:, :left], state.actions[:, :left])
        frames, actions = state.frames[:, left:], state.actions[:, left:]
        if history.length + self.window > self.memory:
            return self._started(frames, actions, None, None, history.last((self.memory - self.window) // 2))
        assert state.z is not None
        return self._started(frames, actions, None, None, history, (state.caches["prior"], state.z[:, left:]))

    @torch.inference_mode()
    def _started(
        self, frames: Tensor, actions: Tensor, tokens: Tensor | None, z: Tensor | None, history: History | None,
        known: tuple[TemporalCache, Tensor] | None = None,
    ) -> WorldState:  # fmt: skip
        """known: the prior's cache of everything up to a_{t-1}, and z [B, C - 1, Z] of the window's steps."""
        batch, held = frames.shape[:2]
        taken = self.normalised(actions)
        with self._arithmetic():
            if tokens is None:
                tokens = self.tokenizer.encode(self.tokenizer.pixels(frames))
            caches = {
                "dynamics": self.dynamics.empty_cache(batch, tokens.shape[-1], self.window),
                "decoder": self.tokenizer.extend(tokens, self.tokenizer.empty_cache(batch, self.window + 1))[1],
            }
            if self.behavior is not None and z is None:
                caches["prior"] = self._remembering(batch, history) if known is None else known[0]
            no_z, fixed_z = taken.new_zeros(batch, 0, self.z_size), None if z is None else z.to(taken)
            state = WorldState(frames, actions, tokens, no_z, fixed_z, caches, history)
            if held == 1:
                return state
            if known is not None:
                caches["dynamics"] = self.dynamics.extend(tokens[:, :-1], taken, known[1], caches["dynamics"])[1]
                return replace(state, z=known[1], caches=caches)
            _, z_BFZ, caches = self._advanced(state, frames[:, :-1], tokens[:, :-1], taken)
            return replace(state, z=z_BFZ, caches=caches)

    @torch.inference_mode()
    def step(
        self, state: WorldState, action_BA: Tensor, draw: Draw | None = None, z: Tensor | None = None
    ) -> tuple[WorldState, Step]:
        if state.length > self.window:
            raise ConfigError("this window is full", found=f"{state.length} frames", remedy="use restarted()")
        assert state.tokens is not None
        last_B1N, taken_B1A = state.tokens[:, -1:], self.normalised(action_BA)[:, None]
        with self._arithmetic():
            logits_BNV, z_B1Z, caches = self._advanced(state, state.frames[:, -1:], last_B1N, taken_B1A, z)

            def again(revealed_BN: Tensor) -> Tensor:
                past = state.caches["dynamics"]
                return self.dynamics.extend(last_B1N, taken_B1A, z_B1Z, past, revealed_BN[:, None])[0]

            noise, temperature = (None, 1.0) if draw is None else (draw.noise, draw.temperature)
            tokens_BN = self.dynamics.choose(logits_BNV, again, noise, temperature)
            pixels, caches["decoder"] = self.tokenizer.extend(tokens_BN[:, None], state.caches["decoder"])
            # Rounded to uint8, so that a rollout read back from disk continues identically.
            frame = (pixels * 255).round().clamp(0, 255).to(torch.uint8)
            frame = self.tokenizer.hold_pixels(frame, tokens_BN, state.frames[:, -1], state.tokens[:, -1])
            step = Step(frame, tokens_BN, logits_BNV, z_B1Z[:, 0])
            return state.followed_by(action_BA, step, caches), step

    @torch.inference_mode()
    def features(self, frames: Tensor) -> Tensor:
        """l2-normalised encoder latents before quantisation, each image encoded alone: [B, N, E]."""
        return self.tokenizer.latents(self.tokenizer.pixels(frames[:, None]))[:, 0]

    def normalised(self, raw: Tensor) -> Tensor:
        """RAW actions as the networks take them."""
        return raw if self.normalize is None else self.normalize(raw)

    @property
    def device(self) -> torch.device:
        """Where the networks lie."""
        return self.tokenizer.device

    def _advanced(
        self, state: WorldState, frames: Tensor, tokens: Tensor, taken: Tensor, z: Tensor | None = None
    ) -> tuple[Tensor, Tensor, dict[str, TemporalCache]]:
        """Take F (frame, action) pairs into prior and dynamics: the last logits, the z of each pair, the caches."""
        caches, fixed = dict(state.caches), state.fixed_z if z is None else z
        if self.behavior is not None and "prior" in caches:  # kept up even where another z is used
            pixels = self.tokenizer.pixels(frames)
            log_probs, caches["prior"] = self.behavior.extend_prior(pixels, taken, caches["prior"])
            inferred = self.dynamics.inferred_z(log_probs)
        else:
            inferred = taken.new_zeros(*taken.shape[:2], self.z_size)
        z_BFZ = inferred if fixed is None else fixed[:, None].expand_as(inferred)
        logits_BNV, caches["dynamics"] = self.dynamics.extend(tokens, taken, z_BFZ, caches["dynamics"])
        return logits_BNV.to(torch.promote_types(logits_BNV.dtype, torch.float32)), z_BFZ, caches

    def _remembering(self, batch: int, history: History | None) -> TemporalCache:
        """What the prior knows before the window's first step."""
        assert self.behavior is not None
        past = self.behavior.empty_cache(batch, max(self.memory, self.window))
        if history is None or not history.length:
            return past
        pixels = self.tokenizer.pixels(history.frames)
        return self.behavior.extend_prior(pixels, self.normalised(history.actions), past)[1]

    def _arithmetic(self) -> AbstractContextManager:
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)


def _history(state: WorldState) -> History:
    """That of the state, or none."""
    return state.history or History(state.frames[:, :0], state.actions[:, :0])
