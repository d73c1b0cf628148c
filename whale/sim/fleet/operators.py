"""Operators of the robot with a hidden gain: each has a hand of its own, and an arm that answers it by so much.

An operator moves the arm from place to place above the table and is never done. The places are in no picture and lie
high enough that nothing is touched, so that motion is command times gain and nothing else. On the command lies a
tremor. What differs between operators is how strong it is and how it goes on from step to step; that goes with the
gain, as whoever drives a sluggish arm leans and whoever drives a nimble one corrects. One picture says nothing of it,
one command little (the operator corrects what came of the last, so commands spread wider where the gain is high);
several commands tell, and so do commands with what came of them.
"""

from dataclasses import dataclass

import numpy as np

from whale.sim.fleet.policies import OPEN_COMMAND, UNIT, Scene, towards
from whale.sim.fleet.state import MAX_STEP

PLACES_LOW, PLACES_HIGH = np.array([-0.24, -0.14, 0.13]), np.array([0.24, 0.14, 0.21])
FARTHEST, REACHED = 0.16, 0.02  # metres per axis: from one place to the next, and how near is there
CRUISE = 0.6 * MAX_STEP  # leaves the tremor room below what a policy commands at most


@dataclass(frozen=True)
class Hand:
    """`gain`: metres moved per metre commanded; `persistence`: correlation of the tremor with that one step before;
    `strength`: its standard deviation, in units of the largest command."""

    gain: float
    persistence: float
    strength: float


PERSISTENCE = {0.4: 0.9, 0.8: 0.5, 1.2: -0.5, 1.6: -0.9}
SEEN_OPERATORS = {
    f"{name}_{gain}": Hand(gain, persistence, strength)
    for gain, persistence in PERSISTENCE.items()
    for name, strength in (("calm", 0.4), ("shaky", 0.7))
}
UNSEEN_OPERATORS = {f"between_{gain}": Hand(gain, 0.95 * each, 0.55) for gain, each in PERSISTENCE.items()}
OPERATORS = SEEN_OPERATORS | UNSEEN_OPERATORS


class Operator:
    """One episode's operator, by name; `rng` is the episode's own."""

    def __init__(self, name: str, rng: np.random.Generator):
        self.hand, self.rng = OPERATORS[name], rng
        self.tremor = rng.normal(0.0, self.hand.strength, 6)
        self.place: np.ndarray | None = None

    def act(self, scene: Scene, start: Scene) -> np.ndarray:
        """(7,) the command: towards the next place, plus the tremor; the gripper stays open."""
        x, y, z = self._next_place(scene.tip)
        action = towards((x, y, z, OPEN_COMMAND), scene, CRUISE)
        action[:6] = np.clip(action[:6] + self.tremor * UNIT, -UNIT, UNIT)
        fresh = self.hand.strength * np.sqrt(1 - self.hand.persistence**2)
        self.tremor = self.hand.persistence * self.tremor + self.rng.normal(0.0, fresh, 6)
        return action

    def _next_place(self, tip: list[float]) -> np.ndarray:
        """(3,) x y z: where it is on the way to; another place as soon as that is reached."""
        if self.place is None or np.abs(self.place - tip).max() < REACHED:
            near = np.clip([np.subtract(tip, FARTHEST), np.add(tip, FARTHEST)], PLACES_LOW, PLACES_HIGH)
            self.place = self.rng.uniform(near[0], near[1])
        return self.place
