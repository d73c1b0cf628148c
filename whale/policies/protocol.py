"""What a policy is to us: `reset`, then `act(observation)` -> a chunk of raw actions.

    class Mine:
        def reset(self, seed, instruction): ...
        def act(self, observation): return actions   # [k, A]: all k are carried out before it is asked again

A function `observation -> actions` will do (`from_callable`). A policy may say `control_hz` and `action_dimensions`:
they are compared with the world's action contract. Shapes: R resolution, k actions of a chunk, A action.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np


@dataclass(frozen=True)
class Observation:
    """`image` uint8 RGB [R, R, 3], imagined or real; `step`: actions taken so far in this episode."""

    image: np.ndarray
    instruction: str
    step: int


@runtime_checkable
class Policy(Protocol):
    """One episode at a time; another one begins with `reset`."""

    def reset(self, seed: int, instruction: str) -> None: ...

    def act(self, observation: Observation) -> np.ndarray: ...


@dataclass(frozen=True)
class Beginning:
    """An episode as a policy meets it. `number` and `seed` are the same for all policies; `scene`: where a simulator
    knows the true state (its own type), else None; `recorded` [A]: the raw action that was recorded here, if any."""

    number: int
    seed: int
    image: np.ndarray
    instruction: str
    scene: Any = None
    recorded: np.ndarray | None = None


class Actor(Protocol):
    """Plays many episodes side by side: `rows` says which of them are asked."""

    def act(self, observations: Sequence[Observation], rows: Sequence[int]) -> list[np.ndarray]: ...


@dataclass(frozen=True)
class Contender:
    """A policy in a comparison: its name, and how it begins episodes. `identity`: what else decides its actions; where
    that is not known ("") its trials are not kept, for nobody could tell whether they are still true."""

    name: str
    begin: Callable[[Sequence[Beginning]], Actor]
    identity: str = ""
    control_hz: float | None = None
    action_dimensions: tuple[str, ...] | None = None


class _OneByOne:
    """An actor of policies of their own, one for each episode."""

    def __init__(self, policies: Sequence[Policy], beginnings: Sequence[Beginning]):
        self.policies = policies
        for policy, beginning in zip(policies, beginnings, strict=True):
            policy.reset(beginning.seed, beginning.instruction)

    def act(self, observations: Sequence[Observation], rows: Sequence[int]) -> list[np.ndarray]:
        return [self.policies[row].act(each) for row, each in zip(rows, observations, strict=True)]


def contender(name: str, make: Callable[[Beginning], Policy], identity: str = "", **said: Any) -> Contender:
    """`make` gives a policy of its own for each episode; `said`: control_hz, action_dimensions.

    Its trials are kept only under an `identity`, e.g. the digest of its weights.
    """
    return Contender(
        name, lambda beginnings: _OneByOne([make(each) for each in beginnings], beginnings), identity, **said
    )


class _Function:
    def __init__(self, act: Callable[[Observation], Any]):
        self._act = act

    def reset(self, seed: int, instruction: str) -> None:
        """A function remembers nothing."""

    def act(self, observation: Observation) -> np.ndarray:
        return np.asarray(self._act(observation))


def from_callable(name: str, function: Callable[[Observation], Any], **said: Any) -> Contender:
    """Any function of an observation."""
    return contender(name, lambda _: _Function(function), **said)
