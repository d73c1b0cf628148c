"""What an action of this world means, sealed with the model, and what is done about actions that mean something else.

Robot actions go in RAW (units of the contract); the world normalises them itself. What is plainly wrong is refused;
what only looks wrong is an `ActionWarning`. Shapes: ... any leading axes, A actions' dimensions.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from whale.common.errors import BadDataError, RefusedError
from whale.data.segments.actions import ActionNormalizer
from whale.worlds.action_checks import Finding, Profile, gripper_range, suspicions

RATE_TOLERANCE = 0.05
STATISTICS = ("mean", "std", "min", "max", "q01", "q99")


class ActionWarning(UserWarning):
    """Actions look as if they meant something else than the contract says; the text says what, and what to do."""


@dataclass(frozen=True)
class ActionContract:
    """Layout, units, frame, rate, statistics and licence of the actions of one dataset, as sealed in the checkpoint.

    `dimensions`: names, the gripper last; translation in m, rotation in rad, each a difference to the pose before in
    the `frame`; gripper absolute in [0, 1], 1 = open. `rate_hz`: actions per second.
    """

    dataset: str
    sealed: Mapping[str, Any]  # contract.json of the dataset
    statistics: Mapping[str, Any]  # its entry in dataset_statistics.json

    @classmethod
    def of(cls, dataset: str, sealed: object, statistics: object, file: object) -> "ActionContract":
        """Checked: everything read from it later is there. BadDataError that names `file` and what is missing."""
        found = cls(dataset, sealed, statistics)  # type: ignore[arg-type]
        try:
            size = len(found.dimensions)
            texts = [found.frame, found.form, found.rate_hz, found.retraceable, found.licence["spdx"]]
            action = found.statistics["action"]
            numbers = np.array([action[name] for name in STATISTICS], np.float64)
            mask = np.asarray(action["mask"])
            found.normalizer, found.profile  # noqa: B018 # what the world will ask for
        except BadDataError as error:
            raise BadDataError(error.what, file=str(file), place=f"{dataset}: action", found=error.found,
                               expected="numbers, and a mask of booleans, for each dimension") from None  # fmt: skip
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise BadDataError("not an action contract with its statistics", file=str(file), place=dataset,
                               found=f"{type(error).__name__}: {error}"[:200],
                               expected="dimensions, rate, licence; quantiles, mask") from None  # fmt: skip
        sound = numbers.shape == (len(STATISTICS), size) and np.isfinite(numbers).all() and found.live.shape == (size,)
        sound = sound and mask.shape == (size,) and mask.dtype == bool
        if not sound or size < 2 or found.rate_hz <= 0 or not all(texts[:2]):
            raise BadDataError("an action contract that does not fit its statistics", file=str(file), place=dataset,
                               found=f"{size} dimensions, statistics {numbers.shape}, mask {mask.dtype} {mask.shape}",
                               expected="finite numbers and a mask of booleans for each dimension")  # fmt: skip
        return found

    @property
    def dimensions(self) -> tuple[str, ...]:
        return tuple(self.sealed["dimensions"])

    @property
    def units(self) -> tuple[str, ...]:
        """One for each dimension: m, rad, or the range of a gripper's opening."""
        units = {"x": "m", "y": "m", "z": "m", "roll": "rad", "pitch": "rad", "yaw": "rad"}
        return tuple(units.get(name, "0 closed .. 1 open") for name in self.dimensions)

    @property
    def frame(self) -> str:
        return str(self.sealed["frame"])

    @property
    def form(self) -> str:
        """delta: each action is the change of the pose during one step."""
        return str(self.sealed["form"])

    @property
    def rate_hz(self) -> float:
        return float(self.sealed["control_hz"])

    @property
    def live(self) -> np.ndarray:
        """bool [A]: false for a dimension that this robot does not use; its value is ignored."""
        return np.asarray(self.sealed["action_mask"], bool)

    @property
    def licence(self) -> Mapping[str, Any]:
        """Of the data that the actions were recorded in: spdx, url, evidence, citation."""
        return self.sealed["licence"]

    @property
    def retraceable(self) -> bool:
        """Whether actions add up to a pose, which retracing needs."""
        return bool(self.sealed["retraceable"])

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest recorded value of each dimension, float32 [A]; the gripper has [0, 1]."""
        action = self.statistics["action"]
        low, high = (np.array(action[name], np.float32) for name in ("min", "max"))
        low[-1], high[-1] = 0.0, 1.0
        return low, high

    @property
    def normalizer(self) -> ActionNormalizer:
        return ActionNormalizer.from_statistics(self.statistics)

    @property
    def profile(self) -> Profile:
        """What recorded actions look like, for the checks."""
        return Profile.from_statistics(self.statistics, self.live, self.dimensions)

    def __repr__(self) -> str:
        return f"ActionContract({self._headline()}: {', '.join(self.dimensions)})"

    def _headline(self) -> str:
        return f"{self.dataset}: {self.form} actions in the {self.frame} frame at {self.rate_hz:g} Hz"

    def describe(self) -> str:
        """One line a dimension, for people."""
        action = self.statistics["action"]
        rows = [self._headline()]
        for place, (name, unit) in enumerate(zip(self.dimensions, self.units, strict=True)):
            values = f"recorded {action['q01'][place]:+.4g} .. {action['q99'][place]:+.4g}"
            rows.append(f"  {place} {name:8} {unit:20} {values if self.live[place] else 'not used'}")
        return "\n".join([*rows, f"  licence of the data: {self.licence['spdx']}"])

    def as_raw(self, actions: Any, place: str = "actions") -> np.ndarray:
        """float32 [..., A]. RefusedError for another number of dimensions, what is not finite, a gripper off [0, 1]."""
        array = np.asarray(actions)
        if array.dtype.kind not in "fiu":
            raise self._refusal("actions are not numbers", place, found=str(array.dtype), expected="float32")
        size = len(self.dimensions)
        if array.ndim == 0 or array.shape[-1] != size:
            raise self._refusal(
                "another number of action dimensions", place, found=f"shape {array.shape}",
                expected=f"[..., {size}]: {', '.join(self.dimensions)}",
            )  # fmt: skip
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            where = np.argwhere(~np.isfinite(array))[0].tolist()
            raise self._refusal("an action is not finite", place, found=f"{array[tuple(where)]} at {where}")
        if finding := gripper_range(array[..., -1]):
            raise self._refusal(finding.what, place, found=finding.found, expected=finding.expected,
                                remedy=finding.remedy)  # fmt: skip
        return array

    def require_rate(self, hz: float | None) -> None:
        """RefusedError for a policy or robot that says it acts at another rate; None says nothing."""
        if hz is None or abs(hz / self.rate_hz - 1.0) <= RATE_TOLERANCE:
            return
        raise self._refusal(
            "another control rate: each action would move the robot by another distance", "rate",
            found=f"{hz:g} Hz", expected=f"{self.rate_hz:g} Hz",
            remedy=f"world.from_robot(rate_hz={hz:g}) adds up or divides actions",
        )  # fmt: skip

    def require_layout(self, dimensions: Sequence[str] | None) -> None:
        """RefusedError for a policy that names its dimensions, and names others or in another order."""
        if dimensions is None or tuple(dimensions) == self.dimensions:
            return
        raise self._refusal(
            "another order of action dimensions", "layout", found=", ".join(dimensions),
            expected=", ".join(self.dimensions), remedy=f"world.from_robot(order={list(dimensions)})",
        )  # fmt: skip

    def inspect(self, actions: np.ndarray, recorded: np.ndarray | None = None) -> list[Finding]:
        """What looks wrong with raw actions [N, A]. `recorded` [N, A]: what was done at the same frames, if known."""
        rows = np.asarray(actions, np.float64).reshape(-1, len(self.dimensions))
        pairs = None if recorded is None else np.asarray(recorded, np.float64).reshape(rows.shape)
        return suspicions(rows, self.profile, pairs)

    def enforce(self, actions: np.ndarray, recorded: np.ndarray | None = None, place: str = "actions") -> list[Finding]:
        """`inspect`, and act: RefusedError for a grave finding, an ActionWarning for each of the others."""
        findings = self.inspect(actions, recorded)
        for finding in findings:
            if finding.is_grave:
                raise self._refusal(finding.what, place, found=finding.found, expected=finding.expected,
                                    remedy=finding.remedy)  # fmt: skip
            warnings.warn(f"{place}: {finding}", ActionWarning, stacklevel=3)
        return findings

    def _refusal(self, what: str, place: str, **fields: Any) -> RefusedError:
        return RefusedError(what, file=f"action contract of {self.dataset}", place=place, **fields)
