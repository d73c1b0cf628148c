"""What actions look like that mean something else than they should: one function a mistake people have made.

Compared with the recorded actions' statistics, and, where a policy is asked at recorded frames, with what was done
there. Sizes are root mean squares: a policy that moves a third as much is no mistake, one that moves a 55th is.
Shapes: N actions, A dimensions (the gripper last), P live dimensions of the pose.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np

ODD, GRAVE = 3.0, 8.0  # times the recorded size, or a part of it: a warning, a refusal
FEWEST = 16  # actions before sizes are compared
GRIPPER_TOLERANCE = 1.0e-3
PER_DEGREE = 180.0 / np.pi
SATURATED = 0.5  # share of numbers at -1 or 1 that no recorded motion has
CLEAR, AGREEING = 0.15, 0.35  # margin of another order's agreement, and the agreement it must reach


@dataclass(frozen=True)
class Finding:
    """One suspicion. `is_grave`: nobody would want the result."""

    name: str
    what: str
    found: str
    expected: str
    remedy: str
    is_grave: bool = False

    def __str__(self) -> str:
        return f"{self.what}: found {self.found}, expected {self.expected}; {self.remedy}"


@dataclass(frozen=True)
class Profile:
    """Recorded actions, per dimension of the pose: size (rms), mean, and the range that normalisation maps to [-1, 1].

    `groups`: name -> places of live dimensions that share a unit; `opens`: share of steps with an open gripper.
    """

    size: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    middle: np.ndarray
    half: np.ndarray
    groups: Mapping[str, tuple[int, ...]]
    names: tuple[str, ...]
    opens: float

    @classmethod
    def from_statistics(cls, statistics: Mapping[str, Any], live: np.ndarray, names: Sequence[str]) -> "Profile":
        action = {name: np.array(values, np.float64) for name, values in statistics["action"].items() if name != "mask"}
        mean, std = action["mean"][:-1], action["std"][:-1]
        size = np.sqrt(mean**2 + std**2)
        half = np.maximum((action["q99"][:-1] - action["q01"][:-1]) / 2, 1e-12)
        used = {place for place in range(len(names) - 1) if live[place] and size[place] > 1e-9}
        parts = {"translation": ("x", "y", "z"), "rotation": ("roll", "pitch", "yaw")}
        groups = {part: tuple(p for p in sorted(used) if names[p] in members) for part, members in parts.items()}
        middle = (action["q99"][:-1] + action["q01"][:-1]) / 2
        kept = {part: places for part, places in groups.items() if places}
        return cls(size, mean, std, middle, half, kept, tuple(names), float(action["mean"][-1]))

    def group_size(self, size: np.ndarray, places: Sequence[int]) -> float:
        """Root mean square of several dimensions' sizes."""
        return float(np.sqrt(np.mean(np.square(size[list(places)]))))

    @property
    def normalised_size(self) -> np.ndarray:
        """Size of the recorded actions after normalisation to [-1, 1]."""
        return np.sqrt(self.std**2 + (self.mean - self.middle) ** 2) / self.half


def gripper_range(gripper: np.ndarray) -> Finding | None:
    """An opening below 0 or above 1."""
    low, high = (float(gripper.min()), float(gripper.max())) if gripper.size else (0.0, 1.0)
    if low >= -GRIPPER_TOLERANCE and high <= 1.0 + GRIPPER_TOLERANCE:
        return None
    hint = "gripper='minus_one_to_one'" if -1.001 <= low < -0.5 else "gripper=(CLOSED, OPEN)"
    return Finding(
        "gripper_range", "the gripper is not an opening in [0, 1]", f"{low:.4g} .. {high:.4g}",
        "0 (closed) to 1 (open), absolute", f"world.from_robot({hint})", is_grave=True,
    )  # fmt: skip


