"""Guesses about an unknown dataset, each with its reason: which column is what, and what the numbers mean.

A guess is a value and why; what measuring can decide (delta or pose, open or closed) is measured.
Shapes: T steps, D columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from math import ceil

import numpy as np

from whale.data.ingest.canonical.raw_columns import ORIENTATIONS
from whale.data.ingest.quality.motion import ROTATION, MotionSums, correlations, measure_motion
from whale.data.ingest.quality.verdicts import LEAST_EVENTS, LEAST_SHARE
from whale.data.ingest.quality.video import LOOKS, look
from whale.data.ingest.sources.source import ALL
from whale.data.spec import rotations
from whale.data.spec.operations import to_euler
from whale.data.spec.spec import SplitSlice
from whale.data.workbench.draft.sample import Sample

LEAST_TURN = 1.0e-6  # squared; below it, a quaternion says nothing of its own form
WIDTHS = {"xy": 2, "xyz": 3}  # of a pose without a rotation
ORDER_MARGIN, ORDER_CLEAR = 0.2, 0.4  # of correlations with a commanded rotation
POSE_NAMES = ("state", "pose", "proprio", "cartesian", "eef", "tool", "effector")
POSITION_NAMES = ("eef_pos", "ee_pos", "position", "translation")
SIMULATOR_STATE = "states"  # of robomimic: everything the simulator knows, not a pose
TEXT_NAMES = ("instruction", "language", "task", "lang")
OPENING_NAMES = ("gripper", "opening", "finger")
OUR_SPLITS = {
    "train": "train", "training": "train", "val": "val", "validation": "val", "valid": "val", "dev": "val",
    "eval": "val", "test": "test", "testing": "test",
}  # fmt: skip
MANY_EPISODES = 200  # from here on 5 % are 10 episodes or more
WRIST_NAMES = ("wrist", "hand", "gripper", "eye_in")
ROLES = ("primary", "secondary", "tertiary", "fourth", "fifth", "sixth")


@dataclass(frozen=True)
class Guess:
    value: str
    why: str


@dataclass(frozen=True)
class PoseColumns:
    """Where a pose stands: feature, columns of position and rotation, how the rotation is written.

    "xyz" and "xy" hold no rotation.
    order: of a quaternion, and why; a `?` in it is a question to whoever recorded.
    """

    key: str
    start: int
    form: str
    order: Guess | None = None

    @property
    def stop(self) -> int:
        return self.start + WIDTHS.get(self.form, 7 if "quat" in self.form else 6)

    def read(self, array_TD: np.ndarray) -> np.ndarray:
        """(T, 6) xyz and roll pitch yaw; NaN for a rotation that is not there."""
        columns = array_TD[:, self.start : self.stop]
        if self.form in WIDTHS:
            return np.pad(columns, ((0, 0), (0, 6 - columns.shape[1])), constant_values=np.nan)
        orientation = ORIENTATIONS[self.form]
        turn = to_euler(columns[:, 3:], orientation) if orientation else columns[:, 3:]
        return np.concatenate([columns[:, :3], turn], axis=1)


def guess_splits(sample: Sample) -> Guess:
    """The source's own splits by name; those of train, val and test that it lacks are cut from the end of one."""
    records = {name: sum(unit.records for unit in units) for name, units in sample.source.splits.items()}
    own: dict[str, str] = {}
    for name in OUR_SPLITS:
        if records.get(name):
            own.setdefault(OUR_SPLITS[name], name)
    base = own.get("train") or max(records, key=lambda name: records[name])
    if "train" not in own:
        own = {}  # everything is cut from what there is most of
    taken = {base, *own.values(), *([ALL] if own else [])}  # what HDF5 lists in masks stands in `all` as well
    others = [f"{name} ({count} episodes)" for name, count in records.items() if name not in taken]
    unused = f"; not read: {', '.join(others)}" if others else ""
    absent = [split for split in ("val", "test") if split not in own]
    if records[base] <= len(absent):
        why = f"{base} has {records[base]} episodes: too few to cut others from them (add-a-dataset.md, 5){unused}"
        return Guess(f"{{train: {base}}}", why)
    share = 5 if records[base] >= MANY_EPISODES else max(10, ceil(100 / records[base]))
    bounds = [0, *(100 - share * left for left in range(len(absent), -1, -1))]
    cut = {name: f'"{SplitSlice(split=base, start=start, stop=stop)}"'
           for name, (start, stop) in zip(["train", *absent], pairwise(bounds), strict=True)}  # fmt: skip
    splits = {"train": base} | own | (cut if absent else {})
    why = f"{' and '.join(absent)} cut from the end of {base}'s {records[base]} episodes" if absent else "by name"
    why += unused
    return Guess(f"{{{', '.join(f'{name}: {splits[name]}' for name in ('train', 'val', 'test'))}}}", why)


