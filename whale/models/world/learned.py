"""The learned world: tokenizer, prior and dynamics, stepping on their own output with temporal caches.

Its caches hold T positions of prior and dynamics, T + 1 of the decoder.
Shapes: B batch, C frames held, F new frames, T window, R resolution, N tokens, V codes, A action size, Z = K * M.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from whale.common.errors import ConfigError
from whale.models.behavior.behavior import BehaviorModel
from whale.models.behavior.categorical import mode
from whale.models.dynamics.dynamics import Dynamics
from whale.models.tokenizer.tokenizer import VideoTokenizer
from whale.models.trunk.cache import TemporalCache
from whale.models.world.state import Step, WorldState
from whale.models.world.world import Draw, World

Normalize = Callable[[np.ndarray], np.ndarray]  # raw actions [..., A] -> normalised and clipped
Precision = Literal["float32", "bfloat16"]


class LearnedWorld(World):
    """Predicts pixels uint8 [B, R, R, 3]; z is the mode of the prior; `behavior` may be None for a dynamics without z.

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

    @torch.inference_mode()
    def start(
        self, frames: Tensor, actions: Tensor, *, tokens: Tensor | None = None, z: Tensor | None = None
    ) -> WorldState:
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
                caches["prior"] = self.behavior.empty_cache(batch, self.window)
            no_z, fixed_z = taken.new_zeros(batch, 0, self.z_size), None if z is None else z.to(taken)
            state = WorldState(frames, actions, tokens, no_z, fixed_z, caches)
            if held == 1:
                return state
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
            step = Step(frame, tokens_BN, logits_BNV, z_B1Z[:, 0])
            return state.followed_by(action_BA, step, caches), step

    @torch.inference_mode()
    def features(self, frames: Tensor) -> Tensor:
        """l2-normalised encoder latents before quantisation, each image encoded alone: [B, N, E]."""
        return self.tokenizer.latents(self.tokenizer.pixels(frames[:, None]))[:, 0]

    def normalised(self, raw: Tensor) -> Tensor:
        """RAW actions as the networks take them."""
        if self.normalize is None:
            return raw
        return torch.from_numpy(self.normalize(raw.cpu().numpy())).to(raw.device)

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
            inferred = mode(log_probs).flatten(2)
        else:
            inferred = taken.new_zeros(*taken.shape[:2], self.z_size)
        z_BFZ = inferred if fixed is None else fixed[:, None].expand_as(inferred)
        logits_BNV, caches["dynamics"] = self.dynamics.extend(tokens, taken, z_BFZ, caches["dynamics"])
        return logits_BNV.to(torch.promote_types(logits_BNV.dtype, torch.float32)), z_BFZ, caches

    def _arithmetic(self) -> AbstractContextManager:
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)
