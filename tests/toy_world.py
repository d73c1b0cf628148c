"""Any world can be examined: this one is a point on a line with a wall, seen in a frame of two numbers."""

import torch
from torch import Tensor

from whale.models.world.rollout import Query
from whale.models.world.state import Step, WorldState
from whale.models.world.world import World


class ToyWorld(World):
    """A point moves by its action and stops at `wall`; frames [B, C, 2] float64, actions [B, C, 4] (xyz, gripper)."""

    def __init__(self, wall: float = float("inf"), window: int = 8, num_codes: int = 4, logit: float = 0.0):
        self.wall, self.window = wall, window
        self.code_logits = torch.zeros(num_codes, dtype=torch.float64)
        self.code_logits[0] = logit

    def start(self, frames, actions, *, tokens=None, z=None) -> WorldState:
        return WorldState(frames, actions)

    def step(self, state, action_BA, draw=None, z=None) -> tuple[WorldState, Step]:
        moved = (state.frames[:, -1] + action_BA[:, :2]).clamp_max(self.wall)
        step = Step(moved, logits=self.code_logits.expand(len(moved), 3, -1))
        return state.followed_by(action_BA, step), step


def asked(world: World, frames: Tensor, actions: Tensor, **marks) -> Query:
    """A query about a history as such: frames o_w..o_t [B, C, ...], actions a_w..a_t [B, C, A]."""
    return Query(world, world.start(frames, actions[:, :-1]), actions[:, -1], **marks)