def guess_cameras(sample: Sample) -> list[tuple[str, str, tuple[int, int], Guess]]:
    """(role, key, hw, channel order): wrist by name, the others in the order of their names."""
    found: list[tuple[str, str, tuple[int, int], Guess]] = []
    others = iter(ROLES)
    for key, hw in sorted(sample.images().items(), key=lambda item: (_is_wrist(item[0]), item[0])):
        role = "wrist" if _is_wrist(key) and "wrist" not in [each[0] for each in found] else next(others)
        found.append((role, key, hw, _channels(sample, key)))
    if found and "primary" not in [each[0] for each in found]:
        found[0] = ("primary", *found[0][1:])
    return found


def guess_language(sample: Sample) -> tuple[str | None, str, str, str]:
    """(key, encoding, scope, kind)."""
    for scope, texts in (("step", sample.texts()), ("episode", sample.labels())):
        keys = [key for key in texts if _is_named(key.rsplit("/", 1)[-1], TEXT_NAMES)]
        if keys:
            kind = "constant" if len(set(texts[keys[0]])) == 1 else "natural"
            return keys[0], "utf8", scope, kind
        for name, arrays in sample.numbers().items() if scope == "step" else ():
            if arrays[0].shape[1] >= 64 and "instruction" in name:
                return name, "codepoints_int32", "step", "natural"
    return None, "utf8", "step", "none"


def guess_pose(sample: Sample) -> tuple[PoseColumns | None, str]:
    """A feature that looks like a pose: named so, at least six columns; a unit quaternion behind three numbers.

    Else one of three columns that is named like a position.
    """
    candidates = [
        (name, arrays)
        for name, arrays in sample.numbers().items()
        if not name.startswith("action") and arrays[0].shape[1] >= 6 and _is_named(name, POSE_NAMES)
        and name != SIMULATOR_STATE
    ]  # fmt: skip
    for name, arrays in candidates:
        if _has_quaternion(arrays, 3):
            return _quaternion(sample, name), "columns 3:7 have norm 1"
    if candidates:
        return PoseColumns(candidates[0][0], 0, "xyz_rpy"), "by name; columns 3:6 are taken for angles"
    for name, arrays in sample.numbers().items():
        if arrays[0].shape[1] == 3 and not name.startswith("action") and _is_named(name, POSITION_NAMES):
            return PoseColumns(name, 0, "xyz"), "a position by name; serves the quality gate, is not stored"
    return None, "no feature is named like a pose"


def guess_opening(sample: Sample, pose: PoseColumns | None) -> tuple[str, int] | None:
    """A gripper sensor: a feature named like one (of one finger or two), or the column behind the pose."""
    for name, arrays in sample.numbers().items():
        is_sensor = _is_named(name, OPENING_NAMES) and "vel" not in name.lower() and not name.startswith("action")
        if is_sensor and arrays[0].shape[1] <= 2:
            return name, 0
    if pose is not None and sample.numbers()[pose.key][0].shape[1] > pose.stop:
        return pose.key, pose.stop
    return None


def guess_action(sample: Sample) -> tuple[PoseColumns | None, str]:
    """The command: `action` or `actions`; position, rotation if there are six columns, then the gripper."""
    numbers = sample.numbers()
    for name in ("action", "actions"):
        if name in numbers and numbers[name][0].shape[1] >= 6:
            if _has_quaternion(numbers[name], 3):
                return _quaternion(sample, name), "columns 3:7 have norm 1"
            width = numbers[name][0].shape[1]
            wide = "" if width <= 8 else f"; it has {width} columns: joints? then nothing here is right"
            return PoseColumns(name, 0, "xyz_rpy"), f"three numbers, then three angles{wide}"
        if name in numbers and 3 <= numbers[name][0].shape[1] < 6:
            return PoseColumns(name, 0, "xyz"), f"{numbers[name][0].shape[1]} columns: no rotation among them"
        if name in numbers and numbers[name][0].shape[1] == 2:
            return PoseColumns(name, 0, "xy"), "2 columns: x and y of a plane"
    return None, f"no feature action or actions of two columns or more among {', '.join(sorted(numbers))}"


