"""RawEpisode + spec -> Episode: the one place where a dataset's conventions become ours.

The order is fixed: filters, drop_first, parts on what is left, drop_last, min_steps. Nothing edits its input.
Shapes: T steps, A = 7 action dimensions.
"""

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from whale.common.errors import BadDataError
from whale.common.printable import one_line
from whale.data.ingest.canonical.instruction_text import clean_text, flat_metadata, instruction
from whale.data.ingest.canonical.raw_columns import columns, measured_opening, measured_pose, step_feature
from whale.data.spec.episode import Episode, EpisodeError, RawEpisode, Rejected
from whale.data.spec.operations import apply_operation
from whale.data.spec.spec import DatasetSpec, EpisodeFilter, Part, State

WHAT_IMAGES_ARE = (
    "expected images: encoded JPEG or PNG, or uint8 (T, H, W, 3), (T, H, W, 4) or (T, 3, H, W); convert floats to uint8"
)
GRIPPER_TOLERANCE = 1.0e-3
# RLDS step fields; a source without one means what the array on the right says.
STEP_FIELDS = {"is_terminal": (bool, False), "reward": (np.float32, 0.0), "discount": (np.float32, 1.0)}


def canonical_episode(raw: RawEpisode, spec: DatasetSpec, key: str, roles: Iterable[str]) -> Episode | Rejected:
    """The canonical record, its frames still encoded as the source stored them; or why there is none."""
    try:
        return _episode(raw, spec, key, roles)
    except EpisodeError as error:
        return Rejected.of(raw, error.reason, str(error))


def needed_keys(spec: DatasetSpec, roles: Iterable[str]) -> set[str]:
    """Step and metadata features that must exist for this spec."""
    roles = list(roles)
    cameras = [spec.cameras[role] for role in roles if role in spec.cameras]
    keys = {camera.key for camera in cameras if not camera.optional}
    keys |= {spec.cameras["primary"].key} if "primary" in roles and "primary" in spec.cameras else set()  # always
    keys |= {part.key for part in _parts(spec) if part.key is not None}
    keys |= {rule.key for rule in spec.episodes.filters} | {"is_first"}
    keys |= {spec.language.key} if spec.language.key is not None else set()
    if spec.state is not None:
        keys |= {spec.state.pose.key} | ({spec.state.gripper.key} if spec.state.gripper else set())
    return keys


def wanted_keys(spec: DatasetSpec, roles: Iterable[str]) -> set[str]:
    """Everything worth decoding: needed keys, optional cameras, the RLDS step fields."""
    optional = {spec.cameras[role].key for role in roles if role in spec.cameras}
    return needed_keys(spec, roles) | optional | set(STEP_FIELDS) | {"is_last"}


