"""A world that planners plan in: costs are of the frames that the world imagines, and cheaper plans are better ones."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_world
import torch

import whale
from whale.common.errors import ConfigError
from whale.env.planning import PlanningCost, Shooting, UnitActions, planner
from whale.policies.protocol import Beginning, Observation
from whale.trials.episodes.closed_loop import play


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return whale.load(tiny_world.write_bundle(tmp_path_factory.mktemp("world")), checking="off")


def unit(count, horizon, seed=0):
    return torch.randn(2, count, horizon, 7, generator=torch.Generator().manual_seed(seed))


def info_of(world, samples, **more):
    """As solvers pass it: every entry repeated along the candidates, texts as they are."""
    frames = torch.from_numpy(np.stack([start.frames for start in world.starts[:2]]))
    found = {"pixels": frames} | more
    return {
        name: values.unsqueeze(1).expand(2, samples, *values.shape[1:]) if torch.is_tensor(values) else values
        for name, values in found.items()
    }


def test_unit_actions_and_raw_ones_are_each_others_inverse_within_what_was_recorded(world):
    scale, raw = UnitActions(world.contract), tiny_world.recorded_actions(50)
    low, high = world.contract.bounds
    np.testing.assert_allclose(scale.inverse_transform(scale.transform(raw)), raw.clip(low, high), atol=1e-6)
    far = scale.inverse_transform(np.full((1, 7), 1e6, np.float32))
    np.testing.assert_array_equal(far[0], high)


def test_the_cost_to_a_goal_is_the_distance_of_the_frame_that_the_world_imagines(world):
    candidates, goals = unit(3, 4), [start.frames[-1] for start in world.starts[2:4]]
    cost = PlanningCost(world)
    found = cost.get_cost(info_of(world, 3, goal=torch.from_numpy(np.stack(goals))[:, None]), candidates)
    assert found.shape == (2, 3) and len(found.unique()) > 1
    for row in range(2):
        wanted = world.model.features(torch.from_numpy(goals[row][None]))
        for sample in range(3):
            raw = cost.actions.inverse_transform(candidates[row, sample].numpy())
            frames = world.imagine(world.starts[row].frames[-1], raw).frames
            gap = world.model.features(torch.from_numpy(frames[-1:])) - wanted
            assert float(found[row, sample]) == pytest.approx(float(gap.square().sum(-1).mean()), rel=1e-3)


def test_the_cost_by_reward_is_less_what_the_head_reads_off_the_imagined_frames(world):
    candidates, cost = unit(3, 4), PlanningCost(world, "reward")
    texts = [start.instruction for start in world.starts[:2]]
    first = torch.from_numpy(np.stack([start.frames[-1:] for start in world.starts[:2]]))
    found = cost.get_cost(info_of(world, 3, first=first, instruction=texts), candidates)
    for row in range(2):
        raw = cost.actions.inverse_transform(candidates[row, 1].numpy())
        frames = world.imagine(world.starts[row].frames[-1], raw).frames
        begun = world.starts[row].frames[-1:]
        earned = world.rewards(np.concatenate([begun, frames])[None], raw[None], [texts[row]], begun).mean()
        assert float(found[row, 1]) == pytest.approx(-earned, abs=1e-4)


def test_a_plan_longer_than_the_window_is_imagined_as_the_world_does(world):
    candidates, cost = unit(1, world.window + 3), PlanningCost(world)
    goal = world.starts[4].frames[-1]
    wanted = torch.from_numpy(np.stack([goal, goal]))[:, None]
    found = cost.get_cost(info_of(world, 1, goal=wanted), candidates)
    raw = cost.actions.inverse_transform(candidates[0, 0].numpy())
    last = world.imagine(world.starts[0].frames[-1], raw).frames[-1:]
    gap = world.model.features(torch.from_numpy(last)) - world.model.features(torch.from_numpy(goal[None]))
    assert float(found[0, 0]) == pytest.approx(float(gap.square().sum(-1).mean()), rel=1e-3)


def test_shooting_takes_the_cheapest_of_its_draws(world):
    cost = PlanningCost(world)
    goal = torch.from_numpy(np.stack([start.frames for start in world.starts[2:4]]))
    info = {name: values[:, 0] for name, values in info_of(world, 1, goal=goal).items()}
    asked = []

    class Watched(PlanningCost):
        def get_cost(self, info_dict, candidates):
            found = super().get_cost(info_dict, candidates)
            asked.append((candidates, found))
            return found

    plans = Shooting(Watched(world), 3, 8, seed=1).solve(info)["actions"]
    assert plans.shape == (2, 3, 7) and len(asked) == 2
    for plan, (candidates, costs) in zip(plans, asked, strict=True):
        assert torch.equal(plan, candidates[0, costs[0].argmin()]) and costs[0].argmin() != costs[0].argmax()
    again = Shooting(cost, 3, 8, seed=1).solve(info)["actions"]
    assert torch.equal(plans, again)


class Counting:
    """A solver whose plans say which call made them: 0.1, 0.2, ... in the first dimension."""

    def __init__(self):
        self.seen = []

    def solve(self, info_dict, init_action=None):
        self.seen.append((info_dict, init_action))
        plans = torch.zeros(len(info_dict["pixels"]), 5, 7)
        plans[..., 0] = 0.1 * len(self.seen)
        return {"actions": plans}


def test_a_planner_looks_again_after_the_actions_it_keeps_and_goes_on_from_its_plan(world):
    starts = world.starts[:2]
    beginnings = [Beginning(7 + n, n, start.frames[-1], start.instruction) for n, start in enumerate(starts)]
    goals = {7: world.starts[4].frames[-1], 8: world.starts[5].frames[-1]}
    solver, shown = Counting(), []

    def outcome(actions):
        shown.append(np.full((2, 16, 16, 3), len(shown), np.uint8))
        return shown[-1]

    cost = PlanningCost(world)
    policy = planner("counting", cost, lambda: solver, 3, goals)
    _, actions = play(policy, beginnings, 7, outcome, world.contract)
    assert [init is None for _, init in solver.seen] == [True, False, False]
    assert all(init.shape == (2, 2, 7) for _, init in solver.seen[1:])
    expected = cost.actions.inverse_transform(np.array([[0.1 * (1 + step // 3), *[0] * 6] for step in range(7)]))
    np.testing.assert_allclose(actions, np.stack([expected, expected]), atol=1e-6)
    for number, (info, _) in enumerate(solver.seen):
        newest = shown[3 * number - 1] if number else np.stack([start.frames[-1] for start in starts])
        np.testing.assert_array_equal(info["pixels"][:, 0], newest)
        np.testing.assert_array_equal(info["goal"][:, 0], np.stack([goals[7], goals[8]]))


def test_a_planner_for_rewards_is_shown_the_first_frame_and_the_task(world):
    begun = Beginning(0, 0, world.starts[0].frames[-1], world.starts[0].instruction)
    solver = Counting()
    actor = planner("p", PlanningCost(world, "reward"), lambda: solver, 2).begin([begun])
    actor.act([Observation(world.starts[1].frames[-1], begun.instruction, 0)], [0])
    info = solver.seen[0][0]
    np.testing.assert_array_equal(info["first"][0, 0], begun.image)
    assert info["instruction"] == [begun.instruction] and "goal" not in info


def test_rewards_need_a_head(tmp_path):
    bare = whale.load(tiny_world.write_bundle(tmp_path, with_reward=False))
    with pytest.raises(ConfigError, match="no reward head"):
        PlanningCost(bare, "reward")


def test_the_comparison_on_the_fleet_says_what_each_is_worth_from_the_same_starts(tmp_path):
    bundle, out = tiny_world.write_bundle(tmp_path), tmp_path / "figures.json"
    script = Path(__file__).parents[2] / "scripts/plan_fleet.py"
    small = {"episodes": 2, "horizon": 14, "plan": 2, "keep": 2, "samples": 2, "rounds": 1, "planner": "shooting"}
    asked = [sys.executable, script, bundle, "--robot", tiny_world.ROBOT, "--json", out]
    asked += [word for name, value in small.items() for word in (f"--{name}", value)]
    subprocess.run([str(each) for each in asked], check=True, timeout=1200)
    rows = json.loads(out.read_text())["rows"]
    assert list(rows) == ["expert", "still", "random", "shooting"]
    assert rows["still"]["goal_distance"] > 0
    assert rows["expert"]["value"] > 0.3 and rows["still"]["value"] == 0 and rows["expert"]["success"] > 0
