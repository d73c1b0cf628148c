"""What the page may ask for. Everything that comes in is hostile: anything else ends in a ConfigError that names it."""

from typing import Annotated, Literal

from pydantic import Field

from whale.common.config import Config
from whale.common.errors import BadDataError, ConfigError
from whale.common.json_files import parse_json
from whale.common.limits import AXES, DRIVE_STEPS, NAMED_CHARACTERS

KEYS, RECORDED = "keys", "recorded"  # who acts, beside the policies that were named
Axis = Annotated[float, Field(ge=-1.0, le=1.0)]
Z = Literal["prior", "frozen", "off", "drawn"]
Doubt = Literal["retracing", "entropy", "none"]
Frames = Literal["likeliest", "drawn"]


class Begin(Config):
    """A drive from a recorded start; `seed` decides what a policy draws."""

    do: Literal["begin"]
    dataset: str = Field(max_length=NAMED_CHARACTERS)
    start: int = Field(ge=0)
    seed: int = Field(default=0, ge=0, lt=2**31)


class Step(Config):
    """One action at the end of a drive. `axes`: parts of the largest usual motion, for each dimension but the gripper;
    only for `keys`. `z`: how the behavior embedding is set; `z_seed`: of one that is drawn. `frames`: how
    their tokens are chosen."""

    do: Literal["step"]
    drive: int
    by: str = Field(max_length=NAMED_CHARACTERS)
    axes: list[Axis] = Field(default=[], max_length=AXES)
    gripper: float = Field(default=1.0, ge=0.0, le=1.0)
    z: Z = "prior"
    z_seed: int = Field(default=0, ge=0, lt=2**31)
    doubt: Doubt = "none"
    frames: Frames = "likeliest"


class Rewind(Config):
    """Back to the frame after so many steps; what came later is forgotten."""

    do: Literal["rewind"]
    drive: int
    to: int = Field(ge=0, le=DRIVE_STEPS)


Message = Begin | Step | Rewind
KINDS: dict[str, type[Begin] | type[Step] | type[Rewind]] = {"begin": Begin, "step": Step, "rewind": Rewind}


def parse(payload: bytes) -> Message:
    """ConfigError that names every problem."""
    try:
        values = parse_json(payload, "the page's request")
    except BadDataError as error:
        raise ConfigError("not JSON", place="message", found=error.found, expected="an object") from None
    asked = values.get("do") if isinstance(values, dict) else None
    kind = KINDS.get(asked) if isinstance(asked, str) else None
    if kind is None:
        raise ConfigError("no such request", place="message.do", found=f"{asked!r:.80}", expected=", ".join(KINDS))
    return kind.parse(values, file="the page's request", place="message")
