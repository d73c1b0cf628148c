"""Does a spec hold together: its operations applied to a generated raw episode must give seven plausible numbers.

This needs no data, so it cannot know what a dataset really holds; it finds what contradicts itself: a unit without its
conversion, a width that does not fit, a dimension that is called live but is constant, a gripper outside [0, 1].
"""

from dataclasses import dataclass

import numpy as np

from whale.data.ingest.canonical.canonical import canonical_episode
from whale.data.spec.episode import Episode, RawEpisode, Rejected
from whale.data.spec.spec import DatasetSpec, GripperPart, Part, Slice

NUM_STEPS = 24
DIMENSIONS = "xyzrpwg"
SPARE_COLUMNS = 2  # beside those a spec takes, so that a slice is a slice
# Largest plausible answer (translation, rotation) to generated steps of at most 2 cm and 3 degrees, or 1 of a command.
LARGEST_STEP = {"metric": (0.1, 0.5), "command": (2.0, 2.0)}
OTHER_UNIT = 5.0  # times as wide, or as narrow, as 0 to 1
METRIC_UNITS = ("m", "mm", "rad", "deg", "one")


@dataclass(frozen=True)
class Problem:
    """One contradiction: where in the spec, what came out, what should."""

    place: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.place}: found {self.found}, expected {self.expected}"


def check_spec(spec: DatasetSpec, seed: int = 0) -> list[Problem]:
    """Every contradiction found; none means that the spec is consistent, not that it is true of the data.

    A spec does not say what a raw absolute gripper spans: it holds if it holds for [0, 1], for [-1, 1], or for a range
    of another unit (metres, bytes, degrees) that its first `scale` brings to [0, 1].
    """
    ranges = [(0.0, 1.0), (-1.0, 1.0), *_other_unit(spec.action.gripper)]
    return min((_problems(spec, generated_episode(spec, seed, span)) for span in ranges), key=len)


def _other_unit(part: GripperPart) -> list[tuple[float, float]]:
    """The raw range that the first `scale` makes 0 to 1, if it is one that nobody takes for 0 to 1 itself."""
    scale = next((op.arguments for op in part.ops if op.name == "scale"), None)
    factor, offset = (scale["factor"], scale["offset"]) if scale is not None else (1.0, 0.0)
    if not isinstance(factor, float) or not isinstance(offset, float) or factor == 0.0:
        return []
    low, high = sorted((-offset / factor, (1.0 - offset) / factor))
    is_other = high - low >= OTHER_UNIT or high - low <= 1.0 / OTHER_UNIT
    return [(low, high)] if is_other else []


def _problems(spec: DatasetSpec, raw: RawEpisode) -> list[Problem]:
    any_length = spec.episodes.model_copy(update={"min_steps": 2})  # how long real episodes are, nobody knows here
    made = canonical_episode(raw, spec.model_copy(update={"episodes": any_length}), "generated", [])
    if isinstance(made, Rejected):
        return [Problem("action", made.detail, "an episode that can be read")]
    return [*_sizes(spec, made), *_gripper(spec, made), *_live(spec, made)]


def generated_episode(spec: DatasetSpec, seed: int, span: tuple[float, float] = (0.0, 1.0)) -> RawEpisode:
    """A raw episode of `NUM_STEPS` steps with every feature that the spec reads, in the units that it names.

    span: closed and open (or the other way about) of an absolute gripper.
    """
    rng = np.random.default_rng(seed)
    columns: dict[str, list[np.ndarray]] = {}
    if spec.state is not None:
        pose, gripper = spec.state.pose, spec.state.gripper
        size = pose.slice[1] - pose.slice[0]
        if gripper is not None:
            _place(columns, gripper.key, gripper.slice, rng.uniform(0, 1, (NUM_STEPS, 1)))
        rotation = _quaternions(rng, "wxyz" in pose.form) if size == 7 else rng.uniform(-1, 1, (NUM_STEPS, 3))
        _place(columns, pose.key, pose.slice, np.concatenate([rng.uniform(-1, 1, (NUM_STEPS, 3)), rotation], axis=1))
    action = spec.action  # last: it may read columns of the state
    for part in (action.translation, action.rotation, action.gripper):
        if part.key is not None and part.slice is not None:
            values = _gripper_values(part, rng, span) if isinstance(part, GripperPart) else _pose_values(part, rng)
            _place(columns, part.key, part.slice, values)
    steps: dict[str, np.ndarray | list[bytes]] = {key: _joined(parts, rng) for key, parts in columns.items()}
    steps["is_first"] = np.arange(NUM_STEPS) == 0
    metadata: dict[str, object] = {
        rule.key: np.asarray(rule.equals) for rule in spec.episodes.filters if rule.equals is not None
    }
    if spec.language.key is not None:
        text = b"move" if spec.language.encoding == "utf8" else np.array([109, 111, 118, 101, 0])
        if spec.language.scope == "episode":
            metadata[spec.language.key] = text
        else:
            steps[spec.language.key] = [text] * NUM_STEPS if isinstance(text, bytes) else np.tile(text, (NUM_STEPS, 1))
    return RawEpisode(steps, NUM_STEPS, metadata, "generated", 0, 0, "0" * 64)


