"""World model: tokenizer + prior + dynamics, stepping on their own output with temporal caches.

A step adds one frame to a state and leaves the old state as it was. The window rule: a window serves T predictions;
then its last T / 2 frames, re-encoded from pixels, start a new one.

Shapes: B batch, C frames held, c given frames, T window, H horizon, R resolution, N tokens, V codes, A action size,
Z = K * M behavior embedding; actions are normalised.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor

from whale.common.errors import ConfigError
from whale.models.behavior.behavior import BehaviorModel
from whale.models.behavior.categorical import gumbel, mode, token_entropy
from whale.models.dynamics.dynamics import Dynamics
from whale.models.tokenizer.tokenizer import VideoTokenizer
from whale.models.trunk.cache import TemporalCache
from whale.models.world.world_state import WorldState

Conditioning = Literal["prior", "frozen", "off"] | Tensor
Precision = Literal["float32", "bfloat16"]
ROLLOUT = "rollout shapes"


@dataclass(frozen=True)
class Rollout:
    """`frames` uint8 [B, H, R, R, 3], `tokens` int64 [B, H, N], `entropy` float32 [B, H]: mean over tokens, nats."""

    frames: Tensor
    tokens: Tensor
    entropy: Tensor


@dataclass(frozen=True)
class Step:
    """The prediction of o_{t+1}: `frame` uint8 [B, R, R, 3], `tokens` [B, N], `logits` [B, N, V]; z_t [B, Z]."""

    frame: Tensor
    tokens: Tensor
    logits: Tensor
    z: Tensor

    def entropy(self) -> Tensor:
        """Of the token probabilities, mean over tokens, nats: [B]."""
        return token_entropy(self.logits)


class WorldModel:
    """Predicts pixels from a history of pixels and actions; `behavior` may be None for a dynamics without z.

    `precision` bfloat16 computes as training does under autocast; `round_matrices` saves it the conversion.
    """

    def __init__(
        self, tokenizer: VideoTokenizer, behavior: BehaviorModel | None, dynamics: Dynamics, window: int,
        precision: Precision = "float32",
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
        self.tokenizer, self.behavior, self.dynamics, self.window = tokenizer, behavior, dynamics, window
        self.precision = precision

    @classmethod
    def restore(cls, tokenizer: Path, behavior: Path | None, dynamics: Path, window: int) -> Self:
        """Load three model folders."""
        prior = BehaviorModel.restore(behavior) if behavior is not None else None
        return cls(VideoTokenizer.restore(tokenizer), prior, Dynamics.restore(dynamics), window)

    @torch.inference_mode()
    def rollout(
        self, frames: Tensor, actions: Tensor, horizon: int, *,
        temperature: float = 0.0, seed: int = 0, z: Conditioning = "prior",
    ) -> Rollout:  # fmt: skip
        """Imagine `horizon` frames after the given ones.

        frames uint8 [B, c, R, R, 3] with 1 <= c <= T; actions [B, c - 1 + horizon, A]: a_1 is taken at o_1.
        temperature 0: the most likely tokens; above, they are drawn, the same for the same `seed` and place in the
        batch. z: the mode of the `prior` at every step; `frozen` at its value of the first imagined step; `off`, zeros;
        or one [B, Z] of the caller's choice.
        """
        given = self.num_given(frames, actions, horizon)
        state = self.start(frames, actions[:, : given - 1], self._fixed(z, actions))
        steps = []
        for number, action_BA in enumerate(actions[:, given - 1 :].unbind(1)):
            noise = self.noise(len(frames), seed, number) if temperature else None
            state, step = self.step(self.restarted(state), action_BA, noise, temperature=temperature or 1.0)
            if isinstance(z, str) and z == "frozen" and number == 0:
                state = replace(state, z=step.z, prior=None)
            steps.append((step.frame, step.tokens, step.entropy().float()))
        return Rollout(*(torch.stack(parts, dim=1) for parts in zip(*steps, strict=True)))

    @torch.inference_mode()
    def start(self, frames: Tensor, actions: Tensor, z: Tensor | None = None) -> WorldState:
        """A window of frames uint8 [B, C, R, R, 3] and the actions [B, C - 1, A] between them, encoded as a segment."""
        with self._arithmetic():
            return self._started(frames, actions, z)

    def _started(self, frames: Tensor, actions: Tensor, z: Tensor | None) -> WorldState:
        batch, held = frames.shape[:2]
        tokens = self.tokenizer.encode(self.tokenizer.pixels(frames))
        state = WorldState(
            frames, tokens, actions, actions.new_zeros(batch, 0, self.dynamics.config.z_size),
            dynamics=self.dynamics.empty_cache(batch, tokens.shape[-1], self.window),
            decoder=self.tokenizer.extend(tokens, self.tokenizer.empty_cache(batch, self.window + 1))[1],
            prior=self._empty_prior(batch) if z is None else None,
            z=z,
        )  # fmt: skip
        if held == 1:
            return state
        return self._advanced(state, frames[:, :-1], tokens[:, :-1], actions)[0]

    @torch.inference_mode()
    def step(
        self, state: WorldState, action_BA: Tensor, noise: Tensor | None = None, z: Tensor | None = None, *,
        temperature: float = 1.0,
    ) -> tuple[WorldState, Step]:  # fmt: skip
        """Predict o_{t+1} by a_t: by argmax, or with Gumbel `noise` [B, N, V] at `temperature`.

        z [B, Z] conditions this one step instead of what the state says.
        """
        if state.length > self.window:
            raise ConfigError("this window is full", found=f"{state.length} frames", remedy="use restarted()")
        with self._arithmetic():
            return self._stepped(state, action_BA, noise, z, temperature)

    def _stepped(
        self, state: WorldState, action_BA: Tensor, noise: Tensor | None, z: Tensor | None, temperature: float
    ) -> tuple[WorldState, Step]:
        advanced, logits_BNV = self._advanced(state, state.frames[:, -1:], state.tokens[:, -1:], action_BA[:, None], z)
        used_z = advanced.conditioning[:, -1:]

        def again(revealed_BN: Tensor) -> Tensor:
            here = (state.tokens[:, -1:], action_BA[:, None], used_z, state.dynamics, revealed_BN[:, None])
            return self.dynamics.extend(*here)[0]

        tokens_BN = self.dynamics.choose(logits_BNV, again, noise, temperature)
        pixels, decoder = self.tokenizer.extend(tokens_BN[:, None], state.decoder)
        # Rounded to uint8, so that a rollout read back from disk continues identically.
        frame = (pixels * 255).round().clamp(0, 255).to(torch.uint8)
        following = advanced.appended(frame, tokens_BN, action_BA, decoder)
        return following, Step(frame, tokens_BN, logits_BNV, used_z[:, 0])

    def restarted(self, state: WorldState) -> WorldState:
        """`state`, or a new window if this one has served its T predictions.

        The last T / 2 frames are re-encoded from pixels: caches of a causal trunk still hold the dropped frames.
        """
        if state.length <= self.window:
            return state
        keep = max(self.window // 2, 1)
        return self.start(state.frames[:, -keep:], state.actions[:, state.length - keep :], state.z)

    def _advanced(
        self, state: WorldState, frames: Tensor, tokens: Tensor, actions: Tensor, z: Tensor | None = None
    ) -> tuple[WorldState, Tensor]:
        """Take F (frame, action) pairs into prior and dynamics: the state, whose frames stay, and the last logits."""
        prior, fixed = state.prior, state.z if z is None else z
        if prior is not None and self.behavior is not None:  # kept up even where another z is used
            log_probs, prior = self.behavior.extend_prior(self.tokenizer.pixels(frames), actions, prior)
            inferred = mode(log_probs).flatten(2)
        else:
            inferred = actions.new_zeros(*actions.shape[:2], self.dynamics.config.z_size)
        z_BFZ = inferred if fixed is None else fixed[:, None].expand_as(inferred)
        logits_BNV, dynamics = self.dynamics.extend(tokens, actions, z_BFZ, state.dynamics)
        at_least_float = torch.promote_types(logits_BNV.dtype, torch.float32)
        conditioning = torch.cat([state.conditioning, z_BFZ], dim=1)
        advanced = replace(state, prior=prior, dynamics=dynamics, conditioning=conditioning)
        return advanced, logits_BNV.to(at_least_float)

    def _empty_prior(self, batch: int) -> TemporalCache | None:
        if self.behavior is None or not self.dynamics.config.behavior_conditioning:
            return None
        return self.behavior.empty_cache(batch, self.window)

    def _fixed(self, z: Conditioning, actions: Tensor) -> Tensor | None:
        """The z [B, Z] that replaces the prior from the start on, if any."""
        shape = (len(actions), self.dynamics.config.z_size)
        if isinstance(z, Tensor):
            if tuple(z.shape) != shape:
                raise ConfigError(ROLLOUT, place="z", found=tuple(z.shape), expected=shape)
            return z.to(actions)
        return actions.new_zeros(shape) if z == "off" else None

    def num_given(self, frames: Tensor, actions: Tensor, horizon: int) -> int:
        """c, the number of given frames; ConfigError where frames, actions and horizon do not fit together."""
        given = frames.shape[1]
        if not 1 <= given <= self.window or actions.shape[1] != given - 1 + horizon or horizon < 1:
            raise ConfigError(
                ROLLOUT,
                found=f"{given} frames, {actions.shape[1]} actions",
                expected=f"1..{self.window} frames and frames - 1 + {horizon} actions",
            )
        return given

    def noise(self, batch: int, seed: int, number: int) -> Tensor:
        """Gumbel noise [B, N, V] of the imagined frame `number`, keyed by (seed, number); drawn on the CPU."""
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        shape = (batch, self.tokenizer.config.num_tokens, self.dynamics.config.num_codes)
        return gumbel(shape, generator).to(self.device)

    @property
    def device(self) -> torch.device:
        """Where the networks lie."""
        return self.tokenizer.device

    def _arithmetic(self) -> AbstractContextManager:
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)
