"""How far to trust one imagined step: retracing and an ensemble, as observers of a rollout (rollout.py).

Each takes a `Query` (a history and the action taken at its end) and gives one number per row, higher for less trust.
Any world will do. Shapes: B queries, C frames of history, A action (RAW units), K depths.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from whale.common.errors import ConfigError
from whale.evaluation.uncertainty.estimation.retracing import Form, Retraced, retraced, usable_depths
from whale.models.world.rollout import Query
from whale.models.world.world import World

Distance = Callable[[Tensor, Tensor], Tensor]  # two batches of images [B, ...] -> [B], >= 0
UNDEFINED = float("nan")


def feature_distance(world: World) -> Distance:
    """Mean squared difference of a world's features of two images, each described by itself. -> float64 [B]."""

    def distance(left: Tensor, right: Tensor) -> Tensor:
        squared = (world.features(left) - world.features(right)).to(torch.float64).square()
        return squared.flatten(1).mean(dim=1)

    return distance


@dataclass(frozen=True)
class Retracing:
    """U = D * Hbar: mean distance of the branches to the plain prediction, times its entropy (P 4.2).

    -> `retracing` U, `disagreement` D, `entropy` Hbar. NaN where no depth fits, never padded. Without token
    probabilities U = D. samples: where tokens are drawn, D is the mean over as many draws, each common to all branches;
    the rollout goes on with the first.
    """

    distance: Distance
    depths: Sequence[int]
    samples: int = 1
    form: Form = "auto"
    freeze_z: bool = False
    drop_on_gripper_change: bool = False

    def __call__(self, query: Query) -> dict[str, Tensor]:
        usable_BK = usable_depths(
            query.actions, self.depths, is_first=query.is_first, is_end=query.is_end,
            drop_on_gripper_change=self.drop_on_gripper_change,
        )  # fmt: skip
        kept = [depth for depth, is_used in zip(self.depths, usable_BK.any(dim=0).tolist(), strict=True) if is_used]
        found = retraced(query, kept, form=self.form, freeze_z=self.freeze_z)
        drawn = [self._disagreement(found, usable_BK)]
        for sample in range(1, self.samples):
            again = retraced(query.redrawn(sample), kept, form=self.form, freeze_z=self.freeze_z)
            drawn.append(self._disagreement(again, usable_BK))
        disagreement = torch.stack(drawn).mean(dim=0)
        if found.step.logits is None:
            return {"retracing": disagreement, "disagreement": disagreement}
        entropy = found.step.entropy().to(disagreement.dtype)
        return {"retracing": disagreement * entropy, "disagreement": disagreement, "entropy": entropy}

    def _disagreement(self, found: Retraced, usable_BK: Tensor) -> Tensor:
        """D [B]: mean over the usable depths 1, 2, ...; 0 if the only depth asked for is 0, the plain prediction."""
        total = torch.zeros(len(usable_BK), dtype=torch.float64, device=usable_BK.device)
        if set(self.depths) == {0}:
            return total
        for column, depth in enumerate(self.depths):
            if depth in found.branches:
                distance = self.distance(found.step.frame, found.branches[depth]).to(torch.float64)
                total += torch.where(usable_BK[:, column], distance, 0.0)
        count = usable_BK.sum(dim=1)
        return torch.where(count > 0, total / count.clamp_min(1), UNDEFINED)


@dataclass(frozen=True)
class Ensemble:
    """`ensemble`: mean over pixels and channels of the population variance of what the members predict.

    All from the SAME history: the members share everything but the dynamics, so that its tokens mean the same to each
    (P "pixel-level variance", three members). The world that is asked is member one; `others` are the rest, who draw
    with its numbers where it draws. Images count in [0, 1].
    """

    others: Sequence[World]

    def __post_init__(self) -> None:
        if not self.others:
            raise ConfigError("an ensemble needs two members or more", place="ensemble", found=1, expected=">= 2")

    def __call__(self, query: Query) -> dict[str, Tensor]:
        history, images = query.state, [_unit(query.step.frame)]
        draw = query.draw(history.length)
        for member in self.others:
            state = member.start_like(history)
            images.append(_unit(member.step(state, query.action, draw)[1].frame))
        return {"ensemble": torch.stack(images).var(dim=0, correction=0).flatten(1).mean(dim=1)}


def _unit(frame: Tensor) -> Tensor:
    """uint8 -> [0, 1] in float64; floats are taken as they are."""
    return frame.to(torch.float64) / 255 if frame.dtype == torch.uint8 else frame.to(torch.float64)