def _pose_values(part: Part, rng: np.random.Generator) -> np.ndarray:
    """Small steps, or poses if the spec differences them, in the part's unit."""
    assert part.slice is not None
    width = part.slice[1] - part.slice[0]
    if width == 4:
        return _quaternions(rng, "quat_wxyz" in part.orientations())
    step = {"m": 0.02, "mm": 20.0, "rad": 0.05, "deg": 3.0}.get(part.unit or "", 1.0)
    steps = rng.uniform(-step, step, (NUM_STEPS, width))
    return steps.cumsum(axis=0) + 10 * step if part.differences() else steps


def _gripper_values(part: GripperPart, rng: np.random.Generator, span: tuple[float, float]) -> np.ndarray:
    low, high = span
    levels = np.array([1.0, 0.0, 0.0, -1.0, 0.0, 0.0] if part.raw == "relative" else [low, low, high, high])
    return np.resize(np.roll(levels, rng.integers(len(levels))), NUM_STEPS)[:, None]


def _quaternions(rng: np.random.Generator, scalar_first: bool = False) -> np.ndarray:
    """Turns of up to 0.1 rad around one axis, [T, 4] xyzw or wxyz."""
    half = rng.uniform(-0.05, 0.05, (NUM_STEPS, 1))
    axis = rng.normal(size=3)
    quat_T4 = np.concatenate([np.sin(half) * axis / np.linalg.norm(axis), np.cos(half)], axis=1)
    return np.roll(quat_T4, 1, axis=1) if scalar_first else quat_T4


def _place(columns: dict[str, list[np.ndarray]], key: str, where: Slice, values: np.ndarray) -> None:
    """Write `values` at columns `where` of feature `key`; what the width does not allow is left to the reader."""
    canvas = np.full((NUM_STEPS, where[1]), np.nan)
    size = min(where[1] - where[0], values.shape[1])
    canvas[:, where[0] : where[0] + size] = values[:, :size]
    columns.setdefault(key, []).append(canvas)


def _joined(parts: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """One feature from what its users need; columns that nobody reads hold noise."""
    width = max(part.shape[1] for part in parts) + SPARE_COLUMNS
    joined = rng.uniform(-1, 1, (NUM_STEPS, width))
    for part in parts:
        known = np.isfinite(part)
        joined[:, : part.shape[1]][known] = part[known]
    return joined


def _sizes(spec: DatasetSpec, made: Episode) -> list[Problem]:
    if spec.action.contract.form == "absolute":
        return []
    problems = []
    valid = made.action[made.action_valid]
    if len(valid) < len(made.action) - 1:
        problems.append(Problem("action.contract.limit", f"{len(valid)} of {len(made.action)} steps valid", "all"))
    parts = (("translation", spec.action.translation, slice(0, 3)), ("rotation", spec.action.rotation, slice(3, 6)))
    for place, (name, part, dims) in enumerate(parts):
        kind = "metric" if part.unit in METRIC_UNITS else "command"
        largest, bound = float(np.abs(valid[:, dims]).max(initial=0.0)), LARGEST_STEP[kind][place]
        if largest > bound:
            found = f"{largest:.3g} from a small step in unit {part.unit}"
            problems.append(Problem(f"action.{name}.ops", found, f"at most {bound:.3g}: is the unit converted?"))
    return problems


def _gripper(spec: DatasetSpec, made: Episode) -> list[Problem]:
    part = spec.action.gripper
    if part.fill is not None and not 0.0 <= part.fill <= 1.0:
        return [Problem("action.gripper.fill", str(part.fill), "0 (closed) to 1 (open)")]
    levels = made.action[made.action_valid][:, 6]
    if part.key is None or (levels.min(initial=1.0) < 0.5 < levels.max(initial=0.0)):
        return []
    found = f"{levels.min():.3g} to {levels.max():.3g}" if len(levels) else "no value in [0, 1]"
    return [Problem("action.gripper.ops", found, "open (1) and closed (0)")]


def _live(spec: DatasetSpec, made: Episode) -> list[Problem]:
    """A dimension that carries information is not the same in every episode."""
    constant = [
        letter
        for letter, live, values in zip(DIMENSIONS, spec.action.contract.action_mask(), made.action.T, strict=True)
        if live and np.ptp(values) == 0.0
    ]
    if not constant:
        return []
    return [
        Problem("action.contract.live", f"'{spec.action.contract.live}'", f"without {', '.join(constant)}: constant")
    ]
