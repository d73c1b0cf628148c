"""A first data_specs/<name>.yaml for a dataset on disk, every guess marked with its reason.

The draft is a start, not a truth: `whale spec preview` and the quality gate say what measuring can say.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

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
    cameras = guessing.guess_cameras(sample)
    action, why_action = guessing.guess_action(sample)
    if not cameras or action is None:
        what = why_action if cameras else f"no images among {', '.join(sorted(sample.episodes[0].steps))}"
        raise BadDataError("nothing to draft a spec from", file=sample.source.directory, found=what)
    key, encoding, scope, kind = guessing.guess_language(sample)
    language = {"key": key, "encoding": encoding, "scope": scope, "kind": kind}
    language["why"] = "equal in all episodes looked at" if kind == "constant" else "by the texts found"
    pose, why_pose = guessing.guess_pose(sample)
    action = guessing.same_order(action, pose)
    if pose is not None and pose.order is not None:
        why_pose += f"; {pose.order.why}"
    opening = None if pose is None else guessing.guess_opening(sample, pose)
    form = guessing.is_absolute(sample, action, pose)
    absolute, quaternion = form.value == "absolute", "quat" in action.form
    written = action.form.removeprefix("xyz_")
    rate, splits, unit = _rate(sample), guessing.guess_splits(sample), _unit(sample, action, absolute)
    gripper = _gripper(sample, action, pose)
    text = _TEMPLATES.get_template("spec.yaml").render(
        name=name, kind=sample.kind, dataset=_dataset(sample, name), version=sample.source.version, splits=splits,
        rate=rate, cameras=cameras, language=language, pose=pose, why_pose=why_pose, opening=opening, action=action,
        form=form, absolute=absolute, quaternion=quaternion, unit=unit, turns=_turns(absolute, quaternion, written),
        gripper=gripper, live=_live(sample, action),
    )  # fmt: skip
    guesses = {"action": Guess(f"{action.key} as {action.form}", why_action), "robot.control_hz": rate}
    guesses["source.splits"] = splits
    guesses |= {f"cameras.{role}": Guess(f"{key}, {each.value}", each.why) for role, key, _, each in cameras}
    guesses["language"] = Guess(f"{key}, {kind}", str(language["why"]))
    guesses["state.pose"] = Guess("null" if pose is None else f"{pose.key} {pose.form}", why_pose)
    if opening is not None:
        guesses["state.gripper"] = Guess(f"{opening[0]}[{opening[1]}]", "rises_when: open is assumed")
    for place, columns in (("state.pose", pose), ("action", action)):
        if columns is not None and columns.order is not None:
            guesses[f"{place}.quaternion"] = columns.order
    guesses |= {"action.form": form, "action.translation.unit": unit}
    guesses["action.gripper"] = Guess("fill 1", "the action has no column left")
    if gripper is not None:
        guesses["action.gripper"] = Guess(f"{gripper[0]}, 1 is {gripper[2].value}", gripper[2].why)
    unread = _unread(sample, yaml.safe_load(text))
    if unread:
        text += f"# not read: {'; '.join(f'{_quoted(key)} ({what})' for key, what in unread.items())}\n"
    return Draft(text, guesses, unread)


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


def _turns(absolute: bool, quaternion: bool, form: str) -> str:
    """Operations on the rotation, which is written as `form`."""
    if absolute:
        if not quaternion:
            return "{difference: {wrap: true, kind: value}}"
        said = ", form: quat_wxyz" if form == "quat_wxyz" else ""
        return f"{{difference: {{wrap: true, kind: rotation{said}}}}}"
    return f"{{to_euler: {{form: {form}}}}}" if quaternion else ""


def _gripper(sample: Sample, action: PoseColumns, pose: PoseColumns | None) -> tuple[str, str, Guess] | None:
    """(raw, ops, what 1 means) of the column behind the pose; None if there is none."""
    arrays = sample.numbers()[action.key]
    if arrays[0].shape[1] <= action.stop:
        return None
    opening = guessing.guess_opening(sample, pose)
    openings = [array[:, opening[1]] for array in sample.numbers()[opening[0]]] if opening else None
    return guessing.gripper_rule([array[:, action.stop] for array in arrays], openings)


def _unit(sample: Sample, action: PoseColumns, absolute: bool) -> Guess:
    positions = [array[:, : min(3, action.stop)] for array in sample.numbers()[action.key]]
    steps = np.concatenate([np.diff(array, axis=0) if absolute else array for array in positions])
    typical = float(np.quantile(np.abs(steps), 0.9)) if steps.size else 0.0
    return Guess("m" if typical < METRIC_STEP else "scaled", f"90 % of the steps are below {typical:.3g}")


def _live(sample: Sample, action: PoseColumns) -> str:
    values = np.concatenate([action.read(array) for array in sample.numbers()[action.key]])
    spread = np.ptp(np.nan_to_num(values), axis=0)
    return "".join(letter for letter, varies in zip(DIMENSIONS, spread > 1.0e-6, strict=True) if varies)


def _quoted(key: str | None) -> str:
    """A key as YAML, on one line; a word that YAML reads as something else (`on`, `null`) is quoted too."""
    if key is None:
        return "null"
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_./-]*", key) and yaml.safe_load(key) == key:
        return key
    return yaml.safe_dump(key, default_style='"', width=2**20).strip()


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parents[1] / "templates"), undefined=StrictUndefined, trim_blocks=True,
    keep_trailing_newline=True,
)  # fmt: skip
_TEMPLATES.filters["quoted"] = _quoted
