"""A dataset spec: data_specs/<name>.yaml says how raw episodes become canonical ones, and is their lineage record.

Feature keys are flattened names without `steps/` ("observation/image_0", "action"); names outside the steps are written
whole ("episode_metadata/success"). Mixture weights are not here. docs/how-to/add-a-dataset.md is the guide.
"""

import hashlib
import math
import re
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from whale.common.config import Config, load_yaml
from whale.common.errors import ConfigError, nearest
from whale.data.ingest.sources.source import ALL
from whale.data.spec.operations import Orientation, check_operation

NAME_LENGTH = 64
NAME = rf"^[a-z0-9_]{{1,{NAME_LENGTH}}}$"
SPLIT = re.compile(
    r"(?P<split>[A-Za-z0-9_]+)(\[((?P<from>\d{1,3})%)?:((?P<to>\d{1,3})%)?\])?|hash\((?P<hash>\d{1,3})%\)"
)
QUESTION = re.compile(r"(?<=\s)#\s*\?(.*)")  # of a draft; its answer is the line without the mark
# What the bytes of the shards depend on; licence, expect and errata may change without a new ingest.
INGEST_KEYS = ("name", "source", "robot", "cameras", "language", "state", "action", "episodes")

Slice = Annotated[list[int], Field(min_length=2, max_length=2)]
Unit = Literal["m", "mm", "rad", "deg", "scaled", "normalised", "one"]
UNIT_FACTORS = {"mm": 1.0e-3, "deg": math.pi / 180.0}  # to m and rad


class SplitSlice(Config):
    """`train[:95%]` parsed: percent bounds of the source split's records; or of a hash of their ordinals."""

    split: str
    start: int = 0
    stop: int = 100
    hashed: bool = False

    def bounds(self, num_records: int) -> tuple[int, int]:
        """Record range in the source split; boundaries as TFDS rounds them: int(round(p n / 100))."""
        if self.hashed:
            return 0, num_records
        return round(self.start * num_records / 100), round(self.stop * num_records / 100)

    def count(self, num_records: int) -> int:
        """How many records of the source split this slice takes; of a hash about."""
        start, stop = self.bounds(num_records)
        return round(num_records * (self.stop - self.start) / 100) if self.hashed else stop - start

    def holds(self, ordinal: int) -> bool:
        """Does a record within the bounds belong to this slice? A hash stays when others follow."""
        return not self.hashed or self.start <= _percent(ordinal) < self.stop

    def shares(self, other: "SplitSlice") -> bool:
        """Can a record be in both?"""
        return self.split == other.split and self.start < other.stop and other.start < self.stop

    def written(self) -> str:
        """As a spec writes it; a hash's place follows from the order."""
        return f"hash({self.stop - self.start}%)" if self.hashed else str(self)

    def __str__(self) -> str:
        if self.hashed:
            return f"hash({self.start}% to {self.stop}%)"
        start, stop = f"{self.start}%" if self.start else "", f"{self.stop}%" if self.stop < 100 else ""
        return f"{self.split}[{start}:{stop}]" if start or stop else self.split


def _percent(ordinal: int) -> int:
    """0 to 99, the same everywhere and for ever."""
    return int.from_bytes(hashlib.sha256(str(ordinal).encode()).digest()[:8], "big") % 100


