"""statistics.json in the dialects of others, and back: OpenVLA, Octo, openpi, LeRobot.

Every dialect keeps count, mean, std, the 1 % and 99 % quantiles; what one lacks is lost on the way back and named by
`lost`. Shapes: A = 7 action dimensions. Gripper: 1 = open with us, OpenVLA, Octo and LeRobot; 1 = CLOSED with openpi.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from whale.common.errors import BadDataError, ConfigError

GRIPPER = 6
Statistics = Mapping[str, Any]  # one dataset's statistics.json
MIRRORED = {"q01": "q99", "q10": "q90", "q50": "q50", "q90": "q10", "q99": "q01", "min": "max", "max": "min"}


@dataclass(frozen=True)
class Dialect:
    """`file`: its customary name; `lost`: what the dialect has no place for."""

    file: str
    export: Callable[[str, Statistics], dict[str, Any]]
    read: Callable[[str, Mapping[str, Any]], dict[str, Any]]
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


def read_dialect(dialect: str, name: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """One dataset's statistics as ours, without what the dialect lost."""
    chosen = _dialect(dialect)
    try:
        return chosen.read(name, content)
    except (KeyError, TypeError, ValueError) as error:
        raise BadDataError(f"not {dialect} statistics", place=name, found=str(error), expected=chosen.file) from None


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


def _openvla(names: Mapping[str, str]) -> tuple[Callable, Callable]:
    def export(name: str, statistics: Statistics) -> dict[str, Any]:
        counts = {key: statistics[key] for key in ("num_transitions", "num_trajectories")}
        return {name: {"action": _take(statistics["action"], names), **counts}}

    def read(name: str, content: Mapping[str, Any]) -> dict[str, Any]:
        entry = content[name]
        action = {ours: entry["action"][theirs] for ours, theirs in names.items()}
        counts = {key: int(entry[key]) for key in ("num_transitions", "num_trajectories")}
        return {"action": {"count": counts["num_transitions"], **action}, **counts}

    return export, read


def _export_openpi(name: str, statistics: Statistics) -> dict[str, Any]:
    action = mirrored_gripper(statistics["action"])
    return {"norm_stats": {"actions": _take(action, {key: key for key in ("mean", "std", "q01", "q99")})}}


def _read_openpi(name: str, content: Mapping[str, Any]) -> dict[str, Any]:
    return {"action": mirrored_gripper(dict(content["norm_stats"]["actions"]))}


LEROBOT = ("min", "max", "mean", "std", "q01", "q10", "q50", "q90", "q99")


def _export_lerobot(name: str, statistics: Statistics) -> dict[str, Any]:
    action = statistics["action"]
    return {"action": {**_take(action, {key: key for key in LEROBOT}), "count": [action["count"]]}}


def _read_lerobot(name: str, content: Mapping[str, Any]) -> dict[str, Any]:
    action = content["action"]
    return {"action": {**{key: action[key] for key in LEROBOT}, "count": int(action["count"][0])}}


_COMMON = {"mean": "mean", "std": "std", "min": "min", "max": "max", "mask": "mask"}
DIALECTS: dict[str, Dialect] = {
    "openvla": Dialect(
        "dataset_statistics.json", *_openvla({**_COMMON, "q01": "q01", "q99": "q99"}),
        ("q10", "q50", "q90", "zero_share"),
    ),
    "octo": Dialect(
        "dataset_statistics.json", *_openvla({**_COMMON, "q01": "p01", "q99": "p99"}),
        ("q10", "q50", "q90", "zero_share"),
    ),
    "openpi": Dialect(
        "norm_stats.json", _export_openpi, _read_openpi,
        ("count", "min", "max", "q10", "q50", "q90", "zero_share", "mask", "num_transitions", "num_trajectories"),
    ),
    "lerobot": Dialect(
        "meta/stats.json", _export_lerobot, _read_lerobot, ("zero_share", "mask", "num_transitions", "num_trajectories")
    ),
}  # fmt: skip
