"""A first data_specs/<name>.yaml for a dataset on disk, every guess marked with its reason.

The draft is a start, not a truth: `whale spec preview` and the quality gate say what measuring can say.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from whale.common.errors import BadDataError
from whale.data.ingest.canonical.canonical import STEP_FIELDS
from whale.data.spec.spec import NAME_LENGTH
from whale.data.workbench.draft import guesses as guessing
from whale.data.workbench.draft.guesses import Guess, PoseColumns
from whale.data.workbench.draft.sample import Sample

METRIC_STEP = 0.3  # a typical step larger than this is not in metres
DIMENSIONS = "xyzrpw"
STEP_KEYS = {"is_first", "is_last", "timestamp", *STEP_FIELDS}
BOOKKEEPING = {  # of a format: nothing that a spec would read, or read already under another name
    "lerobot": {"episode_index", "frame_index", "index", "task_index", "tasks", "next.done", "next.reward"},
    "hdf5": {"demo", "dones", "rewards"},
}
NAME_CHARACTERS = re.compile(r"[^a-z0-9_]+")


@dataclass(frozen=True)
class Draft:
    """`text`: the YAML; `guesses`: dotted place -> value and why; `unread`: features that the draft takes nothing from,
    each with what it holds."""

    text: str
    guesses: dict[str, Guess]
    unread: dict[str, str]


def name_of(folder: str) -> str:
    """A spec name from a folder's name."""
    return NAME_CHARACTERS.sub("_", folder.lower()).strip("_")[:NAME_LENGTH] or "dataset"


def draft_spec(sample: Sample, name: str) -> Draft:
    """BadDataError if there is no camera or nothing like an action."""
    guesses: dict[str, Guess] = {}
    cameras = guessing.guess_cameras(sample)
    action, why_action = guessing.guess_action(sample)
    if not cameras or action is None:
        what = why_action if cameras else f"no images among {', '.join(sorted(sample.episodes[0].steps))}"
        raise BadDataError("nothing to draft a spec from", file=sample.source.directory, found=what)
    guesses["action"] = Guess(f"{action.key} as {action.form}", why_action)
    rate = _rate(sample)
    guesses["robot.control_hz"] = rate
    splits = guesses["source.splits"] = guessing.guess_splits(sample)
    lines = [
        f"name: {name}   # drafted by `whale spec init`; a line marked ? is a guess: check it",
        f"source: {{format: {sample.kind}, dataset: {_dataset(sample, name)}, "
        f'version: "{sample.source.version}", splits: {splits.value}}}   # ? {splits.why}',
        f"robot: {{name: unknown, arms: 1, control_hz: {rate.value}}}   # ? {rate.why}",
        "cameras:",
    ]
    for role, key, (height, width), channels in cameras:
        view = "wrist" if role == "wrist" else "fixed"
        guesses[f"cameras.{role}"] = Guess(f"{key}, {channels.value}", channels.why)
        lines.append(
            f"  {role}: {{key: {_quoted(key)}, channels: {channels.value}, hw: [{height}, {width}], view: {view}, "
            f"rotate: 0, optional: {str(role != 'primary').lower()}}}   # ? {channels.why}"
        )
    language, encoding, scope, kind = guessing.guess_language(sample)
    why = "equal in all episodes looked at" if kind == "constant" else "by the texts found"
    guesses["language"] = Guess(f"{language}, {kind}", why)
    where = f"key: {_quoted(language)}, encoding: {encoding}, scope: {scope}"
    lines.append(f"language: {{{where}, kind: {kind}}}   # ? {why}")
    lines += _state(sample, guesses) + _action(sample, action, guesses)
    lines += [
        'licence: {spdx: LicenseRef-unverified, url: "", evidence: unverified, citation: none}   # ? fill in',
        "expect: {episodes: null, steps: null, source: nobody printed them}",
        "errata: []",
    ]
    unread = _unread(sample, yaml.safe_load("\n".join(lines)))
    if unread:
        lines.append(f"# not read: {'; '.join(f'{_quoted(key)} ({what})' for key, what in unread.items())}")
    return Draft("\n".join(lines) + "\n", guesses, unread)


def _dataset(sample: Sample, name: str) -> str:
    found = sample.source.name
    return found if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", found) else name


def _unread(sample: Sample, written: dict[str, Any]) -> dict[str, str]:
    """What a person may want to read and the draft does not; the fields of every RLDS step are not worth a word."""
    state = written["state"] or {}
    parts = [*written["cameras"].values(), written["language"], *written["action"].values(), *state.values()]
    read = {part.get("key") for part in parts if part} | STEP_KEYS | BOOKKEEPING.get(sample.kind, set())
    return {key: what for key, what in sorted(sample.described().items()) if key not in read}


def _rate(sample: Sample) -> Guess:
    times = sample.episodes[0].steps.get("timestamp")
    if isinstance(times, np.ndarray) and len(times) > 1 and np.median(np.diff(times.ravel())) > 0:
        rate = round(1.0 / float(np.median(np.diff(times.ravel().astype(float)))), 2)
        return Guess(str(rate), "median of the time stamps")
    return Guess("10.0", "no time stamps: ask who recorded it")


