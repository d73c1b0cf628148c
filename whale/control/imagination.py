"""Branches of imagination: from recorded histories a policy acts in the learned world for a few steps.

What an imagined action earned is what the reward head reads off the frames, less alpha times how little the frame is
to be trusted (P 6.3, MOPO). U is that of whale/evaluation/uncertainty.
Shapes: B branches, c given frames, H horizon, R resolution, X what is seen, A actions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from whale.common.config import Config
from whale.common.errors import BadDataError
from whale.control.policy import Describer, PixelPolicy
from whale.data.segments.actions import ActionNormalizer
from whale.evaluation.uncertainty.estimation.retracing import require_retraceable
from whale.evaluation.uncertainty.estimation.uncertainty import Ensemble, Retracing, feature_distance
from whale.models.dynamics.dynamics import Dynamics
from whale.models.world.learned import LearnedWorld
from whale.models.world.rollout import Observer, Query, entropy
from whale.reward.reward import RewardHead, Seen
from whale.worlds.world import World

Penalty = Literal["none", "entropy", "ensemble", "retracing"]


class ImaginationConfig(Config):
    """`penalties`: the methods that are compared, by their U. `horizon` of a branch (P: 4), behind `context` recorded
    frames; `branches` of a round; `recorded_share` of each batch (P: 0.5); `mean_penalty`: of alpha * U in a run's
    first round, in units of the reward: alpha follows from it. `exploration`: noise on imagined actions."""

    penalties: list[Penalty] = Field(min_length=1)
    horizon: int = Field(gt=0)
    context: int = Field(gt=0)
    branches: int = Field(gt=0)
    recorded_share: float = Field(ge=0, le=1)
    mean_penalty: float = Field(ge=0)
    exploration: float = Field(ge=0)
    retracing_steps: list[Annotated[int, Field(gt=0)]] = Field(min_length=1)

    @model_validator(mode="after")
    def _depths_fit(self) -> Self:
        if max(self.retracing_steps) >= self.context:
            raise ValueError(f"retracing_steps {self.retracing_steps}: each must be less than context {self.context}")
        if len(set(self.penalties)) < len(self.penalties):
            raise ValueError(f"penalties: one is named twice: {self.penalties}")
        return self


@dataclass(frozen=True)
class Begun:
    """How the episodes of B branches began, which their rewards depend on: frames uint8 [B, R, R, 3], instructions."""

    frames: np.ndarray
    instructions: Sequence[str]


@dataclass(frozen=True)
class Imagined:
    """What happened in B branches of H steps, as B * H rows: `uncertainty` is U, 0 without a method."""

    seen: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    uncertainty: np.ndarray
    following: np.ndarray


def observer(penalty: Penalty, world: World, members: Sequence[LearnedWorld], depths: Sequence[int]) -> Observer | None:
    """How U is asked; None for `none`. RefusedError where retracing is asked of actions that do not add up."""
    if penalty == "none":
        return None
    if penalty == "entropy":
        return entropy
    if penalty == "ensemble":
        return Ensemble(members)
    require_retraceable(world.contract.sealed, world.contract.dataset)
    return Retracing(feature_distance(world.model), depths)


def members_of(world: World, models: Path, names: Sequence[str]) -> list[LearnedWorld]:
    """Worlds that share all with `world` but their dynamics, entries of train_dynamics."""
    model = world.model
    return [
        LearnedWorld(
            model.tokenizer, model.behavior, Dynamics.restore(models / "dynamics" / name, str(model.device)),
            model.window, model.normalize,
        ) for name in names
    ]  # fmt: skip


def penalised(reward: np.ndarray, uncertainty: np.ndarray, alpha: float) -> np.ndarray:
    """r - alpha U."""
    return reward - alpha * uncertainty


def alpha_of(uncertainty: np.ndarray, mean_penalty: float) -> float:
    """The alpha by which these U cost `mean_penalty` on average. BadDataError where none of them is above 0.

    The paper's own alphas hold at the scales of its models alone, which it does not print.
    """
    mean = float(uncertainty.mean(dtype=np.float64))
    if mean_penalty == 0:
        return 0.0
    if not mean > 0:
        raise BadDataError("an uncertainty that is nowhere above 0 cannot be given a weight", place="imagination",
                           found=f"mean U {mean:g}", remedy="leave this penalty out")  # fmt: skip
    return mean_penalty / mean


@torch.inference_mode()
def imagine(
    world: LearnedWorld, head: RewardHead, policy: PixelPolicy, describe: Describer, normalizer: ActionNormalizer,
    given: np.ndarray, taken: np.ndarray, begun: Begun, noise: np.ndarray, observe: Observer | None, name: Penalty,
) -> Imagined:  # fmt: skip
    """Branches behind recorded frames uint8 [B, c, R, R, 3] and RAW actions [B, c - 1, A] between them.

    noise [B, H, A] is added to the policy's normalised actions. BadDataError where U is not a number.
    """
    placed, kept = world.tokenizer.placed, policy.config.frames
    state = world.start(placed(given), placed(taken))
    features_BF, first_BF = describe(given[:, -1]), describe(begun.frames)
    task_B = head.tasks(begun.instructions)
    seen = [policy.project(describe(given[:, max(at, -given.shape[1])])) for at in range(-kept, 0)]
    rows: dict[str, list[Tensor]] = {field: [] for field in Imagined.__dataclass_fields__}
    for noise_BA in noise.swapaxes(0, 1):
        seen_BX = torch.cat(seen, dim=-1)
        action_BA = explored(policy(seen_BX), placed(noise_BA), policy.live)
        raw_BA = placed(normalizer.denormalize(action_BA.cpu().numpy()))
        state = world.restarted(state)
        query = Query(world, state, raw_BA)
        doubt_B = None if observe is None else observe(query)[name]
        state = query.following
        after_BF = describe(query.step.frame)
        seen = [*seen[1:], policy.project(after_BF)]
        found = {"seen": seen_BX, "action": action_BA, "following": torch.cat(seen, dim=-1)}
        found["reward"] = head.predict(Seen(first_BF, features_BF, after_BF, action_BA, task_B))
        found["uncertainty"] = torch.zeros_like(found["reward"]) if doubt_B is None else doubt_B.to(seen_BX)
        for field, values in found.items():
            rows[field].append(values)
        features_BF = after_BF
    joined = {field: torch.stack(values, dim=1).flatten(0, 1).cpu().numpy() for field, values in rows.items()}
    if not np.isfinite(joined["uncertainty"]).all():
        raise BadDataError("an uncertainty is not defined at an imagined step", place=name,
                           remedy="a longer context, or shallower retracing_steps")  # fmt: skip
    return Imagined(**joined)


def explored(action_BA: Tensor, noise_BA: Tensor, live: Tensor) -> Tensor:
    """Normalised actions with noise, within their range."""
    noisy = action_BA + noise_BA
    return torch.cat([noisy[:, :-1].clamp(-1, 1), noisy[:, -1:].clamp(0, 1)], dim=1) * live
