"""How far to trust one imagined step: retracing, entropy, ensemble and none, behind one interface.

A method takes a `Query` (a history and the action taken at its end) and gives one number per row, higher for less
trust. Methods asked about one query share its plain prediction. Any world model will do: the interface is world.py.
Shapes: B queries, C frames of history, A action (RAW units), K depths, h horizon.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from whale.common.errors import ConfigError
from whale.evaluation.uncertainty.retracing import Form, Noise, Retraced, retraced, usable_depths
from whale.evaluation.uncertainty.world import FrameModel, Next, Recomputing, WorldModel, restarted

Distance = Callable[[Tensor, Tensor], Tensor]  # two batches of images [B, ...] -> [B], >= 0
UNDEFINED = float("nan")


@dataclass
class Query:
    """Taking a_t = actions[:, -1] at the end of `state`. `is_first` [B, C], `is_end` [B]: see usable_depths."""

    model: WorldModel
    state: Any
    actions: Tensor  # [B, C, A]: a_w..a_t
    is_first: Tensor | None = None
    is_end: Tensor | None = None
    noise: Noise | None = None
    _plain: tuple[Any, Next] | None = field(default=None, repr=False)

    @property
    def plain(self) -> Next:
        """The prediction of o_{t+1}; made once."""
        return self._step()[1]

    @property
    def next_state(self) -> Any:
        """The state that ends in it."""
        return self._step()[0]

    def keep(self, found: Retraced) -> None:
        """The plain prediction was made along with the branches."""
        self._plain = (found.state, found.plain)

    def _step(self) -> tuple[Any, Next]:
        if self._plain is None:
            noise = None if self.noise is None else self.noise(self.actions.shape[1])
            self._plain = self.model.step(self.state, self.actions[:, -1], noise)
        return self._plain


def query(model: WorldModel, frames: Tensor, actions: Tensor, **marks: Any) -> Query:
    """A query about a history as such: frames o_w..o_t [B, C, ...], actions a_w..a_t [B, C, A]."""
    return Query(model, model.start(frames, actions[:, :-1]), actions, **marks)


@dataclass(frozen=True)
class Score:
    """`uncertainty` [B], NaN where it is not defined, and what it is made of."""

    uncertainty: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)


class Method(Protocol):
    """An uncertainty."""

    @property
    def name(self) -> str:
        """What its numbers are called."""

    def __call__(self, query: Query) -> Score: ...


@dataclass(frozen=True)
class Retracing:
    """U = D * Hbar: mean distance of the branches to the plain prediction, times its entropy (P 4.2).

    NaN where no depth fits, never padded. Without token probabilities U = D.
    """

    distance: Distance
    depths: Sequence[int]
    form: Form = "auto"
    freeze_z: bool = False
    drop_on_gripper_change: bool = False
    name: str = "retracing"

    def __call__(self, query: Query) -> Score:
        actions = query.actions
        usable_BK = usable_depths(
            actions, self.depths, is_first=query.is_first, is_end=query.is_end,
            drop_on_gripper_change=self.drop_on_gripper_change,
        )  # fmt: skip
        kept = [depth for depth, is_used in zip(self.depths, usable_BK.any(dim=0).tolist(), strict=True) if is_used]
        found = retraced(
            query.model, query.state, actions, kept, form=self.form, noise=query.noise, freeze_z=self.freeze_z
        )
        query.keep(found)
        disagreement = self._disagreement(found, usable_BK)
        if found.plain.logits is None:
            return Score(disagreement, {"disagreement": disagreement})
        entropy = found.plain.entropy().to(disagreement.dtype)
        return Score(disagreement * entropy, {"disagreement": disagreement, "entropy": entropy})

    def _disagreement(self, found: Retraced, usable_BK: Tensor) -> Tensor:
        """D [B]: mean over the usable depths 1, 2, ...; 0 if the only depth asked for is 0, the plain prediction."""
        batch = len(found.plain.frame)
        if set(self.depths) == {0}:
            return torch.zeros(batch, dtype=torch.float64, device=usable_BK.device)
        total = torch.zeros(batch, dtype=torch.float64, device=usable_BK.device)
        for column, depth in enumerate(self.depths):
            if depth in found.branches:
                distance = self.distance(found.plain.frame, found.branches[depth]).to(torch.float64)
                total += torch.where(usable_BK[:, column], distance, 0.0)
        count = usable_BK.sum(dim=1)
        return torch.where(count > 0, total / count.clamp_min(1), UNDEFINED)


@dataclass(frozen=True)
class Entropy:
    """Hbar of the plain prediction (P B.3)."""

    name: str = "entropy"

    def __call__(self, query: Query) -> Score:
        return Score(query.plain.entropy().to(torch.float64))


@dataclass(frozen=True)
class Ensemble:
    """Mean over pixels and channels of the population variance of what the members predict from the SAME history.

    The members share everything but the dynamics, so that a history's tokens mean the same to each (P "pixel-level
    variance", three members). The examined model is member one; `others` are the rest. Images count in [0, 1].
    """

    others: Sequence[FrameModel]
    name: str = "ensemble"

    def __post_init__(self) -> None:
        if not self.others:
            raise ConfigError("an ensemble needs two members or more", place="ensemble", found=1, expected=">= 2")

    def __call__(self, query: Query) -> Score:
        history = query.model.history(query.state)
        images = [_unit(query.plain.frame)]
        for member in self.others:
            _, predicted = Recomputing(member).step(history, query.actions[:, -1])
            images.append(_unit(predicted.frame))
        return Score(torch.stack(images).var(dim=0, correction=0).flatten(1).mean(dim=1))


@dataclass(frozen=True)
class NoUncertainty:
    """0: the baseline that trusts every step alike."""

    name: str = "none"

    def __call__(self, query: Query) -> Score:
        return Score(torch.zeros(len(query.actions), dtype=torch.float64, device=query.actions.device))


@dataclass(frozen=True)
class ScoredRollout:
    """`frames` [B, h, ...]; `scores`: method, or method.part -> float64 [B, h]: the score BEFORE each frame."""

    frames: Tensor
    scores: dict[str, Tensor]


def scored_rollout(
    model: WorldModel, frames: Tensor, actions: Tensor, horizon: int, methods: Sequence[Method]
) -> ScoredRollout:
    """Imagine `horizon` frames by argmax and ask every method about each step, from the history the rollout holds then.

    frames [B, c, ...], actions [B, c-1+h, A]. Retracing and rollout share the plain prediction, token by token.
    """
    given = frames.shape[1]
    state, imagined = model.start(frames, actions[:, : given - 1]), []
    scores: dict[str, list[Tensor]] = {}
    for action in actions[:, given - 1 : given - 1 + horizon].unbind(1):
        state = restarted(model, state)
        asked = Query(model, state, torch.cat([model.history(state).actions, action[:, None]], dim=1))
        for method in methods:
            found = method(asked)
            scores.setdefault(method.name, []).append(found.uncertainty)
            for part, values in found.parts.items():
                scores.setdefault(f"{method.name}.{part}", []).append(values)
        imagined.append(asked.plain.frame)
        state = asked.next_state
    return ScoredRollout(
        torch.stack(imagined, dim=1), {name: torch.stack(values, dim=1) for name, values in scores.items()}
    )


def _unit(frame: Tensor) -> Tensor:
    """uint8 -> [0, 1] in float64; floats are taken as they are."""
    return frame.to(torch.float64) / 255 if frame.dtype == torch.uint8 else frame.to(torch.float64)
