"""The recurrent model as a world: what it remembers is its state, so that its window never fills.

Given frames are followed by the posterior, imagined ones by the prior; z is the most likely one, or drawn with a
keyed `Draw`, as the tokens of our own world are. Its latents stand where ours has tokens; they have no meaning to the
tokenizer, nor its tokens here.

Shapes: B batch, C frames held, R resolution, A action size, D width of h, K categoricals, M classes, L = D + K M.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from whale.baselines.rssm.rssm import RSSM
from whale.common.errors import ConfigError
from whale.models.behavior.categorical import mode
from whale.models.world.state import Step, WorldState
from whale.models.world.world import Draw, World

Normalize = Callable[[Tensor], Tensor]  # raw actions [..., A] -> normalised and clipped, where they lie


@dataclass(frozen=True)
class RSSMState(WorldState):
    """`recurrent` [B, C, D]: h at each frame held; `tokens` [B, C, K]: the classes of its z."""

    recurrent: Tensor | None = None

    def cut(self, length: int) -> "RSSMState":
        """As it was when it held `length` frames."""
        shorter = super().cut(length)
        assert isinstance(shorter, RSSMState) and self.recurrent is not None
        return replace(shorter, recurrent=self.recurrent[:, :length])

    def take(self, rows: slice) -> "RSSMState":
        """Some rows of the batch."""
        assert self.tokens is not None and self.recurrent is not None
        return RSSMState(self.frames[rows], self.actions[rows], self.tokens[rows], recurrent=self.recurrent[rows])


class RSSMWorld(World):
    """Predicts pixels uint8 [B, R, R, 3]. `window`: the most given frames; `normalize`: None for normalised actions."""

    def __init__(self, model: RSSM, window: int, normalize: Normalize | None = None):
        self.model, self.window, self.normalize = model, window, normalize
        self.codes = model.config.z_shape

    def start(
        self, frames: Tensor, actions: Tensor, *, tokens: Tensor | None = None, z: Tensor | None = None
    ) -> RSSMState:
        with torch.inference_mode():
            if tokens is None:
                seen = self.model.observe(self.model.encode(self.model.pixels(frames)), self._taken(actions))
                return RSSMState(frames, actions, seen.z.argmax(-1), recurrent=seen.state)
            states = [self.model.first_state(len(frames))]
            for classes, action in zip(tokens[:, :-1].unbind(1), self._taken(actions).unbind(1), strict=True):
                states.append(self.model.advance(states[-1], self._one_hot(classes), action))
            return RSSMState(frames, actions, tokens, recurrent=torch.stack(states, dim=1))

    @torch.inference_mode()
    def step(
        self, state: WorldState, action_BA: Tensor, draw: Draw | None = None, z: Tensor | None = None
    ) -> tuple[RSSMState, Step]:
        if not isinstance(state, RSSMState) or state.recurrent is None or state.tokens is None:
            raise ConfigError("a state of another world", place="RSSMWorld.step", found=type(state).__name__,
                              expected="one that start() or step() gave")  # fmt: skip
        z_BKM = self._one_hot(state.tokens[:, -1])
        recurrent = self.model.advance(state.recurrent[:, -1], z_BKM, self._taken(action_BA))
        log_probs = self.model.prior(recurrent)
        chosen = mode(log_probs if draw is None else log_probs / draw.temperature + draw.noise)
        # Rounded to uint8, as our own world's frames are.
        frame = (self.model.decode(recurrent, chosen) * 255).round().clamp(0, 255).to(torch.uint8)
        step = Step(frame, chosen.argmax(-1), log_probs)
        following = state.followed_by(action_BA, step)
        assert isinstance(following, RSSMState)
        return replace(following, recurrent=torch.cat([state.recurrent, recurrent[:, None]], dim=1)), step

    def restarted(self, state: WorldState) -> WorldState:
        """`state`: a recurrent one goes on for as long as it is asked."""
        return state

    @torch.inference_mode()
    def features(self, frames: Tensor) -> Tensor:
        """The encoder's view of each image alone: [B, E]."""
        return self.model.encode(self.model.pixels(frames))

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return self.model.device

    def _taken(self, raw: Tensor) -> Tensor:
        return raw if self.normalize is None else self.normalize(raw)

    def _one_hot(self, classes_BK: Tensor) -> Tensor:
        return F.one_hot(classes_BK, self.model.config.num_classes).to(self.model.initial.dtype)
