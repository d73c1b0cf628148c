"""The one window rule and the one rollout, on a world whose outcome is known in closed form."""

import pytest
import torch
from toy_world import ToyWorld

from whale.common.errors import ConfigError
from whale.models.world.rollout import frames, rollout, tokens


def actions(count: int, batch: int = 2) -> torch.Tensor:
    return torch.arange(1.0, count + 1, dtype=torch.float64)[None, :, None].expand(batch, count, 4).contiguous()


def test_a_rollout_continues_its_own_frames_over_every_window():
    found = rollout(ToyWorld(window=4), torch.zeros(2, 1, 2, dtype=torch.float64), actions(15), 15)
    expected = actions(15)[..., :2].cumsum(dim=1)
    assert found.keys() == {"frames"} and torch.equal(found["frames"], expected)


def test_restarting_keeps_half_a_window_with_the_actions_between_its_frames():
    world, seen = ToyWorld(window=4), []
    rollout(world, torch.zeros(2, 1, 2), actions(5), 5, [lambda query: seen.append(query.state) or {}])
    assert [state.length for state in seen] == [1, 2, 3, 4, 2]
    assert all(state.actions.shape[1] == state.length - 1 for state in seen)
    assert seen[-1].actions[0, :, 0].tolist() == [4.0] and seen[-1].frames[0, :, 0].tolist() == [6.0, 10.0]


def test_observers_see_the_state_before_a_step_the_action_and_one_shared_prediction():
    class Counting(ToyWorld):
        steps = 0

        def step(self, state, action_BA, draw=None, z=None):
            self.steps += 1
            return super().step(state, action_BA, draw, z)

    world = Counting()
    observers = [
        lambda query: {"moved": query.step.frame - query.state.frames[:, -1]},
        lambda query: {"actions": query.actions[:, -1, :2]},
        tokens,  # this world has none
    ]
    found = rollout(world, torch.zeros(2, 3, 2, dtype=torch.float64), actions(6), 4, observers)
    assert found.keys() == {"moved", "actions"} and world.steps == 4
    assert torch.equal(found["moved"], actions(6)[:, 2:, :2]) and torch.equal(found["actions"], found["moved"])


def test_without_tokens_nothing_is_drawn():
    with pytest.raises(ConfigError, match="no tokens to draw"):
        rollout(ToyWorld(), torch.zeros(2, 1, 2), actions(2), 2, [frames], temperature=1.0)


@pytest.mark.parametrize(("given", "count", "horizon"), [(3, 4, 3), (9, 9, 1), (1, 0, 0)])
def test_shapes_that_do_not_fit_are_refused(given, count, horizon):
    with pytest.raises(ConfigError, match="rollout shapes"):
        rollout(ToyWorld(window=8), torch.zeros(2, given, 2), actions(count), horizon)