def check_keys(
    spec: DatasetSpec,
    features: Collection[str],
    roles: Iterable[str],
    file: object,
    left_out: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """A spec that names a feature the dataset lacks is wrong as a whole, not episode by episode.

    left_out: features that are there but cannot be read, and why.
    """
    missing = sorted(needed_keys(spec, roles) - set(features))
    if unreadable := [key for key in missing if key in left_out]:
        raise BadDataError(
            f"what data_specs/{spec.name}.yaml reads cannot be read", file=str(file),
            place=", ".join(map(one_line, unreadable)),
            found="\n            ".join(f"{one_line(key)}: {left_out[key]}" for key in unreadable),
            remedy="repair the data, or let the spec read something else",
        )  # fmt: skip
    if missing:
        near = {key: difflib.get_close_matches(key, list(features), n=1) for key in missing}
        hints = [f"{key} (did you mean {one_line(close[0])}?)" if close else key for key, close in near.items()]
        raise BadDataError(
            f"the dataset lacks what data_specs/{spec.name}.yaml reads", file=str(file),
            found=", ".join(map(one_line, sorted(features))), expected=", ".join(hints),
            remedy="correct the keys of the spec, or pin another version",
        )  # fmt: skip


def _episode(raw: RawEpisode, spec: DatasetSpec, key: str, roles: Iterable[str]) -> Episode:
    if raw.num_steps == 0:
        raise EpisodeError("empty", "the episode has no steps")
    for rule in spec.episodes.filters:
        _apply_filter(raw, rule)
    kept = kept_steps(raw, spec)
    first, last = kept.start, kept.stop
    num_steps = last - first
    if num_steps < spec.episodes.min_steps:
        raise EpisodeError(
            "too_short", f"{num_steps} of {raw.num_steps} steps left, min_steps {spec.episodes.min_steps}"
        )
    action, action_valid = _action(raw, spec, first)
    language, varies = instruction(raw, spec.language, slice(first, last))
    state = None if spec.state is None else _state(raw, spec.state)
    index = np.arange(num_steps)
    fields = {name: _step_field(raw, name)[first:last] for name in STEP_FIELDS}
    if "shift_action" in spec.episodes.edits:
        fields["reward"] = _next(_step_field(raw, "reward")[first:])[:num_steps]
    return Episode(
        key=key,
        frames=_frames(raw, spec, roles, slice(first, last)),
        action=action[:num_steps],
        action_valid=action_valid[:num_steps],
        state=None if state is None else state[first:last],
        language=language,
        is_first=index == 0,
        is_last=index == num_steps - 1,
        control_hz=spec.robot.control_hz,
        metadata=flat_metadata(raw.metadata, varies),
        **fields,
    )


def kept_steps(raw: RawEpisode, spec: DatasetSpec) -> slice:
    """The steps that the spec's edits leave."""
    return slice(int("drop_first" in spec.episodes.edits), raw.num_steps - int("drop_last" in spec.episodes.edits))


def _next(values: np.ndarray) -> np.ndarray:
    """Every step takes what is stored at the one after it; the last takes nothing (0, false)."""
    return np.concatenate([values[1:], np.zeros_like(values[:1])])


def _parts(spec: DatasetSpec) -> tuple[Part, Part, Part]:
    return spec.action.translation, spec.action.rotation, spec.action.gripper


def _apply_filter(raw: RawEpisode, rule: EpisodeFilter) -> None:
    value = _first_value(raw, rule.key)
    wanted = rule.equals if rule.equals is not None else rule.not_equals
    if (value == wanted) != (rule.equals is not None):
        relation = "==" if rule.equals is not None else "!="
        raise EpisodeError("filtered", f"{rule.reason}: {rule.key} is {value!r}, wanted {relation} {wanted!r}")


def _first_value(raw: RawEpisode, key: str) -> object:
    """A step feature's value at the first step, or a metadata value, as plain Python."""
    value: Any = raw.metadata[key] if key in raw.metadata else step_feature(raw, key)[0]
    if isinstance(value, bytes):
        return clean_text(value, key)
    return value.item() if np.ndim(value) == 0 else np.asarray(value).tolist()


def _action(raw: RawEpisode, spec: DatasetSpec, first: int) -> tuple[np.ndarray, np.ndarray]:
    """(action float32, valid) of steps `first` to the end; undefined values are 0 and not valid."""
    outcomes = [_part(raw, part, width, first) for part, width in zip(_parts(spec), (3, 3, 1), strict=True)]
    action_TA = np.concatenate([values for values, _ in outcomes], axis=1)
    finite_TA = np.isfinite(action_TA)
    valid_T = finite_TA.all(axis=1) & np.all([valid for _, valid in outcomes], axis=0)
    action_TA = np.where(finite_TA, action_TA, 0.0)
    valid_T &= np.abs(action_TA[:, 6] - 0.5) <= 0.5 + GRIPPER_TOLERANCE
    action_TA[:, 6] = np.clip(action_TA[:, 6], 0.0, 1.0)
    if spec.action.contract.limit is not None:
        valid_T &= (np.abs(action_TA) <= np.array(spec.action.contract.limit)).all(axis=1)
    if "shift_action" in spec.episodes.edits:
        action_TA, valid_T = _next(action_TA), _next(valid_T)
    if spec.action.contract.last_step == "undefined":
        valid_T[-1:] = False  # gone as well when the spec drops it
    action_TA = action_TA.astype(np.float32)
    overflown_TA = ~np.isfinite(action_TA)
    action_TA[overflown_TA] = 0.0
    return action_TA, valid_T & ~overflown_TA.any(axis=1)


def _part(raw: RawEpisode, part: Part, width: int, first: int) -> tuple[np.ndarray, np.ndarray]:
    if part.key is None or part.slice is None:
        num_steps = raw.num_steps - first
        return np.full((num_steps, width), part.fill), np.ones(num_steps, bool)
    x_TD = columns(raw, part.key, part.slice)[first:]
    finite_T = np.isfinite(x_TD).all(axis=1)  # operations such as hold would hide a NaN
    for operation in part.ops:
        try:
            x_TD = apply_operation(x_TD, operation.name, operation.arguments)
        except ValueError as error:
            raise EpisodeError("shape_mismatch", f"operation {operation.name} on '{part.key}': {error}") from None
    if x_TD.shape[1] != width:
        raise EpisodeError("shape_mismatch", f"'{part.key}' gives {x_TD.shape[1]} columns, the part needs {width}")
    return x_TD, finite_T


def _state(raw: RawEpisode, state: State) -> np.ndarray | None:
    """float32 (T, 7): xyz, roll pitch yaw, gripper; None if the robot measures only a part of it."""
    if state.gripper is None or state.pose.form in ("xy", "xyz"):
        return None
    state_T7 = np.column_stack([measured_pose(raw, state), measured_opening(raw, state)]).astype(np.float32)
    if not np.isfinite(state_T7).all():
        step, dimension = np.argwhere(~np.isfinite(state_T7))[0]
        raise EpisodeError("nan", f"state at step {step}, dimension {dimension} is not finite")
    return state_T7


def _step_field(raw: RawEpisode, name: str) -> np.ndarray:
    dtype, default = STEP_FIELDS[name]
    values = np.asarray(raw.steps.get(name, np.full(raw.num_steps, default))).reshape(raw.num_steps, -1)[:, 0]
    if not np.isfinite(values).all():
        raise EpisodeError("nan", f"{name} is not finite")
    return values.astype(dtype)


def _is_absent(raw: RawEpisode, key: str) -> bool:
    """No picture of this camera: the feature is not there, or every step's is empty."""
    images = raw.steps.get(key, ())
    return not isinstance(images, np.ndarray) and not any(len(image) for image in images)


def _frames(raw: RawEpisode, spec: DatasetSpec, roles: Iterable[str], steps: slice) -> dict[str, Sequence[bytes]]:
    frames = {}
    for role in roles:
        camera = spec.cameras.get(role)
        if camera is None or (camera.optional and role != "primary" and _is_absent(raw, camera.key)):
            continue
        images = step_feature(raw, camera.key)
        if isinstance(images, np.ndarray):
            found = f"{images.dtype} of shape {images.shape}"
            raise EpisodeError("dtype_mismatch", f"'{camera.key}' holds {found}, {WHAT_IMAGES_ARE}")
        frames[role] = images[steps]
    return frames