def same_order(action: PoseColumns, pose: PoseColumns | None) -> PoseColumns:
    """An action whose quaternion nobody explains is written as the pose's, if that one is known."""
    is_open = action.order is not None and action.order.value == "?"
    if not is_open or pose is None or pose.order is None or pose.order.value == "?":
        return action
    return PoseColumns(action.key, action.start, pose.form, Guess(pose.order.value, f"as {pose.key}"))


def measured(sample: Sample, action: PoseColumns, pose: PoseColumns | None) -> MotionSums:
    """Actions as they stand against the pose's motion."""
    total = MotionSums.zero()
    numbers = sample.numbers()
    for number, action_TD in enumerate(numbers[action.key]):
        act_T6 = action.read(action_TD)
        pose_T6 = pose.read(numbers[pose.key][number]) if pose else np.full(act_T6.shape, np.nan)
        nothing_T = np.full(len(act_T6), np.nan)
        total += measure_motion(act_T6, np.ones(len(act_T6), bool), pose_T6, nothing_T, nothing_T)
    return total


def is_absolute(sample: Sample, action: PoseColumns, pose: PoseColumns | None) -> Guess:
    """A pose fits the pose; a step fits its change. Without a measured pose: quaternions are poses."""
    if "quat" in action.form:
        return Guess("absolute", "a unit quaternion is an orientation, not a step")
    if pose is None:
        return Guess("delta", "nothing is measured to compare with")
    sums = measured(sample, action, pose)
    level = float(np.abs(correlations(sums.level)[:3]).mean())
    change = float(np.abs(correlations(sums.lagged)[:, :3]).max(axis=0).mean())
    what = "absolute" if level > change else "delta"
    return Guess(what, f"x, y, z correlate {level:.2f} with the pose and {change:.2f} with its change")


def gripper_rule(commands: Sequence[np.ndarray], openings: Sequence[np.ndarray] | None) -> tuple[str, str, Guess]:
    """(raw, ops, whether 1 is open and why): from the values, and from what the sensor does after a command.

    0 to 1 is taken as it is, -1 to 1 and any other range are brought to 0 to 1 by what was measured.
    """
    values = np.concatenate(commands)
    low, high = float(values.min()), float(values.max())
    if low < -0.5 and (np.abs(values) < 0.1).mean() > 0.5:
        return "relative", "[{relative_to_absolute: {threshold: 0.1}}]", Guess("?", "mostly 0 with -1 and 1 between")
    ops, why = _to_unit_range(low, high)
    sense = _sense(commands, openings)
    if sense.value == "closed":
        ops.append("invert")
    return "absolute", f"[{', '.join(ops)}]", Guess(sense.value, f"{why}{sense.why}")


def _to_unit_range(low: float, high: float) -> tuple[list[str], str]:
    """(operations, why) that bring the range seen to [0, 1]."""
    clip = "{clip: {low: 0.0, high: 1.0}}"
    if 0.5 < high <= 1.0 and low >= 0.0:
        return [], ""
    if low >= -0.1 and 0.5 < high <= 1.1:
        return [clip], ""
    if -1.1 <= low < -0.1 and 0.5 < high <= 1.1:
        half = "{scale: {factor: 0.5, offset: 0.5}}"
        return [half] if low >= -1.0 and high <= 1.0 else [half, clip], ""
    if high - low < 1.0e-9:
        return [clip], f"always {low:g}; "
    factor, offset = 1.0 / (high - low), -low / (high - low)
    scale = f"{{scale: {{factor: {factor:.9g}, offset: {offset + 0.0:.9g}}}}}"
    return [scale, clip], f"measured range {low:g} to {high:g}, brought to 0 to 1: is that its whole range?; "


