"""What a world model must offer to be imagined with and to be examined: ours, and anybody's.

Two methods: `start` takes in a history, `step` predicts the next frame. Rollouts (rollout.py) and uncertainties are
written on them. Actions are in RAW units: a world normalises and clips them itself.

The window rule, for all: a window serves T predictions; then its last T / 2 frames start a new one, encoded anew.
Dropping the oldest frame instead would not do: what a causal trunk remembers of later frames contains it.

A world with memory infers z from steps before the window as well, at most `memory` in all. Its history goes on when the
window starts anew; where it would not hold what the new window serves, it starts anew too, with (memory - T) / 2 steps
before that window. So it changes with windows only, and within a window a state can be cut back.

Shapes: B batch, C frames held, N tokens per frame, V codes, A action size, Z behavior embedding.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from whale.common.errors import ConfigError
from whale.models.world.noise import gumbel, row_key
from whale.models.world.state import Step, WorldState


@dataclass(frozen=True)
class Draw:
    """How the tokens of a frame are drawn: with Gumbel `noise` [B, N, V] at a temperature, which divides logits."""

    noise: Tensor
    temperature: float = 1.0

    def repeated(self, times: int) -> "Draw":
        """The same numbers for each of several batches in one."""
        return Draw(self.noise.repeat(times, 1, 1), self.temperature)


class World(ABC):
    """`window`: T. `codes`: (N, V) of a world whose tokens can be drawn; `z_size`: 0 for a world without z.

    `memory`: H, 0 for a world that looks no further back than its window.
    """

    window: int
    memory: int = 0
    codes: tuple[int, int] | None = None
    z_size: int = 0

    @abstractmethod
    def start(
        self, frames: Tensor, actions: Tensor, *, tokens: Tensor | None = None, z: Tensor | None = None
    ) -> WorldState:
        """The state of frames o_w..o_t [B, C, ...], C <= T, and the actions a_w..a_{t-1} [B, C - 1, A] between them.

        tokens [B, C, N]: the frames' codes where they are known; else the world encodes. z [B, Z]: conditions every
        step from a_w on, instead of what the world would infer.
        """

    @abstractmethod
    def step(
        self, state: WorldState, action_BA: Tensor, draw: Draw | None = None, z: Tensor | None = None
    ) -> tuple[WorldState, Step]:
        """Predict o_{t+1} by a_t, and the state that ends in it: the most likely tokens, or those of `draw`.

        z [B, Z] conditions this one step instead of what the state says.
        """

    def start_behind(self, frames: Tensor, actions: Tensor, seen: int, *, z: Tensor | None = None) -> WorldState:
        """As `start`, with a window that holds the last `seen` of the frames; memory takes from the others."""
        first = frames.shape[1] - seen
        return self.start(frames[:, first:], actions[:, first:], z=z)

    def start_like(self, state: WorldState) -> WorldState:
        """The state of this world after the same history, frames, actions and tokens as another's `state`."""
        return self.start(state.frames, state.actions, tokens=state.tokens)

    @property
    def device(self) -> torch.device:
        """Where frames and actions have to lie."""
        return torch.device("cpu")

    def features(self, frames: Tensor) -> Tensor:
        """[B, ...] images -> [B, ...] features to compare them in, each image by itself, whatever its history."""
        return frames

    def restarted(self, state: WorldState) -> WorldState:
        """`state`, or a new window if this one has served its T predictions."""
        if state.length <= self.window:
            return state
        keep = max(self.window // 2, 1)
        return self.start(state.frames[:, -keep:], state.actions[:, state.length - keep :], z=state.fixed_z)

    def draw(self, frames: Tensor, temperature: float, seed: int | Sequence[int], number: int) -> Draw:
        """What imagined frame `number` of each row is drawn with: keyed by (seed, number, row), made where frames lie.

        A seed for each row: then a row draws the same in whatever batch it stands, as row 0 of that seed.
        """
        if self.codes is None:
            raise ConfigError("this world model has no tokens to draw", place="temperature", found=temperature)
        places = [(seed, row) for row in range(len(frames))] if isinstance(seed, int) else [(each, 0) for each in seed]
        keys = [row_key(each, number, row) for each, row in places]
        return Draw(gumbel(keys, *self.codes, frames.device), temperature)
