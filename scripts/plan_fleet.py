"""The CEM and MPPI of `stable-worldmodel` plan in a world of ours; what it is worth is seen in the fleet's simulator.

    pip install -c constraints.txt "whale-world-model[world,env]" torchvision==0.28.0 stable-worldmodel==0.1.1
    python scripts/plan_fleet.py worlds/demo --robot fleet_delta --episodes 8

Each planner looks at a frame of the simulator, imagines candidates in the world, carries out some actions of the
cheapest plan, and looks again. Its goal is the frame at which the scripted expert was done from the same start.
Beside it, from the same starts: `expert`, `still` and `random`, which plan nothing, and `shooting`, which draws as many
candidates as the others at once (ours: it needs no stable-worldmodel, and is all that runs without it).
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from whale.env.planning import PlanningCost, Shooting, planner
from whale.env.world_env import spaces
from whale.evaluation.numbers.bootstrap import mean_interval
from whale.policies.protocol import Beginning
from whale.trials.episodes.fleet import scripted
from whale.trials.episodes.true_values import Form, Truth, fleet_beginnings, simulate_policy
from whale.worlds.load import load

UNPLANNED = ("expert", "still", "random")
PLANNED = ("shooting", "cem", "mppi")


def solver_of(name: str, cost: PlanningCost, args: argparse.Namespace) -> Callable[[], Any]:
    """A new solver for each comparison; all of them value samples * rounds candidates a plan."""
    if name == "shooting":
        return lambda: Shooting(cost, args.plan, args.samples * args.rounds, args.seed)
    from gymnasium.vector.utils import batch_space
    from stable_worldmodel.policy import PlanConfig
    from stable_worldmodel.solver import CEMSolver, MPPISolver

    settings = {"num_samples": args.samples, "n_steps": args.rounds, "topk": args.elite, "seed": args.seed}

    def made() -> Any:
        solver = (CEMSolver if name == "cem" else MPPISolver)(cost, **settings)
        config = PlanConfig(horizon=args.plan, receding_horizon=args.keep)
        space = batch_space(spaces(cost.world)[1], args.episodes)
        solver.configure(action_space=space, n_envs=args.episodes, config=config)
        return solver

    return made


def goals_of(expert: Truth, beginnings: list[Beginning]) -> dict[int, np.ndarray]:
    """The first frame at which the expert was done, its last one where it never was."""
    done = expert.rewards == 1.0
    steps = np.where(done.any(axis=1), done.argmax(axis=1), done.shape[1] - 1)
    return {each.number: expert.frames[row, steps[row]] for row, each in enumerate(beginnings)}


def figures(truth: Truth, gap: np.ndarray, seconds: float, seed: int) -> dict[str, Any]:
    """`gap` [E]: how far the true last frames lie from the goals, by the planners' own measure."""
    value = truth.rewards.mean(axis=1)
    found = mean_interval(value, np.arange(len(value)), np.random.default_rng(seed), 1000)
    row = {"success": float(truth.success.mean()), "value": found.value, "low": found.low, "high": found.high}
    row |= {"last_reward": float(truth.rewards[:, -1].mean()), "goal_distance": float(gap.mean())}
    return row | {"seconds": round(seconds, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", type=Path)
    parser.add_argument("--robot", default="fleet_delta")
    parser.add_argument("--planner", nargs="*", default=list(PLANNED), choices=PLANNED)
    parser.add_argument("--episodes", type=int, default=8)
    parser.add_argument("--horizon", type=int, default=16, help="steps of an episode")
    parser.add_argument("--plan", type=int, default=6, help="steps that are imagined for a plan")
    parser.add_argument("--keep", type=int, default=4, help="actions of it that are carried out")
    parser.add_argument("--samples", type=int, default=32, help="candidates of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--elite", type=int, default=6, help="the cheapest, which the next round is drawn around")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="the figures as a file")
    args = parser.parse_args()
    world = load(args.world, args.robot, checking="off")  # drawn actions are no robot's
    form, cost = Form(world.resolution), PlanningCost(world)
    beginnings = fleet_beginnings(world.contract.dataset, args.episodes, args.seed, form)
    rows: dict[str, Any] = {}
    expert = simulate_policy(scripted("expert"), beginnings, args.horizon, world.contract, form)
    goals = goals_of(expert, beginnings)
    for name in (*UNPLANNED, *args.planner):
        planned = name in PLANNED
        actor = planner(name, cost, solver_of(name, cost, args), args.keep, goals) if planned else scripted(name)
        began = time.process_time()
        truth = simulate_policy(actor, beginnings, args.horizon, world.contract, form)
        gap = cost.distance(truth.frames[:, -1], np.stack([goals[each.number] for each in beginnings]))
        rows[name] = figures(truth, gap, time.process_time() - began, args.seed)
        print(f"{name:9}", *(f"{key} {value:.3g}" for key, value in rows[name].items()), flush=True)
    if args.json is not None:
        settings = {name: str(value) for name, value in vars(args).items() if name != "json"}
        args.json.write_text(json.dumps({"settings": settings, "world": world.identity, "rows": rows}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
