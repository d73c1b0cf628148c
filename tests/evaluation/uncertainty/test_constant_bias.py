"""A world that errs by a constant b at every step: what retracing measures there is known in closed form.

A branch of depth k at imagined step h keeps k frames less, of which k - h + 1 were recorded and are now imagined; each
adds b. So D / b^2 = mean over k of max(0, k - h + 1)^2 while the error is h^2 b^2: D falls to 0 as the error grows.
"""

import numpy as np
import pytest
import torch
from toy_world import ToyWorld

from whale.evaluation.uncertainty.correlation import Resampling, pearson, per_rollout, within_step
from whale.evaluation.uncertainty.estimation.uncertainty import Retracing
from whale.models.world.rollout import frames, rollout
from whale.models.world.state import Step

DEPTHS, CONTEXT, HORIZON = (1, 2, 3), 4, 8


class BiasedWorld(ToyWorld):
    """Moves by its action and by `bias` of its own, one for each row."""

    def __init__(self, bias_B):
        super().__init__(window=CONTEXT + HORIZON)
        self.bias = torch.as_tensor(bias_B, dtype=torch.float64)

    def step(self, state, action_BA, draw=None, z=None):
        moved = state.frames[:, -1] + action_BA[:, :2] + self.bias[:, None]
        step = Step(moved)
        return state.followed_by(action_BA, step), step


def measured(bias_B) -> tuple[np.ndarray, np.ndarray]:
    """D and the squared error, [B, h] each, from frames that moved by their actions alone."""
    world = BiasedWorld(bias_B)
    generator = torch.Generator().manual_seed(0)
    actions = torch.randint(-3, 4, (len(bias_B), CONTEXT + HORIZON - 1, 4), generator=generator).double() * 12
    path = torch.cat([torch.zeros(len(bias_B), 1, 2, dtype=torch.float64), actions[..., :2].cumsum(dim=1)], dim=1)

    def squared(left, right):
        return (left - right).square().mean(1)

    observers = [Retracing(squared, DEPTHS), frames]
    found = rollout(world, path[:, :CONTEXT], actions, HORIZON, observers)
    error = (found["frames"] - path[:, CONTEXT:]).square().mean(-1)
    return found["disagreement"].numpy(), error.numpy()


def test_disagreement_falls_to_nothing_while_the_error_grows_with_the_square_of_the_step():
    bias = [0.5, 1.0, 3.0]
    disagreement, error = measured(bias)
    squared_bias = np.square(bias)[:, None]
    steps = np.arange(1, HORIZON + 1)
    expected = [np.mean([max(0, depth - step + 1) ** 2 for depth in DEPTHS]) for step in steps]
    assert expected[:5] == pytest.approx([14 / 3, 5 / 3, 1 / 3, 0, 0])
    np.testing.assert_allclose(disagreement / squared_bias, np.broadcast_to(expected, (3, HORIZON)), atol=1e-12)
    np.testing.assert_allclose(error / squared_bias, np.broadcast_to(steps**2, (3, HORIZON)), atol=1e-12)


def test_pooled_it_is_wrong_and_per_rollout_it_is_perfect():
    disagreement, error = measured(0.5 + np.arange(40) / 32)  # binary fractions: no rounding
    once = Resampling(np.ones((1, 40)))
    assert once.values(pearson, disagreement, error)[0] < 0
    assert once.values(per_rollout(pearson), disagreement, error)[0] == pytest.approx(1)
    assert once.values(within_step(pearson), disagreement, error)[0] == pytest.approx(1)