def _state(sample: Sample, guesses: dict[str, Guess]) -> list[str]:
    pose, why = guessing.guess_pose(sample)
    opening = guessing.guess_opening(sample, pose)
    guesses["state.pose"] = Guess("null" if pose is None else f"{pose.key} {pose.form}", why)
    if pose is None:
        return [f"state: null   # ? {why}"]
    units = "[m]" if pose.form == "xyz" else "[m, one]" if "quat" in pose.form else "[m, rad]"
    lines = [
        "state:",
        f"  pose: {{key: {_quoted(pose.key)}, slice: [0, {pose.stop}], form: {pose.form}, units: {units}}}   # ? {why}",
    ]
    if opening is None:
        return [*lines, "  gripper: null"]
    key, column = opening
    guesses["state.gripper"] = Guess(f"{key}[{column}]", "rises_when: open is assumed")
    where = f"key: {_quoted(key)}, slice: [{column}, {column + 1}]"
    return [*lines, f"  gripper: {{{where}, rises_when: open}}   # ? open is assumed; the command's sense rests on it"]


def _action(sample: Sample, action: PoseColumns, guesses: dict[str, Guess]) -> list[str]:
    pose, _ = guessing.guess_pose(sample)
    form = guessing.is_absolute(sample, action, pose)
    guesses["action.form"] = form
    absolute = form.value == "absolute"
    is_quaternion = "quat" in action.form
    unit = _unit(sample, action, absolute, guesses)
    units = guesses["action.translation.unit"].why
    turn = "one" if is_quaternion else "rad" if unit == "m" else "scaled"
    shift = "[{difference: {wrap: false}}]" if absolute else "[]"
    turns = ["{to_euler: {form: quat_xyzw}}"] if is_quaternion and not absolute else []
    if absolute:
        turns = [f"{{difference: {{wrap: true, kind: {'rotation' if is_quaternion else 'value'}}}}}"]
    live = _live(sample, action)
    key, ops = _quoted(action.key), ", ".join(turns)
    told = "a unit quaternion" if is_quaternion else "as the translation"
    turned = f"{{key: {key}, slice: [3, {action.stop}], unit: {turn}, ops: [{ops}]}}   # ? {told}"
    why = f"{units}; {form.value}: {form.why}"
    lines = [
        "action:",
        f"  translation: {{key: {key}, slice: [0, 3], unit: {unit}, ops: {shift}}}   # ? {why}",
        f"  rotation: {turned if action.stop > 3 else '{fill: 0.0}'}",
    ]
    grip, has_gripper = _gripper(sample, action, guesses)
    contract = f"live: {live}{'g' if has_gripper else ''}, limit: null, retraceable: true, last_step: undefined"
    edits = "[drop_last]" if absolute else "[]"
    return [
        *lines,
        grip,
        f"  contract: {{frame: base, form: delta, {contract}}}   # ? frame",
        f"episodes: {{filters: [], edits: {edits}, min_steps: 2}}",
    ]


def _gripper(sample: Sample, action: PoseColumns, guesses: dict[str, Guess]) -> tuple[str, bool]:
    arrays = sample.numbers()[action.key]
    column = action.stop
    if arrays[0].shape[1] <= column:
        guesses["action.gripper"] = Guess("fill 1", "the action has no column left")
        return "  gripper: {fill: 1.0, raw: none}   # ? the action has no column left for it", False
    pose, _ = guessing.guess_pose(sample)
    opening = guessing.guess_opening(sample, pose)
    openings = [array[:, opening[1]] for array in sample.numbers()[opening[0]]] if opening else None
    raw, ops, sense = guessing.gripper_rule([array[:, column] for array in arrays], openings)
    guesses["action.gripper"] = Guess(f"{raw}, 1 is {sense.value}", sense.why)
    where = f"key: {_quoted(action.key)}, slice: [{column}, {column + 1}]"
    return f"  gripper: {{{where}, raw: {raw}, ops: {ops}}}   # ? {sense.why}", True


def _unit(sample: Sample, action: PoseColumns, absolute: bool, guesses: dict[str, Guess]) -> str:
    positions = [array[:, :3] for array in sample.numbers()[action.key]]
    steps = np.concatenate([np.diff(array, axis=0) if absolute else array for array in positions])
    typical = float(np.quantile(np.abs(steps), 0.9)) if steps.size else 0.0
    unit = "m" if typical < METRIC_STEP else "scaled"
    guesses["action.translation.unit"] = Guess(unit, f"90 % of the steps are below {typical:.3g}")
    return unit


def _live(sample: Sample, action: PoseColumns) -> str:
    values = np.concatenate([action.read(array) for array in sample.numbers()[action.key]])
    return "".join(letter for letter, column in zip(DIMENSIONS, values.T, strict=True) if np.ptp(column) > 1.0e-6)


def _quoted(key: str | None) -> str:
    """A key as YAML, on one line; a word that YAML reads as something else (`on`, `null`) is quoted too."""
    if key is None:
        return "null"
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_./-]*", key) and yaml.safe_load(key) == key:
        return key
    return yaml.safe_dump(key, default_style='"', width=2**20).strip()
