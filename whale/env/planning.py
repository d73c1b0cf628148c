"""A world as what a planner plans in: candidate action sequences -> costs, and a policy that replans as it goes.

`PlanningCost.get_cost` is what the solvers of `stable-worldmodel` 0.1.1 ask of a model (its protocol `Costable`), so
its CEM and MPPI run on a world as they are; `Shooting` is the solver that needs nothing. Candidates are unit actions:
0 is the recorded mean, 1 a recorded standard deviation, cut to the recorded range. A planner sees the newest frame
alone: what happened between two plans it is not shown.
Shapes: B episodes, S candidates of each, H planned steps, R resolution, A action, N tokens, E latent width.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from whale.common.errors import ConfigError
from whale.models.world.state import WorldState
from whale.policies.protocol import Beginning, Contender, Observation
from whale.worlds.contract import ActionContract
from whale.worlds.world import World

Aim = Literal["goal", "reward"]


class UnitActions:
    """Unit actions <-> raw ones, [..., A]. `transform` and `inverse_transform` are stable-worldmodel's names."""

    def __init__(self, contract: ActionContract):
        action = contract.statistics["action"]
        self.mean, std = (np.array(action[name], np.float64) for name in ("mean", "std"))
        self.std = np.where(std > 0, std, 1.0)
        self.low, self.high = contract.bounds

    def transform(self, raw: np.ndarray) -> np.ndarray:
        return ((np.asarray(raw, np.float64) - self.mean) / self.std).astype(np.float32)

    def inverse_transform(self, unit: np.ndarray) -> np.ndarray:
        """Within what was recorded, the gripper in [0, 1]."""
        raw = np.asarray(unit, np.float64) * self.std + self.mean
        return raw.astype(np.float32).clip(self.low, np.maximum(self.high, self.low))