def suspicions(actions_NA: np.ndarray, profile: Profile, recorded_NA: np.ndarray | None = None) -> list[Finding]:
    """Everything that looks wrong, the gravest first."""
    found: list[Finding | None] = []
    if len(actions_NA) >= FEWEST:
        found.append(_scale(actions_NA[:, :-1], profile))
    if recorded_NA is not None and len(actions_NA) >= FEWEST:
        found.append(_gripper_flipped(actions_NA[:, -1], recorded_NA[:, -1]))
        found.append(_axis_order(actions_NA, recorded_NA, profile))
    return sorted((each for each in found if each is not None), key=lambda each: not each.is_grave)


def _scale(pose_NP: np.ndarray, profile: Profile) -> Finding | None:
    """Sizes of translation and rotation beside those recorded, and the mistake that would explain both."""
    size = np.sqrt(np.mean(np.square(pose_NP), axis=0))
    found = {part: profile.group_size(size, places) for part, places in profile.groups.items()}
    expected = {part: profile.group_size(profile.size, places) for part, places in profile.groups.items()}
    ratio = {part: found[part] / expected[part] for part in found if found[part] > 0}  # all zero: not used, no mistake
    if not ratio or max(abs(np.log(value)) for value in ratio.values()) <= np.log(ODD):
        return None
    worst = max(abs(np.log(value)) for value in ratio.values())
    name, what, remedy = _explanation(pose_NP, ratio, expected, profile)
    units = {"translation": "m", "rotation": "rad"}

    def shown(sizes: Mapping[str, float]) -> str:
        return ", ".join(f"{part} {sizes[part]:.3g} {units[part]}" for part in ratio)

    times = ", ".join(f"{part} x {value:.3g}" for part, value in ratio.items())
    return Finding(name, what, f"{shown(found)} a step (rms; {times})", f"about {shown(expected)}", remedy,
                   is_grave=name == "unnormalised_twice" or bool(worst > np.log(GRAVE)))  # fmt: skip


def _explanation(
    pose_NP: np.ndarray, ratio: Mapping[str, float], expected: Mapping[str, float], profile: Profile
) -> tuple[str, str, str]:
    """(name, what, remedy) of the known mistake whose sizes come nearest, or the bare factor."""
    places = [place for part in ratio for place in profile.groups[part]]
    values = np.abs(pose_NP[:, places])
    if values.max() <= 1.001 and (values > 0.999).mean() >= SATURATED:
        return ("normalised_twice", "actions look normalised twice: most are clipped to -1 or 1",
                "pass raw actions: the world normalises them itself")  # fmt: skip
    if _is_spread_once_too_often(pose_NP, profile):
        return ("unnormalised_twice", "actions look un-normalised twice: scaled by the statistics once too often",
                "pass what the policy's own un-normalisation gives, once")  # fmt: skip
    known: list[tuple[np.ndarray, str, str, str]] = [
        (profile.normalised_size, "normalised", "actions look normalised to [-1, 1]",
         "pass raw actions: the world normalises them itself; or world.from_robot(normalised='q01_q99')"),
        (np.ones_like(profile.half), "normalised", "actions look normalised by mean and deviation",
         "pass raw actions; or world.from_robot(normalised='mean_std')"),
        (_scaled(profile, 1.0, PER_DEGREE), "degrees", "rotations look like degrees",
         "world.from_robot(rotation='deg')"),
        (_scaled(profile, 100.0, 1.0), "centimetres", "translations look like centimetres",
         "world.from_robot(translation='cm')"),
        (_scaled(profile, 1000.0, 1.0), "millimetres", "translations look like millimetres",
         "world.from_robot(translation='mm')"),
        (_scaled(profile, 1000.0, PER_DEGREE), "millimetres", "actions look like millimetres and degrees",
         "world.from_robot(translation='mm', rotation='deg')"),
    ]  # fmt: skip
    distances = [_distance(size, ratio, expected, profile) for size, *_ in known]
    nearest = int(np.argmin(distances))
    if distances[nearest] < np.log(1.7):
        return known[nearest][1:]
    by = float(np.exp(np.mean(np.log(list(ratio.values())))))
    size, factor = ("large", by) if by > 1 else ("small", 1 / by)
    what = f"actions are {factor:.3g} times too {size}"
    rate = "; or they are commands for another rate (world.from_robot(rate_hz=...))" if factor < 30 else ""
    return ("scale", what, f"compare units with world.contract.describe(){rate}")


