"""statistics.json in the dialects of others: OpenVLA, Octo, openpi, LeRobot.

Every dialect keeps mean, std, the 1 % and 99 % quantiles; `lost` names what one has no place for.
Shapes: A = 7 action dimensions. Gripper: 1 = open with us, OpenVLA, Octo and LeRobot; 1 = CLOSED with openpi.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from whale.common.errors import ConfigError

GRIPPER = 6
Statistics = Mapping[str, Any]  # one dataset's statistics.json
Export = Callable[[str, Statistics], dict[str, Any]]  # (dataset, its statistics) -> content of a file
LEROBOT = ("min", "max", "mean", "std", "q01", "q10", "q50", "q90", "q99")
MIRRORED = {"q01": "q99", "q10": "q90", "q50": "q50", "q90": "q10", "q99": "q01", "min": "max", "max": "min"}


@dataclass(frozen=True)
class Dialect:
    """`file`: its customary name; `lost`: what the dialect has no place for."""

    file: str
    export: Export
    lost: tuple[str, ...]


def export_statistics(dialect: str, statistics: Mapping[str, Statistics]) -> dict[str, dict[str, Any]]:
    """File name -> content. Dialects that hold one dataset a file get one folder per dataset."""
    chosen = _dialect(dialect)
    if dialect in ("openvla", "octo"):
        merged: dict[str, Any] = {}
        for name in sorted(statistics):
            merged |= chosen.export(name, statistics[name])
        return {chosen.file: merged}
    return {f"{name}/{chosen.file}": chosen.export(name, statistics[name]) for name in sorted(statistics)}


def mirrored_gripper(action: Mapping[str, Any]) -> dict[str, Any]:
    """Statistics of g -> 1 - g: the mean moves, the deviation stays, quantiles change places."""
    values = {key: np.array(value, object) for key, value in action.items() if isinstance(value, list)}
    out = {key: value.copy() for key, value in values.items()}
    for key, other in MIRRORED.items():
        if key in values and other in values:
            out[key][GRIPPER] = 1.0 - values[other][GRIPPER]
    if "mean" in values:
        out["mean"][GRIPPER] = 1.0 - values["mean"][GRIPPER]
    return {**action, **{key: value.tolist() for key, value in out.items()}}


def _dialect(name: str) -> Dialect:
    if name not in DIALECTS:
        raise ConfigError("no such dialect", found=name, expected=", ".join(DIALECTS))
    return DIALECTS[name]


def _take(action: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {theirs: action[ours] for ours, theirs in names.items()}


def _openvla(names: Mapping[str, str]) -> Export:
    def export(name: str, statistics: Statistics) -> dict[str, Any]:
        counts = {key: statistics[key] for key in ("num_transitions", "num_trajectories")}
        return {name: {"action": _take(statistics["action"], names), **counts}}

    return export


def _openpi(name: str, statistics: Statistics) -> dict[str, Any]:
    action = mirrored_gripper(statistics["action"])
    return {"norm_stats": {"actions": _take(action, {key: key for key in ("mean", "std", "q01", "q99")})}}


def _lerobot(name: str, statistics: Statistics) -> dict[str, Any]:
    action = statistics["action"]
    return {"action": {**_take(action, {key: key for key in LEROBOT}), "count": [action["count"]]}}


_OPENVLA_LOST = ("q10", "q50", "q90", "zero_share")
_COMMON = {"mean": "mean", "std": "std", "min": "min", "max": "max", "mask": "mask"}
DIALECTS: dict[str, Dialect] = {
    "openvla": Dialect(
        "dataset_statistics.json", _openvla({**_COMMON, "q01": "q01", "q99": "q99"}), _OPENVLA_LOST
    ),
    "octo": Dialect(
        "dataset_statistics.json", _openvla({**_COMMON, "q01": "p01", "q99": "p99"}), _OPENVLA_LOST
    ),
    "openpi": Dialect(
        "norm_stats.json", _openpi,
        ("count", "min", "max", "q10", "q50", "q90", "zero_share", "mask", "num_transitions", "num_trajectories"),
    ),
    "lerobot": Dialect("meta/stats.json", _lerobot, ("zero_share", "mask", "num_transitions", "num_trajectories")),
}  # fmt: skip