class PlanningCost:
    """What imagined action sequences cost.

    `aim` goal: squared distance of the last imagined frame to the goal frame, in the tokenizer's latents, mean over
    tokens. reward: less the mean imagined reward. ConfigError for reward without a reward head.
    """

    def __init__(self, world: World, aim: Aim = "goal"):
        if aim == "reward" and world.reward is None:
            raise ConfigError("this world has no reward head", place="aim", found=aim, remedy="plan to a goal frame")
        self.world, self.aim, self.actions = world, aim, UnitActions(world.contract)

    @torch.inference_mode()
    def get_cost(self, info_dict: Mapping[str, Any], action_candidates: Tensor) -> Tensor:
        """[B, S] of unit actions [B, S, H, A].

        `info_dict`: `pixels` uint8 [B, S, 1, R, R, 3], the present; `goal` alike, or for rewards `first` alike and
        `instruction`, B texts. Along S all are equal.
        """
        batch, samples, horizon, size = action_candidates.shape
        model, place = self.world.model, self.world.model.tokenizer.placed
        raw = self.actions.inverse_transform(action_candidates.cpu().numpy()).reshape(-1, horizon, size)
        state = _repeated(self.world.start(_images(info_dict["pixels"])[:, None]).inner, samples)
        shown = [state.frames[:, -1]]
        for number in range(horizon):
            state, step = model.step(model.restarted(state), place(raw[:, number]))
            shown.append(step.frame)
        if self.aim == "reward":
            cost = -self._earned(info_dict, torch.stack(shown, dim=1), raw, samples)
        else:
            cost = self._distance(info_dict, shown[-1], samples)
        return cost.reshape(batch, samples).to(action_candidates)

    def criterion(self, info_dict: Mapping[str, Any], action_candidates: Tensor) -> Tensor:
        """`get_cost`, by the protocol's other name."""
        return self.get_cost(info_dict, action_candidates)

    @torch.inference_mode()
    def distance(self, reached: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """float64 [B] between frames uint8 [B, R, R, 3]: what `goal` is measured by; at most 4."""
        model = self.world.model
        gap = model.features(model.tokenizer.placed(reached)) - model.features(model.tokenizer.placed(wanted))
        return gap.double().square().sum(dim=2).mean(dim=1).cpu().numpy()

    def _distance(self, info_dict: Mapping[str, Any], reached: Tensor, samples: int) -> Tensor:
        wanted = _images(info_dict["goal"]).repeat(samples, axis=0)
        return torch.from_numpy(self.distance(reached.cpu().numpy(), wanted))

    def _earned(self, info_dict: Mapping[str, Any], shown: Tensor, raw: np.ndarray, samples: int) -> Tensor:
        """Mean imagined reward [B * S] of actions [B * S, H, A], from frames [B * S, H + 1, R, R, 3]."""
        first = _images(info_dict["first"]).repeat(samples, axis=0)
        texts = [text for text in info_dict["instruction"] for _ in range(samples)]
        return torch.from_numpy(self.world.rewards(shown.cpu().numpy(), raw, texts, first).mean(axis=1))


class Solver(Protocol):
    """As stable-worldmodel's: plans [B, H, A] under "actions", from [B, h, A] to begin with, h < H, or None."""

    def solve(self, info_dict: dict[str, Any], init_action: Tensor | None = None) -> dict[str, Any]: ...


class Shooting:
    """Random shooting: the cheapest of `num_samples` normal draws around 0, or around the plan to begin with."""

    def __init__(self, model: PlanningCost, horizon: int, num_samples: int, seed: int):
        self.model, self.horizon, self.num_samples = model, horizon, num_samples
        self.generator = torch.Generator().manual_seed(seed)

    def solve(self, info_dict: dict[str, Any], init_action: Tensor | None = None) -> dict[str, Any]:
        plans = []
        for row in range(len(info_dict["pixels"])):
            one = {name: _expanded(values[row : row + 1], self.num_samples) for name, values in info_dict.items()}
            size = len(self.model.actions.mean)
            drawn = torch.randn(1, self.num_samples, self.horizon, size, generator=self.generator)
            if init_action is not None:
                drawn[:, :, : init_action.shape[1]] += init_action[row]
            plans.append(drawn[0, self.model.get_cost(one, drawn)[0].argmin()])
        return {"actions": torch.stack(plans)}


class _Planner:
    """All episodes are asked together, for all of them carry out `keep` actions of a plan."""

    def __init__(
        self, cost: PlanningCost, solver: Solver, keep: int, goals: Mapping[int, np.ndarray],
        beginnings: Sequence[Beginning],
    ):  # fmt: skip
        self.cost, self.solver, self.keep, self.beginnings = cost, solver, keep, beginnings
        self.goals = goals
        self.rest: Tensor | None = None

    def act(self, observations: Sequence[Observation], rows: Sequence[int]) -> list[np.ndarray]:
        begun = [self.beginnings[row] for row in rows]
        info: dict[str, Any] = {"pixels": _tensor([each.image for each in observations])}
        if self.cost.aim == "goal":
            info["goal"] = _tensor([self.goals[each.number] for each in begun])
        else:
            info |= {"first": _tensor([each.image for each in begun]),
                     "instruction": [each.instruction for each in begun]}  # fmt: skip
        plans = self.solver.solve(info, init_action=self.rest)["actions"]
        self.rest = plans[:, self.keep :] if plans.shape[1] > self.keep else None
        return list(self.cost.actions.inverse_transform(plans[:, : self.keep].numpy()))


def planner(
    name: str, cost: PlanningCost, make_solver: Callable[[], Solver], keep: int,
    goals: Mapping[int, np.ndarray] | None = None,
) -> Contender:  # fmt: skip
    """A policy that plans, carries out `keep` actions, and plans again from where the last plan was left.

    goals: number of a beginning -> frame uint8 [R, R, 3] that is aimed at.
    """
    return Contender(name, lambda beginnings: _Planner(cost, make_solver(), keep, goals or {}, beginnings))


def _tensor(frames: Sequence[np.ndarray]) -> Tensor:
    """uint8 [B, 1, R, R, 3]."""
    return torch.from_numpy(np.stack(frames))[:, None]


def _images(values: Any) -> np.ndarray:
    """uint8 [B, R, R, 3]: the newest frame of the first candidate, for all have the same."""
    return np.asarray(values)[:, 0, -1]


def _expanded(values: Any, samples: int) -> Any:
    """[1, ...] -> [1, S, ...]; texts stay."""
    return values.unsqueeze(1).expand(1, samples, *values.shape[1:]) if isinstance(values, Tensor) else values


def _repeated(state: WorldState, times: int) -> WorldState:
    """Each row `times` times."""
    if times == 1:
        return state
    rows = [state.take(slice(row, row + 1)) for row in range(len(state.frames)) for _ in range(times)]
    return WorldState.stack(rows)