def _is_spread_once_too_often(pose_NP: np.ndarray, profile: Profile) -> bool:
    """Are deviations around the mean those of recorded actions times the range of normalisation? A slow policy's are
    not. Their sizes alone would not tell: the middle of the range stays in them."""
    places = [place for group in profile.groups.values() for place in group]
    found, would = pose_NP.std(axis=0)[places], (profile.half * profile.std)[places]
    return bool((found > 0).all() and abs(np.log(found / would)).max() < np.log(2.0))


def _scaled(profile: Profile, translation: float, rotation: float) -> np.ndarray:
    size, by = profile.size.copy(), {"translation": translation, "rotation": rotation}
    for part, places in profile.groups.items():
        size[list(places)] *= by[part]
    return size


def _distance(size: np.ndarray, ratio: Mapping[str, float], expected: Mapping[str, float], profile: Profile) -> float:
    """Greatest |log| difference between the found ratios and those a mistake would give."""
    would = {part: profile.group_size(size, profile.groups[part]) / expected[part] for part in ratio}
    return float(max(abs(np.log(ratio[part] / would[part])) for part in ratio))


def _gripper_flipped(gripper_N: np.ndarray, recorded_N: np.ndarray) -> Finding | None:
    """Closed where it was open at the same frames, by majority, and the other way round."""
    is_open, was_open = gripper_N > 0.5, recorded_N > 0.5
    agree = float((is_open == was_open).mean())
    if agree >= 0.25:
        return None
    return Finding(
        "gripper_flipped", "the gripper looks inverted",
        f"open in {is_open.mean():.0%} of first uses, equal to the recorded command in {agree:.0%}",
        f"open in {was_open.mean():.0%} (1 = open)", "world.from_robot(gripper='one_is_closed')",
    )  # fmt: skip


def _axis_order(actions_NA: np.ndarray, recorded_NA: np.ndarray, profile: Profile) -> Finding | None:
    """Does another order (or sign) of the axes agree clearly better with what was done at the same frames?"""
    for places in profile.groups.values():
        agreement = _correlations(actions_NA[:, places], recorded_NA[:, places])
        orders = [(order, _mean(agreement[place, from_] for place, from_ in enumerate(order)))
                  for order in permutations(range(len(places)))]  # fmt: skip
        own = orders[0][1]
        best, reached = max(orders, key=lambda each: each[1])
        if best != orders[0][0] and reached > own + CLEAR and reached > AGREEING:
            found = ", ".join(profile.names[places[each]] for each in best)
            return Finding(
                "axis_order", "the axes look exchanged",
                f"at recorded frames the actions agree as ({found}) by {reached:.2f}, as they are by {own:.2f}",
                f"the order {', '.join(profile.names[place] for place in places)}", "world.from_robot(order=[...])",
            )  # fmt: skip
        if own < -AGREEING:
            return Finding(
                "axis_sign", "the axes look mirrored", f"agreement with recorded actions {own:.2f}",
                "a positive one", "compare the frame with world.contract.frame",
            )  # fmt: skip
    return None


def _correlations(left_NP: np.ndarray, right_NP: np.ndarray) -> np.ndarray:
    """[P, P]: row p, recorded dimension p; column q, given dimension q; 0 where one never changes."""
    left, right = (values - values.mean(axis=0) for values in (left_NP, right_NP))
    scale = np.sqrt(np.square(right).sum(axis=0)[:, None] * np.square(left).sum(axis=0)[None])
    return np.divide(right.T @ left, scale, out=np.zeros_like(scale), where=scale > 1e-12)


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