def _sense(commands: Sequence[np.ndarray], openings: Sequence[np.ndarray] | None) -> Guess:
    """Is the larger command open? `openings` rise when the gripper opens, as far as anybody knows."""
    if openings is None:
        return Guess("?", "no sensor to compare with: is 1 open?")
    sums = MotionSums.zero()
    for command_T, opening_T in zip(commands, openings, strict=True):
        nothing_T6 = np.full((len(command_T), 6), np.nan)
        sums += measure_motion(nothing_T6, np.ones(len(command_T), bool), nothing_T6, command_T, opening_T)
    followed, opposed = sums.answers
    if followed + opposed < LEAST_EVENTS:
        return Guess("?", f"the sensor answers {followed + opposed:.0f} changes of the command: is 1 open?")
    count = f"{followed:.0f} of {followed + opposed:.0f}"
    why = f"if 1 were open, the measured opening would follow {count} changes of the command"
    share = followed / (followed + opposed)
    return Guess("open" if share >= LEAST_SHARE else "closed" if share <= 1 - LEAST_SHARE else "?", why)


def _has_quaternion(arrays: Sequence[np.ndarray], start: int) -> bool:
    """Norm 1 whatever the rotation: three small angles and a gripper of -1 or 1 have a norm near 1, too."""
    if arrays[0].shape[1] < start + 4:
        return False
    quat_N4 = np.concatenate([array[:, start : start + 4] for array in arrays])
    if not (np.abs(np.linalg.norm(quat_N4, axis=1) - 1.0) < rotations.UNIT_NORM).all():
        return False  # NaN, too
    turned_N = (quat_N4[:, :3] ** 2).sum(axis=1)
    error_N = np.abs((quat_N4**2).sum(axis=1) - 1.0)
    if turned_N.mean() > LEAST_TURN:
        return bool(error_N.sum() < 0.1 * turned_N.sum())
    return arrays[0].shape[1] > start + 4 and bool((quat_N4[:, 3] > 0).all())  # no turn at all: a column must be left


def _quaternion(sample: Sample, name: str) -> PoseColumns:
    """The order is read from names, else measured by a rotation that is commanded, else asked."""
    order = _order_by_name(sample, name) or _order_by_command(sample, name)
    order = order or Guess("?", "x y z w is assumed: the numbers do not tell it from w x y z; ask who recorded it")
    form = "xyz_quat_wxyz" if order.value == "wxyz" else "xyz_quat_xyzw"
    return PoseColumns(name, 0, form, order)


def _order_by_name(sample: Sample, name: str) -> Guess | None:
    named = next((order for order in ("wxyz", "xyzw") if order in name.lower()), None)
    if named is None:
        letters = [word.lower()[-1:] for word in sample.column_names(name)[3:7]]
        named = next((order for order in ("wxyz", "xyzw") if letters == list(order)), None)
    return None if named is None else Guess(named, "by name")


def _order_by_command(sample: Sample, name: str) -> Guess | None:
    """A pose that moves while a rotation is commanded: the order in which it turns as it is told."""
    action, _ = guess_action(sample) if not name.startswith("action") else (None, "")
    if action is None or action.form != "xyz_rpy":
        return None
    fits = {}
    for order in ("xyzw", "wxyz"):
        sums = measured(sample, action, PoseColumns(name, 0, f"xyz_quat_{order}"))
        fits[order] = float(np.abs(correlations(sums.lagged[:, ROTATION])).mean(axis=1).max())
    best, other = sorted(fits, key=lambda order: -fits[order])
    if fits[best] < ORDER_CLEAR or fits[best] - fits[other] < ORDER_MARGIN:
        return None
    return Guess(best, f"turns as commanded: correlation {fits[best]:.2f}, {fits[other]:.2f} if read as {other}")


def _is_wrist(key: str) -> bool:
    return _is_named(key, WRIST_NAMES)


def _is_named(key: str, words: Sequence[str]) -> bool:
    return any(word in key.lower() for word in words)


def _channels(sample: Sample, key: str) -> Guess:
    firsts = [list(islice(iter(raw.steps[key]), LOOKS)) for raw in sample.episodes]  # a video is read from its start
    reports = [look(frames, np.zeros(len(frames) - 1, bool)) for frames in firsts]
    coloured, warm = sum(report.coloured for report in reports), sum(report.warm for report in reports)
    if all(report.is_black for report in reports):
        return Guess("rgb", "every frame is black")
    if coloured < 500:
        return Guess("rgb", "too few coloured pixels to tell: look at a frame")
    share = warm / coloured
    order = "bgr" if share < 0.3 else "rgb"
    told = "wood and skin would be blue" if order == "bgr" else "as wood and skin are"
    return Guess(order, f"{share:.0%} of dark coloured pixels are warm, read as rgb: {told}")
