"""Nine policies a task: six that training data come from, three that it never sees (P C.1; the unseen ones are ours).

Where the paper gives no number the choice is ours: noise of 0.3 and 1.0, an Ornstein-Uhlenbeck walk of 0.85 and 0.3,
one random action in two. Cross policies are scripted experts of OTHER tasks, acting on this task's observation.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

TRAIN_POLICIES = ("expert", "random", "noisy_low", "noisy_high", "cross_a", "cross_b")
UNSEEN_POLICIES = ("walk_noise", "half_random", "cross_c")
NOISE = {"noisy_low": 0.3, "noisy_high": 1.0}  # standard deviations, in units of the action's range of -1 to 1
WALK, WALK_STEP = 0.85, 0.3  # n' = WALK n + WALK_STEP N(0, 1)
RANDOM_SHARE = 0.5
# Every scripted policy of metaworld 3.1.1, as its class is named: Sawyer<Name>V3Policy.
SCRIPTED = (
    "assembly", "basketball", "bin-picking", "box-close", "button-press", "button-press-topdown",
    "button-press-topdown-wall", "button-press-wall", "coffee-button", "coffee-pull", "coffee-push", "dial-turn",
    "disassemble", "door-close", "door-lock", "door-open", "door-unlock", "drawer-close", "drawer-open",
    "faucet-close", "faucet-open", "hammer", "hand-insert", "handle-press", "handle-press-side", "handle-pull",
    "handle-pull-side", "lever-pull", "peg-insertion-side", "peg-unplug-side", "pick-out-of-hole", "pick-place",
    "pick-place-wall", "plate-slide", "plate-slide-back", "plate-slide-back-side", "plate-slide-side", "push",
    "push-back", "push-wall", "reach", "reach-wall", "shelf-place", "soccer", "stick-pull", "stick-push", "sweep",
    "sweep-into", "window-close", "window-open",
)  # fmt: skip


class Policy:
    """One episode's policy; all its randomness comes from the generator it was given."""

    def __init__(self, name: str, task: str, cross: Mapping[str, str], rng: np.random.Generator):
        """`cross`: the task whose expert `cross_a`, `cross_b` or `cross_c` is."""
        self.name, self.rng = name, rng
        self.expert = None if name == "random" else scripted(cross.get(name, task))
        self.walk = np.zeros(4)

    def act(self, observation: np.ndarray) -> np.ndarray:
        """float32 [4] in [-1, 1]: dx dy dz and gripper (above 0 closes). Experts command up to 25: clipped here."""
        return np.clip(self._wanted(observation), -1.0, 1.0).astype(np.float32)

    def _wanted(self, observation: np.ndarray) -> np.ndarray:
        if self.expert is None:
            return self.rng.uniform(-1.0, 1.0, 4)
        wanted = np.asarray(self.expert.get_action(observation), np.float64)
        if self.name in NOISE:
            return np.clip(wanted, -1.0, 1.0) + self.rng.normal(0.0, NOISE[self.name], 4)
        if self.name == "walk_noise":
            self.walk = WALK * self.walk + self.rng.normal(0.0, WALK_STEP, 4)
            return np.clip(wanted, -1.0, 1.0) + self.walk
        if self.name == "half_random" and self.rng.random() < RANDOM_SHARE:
            return self.rng.uniform(-1.0, 1.0, 4)
        return wanted


def scripted(name: str) -> Any:
    """The simulator's own scripted expert of a task."""
    from metaworld import policies

    warnings.filterwarnings("ignore", message="Constant.s. may be too high")  # we clip, and say so
    words = "".join(word.capitalize() for word in name.split("-"))
    return getattr(policies, f"Sawyer{words}V3Policy")()
