"""What a spec says of an episode, computed a second time: step by step where ingest computes whole arrays.

Written from docs/how-to/add-a-dataset.md: filters, drop_first, parts on what is left, shift, drop_last, min_steps.
Rotations are SciPy's. Shapes: T steps, D columns.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from whale.audit.conversion.plain import PlainEpisode

if TYPE_CHECKING:
    from whale.data.spec.spec import DatasetSpec, Part

GRIPPER_TOLERANCE = 1.0e-3


@dataclass(frozen=True)
class Meaning:
    """steps: those that are kept, of the source's; action (T, 7) float64; valid (T,) bool; T = len(steps)."""

    steps: range
    action: np.ndarray
    valid: np.ndarray
    language: str


def dropped_because(plain: PlainEpisode, spec: "DatasetSpec", key: str) -> str | None:
    """The reason for which the spec keeps no such episode; None for one that it keeps."""
    if key in spec.episodes.exclude:
        return "excluded_by_hand"
    for rule in spec.episodes.filters:
        value = plain.about.get(rule.key)
        if value is None:
            value = (plain.texts.get(rule.key) or plain.columns[rule.key])[0]
        value = value.decode() if isinstance(value, bytes) else np.asarray(value).tolist()
        if (value != rule.equals) if rule.equals is not None else (value == rule.not_equals):
            return "filtered"
    return "too_short" if len(_kept(plain, spec)) < spec.episodes.min_steps else None


def meaning(plain: PlainEpisode, spec: "DatasetSpec") -> Meaning:
    """ValueError, KeyError where the episode does not hold what the spec reads."""
    steps, contract, edits = _kept(plain, spec), spec.action.contract, spec.episodes.edits
    parts = (spec.action.translation, spec.action.rotation, spec.action.gripper)
    made = [_part(plain, part, width, steps.start) for part, width in zip(parts, (3, 3, 1), strict=True)]
    rows, valid = [], []
    for row in zip(*made, strict=True):
        values = [value for part, _ in row for value in part]
        is_valid = all(ok for _, ok in row) and all(map(math.isfinite, values))
        values = [value if math.isfinite(value) else 0.0 for value in values]
        is_valid &= -GRIPPER_TOLERANCE <= values[6] <= 1.0 + GRIPPER_TOLERANCE
        values[6] = min(max(values[6], 0.0), 1.0)
        if contract.limit is not None:
            is_valid &= all(abs(value) <= limit for value, limit in zip(values, contract.limit, strict=True))
        rows.append(values)
        valid.append(is_valid)
    if "shift_action" in edits:
        rows, valid = [*rows[1:], [0.0] * 7], [*valid[1:], False]
    if contract.last_step == "undefined":
        valid[-1] = False
    count = len(steps)
    return Meaning(steps, np.array(rows[:count]), np.array(valid[:count], bool), _language(plain, spec, steps.start))


def _kept(plain: PlainEpisode, spec: "DatasetSpec") -> range:
    edits = spec.episodes.edits
    return range(1 if "drop_first" in edits else 0, plain.num_steps - (1 if "drop_last" in edits else 0))


def _language(plain: PlainEpisode, spec: "DatasetSpec", first: int) -> str:
    key = spec.language.key
    if key is None:
        return ""
    if spec.language.encoding == "codepoints_int32":
        points = plain.about[key] if spec.language.scope == "episode" else plain.columns[key][first]
        return "".join(map(chr, points)).split("\0")[0]
    text = plain.about[key] if spec.language.scope == "episode" else plain.texts[key][first]
    return bytes(text).decode()


def columns_of(plain: PlainEpisode, key: str) -> np.ndarray:
    """(T, D) as stored."""
    return np.asarray(plain.columns[key]).reshape(plain.num_steps, -1)


def _part(plain: PlainEpisode, part: "Part", width: int, first: int) -> list[tuple[list[float], bool]]:
    """Per step its numbers, and whether all that was read for them is finite."""
    if part.key is None or part.slice is None:
        return [([float(part.fill or 0.0)] * width, True)] * (plain.num_steps - first)
    x_TD = columns_of(plain, part.key)[first:, part.slice[0] : part.slice[1]].astype(np.float64)
    is_finite = [all(map(math.isfinite, row)) for row in x_TD]
    for operation in part.ops:
        x_TD = OPERATIONS[operation.name](x_TD, **operation.arguments)
    if x_TD.shape != (len(is_finite), width):
        raise ValueError(f"{part.key} gives {x_TD.shape[1]} columns, expected {width}")
    return [(row.tolist(), ok) for row, ok in zip(x_TD, is_finite, strict=True)]


def _rotation(x_TD: np.ndarray, form: str) -> Any:
    from scipy.spatial.transform import Rotation

    if form.startswith("quat_"):
        return Rotation.from_quat(x_TD, scalar_first=form == "quat_wxyz")
    if form == "axis_angle":
        return Rotation.from_rotvec(x_TD)
    return Rotation.from_euler(form.removeprefix("euler_"), x_TD)  # lower case: about fixed axes


def _difference(x_TD: np.ndarray, wrap: bool = False, kind: str = "value", form: str | None = None) -> np.ndarray:
    rows = []
    for now, then in pairwise(x_TD):
        if kind == "rotation" and np.isfinite([now, then]).all():
            before, after = (_rotation(x, form or ("quat_xyzw" if len(x) == 4 else "euler_xyz")) for x in (now, then))
            rows.append((after * before.inv()).as_euler("xyz"))
        elif kind == "rotation":
            rows.append(np.full(3, np.nan))
        else:
            step = then - now
            rows.append(np.arctan2(np.sin(step), np.cos(step)) if wrap else step)
    width = 3 if kind == "rotation" else x_TD.shape[1]
    return np.array([*rows, np.full(width, np.nan)])


def _binarize(x_TD: np.ndarray, open: float = 0.95, closed: float = 0.05) -> np.ndarray:
    """From the end: between `open` and `closed` holds what is decided next; an undecided tail its last value."""
    made, held = x_TD.copy(), x_TD[-1].copy()
    for t in reversed(range(len(x_TD))):
        for d, value in enumerate(x_TD[t]):
            if value > open or value < closed:
                held[d] = 1.0 if value > open else 0.0
        made[t] = held
    return made


def _relative_to_absolute(x_TD: np.ndarray, threshold: float = 0.1) -> np.ndarray:
    made = np.ones_like(x_TD)
    for d in range(x_TD.shape[1]):
        events = [t for t, value in enumerate(x_TD[:, d]) if abs(value) > threshold]
        held = 1.0 if not events else float(x_TD[events[0], d] > 0)  # before a command holds its opposite
        for t, value in enumerate(x_TD[:, d]):
            if abs(value) > threshold:
                held = float(value < 0)
            made[t, d] = held
    return made


def _fill(x_TD: np.ndarray, value: float, width: int) -> np.ndarray:
    return np.pad(x_TD, ((0, 0), (0, width - x_TD.shape[1])), constant_values=value)


OPERATIONS: dict[str, Callable[..., np.ndarray]] = {
    "pick": lambda x, start, stop: x[:, start:stop],
    "fill": _fill,
    "scale": lambda x, factor=1.0, offset=0.0: np.array([row * factor + offset for row in x]),
    "clip": lambda x, low, high: np.minimum(np.maximum(x, low), high),
    "invert": lambda x: 1.0 - x,
    "binarize": _binarize,
    "relative_to_absolute": _relative_to_absolute,
    "to_euler": lambda x, form: _rotation(x, form).as_euler("xyz"),
    "difference": _difference,
}
