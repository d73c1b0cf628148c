"""Configuration: a section of params.yaml becomes one frozen, strict object.

Every problem of a section is reported at once, each with its dotted name and the value found. A config class stands
beside its owner; this module only holds their base class and the way in from a file.
"""

import difflib
import hashlib
import ipaddress
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from whale.common.errors import ConfigError
from whale.common.json_files import canonical_json
from whale.common.printable import shown
from whale.common.yaml_text import load_sections, load_yaml, section_of

__all__ = ["Config", "load_sections", "load_seed", "load_yaml", "section_of"]


class Config(BaseModel):
    """Frozen and strict: an unknown key, a wrong type and a value out of range are errors.

    unspoken: optional keys that came after others had been recorded. At its default such a key is in no record, so that
    the record is that of a section which never spoke of it.
    """

    unspoken: ClassVar[frozenset[str]] = frozenset()
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, values: object, *, file: str | Path, place: str = "") -> Self:
        """Validate `values`; `file` and `place` (a dotted prefix) say in the error where they come from."""
        try:
            return cls.model_validate(values, strict=True)
        except ValidationError as error:
            raise _as_config_error(error, file=file, place=place) from None
        except (RecursionError, OverflowError, UnicodeError) as error:  # of a validator, about the values alone
            found = f"{type(error).__name__}: {error}"
            raise ConfigError("invalid configuration", file=file, place=place, found=found) from None

    @classmethod
    def load(cls, section: str, item: str | None = None, params: str | Path = "params.yaml") -> Self:
        """Read `section` (or `section.item`) of `params`."""
        place = section if item is None else f"{section}.{item}"
        values: Any = load_yaml(params)
        for key in place.split("."):
            if not isinstance(values, dict) or key not in values:
                known = ", ".join(values) if isinstance(values, dict) else type(values).__name__
                raise ConfigError(
                    "section not found", file=params, place=place, found=f"keys: {known}", expected=f"a key '{key}'"
                )
            values = values[key]
        return cls.parse(values, file=params, place=place)

    def deciding_values(self) -> dict[str, Any]:
        """Plain data: every value that decides a result, with all defaults but those of `unspoken` keys."""
        values, fields = self.model_dump(mode="json"), type(self).model_fields
        return {
            name: value for name, value in values.items()
            if name not in self.unspoken or getattr(self, name) != fields[name].default
        }  # fmt: skip

    def digest(self) -> str:
        """sha256 of the canonical JSON of every deciding value."""
        return hashlib.sha256(canonical_json(self.deciding_values()).encode()).hexdigest()


def load_seed(params: str | Path = "params.yaml") -> int:
    """The one seed of the pipeline, `seed` of `params`."""
    seed = load_sections(params).get("seed")
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**31:
        raise ConfigError(
            "invalid configuration", file=params, place="seed", found=shown(seed), expected="0 <= seed < 2**31"
        )
    return seed


def _as_config_error(error: ValidationError, *, file: str | Path, place: str) -> ConfigError:
    problems = error.errors(include_url=False)
    missing = [problem["loc"] for problem in problems if problem["type"] == "missing"]
    lines = []
    for problem in problems:
        dotted = ".".join([place] * bool(place) + [str(part) for part in problem["loc"]])
        found = "" if problem["type"] == "missing" else f" (found: {shown(problem['input']):.120})"
        hint = _misspelt(problem["loc"], missing) if problem["type"] == "extra_forbidden" else ""
        lines.append(f"{dotted}: {problem['msg'].removeprefix('Value error, ')}{found}{hint}")
    first = lines[0] if len(lines) == 1 else f"{len(lines)} problems:\n            " + "\n            ".join(lines)
    return ConfigError("invalid configuration", file=file, place=first, remedy="correct the values named above")


def _misspelt(extra: tuple[int | str, ...], missing: Iterable[tuple[int | str, ...]]) -> str:
    """A key too many beside a key too few is often the same one."""
    absent = [str(loc[-1]) for loc in missing if loc[:-1] == extra[:-1]]
    near = difflib.get_close_matches(str(extra[-1]), absent, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def is_loopback(host: str) -> bool:
    """Is the host of an address in the settings this machine? A name other than localhost may mean any machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
