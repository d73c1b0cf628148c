"""The rollout: a world steps on its own output, and observers keep what they want of every step.

An observer is any function of a `Query`: the state a step is taken in, the action, and the prediction, which all that
ask share. What it returns by name is kept: `lambda query: {"z": query.step.z}`.

Shapes: B batch, C frames held, c given frames, T window, H horizon, N tokens, A action size (RAW units), Z embedding.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from whale.common.errors import ConfigError
from whale.models.world.state import Step, WorldState
from whale.models.world.world import Draw, World

Conditioning = Literal["prior", "frozen", "off"] | Tensor
Noise = Callable[[int], Draw]  # window position of a frame, 0 for o_w -> what its tokens are drawn with
SHAPES = "rollout shapes"
ANOTHER = 10**9 + 7  # between the seeds of two draws of one frame


@dataclass
class Query:
    """What follows a_t = `action` [B, A] at the end of `state`? By argmax, or drawn with `noise`.

    `is_first` [B, C]: this frame begins an episode; `is_end` [B]: o_t is the last of its episode.
    """

    world: World
    state: WorldState
    action: Tensor
    noise: Noise | None = None
    is_first: Tensor | None = None
    is_end: Tensor | None = None
    _outcome: tuple[WorldState, Step] | None = field(default=None, repr=False)

    @property
    def actions(self) -> Tensor:
        """a_w..a_t [B, C, A]."""
        return torch.cat([self.state.actions, self.action[:, None]], dim=1)

    @property
    def step(self) -> Step:
        """The prediction of o_{t+1}; made once."""
        return self._answered()[1]

    @property
    def following(self) -> WorldState:
        """The state that ends in it."""
        return self._answered()[0]

    def answer(self, following: WorldState, step: Step) -> None:
        """An observer made the prediction along with others of its own; the first one counts."""
        self._outcome = self._outcome or (following, step)

    def draw(self, position: int, times: int = 1) -> Draw | None:
        """For the frame at a position of the window, in `times` batches at once; None: by argmax."""
        return None if self.noise is None else self.noise(position).repeated(times)

    def redrawn(self, sample: int) -> "Query":
        """The same question with other numbers to draw by, of a rollout at a temperature; sample 0: the same numbers.

        Its own prediction does not go into the rollout.
        """
        if not isinstance(self.noise, KeyedNoise):
            raise ConfigError("tokens are not drawn here, so not again either", place="samples", found=sample)
        return replace(self, noise=self.noise.another(sample), _outcome=None)

    def _answered(self) -> tuple[WorldState, Step]:
        if self._outcome is None:
            self._outcome = self.world.step(self.state, self.action, self.draw(self.state.length))
        return self._outcome


Observer = Callable[[Query], Mapping[str, Tensor]]  # name -> [B, ...]


def frames(query: Query) -> dict[str, Tensor]:
    """`frames`, as the world paints them; ours uint8."""
    return {"frames": query.step.frame}


def tokens(query: Query) -> dict[str, Tensor]:
    """`tokens` int64 [B, N] of a world that has any."""
    return {} if query.step.tokens is None else {"tokens": query.step.tokens}


def entropy(query: Query) -> dict[str, Tensor]:
    """`entropy` float64 [B] of the token probabilities at temperature 1, mean over tokens, nats (P B.3)."""
    return {"entropy": query.step.entropy().to(torch.float64)}


@torch.inference_mode()
def rollout(
    world: World, given: Tensor, actions: Tensor, horizon: int, observers: Sequence[Observer] = (frames,), *,
    temperature: float = 0.0, seed: int | Sequence[int] = 0, z: Conditioning = "prior", seen: int | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """Imagine `horizon` frames after the `given` ones; everything observed, by name, as [B, H, ...].

    given [B, c, ...] with 1 <= c <= T; actions [B, c - 1 + horizon, A]: a_1 is taken at o_1. Observers are asked in
    their order before the rollout goes on.
    seen: how many of the given frames the first window holds, the last ones; a world with memory infers z from those
    before, too, and takes c > T (seen is T / 2 then). Without it the window holds all.
    temperature 0: the most likely tokens; above, they are drawn, the same for the same `seed` and place in the batch,
    or for the same seed of a row, where `seed` has one for each.
    z: the mode of the `prior` at every step; `frozen` at its value of the first imagined step; `off`, zeros; or one
    [B, Z] of the caller's choice.
    """
    count = given.shape[1]
    held = _held(world, count, seen)
    if not 1 <= held <= min(count, world.window) or actions.shape[1] != count - 1 + horizon or horizon < 1:
        raise ConfigError(
            SHAPES,
            found=f"{count} frames, {actions.shape[1]} actions" + (f", seen {seen}" if seen is not None else ""),
            expected=f"1..{world.window} frames and frames - 1 + {horizon} actions",
            remedy=None if world.memory else "of a longer history give the last frames, or say `seen`",
        )
    if not isinstance(seed, int) and len(seed) != len(given):
        raise ConfigError(SHAPES, place="seed", found=f"{len(seed)} seeds", expected=f"one, or {len(given)}")
    fixed = _fixed(world, z, actions)
    if held == count:
        state = world.start(given, actions[:, : count - 1], z=fixed)
    else:
        state = world.start_behind(given, actions[:, : count - 1], held, z=fixed)
    kept: dict[str, list[Tensor]] = {}
    for number, action_BA in enumerate(actions[:, count - 1 :].unbind(1)):
        state = world.restarted(state)
        noise = KeyedNoise(world, state, number, temperature, seed) if temperature else None
        query = Query(world, state, action_BA, noise)
        observed: dict[str, Tensor] = {}
        for observe in observers:
            observed |= observe(query)
        for name, value in observed.items():
            kept.setdefault(name, []).append(value)
        state = query.following
        if isinstance(z, str) and z == "frozen" and number == 0:
            state = replace(state, fixed_z=query.step.z)
    return {name: torch.stack(values, dim=1) for name, values in kept.items()}


def _held(world: World, count: int, seen: int | None) -> int:
    """Of so many given frames, how many the first window holds."""
    if seen is not None:
        return seen
    return max(world.window // 2, 1) if world.memory and count > world.window else count


@dataclass(frozen=True)
class KeyedNoise:
    """Keyed by the frame, not by the window: who imagines a frame of this rollout once more draws the same.

    `number`: of the frame that is imagined next, after the last of `state`.
    """

    world: World
    state: WorldState
    number: int
    temperature: float
    seed: int | Sequence[int]

    def __call__(self, position: int) -> Draw:
        number = self.number - self.state.length + position
        return self.world.draw(self.state.frames, self.temperature, self.seed, number)

    def another(self, sample: int) -> "KeyedNoise":
        """The same frames with other numbers."""
        seed, away = self.seed, sample * ANOTHER
        return replace(self, seed=seed + away if isinstance(seed, int) else [each + away for each in seed])


def _fixed(world: World, z: Conditioning, actions: Tensor) -> Tensor | None:
    """The z [B, Z] that replaces what the world would infer, from the start on, if any."""
    shape = (len(actions), world.z_size)
    if isinstance(z, Tensor) and tuple(z.shape) != shape:
        raise ConfigError(SHAPES, place="z", found=tuple(z.shape), expected=shape)
    if isinstance(z, Tensor):
        return z
    return actions.new_zeros(shape) if z == "off" else None
