"""Retracing-rollout: reach the next frame again along other paths (Eq. 5).

For depth k the last n = k+1 actions a_{t-k}..a_t become n equal steps: their MEAN in raw units, with the gripper of
a_t on each. Branch k keeps o_w..o_{t-k} and imagines n frames; its last one is a second opinion on o_{t+1}.
Shapes: B queries, C frames of history (o_w..o_t), K depths, A action, N tokens, V codes. Actions are in RAW units.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from whale.common.errors import ConfigError, RefusedError
from whale.models.world.rollout import Query
from whale.models.world.state import Step, WorldState

Form = Literal["auto", "batched", "looped"]


@dataclass(frozen=True)
class ActionLayout:
    """The first `num_pose` dimensions add up to a pose, the last one is a gripper command."""

    num_pose: int

    @property
    def gripper(self) -> int:
        return self.num_pose


LAYOUTS = {7: ActionLayout(6), 4: ActionLayout(3)}  # end effector: xyz, rpy, gripper; Meta-World: xyz, gripper


def action_layout(action_size: int) -> ActionLayout:
    """Layout of an action vector; ConfigError for a width whose meaning is not known."""
    if action_size not in LAYOUTS:
        raise ConfigError(
            "which dimensions of this action add up to a pose is not known",
            place="action size",
            found=action_size,
            expected=f"one of {sorted(LAYOUTS)}",
        )
    return LAYOUTS[action_size]


def require_retraceable(contract: Mapping[str, Any], name: str) -> None:
    """Adding up absolute poses gives no pose: RefusedError unless a dataset's contract says `retraceable: true`."""
    if not contract["retraceable"]:
        raise RefusedError(
            "retracing adds up actions, and those of this dataset do not add up to a pose",
            file=f"data_specs/{name}.yaml",
            place="action.contract.retraceable",
            found=False,
            remedy="difference absolute poses in the spec, or use another uncertainty",
        )


def retrace(action_KA: Tensor, layout: ActionLayout | None = None) -> Tensor:
    """The one action that, executed n times, ends in the same pose as the n given ones. [..., n, A] -> [..., A], raw.

    Eq. 5 divided into n steps: the mean of the pose parts, the gripper of the last action. The mean of actions in
    range is in range, and it commutes with an affine normalisation; a sum does neither.
    """
    layout = layout or action_layout(action_KA.shape[-1])
    equal_A = action_KA[..., -1, :].clone()
    equal_A[..., : layout.num_pose] = action_KA[..., : layout.num_pose].mean(dim=-2)
    return equal_A


def usable_depths(
    actions_BCA: Tensor,
    depths: Sequence[int],
    *,
    is_first: Tensor | None = None,
    is_end: Tensor | None = None,
    drop_on_gripper_change: bool = False,
) -> Tensor:
    """K_t as bool [B, K]: the branch keeps a frame of the window, and no episode begins in o_{t-k+1}..o_t.

    `is_first` [B, C]: this frame begins an episode. `is_end` [B]: o_t is the last of its episode, so a_t has no
    outcome and there is no U. `drop_on_gripper_change` leaves out depths whose actions toggle the gripper.
    """
    batch, length, size = actions_BCA.shape
    usable_BK = torch.zeros(batch, len(depths), dtype=torch.bool, device=actions_BCA.device)
    gripper_BC = actions_BCA[..., action_layout(size).gripper]
    for column, depth in enumerate(depths):
        if not 1 <= depth <= length - 1:
            continue
        usable_B = torch.ones(batch, dtype=torch.bool, device=actions_BCA.device)
        if is_first is not None:
            usable_B &= ~is_first[:, length - depth :].any(dim=1)
        if is_end is not None:
            usable_B &= ~is_end
        if drop_on_gripper_change:
            usable_B &= (gripper_BC[:, length - depth - 1 :] == gripper_BC[:, -1:]).all(dim=1)
        usable_BK[:, column] = usable_B
    return usable_BK


@dataclass(frozen=True)
class Retraced:
    """`step`: the plain prediction of o_{t+1} beside the branches; `branches`: depth -> o^(k)_{t+1} [B, ...]."""

    step: Step
    branches: dict[int, Tensor]


def retraced(query: Query, depths: Sequence[int], *, form: Form = "auto", freeze_z: bool = False) -> Retraced:
    """The plain prediction, which answers the query, and every branch whose depth fits into the window.

    batched: all rows of one position go through the world together, and a row joins where its branch leaves the
    recorded path: max K + 1 sequential steps and 1 + sum(k + 1) row-steps ({1,2,3}: 4 and 10). looped: one branch after
    the other, the same row-steps in as many calls. Rows of one batch share kernels, so D carries no noise from
    different ones. The query's noise is common to all rows. freeze_z: branches use the z of the plain history instead
    of inferring their own.
    """
    used = sorted({depth for depth in depths if 1 <= depth <= query.state.length - 1}, reverse=True)
    z_BCZ = query.following.z if freeze_z else None
    walk = _batched if _resolved(form, query.action.device) == "batched" else _looped
    return walk(query, used, z_BCZ)


def _batched(query: Query, used: list[int], z_BCZ: Tensor | None) -> Retraced:
    batch, length, actions_BCA = len(query.action), query.state.length, query.actions
    deepest = max(used, default=0)
    rows, taken = query.state.cut(length - deepest), [_action(actions_BCA, deepest)]
    for kept in range(length - deepest, length + 1):
        depth = length - kept
        if depth < deepest and depth in (*used, 0):
            rows = WorldState.stack([rows, query.state.cut(kept)])
            taken.append(_action(actions_BCA, depth))
        z = None if z_BCZ is None else z_BCZ[:, kept - 1].repeat(len(taken), 1)
        rows, step = query.world.step(rows, torch.cat(taken), query.draw(kept, len(taken)), z)
    parts = {depth: slice(n * batch, (n + 1) * batch) for n, depth in enumerate([*used, 0])}
    plain = step.take(parts[0])
    query.answer(rows.take(parts[0]), plain)
    return Retraced(plain, {depth: step.frame[parts[depth]] for depth in reversed(used)})


def _looped(query: Query, used: list[int], z_BCZ: Tensor | None) -> Retraced:
    length, branches = query.state.length, {}
    for depth in reversed(used):
        row, action = query.state.cut(length - depth), _action(query.actions, depth)
        for kept in range(length - depth, length + 1):
            z = None if z_BCZ is None else z_BCZ[:, kept - 1]
            row, step = query.world.step(row, action, query.draw(kept), z)
        branches[depth] = step.frame
    return Retraced(query.step, branches)


def _action(actions_BCA: Tensor, depth: int) -> Tensor:
    """What row `depth` executes at each of its steps; depth 0 is the plain prediction."""
    return retrace(actions_BCA[:, -(depth + 1) :]) if depth else actions_BCA[:, -1]


def _resolved(form: Form, device: torch.device) -> str:
    """A GPU waits for calls, so fewer calls; a CPU computes either way, and smaller batches stay in its cache."""
    if form == "auto":
        return "batched" if device.type == "cuda" else "looped"
    return form
