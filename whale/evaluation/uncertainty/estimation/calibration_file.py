"""What calibration.json says of each checkpoint: how much an uncertainty is worth (calibration.py fits it)."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from whale.common.config import Config
from whale.common.errors import BadDataError, ConfigError
from whale.common.json_files import read_json
from whale.common.limits import CALIBRATED_STEPS, DRAWS, RETRACED_DEPTHS, RETRACED_STEPS

FORMAT_VERSION = 2  # 1 held one monotone map over all steps
HIGHEST_EXPONENT = 3


class _Read(Config):
    """What is read of calibration.json, and beside it whatever else an entry says."""

    model_config = ConfigDict(extra="ignore")


class _Step(_Read):
    mean_score: float | None = Field(ge=0)
    scale: float | None = Field(ge=0)
    quantile: float | None


class _Threshold(_Read):
    coverage: float
    expected_error: float | None
    risk: float | None


class _Method(_Read):
    """`num_pairs` alone, where nothing could be measured."""

    num_pairs: int
    exponent: float | None = Field(default=None, ge=0, le=HIGHEST_EXPONENT)
    floor: float | None = Field(default=None, ge=0, le=1)
    steps: list[_Step] = Field(default=[], max_length=CALIBRATED_STEPS)
    thresholds: list[_Threshold] = []

    @model_validator(mode="after")
    def _whole(self) -> Self:
        known = [row for row in self.thresholds if row.expected_error is not None]
        if known and (self.exponent is None or self.floor is None or not self.steps):
            raise ValueError("thresholds without exponent, floor and steps")
        if any(row.risk is None for row in known):
            raise ValueError("a threshold without its risk")
        return self


class _Weights(_Read):
    weights: str


class _Entry(_Read):
    checkpoint: dict[str, _Weights]
    depths: list[Annotated[int, Field(ge=1, le=RETRACED_STEPS)]] = Field(min_length=1, max_length=RETRACED_DEPTHS)
    decoding: Literal["argmax", "sample"]
    temperature: float | None = Field(default=None, gt=0)
    samples: int | None = Field(default=None, ge=1, le=DRAWS)
    methods: dict[str, _Method]

    @model_validator(mode="after")
    def _drawn(self) -> Self:
        if self.decoding == "sample" and (self.temperature is None or self.samples is None):
            raise ValueError("drawn tokens without temperature and samples")
        return self


class _File(_Read):
    checkpoints: list[_Entry]


def read_calibration(file: Path) -> list[dict[str, Any]]:
    """The checkpoints' entries of a calibration.json; BadDataError for another format version, or one that is none."""
    found = read_json(file)
    version = found.get("version") if isinstance(found, dict) else None
    if version != FORMAT_VERSION:
        raise BadDataError(
            "a calibration of another format version", file=file, place="version", found=version,
            expected=FORMAT_VERSION, remedy="make it again: `dvc repro evaluate_uncertainty`",
        )  # fmt: skip
    try:
        _File.parse(found, file=file)
    except ConfigError as error:
        raise BadDataError("not a calibration", file=file, place=error.place, expected="that of evaluate_uncertainty",
                           remedy="make it again: `dvc repro evaluate_uncertainty`") from None  # fmt: skip
    return found["checkpoints"]
