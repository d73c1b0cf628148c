"""The learned world by its definition: every step runs the whole window through the networks, nothing is remembered."""

import torch
from torch import Tensor

from whale.models.behavior.categorical import mode
from whale.models.dynamics.maskgit import MASKED
from whale.models.world.learned import LearnedWorld
from whale.models.world.state import Step, WorldState
from whale.models.world.world import World


def chosen_tokens(dynamics, tokens, taken, z, draw=None) -> tuple[Tensor, Tensor]:
    """The next frame's tokens [B, N] and logits; the revealed tokens of a MaskGIT sampler are among the inputs."""

    def again(revealed):
        earlier = torch.full_like(tokens[:, :-1], MASKED)
        return dynamics.logits(tokens, taken, z, torch.cat([earlier, revealed[:, None]], dim=1))[:, -1]

    logits = dynamics.logits(tokens, taken, z)[:, -1]
    noise, temperature = (None, 1.0) if draw is None else (draw.noise, draw.temperature)
    return dynamics.choose(logits, again, noise, temperature), logits


class RecomputedWorld(World):
    """`learned` without its caches."""

    def __init__(self, learned: LearnedWorld):
        self.learned, self.window = learned, learned.window
        self.codes, self.z_size = learned.codes, learned.z_size

    @torch.inference_mode()
    def start(self, frames, actions, *, tokens=None, z=None) -> WorldState:
        tokenizer = self.learned.tokenizer
        tokens = tokenizer.encode(tokenizer.pixels(frames)) if tokens is None else tokens
        return WorldState(frames, actions, tokens, self._z(frames[:, :-1], actions, z), z)

    @torch.inference_mode()
    def step(self, state, action_BA, draw=None, z=None) -> tuple[WorldState, Step]:
        actions = torch.cat([state.actions, action_BA[:, None]], dim=1)
        last = self._z(state.frames, actions, state.fixed_z if z is None else z)[:, -1:]
        taken, z_BCZ = self.learned.normalised(actions), torch.cat([state.z, last], dim=1)
        tokens, logits = chosen_tokens(self.learned.dynamics, state.tokens, taken, z_BCZ, draw)
        decoded = self.learned.tokenizer.decode(torch.cat([state.tokens, tokens[:, None]], dim=1))[:, -1]
        frame = (decoded * 255).round().clamp(0, 255).to(torch.uint8)
        step = Step(frame, tokens, logits, last[:, 0])
        return state.followed_by(action_BA, step), step

    def features(self, frames: Tensor) -> Tensor:
        return self.learned.features(frames)

    def _z(self, frames: Tensor, actions: Tensor, fixed: Tensor | None) -> Tensor:
        """z of every step."""
        taken, behavior = self.learned.normalised(actions), self.learned.behavior
        if fixed is not None or behavior is None:
            z = taken.new_zeros(len(taken), self.z_size) if fixed is None else fixed
            return z[:, None].expand(-1, taken.shape[1], -1)
        if not taken.shape[1]:
            return taken.new_zeros(len(taken), 0, self.z_size)
        return mode(behavior.prior_log_probs(self.learned.tokenizer.pixels(frames), taken)).flatten(2)
