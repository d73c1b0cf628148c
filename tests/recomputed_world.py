"""The learned world by its definition: every step runs the whole window through the networks, nothing is remembered."""

import torch
from torch import Tensor

from whale.models.dynamics.maskgit import MASKED
from whale.models.world.learned import LearnedWorld
from whale.models.world.state import History, Step, WorldState
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
        self.learned, self.window, self.memory = learned, learned.window, learned.memory
        self.codes, self.z_size = learned.codes, learned.z_size

    @torch.inference_mode()
    def start(self, frames, actions, *, tokens=None, z=None) -> WorldState:
        tokenizer = self.learned.tokenizer
        tokens = tokenizer.encode(tokenizer.pixels(frames)) if tokens is None else tokens
        return WorldState(frames, actions, tokens, self._z(frames[:, :-1], actions, z, None), z)

    @torch.inference_mode()
    def start_behind(self, frames, actions, seen, *, z=None) -> WorldState:
        if not self.memory or z is not None:
            return super().start_behind(frames, actions, seen, z=z)
        return self._opened(frames, actions, seen, self.memory - self.window)

    def start_like(self, state) -> WorldState:
        if not self.memory or state.history is None:
            return super().start_like(state)
        frames = torch.cat([state.history.frames, state.frames], dim=1)
        actions = torch.cat([state.history.actions, state.actions], dim=1)
        return self._opened(frames, actions, state.length, self.memory - self.window, state.tokens)

    @torch.inference_mode()
    def restarted(self, state) -> WorldState:
        if state.length <= self.window or not self.memory or state.fixed_z is not None:
            return super().restarted(state)
        frames, actions = state.frames, state.actions
        if state.history is not None:
            frames = torch.cat([state.history.frames, frames], dim=1)
            actions = torch.cat([state.history.actions, actions], dim=1)
        keep = max(self.window // 2, 1)
        fits = frames.shape[1] - keep + self.window <= self.memory
        return self._opened(frames, actions, keep, self.memory if fits else (self.memory - self.window) // 2)

    def _opened(self, frames, actions, seen, most, tokens=None) -> WorldState:
        """A window of the last `seen` frames behind at most `most` steps of history."""
        first = frames.shape[1] - seen
        used = slice(max(first - most, 0), first)
        history, tokenizer = History(frames[:, used], actions[:, used]), self.learned.tokenizer
        frames, actions = frames[:, first:], actions[:, first:]
        tokens = tokenizer.encode(tokenizer.pixels(frames)) if tokens is None else tokens
        z_BCZ = self._z(frames[:, :-1], actions, None, history)
        return WorldState(frames, actions, tokens, z_BCZ, history=history)

    @torch.inference_mode()
    def step(self, state, action_BA, draw=None, z=None) -> tuple[WorldState, Step]:
        actions = torch.cat([state.actions, action_BA[:, None]], dim=1)
        last = self._z(state.frames, actions, state.fixed_z if z is None else z, state.history)[:, -1:]
        taken, z_BCZ = self.learned.normalised(actions), torch.cat([state.z, last], dim=1)
        tokens, logits = chosen_tokens(self.learned.dynamics, state.tokens, taken, z_BCZ, draw)
        decoded = self.learned.tokenizer.decode(torch.cat([state.tokens, tokens[:, None]], dim=1))[:, -1]
        frame = (decoded * 255).round().clamp(0, 255).to(torch.uint8)
        frame = self.learned.tokenizer.hold_pixels(frame, tokens, state.frames[:, -1], state.tokens[:, -1])
        step = Step(frame, tokens, logits, last[:, 0])
        return state.followed_by(action_BA, step), step

    def features(self, frames: Tensor) -> Tensor:
        return self.learned.features(frames)

    def _z(self, frames: Tensor, actions: Tensor, fixed: Tensor | None, history: History | None) -> Tensor:
        """z of every step, from the window's frames and what came before them."""
        taken, behavior = self.learned.normalised(actions), self.learned.behavior
        if fixed is not None or behavior is None:
            z = taken.new_zeros(len(taken), self.z_size) if fixed is None else fixed
            return z[:, None].expand(-1, taken.shape[1], -1)
        if not taken.shape[1]:
            return taken.new_zeros(len(taken), 0, self.z_size)
        before = 0 if history is None else history.length
        if history is not None:
            frames = torch.cat([history.frames, frames], dim=1)
            taken = torch.cat([self.learned.normalised(history.actions), taken], dim=1)
        log_probs = behavior.prior_log_probs(self.learned.tokenizer.pixels(frames), taken)
        return self.learned.dynamics.inferred_z(log_probs[:, before:])