class Source(Config):
    format: Literal["rlds", "lerobot", "hdf5", "npz"]
    dataset: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    splits: dict[str, str] = Field(min_length=1)

    @field_validator("splits")
    @classmethod
    def _check_splits(cls, splits: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        kind = info.data.get("format")  # None: an error of its own
        for name, text in splits.items():
            if not re.fullmatch("[a-z][a-z0-9_]{0,15}", name):
                raise ValueError(f"split name '{name}' is not [a-z][a-z0-9_]*")
            if not SPLIT.fullmatch(text):
                raise ValueError(f"'{text}' is none of: train, train[:95%], train[95%:], train[10%:20%], hash(5%)")
        hashed = [text for text in splits.values() if text.startswith("hash(")]
        if hashed and (kind == "rlds" or len(hashed) < len(splits)):
            raise ValueError("hash splits are not for format rlds, nor beside others")
        slices = _slices(splits)
        for name, part in slices.items():
            if kind in ("lerobot", "npz") and part.split != ALL:
                raise ValueError(f"format {kind} has one split, '{ALL}', to cut from: {name} is {part}")
            if not part.start < part.stop <= 100:
                raise ValueError(f"{name} ({part}) must end behind its start, at most at 100%")
        if kind == "hdf5" and ALL in (named := {part.split for part in slices.values()}) and len(named) > 1:
            raise ValueError(f"'{ALL}' holds the demos of every mask: cut all splits from it, or name masks alone")
        for (one, first), (other, second) in combinations(slices.items(), 2):
            if first.shares(second):
                raise ValueError(f"{one} ({first}) and {other} ({second}) overlap: an episode would be in both")
        return splits

    def slices(self) -> dict[str, SplitSlice]:
        """Our split -> slice of the source's."""
        return _slices(self.splits)


def _slices(splits: Mapping[str, str]) -> dict[str, SplitSlice]:
    """Hash slices follow each other in the order they are written."""
    slices, next_hash = {}, 0
    for name, text in splits.items():
        match = SPLIT.fullmatch(text)
        assert match is not None, text  # checked before
        if match["hash"]:
            stop = next_hash + int(match["hash"])
            slices[name] = SplitSlice(split=ALL, start=next_hash, stop=stop, hashed=True)
            next_hash = stop
        else:
            low, high = int(match["from"] or 0), int(match["to"] or 100)
            slices[name] = SplitSlice(split=match["split"], start=low, stop=high)
    return slices


class Robot(Config):
    name: str
    arms: int = Field(ge=1)
    control_hz: float = Field(gt=0)


class Camera(Config):
    """flip: as the picture must be turned over to stand right (before `rotate`); nothing is written where it is None,
    so that a spec without it keeps its digest."""

    key: str
    channels: Literal["rgb", "bgr"]
    hw: Annotated[list[int], Field(min_length=2, max_length=2)]
    view: Literal["fixed", "head", "wrist", "varied"]
    rotate: Literal[0, 180]
    optional: bool
    flip: Literal["vertical", "horizontal"] | None = None

    @model_serializer(mode="wrap")
    def _without_no_flip(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if (name, value) != ("flip", None)}


class Language(Config):
    key: str | None
    encoding: Literal["utf8", "codepoints_int32"]
    scope: Literal["step", "episode"]
    kind: Literal["natural", "templated", "constant", "none"]


PoseForm = Literal[
    "xyz_rpy", "xyz_quat_xyzw", "xyz_quat_wxyz", "xyz_axis_angle", "xyz_euler_xyz", "xyz_euler_xzy", "xyz_euler_yxz",
    "xyz_euler_yzx", "xyz_euler_zxy", "xyz_euler_zyx", "xyz", "xy",
]  # fmt: skip


class StatePose(Config):
    """xy and xyz measure a part of the pose: enough to check actions against, not stored as state."""

    key: str
    slice: Slice
    form: PoseForm
    units: list[Unit] = Field(min_length=1, max_length=2)


class StateGripper(Config):
    key: str
    slice: Slice
    rises_when: Literal["open", "close", "unknown"]


class State(Config):
    pose: StatePose
    gripper: StateGripper | None


class Operation(Config):
    """One entry of `ops`: written `invert` or `{clip: {low: 0, high: 1}}`."""

    name: str
    arguments: dict[str, Any]


def _parse_operation(value: object) -> object:
    if isinstance(value, str):
        value = {value: {}}
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError("an operation is written `name` or `{name: {argument: value}}`")
    ((name, arguments),) = value.items()
    return Operation(name=str(name), arguments=check_operation(str(name), arguments or {}))


class Part(Config):
    """Some of the 7 action dimensions: columns of one feature through operations, or a constant (`fill`)."""

    key: str | None = None
    slice: Slice | None = None
    unit: Unit | None = None
    ops: list[Annotated[Operation, BeforeValidator(_parse_operation)]] = []
    fill: float | None = None

    @model_validator(mode="after")
    def _key_or_fill(self) -> Self:
        read = (self.key, self.slice, self.unit)
        if self.fill is None and None in read:
            raise ValueError("a part is {key, slice, unit, ops} or {fill: constant}")
        if self.fill is not None and (read != (None, None, None) or self.ops):
            raise ValueError("a constant part has no key, slice, unit or ops")
        return self

    @model_validator(mode="after")
    def _is_converted(self) -> Self:
        """A measured pose is brought to m and rad by its units; of a command, only the operations say what is done."""
        factor = UNIT_FACTORS.get(self.unit or "")
        if factor is not None and all(op.arguments["factor"] == 1.0 for op in self.ops if op.name == "scale"):
            raise ValueError(f"unit {self.unit} is not converted: add {{scale: {{factor: {factor}}}}} to ops")
        return self

    def orientations(self) -> list[Orientation]:
        """How the rotation is written, as far as the operations say."""
        return [op.arguments["form"] for op in self.ops if "form" in op.arguments]

    def differences(self) -> bool:
        return any(op.name == "difference" for op in self.ops)


class GripperPart(Part):
    unit: Unit | None = "one"
    raw: Literal["absolute", "relative", "none"]

    @model_validator(mode="after")
    def _key_or_fill(self) -> Self:
        if (self.fill is None) == (self.key is None or self.slice is None):
            raise ValueError("a gripper is {key, slice, raw, ops} or {fill: constant, raw: none}")
        return self


class Contract(Config):
    """What the 7 numbers mean after the operations."""

    frame: Literal["base", "wrist", "world", "unknown"]
    form: Literal["delta", "velocity", "controller", "absolute"]
    live: str = Field(pattern=r"^x?y?z?r?p?w?g?$")
    limit: Annotated[list[float], Field(min_length=7, max_length=7)] | None
    retraceable: bool
    last_step: Literal["valid", "undefined", "unknown"]

    def action_mask(self) -> list[bool]:
        return [letter in self.live for letter in "xyzrpwg"]


class Action(Config):
    translation: Part
    rotation: Part
    gripper: GripperPart
    contract: Contract


class EpisodeFilter(Config):
    """Keep an episode only if the feature (its first step, or metadata) equals, or does not equal, a value."""

    key: str
    equals: bool | int | float | str | None = None
    not_equals: bool | int | float | str | None = None
    reason: str

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if (self.equals is None) == (self.not_equals is None):
            raise ValueError("a filter has exactly one of: equals, not_equals")
        return self


class Episodes(Config):
    """edits: shift_action takes action and reward of the next step, for recorders that store what LED to a frame.
    accept: detectors of the quality gate whose faults are known and kept; each has an erratum that says why.
    exclude: our episode key -> why it is left out."""

    filters: list[EpisodeFilter]
    edits: list[Literal["drop_first", "drop_last", "shift_action"]]
    min_steps: int = Field(ge=2)
    accept: list[str] = []
    exclude: dict[str, str] = {}


class Licence(Config):
    spdx: str
    url: str
    evidence: str
    citation: str


class Expect(Config):
    """Published counts (all splits, after filters and edits); null where nobody printed them."""

    episodes: int | None
    steps: int | None
    source: str


class Erratum(Config):
    id: str
    what: str
    source: str
    repair: str
    detector: str


class DatasetSpec(Config):
    name: str = Field(pattern=NAME)
    source: Source
    robot: Robot
    cameras: dict[str, Camera] = Field(min_length=1)
    language: Language
    state: State | None
    action: Action
    episodes: Episodes
    licence: Licence
    expect: Expect
    errata: list[Erratum]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if "primary" not in self.cameras:
            raise ValueError("cameras: a camera 'primary' is required")
        parts = (self.action.translation, self.action.rotation, self.action.gripper)
        defined = "drop_last" in self.episodes.edits or self.action.contract.last_step == "undefined"
        if any(part.differences() for part in parts) and not defined:
            raise ValueError("difference leaves the last step undefined: add edit drop_last or last_step: undefined")
        if self.action.contract.form == "absolute" and self.action.contract.retraceable:
            raise ValueError("action.contract: absolute poses are not retraceable; use difference")
        unexplained = sorted(set(self.episodes.accept) - {erratum.detector for erratum in self.errata})
        if unexplained:
            raise ValueError(f"episodes.accept: no erratum says why these are accepted: {', '.join(unexplained)}")
        return self

    def deciding_values(self) -> dict[str, Any]:
        """INGEST_KEYS as plain values: equal ones give equal shards from equal sources."""
        values = self.model_dump(mode="json")
        return {key: values[key] for key in INGEST_KEYS}


def load_spec(name: str, directory: Path = Path("data_specs")) -> DatasetSpec:
    """Read and check data_specs/<name>.yaml; every problem at once, each with file and dotted path."""
    file = Path(directory) / f"{name}.yaml"
    if not file.is_file():
        known = nearest(name, [path.stem for path in Path(directory).glob("*.yaml")])
        remedy = "name a known one (`whale spec list`), or draft a spec: `whale spec init PATH`"
        raise ConfigError("no such dataset: it has no spec", file=file, place="name", found=name, expected=known,
                          remedy=remedy)  # fmt: skip
    spec = DatasetSpec.parse(load_yaml(file), file=file)
    if spec.name != name:
        raise ConfigError("a spec is named like its file", file=file, place="name", found=spec.name, expected=name)
    return spec


def open_questions(text: str) -> dict[int, str]:
    """Number of a line -> its question, of the lines that a draft marks `# ?` and nobody has answered."""
    scalars = [(token.start_mark.index, token.end_mark.index) for token in yaml.scan(text, yaml.SafeLoader)
               if isinstance(token, yaml.ScalarToken)]  # fmt: skip
    found = {}
    for match in QUESTION.finditer(text):
        if not any(start <= match.start() < end for start, end in scalars):
            found[text.count("\n", 0, match.start()) + 1] = match[1].strip()
    return found


def unanswered(name: str, directory: Path = Path("data_specs")) -> ConfigError | None:
    """What is wrong with a spec that still has open questions: it is a draft, and its guesses are nobody's word."""
    file = Path(directory) / f"{name}.yaml"
    questions = open_questions(file.read_text(encoding="utf-8"))
    if not questions:
        return None
    listed = [f"line {line}: {question}" for line, question in questions.items()]
    return ConfigError(
        "a draft with open questions", file=file, place=f"{len(listed)} lines marked `# ?`",
        found="\n            ".join(listed), expected="an answer to each",
        remedy="check each line, correct it or not, and delete its `?`; `whale spec preview` shows what it makes",
    )  # fmt: skip


def load_answered_spec(name: str, directory: Path = Path("data_specs")) -> DatasetSpec:
    """As `load_spec`, for whoever takes the spec at its word; ConfigError for one that is still a draft."""
    spec = load_spec(name, directory)
    if (error := unanswered(name, directory)) is not None:
        raise error
    return spec
