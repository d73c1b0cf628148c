"""The CEM and MPPI of stable-worldmodel plan in a world of ours, as its own policy calls them.

WHALE_SWM_PYTHON names the Python of an environment with this project and stable-worldmodel 0.1.1, made as
scripts/plan_fleet.py says.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest
import tiny_world

ROOT = Path(__file__).parents[2]
PYTHON = os.environ.get("WHALE_SWM_PYTHON")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PYTHON is None, reason="WHALE_SWM_PYTHON names no environment with stable-worldmodel"),
]
# A goal that the world reaches by known actions: what a solver finds must cost less than doing nothing.
RUN = """
import json, sys, numpy as np, torch, whale
from types import SimpleNamespace
from gymnasium.vector.utils import batch_space
from stable_worldmodel.policy import PlanConfig, WorldModelPolicy
from stable_worldmodel.solver import CEMSolver, MPPISolver
from whale.env.planning import PlanningCost
from whale.env.world_env import spaces

world = whale.load(sys.argv[1], checking="off")
cost, frames = PlanningCost(world), np.stack([start.frames for start in world.starts[:2]])
raw = cost.actions.inverse_transform(np.full((2, 3, 7), 1.5, np.float32))
goal = world.imagine(frames, raw).frames[:, -1:]
single = spaces(world)[1]
env = SimpleNamespace(num_envs=2, action_space=batch_space(single, 2), single_action_space=single)
found = {}
for kind in (CEMSolver, MPPISolver):
    seen = []
    class Watched(PlanningCost):
        def get_cost(self, info_dict, candidates):
            costs = super().get_cost(info_dict, candidates)
            seen.append((candidates.shape, float(costs.mean()), float(costs.min())))
            return costs
    solver = kind(Watched(world), num_samples=24, n_steps=4, topk=4, seed=3)
    config = PlanConfig(horizon=3, receding_horizon=2)
    policy = WorldModelPolicy(solver, config, process={"action": cost.actions})
    policy.set_env(env)
    actions = [policy.get_action({"pixels": frames, "goal": goal}) for _ in range(3)]
    low, high = world.contract.bounds
    inside = all(((low - 1e-6 <= each) & (each <= high + 1e-6)).all() for each in actions)
    found[kind.__name__] = {"calls": len(seen), "shapes": sorted({str(tuple(shape)) for shape, *_ in seen}),
                            "first": seen[0][1], "last": seen[3][2], "inside": bool(inside),
                            "shape": actions[0].shape}
json.dump(found, open(sys.argv[2], "w"))
"""


def in_swm(*arguments):
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([PYTHON, *map(str, arguments)], env=environment, text=True, capture_output=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_its_own_policy_plans_with_both_solvers_and_finds_cheaper_plans(tmp_path):
    bundle = tiny_world.write_bundle(tmp_path)
    in_swm("-c", RUN, bundle, tmp_path / "found.json")
    for found in json.loads((tmp_path / "found.json").read_text()).values():
        assert found["shapes"] == ["(1, 24, 3, 7)"] and found["inside"] and found["shape"] == [2, 7]
        assert found["calls"] == 2 * 2 * 4  # episodes x plans x rounds: of three actions the third asks for a plan
        assert found["last"] < found["first"]


def test_the_comparison_on_the_fleet_runs_and_says_what_each_is_worth(tmp_path):
    bundle, out = tiny_world.write_bundle(tmp_path), tmp_path / "figures.json"
    small = ["--episodes", "2", "--horizon", "4", "--plan", "3", "--keep", "2", "--samples", "4", "--rounds", "2"]
    asked = ["--robot", tiny_world.ROBOT, "--elite", "2", "--json", out, *small]
    said = in_swm(ROOT / "scripts/plan_fleet.py", bundle, *asked)
    rows = json.loads(out.read_text())["rows"]
    assert list(rows) == ["expert", "still", "random", "shooting", "cem", "mppi"]
    assert rows["expert"]["value"] >= rows["still"]["value"] == 0 and "mppi" in said
