"""A run of learning by rounds: each is so many gradient steps, then perhaps an evaluation, then a saved state.

Everything drawn is keyed by (seed, name, round), so a run that was killed goes on from its newest state to the same
bytes. Evaluations are part of a round: one that was interrupted is made again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from whale.control.policy import PixelPolicy
from whale.training.loop.resume.checkpoint import StateFolder, TrainingState


class Learning(Protocol):
    """What learns. `policy` is what is evaluated; `facts`: numbers of the run as a whole."""

    policy: PixelPolicy
    facts: dict[str, float]

    def round(self, number: int) -> dict[str, float]: ...

    def tensors(self) -> dict[str, Tensor]: ...

    def load(self, tensors: dict[str, Tensor], facts: dict[str, float]) -> None: ...


@dataclass(frozen=True)
class Point:
    """Of a curve: gradient steps done, and in which starts the policy succeeds (bool [E])."""

    steps: int
    success: Sequence[bool]


def generator(seed: int, name: str, number: int) -> np.random.Generator:
    """For one round of one run."""
    return np.random.default_rng([seed, *name.encode(), number])


def carry_out(
    learning: Learning, rounds: int, steps_per_round: int, evaluate_every: int, states: StateFolder,
    evaluate: Callable[[PixelPolicy], np.ndarray], progress: Callable[[int, bool], object],
) -> tuple[list[Point], list[dict[str, float]]]:  # fmt: skip
    """All rounds that are not done yet: the curve, whose last point is after the last step, and a record a round.

    `progress` is told how many rounds are done, and whether an earlier call did them.
    """
    states.clean()
    state = states.newest()
    done, kept = (0, {"curve": [], "records": []}) if state is None else (state.step, state.record)
    curve, records = list(kept["curve"]), list(kept["records"])
    if state is not None:
        learning.load(state.tensors, dict(kept["facts"]))
        progress(done, True)
    for number in range(done, rounds):
        records.append({"steps": (number + 1) * steps_per_round} | learning.round(number))
        if (number + 1) % evaluate_every == 0 or number + 1 == rounds:
            curve.append({"steps": (number + 1) * steps_per_round, "success": evaluate(learning.policy).tolist()})
        record: dict[str, Any] = {"curve": curve, "records": records, "facts": learning.facts}
        states.save(TrainingState(number + 1, learning.tensors(), record))
        progress(1, False)
    return [Point(each["steps"], each["success"]) for each in curve], records
