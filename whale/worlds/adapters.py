"""From a robot's or policy's own actions to the contract's: declared by a person, never guessed.

    adapt = world.from_robot(rotation="deg", gripper="one_is_closed")
    raw = adapt(actions)   # what world.imagine takes

Shapes: T steps, A dimensions (the gripper last), k robot steps to one of the world.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from whale.common.errors import ConfigError
from whale.worlds.action_checks import GRIPPER_TOLERANCE
from whale.worlds.contract import ActionContract

TRANSLATION = {"m": 1.0, "cm": 0.01, "mm": 0.001}
ROTATION = {"rad": 1.0, "deg": np.pi / 180.0}
GRIPPERS = {"one_is_open": (0.0, 1.0), "one_is_closed": (1.0, 0.0), "minus_one_to_one": (-1.0, 1.0)}
Normalised = Literal["q01_q99", "mean_std"]


@dataclass(frozen=True)
class RobotActions:
    """Callable: the robot's actions [T, A] -> raw actions of the contract, float32.

    `order`: names of the robot's dimensions in its order. `gripper`: a word, or the numbers that mean closed and open.
    `normalised`: the actions are normalised by the contract's own statistics. `rate_hz`: of the robot; a multiple of
    the contract's rate adds up k steps, a k-th of it repeats each action as k equal parts.
    """

    contract: ActionContract
    order: Sequence[str] | None = None
    translation: Literal["m", "cm", "mm"] = "m"
    rotation: Literal["rad", "deg"] = "rad"
    gripper: str | tuple[float, float] = "one_is_open"
    normalised: Normalised | None = None
    rate_hz: float | None = None

    def __post_init__(self) -> None:
        _one_of("translation", self.translation, TRANSLATION)
        _one_of("rotation", self.rotation, ROTATION)
        _one_of("normalised", self.normalised, (None, "q01_q99", "mean_std"))
        if isinstance(self.gripper, str):
            _one_of("gripper", self.gripper, GRIPPERS)
        elif not np.isfinite(self.gripper).all() or self.gripper[0] == self.gripper[1]:
            raise ConfigError("closed and open are one", place="gripper", found=self.gripper,
                              expected="two numbers: what the robot sends for closed, and for open",
                              remedy="e.g. (0, 255) or one_is_open")  # fmt: skip
        if self.order is not None and sorted(self.order) != sorted(self.contract.dimensions):
            raise ConfigError("not the contract's dimensions", place="order", found=", ".join(self.order),
                              expected=f"these, in any order: {', '.join(self.contract.dimensions)}")  # fmt: skip
        if self.rate_hz is not None:
            _steps(self.rate_hz, self.contract.rate_hz)

    def __call__(self, actions: np.ndarray) -> np.ndarray:
        array = np.array(actions, np.float64)
        if array.shape[-1:] != (len(self.contract.dimensions),):
            self.contract.as_raw(array, "from_robot")  # refuses
        if self.order is not None:
            array = array[..., [list(self.order).index(name) for name in self.contract.dimensions]]
        array = self._unit_free(array)
        array[..., :3] *= TRANSLATION[self.translation]
        array[..., 3:-1] *= ROTATION[self.rotation]
        closed, opened = GRIPPERS[self.gripper] if isinstance(self.gripper, str) else self.gripper
        opening = (array[..., -1] - closed) / (opened - closed)
        near = np.clip(opening, 0.0, 1.0)  # only of what rounding explains: as_raw refuses another range
        array[..., -1] = np.where(np.abs(opening - near) <= GRIPPER_TOLERANCE, near, opening)
        return self.contract.as_raw(self._at_rate(array), "from_robot")

    def _unit_free(self, array: np.ndarray) -> np.ndarray:
        if self.normalised == "q01_q99":
            return self.contract.normalizer.denormalize(array).astype(np.float64)
        if self.normalised == "mean_std":
            action = self.contract.statistics["action"]
            array[..., :-1] = array[..., :-1] * np.array(action["std"][:-1]) + np.array(action["mean"][:-1])
        return array

    def _at_rate(self, array: np.ndarray) -> np.ndarray:
        if self.rate_hz is None or self.rate_hz == self.contract.rate_hz:
            return array
        times, faster = _steps(self.rate_hz, self.contract.rate_hz)
        if not faster:
            parts = np.repeat(array, times, axis=-2)
            parts[..., :-1] /= times
            return parts
        if array.ndim < 2 or array.shape[-2] % times:
            raise ConfigError("not a whole number of the world's steps", place="actions", found=array.shape,
                              expected=f"a multiple of {times} robot steps")  # fmt: skip
        parts = array.reshape(*array.shape[:-2], -1, times, array.shape[-1])
        return np.concatenate([parts[..., :-1].sum(axis=-2), parts[..., -1, -1:]], axis=-1)


def _steps(robot_hz: float, world_hz: float) -> tuple[int, bool]:
    """(k, whether the robot is the faster one); ConfigError for a rate that is no multiple."""
    faster = robot_hz >= world_hz
    times = robot_hz / world_hz if faster else world_hz / robot_hz
    if robot_hz <= 0 or abs(times - round(times)) > 0.02 * times:
        raise ConfigError("rates are no multiples of each other", place="rate_hz", found=robot_hz,
                          expected=f"k or 1/k times {world_hz:g} Hz", remedy="resample the actions")  # fmt: skip
    return round(times), faster


def _one_of(place: str, value: object, known: object) -> None:
    names = list(known)  # type: ignore[call-overload]
    if value not in names:
        raise ConfigError("no such adapter", place=place, found=value, expected=", ".join(map(str, names)))
