"""Configuration: a section of params.yaml becomes one frozen, strict object.

Every problem of a section is reported at once, each with its dotted name and the value found. A config class stands
beside its owner; this module only holds their base class and the way in from a file.
"""

import difflib
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from whale.common.errors import ConfigError
from whale.common.json_files import canonical_json

MAX_YAML_BYTES = 4 * 2**20


class Config(BaseModel):
    """Frozen and strict: an unknown key, a wrong type and a value out of range are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, values: object, *, file: str | Path, place: str = "") -> Self:
        """Validate `values`; `file` and `place` (a dotted prefix) say in the error where they come from."""
        try:
            return cls.model_validate(values, strict=True)
        except ValidationError as error:
            raise _as_config_error(error, file=file, place=place) from None

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
        """Plain data: every value that decides a result, with all defaults."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """sha256 of the canonical JSON of every deciding value."""
        return hashlib.sha256(canonical_json(self.deciding_values()).encode()).hexdigest()


def load_seed(params: str | Path = "params.yaml") -> int:
    """The one seed of the pipeline, `seed` of `params`."""
    seed = load_yaml(params).get("seed")
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**31:
        raise ConfigError("invalid configuration", file=params, place="seed", found=seed, expected="0 <= seed < 2**31")
    return seed


def load_yaml(path: str | Path) -> Any:
    """Plain YAML data of a small file; tags, unbounded aliases and large files are refused."""
    path = Path(path)
    if not path.is_file():
        raise ConfigError("file not found", file=path, remedy="run from the project's root, or name another file")
    if path.stat().st_size > MAX_YAML_BYTES:
        raise ConfigError("file too large", file=path, found=path.stat().st_size, expected=f"<= {MAX_YAML_BYTES} bytes")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError("not UTF-8 text", file=path, place=f"byte {error.start}", found=error.reason) from None
    try:
        if sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)) > 100:
            raise ConfigError("too many aliases", file=path, expected="<= 100")
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else None
        raise ConfigError("not valid YAML", file=path, place=place, found=getattr(error, "problem", error)) from None


def _as_config_error(error: ValidationError, *, file: str | Path, place: str) -> ConfigError:
    problems = error.errors(include_url=False)
    missing = [problem["loc"] for problem in problems if problem["type"] == "missing"]
    lines = []
    for problem in problems:
        dotted = ".".join([place] * bool(place) + [str(part) for part in problem["loc"]])
        found = "" if problem["type"] == "missing" else f" (found: {problem['input']!r:.120})"
        hint = _misspelt(problem["loc"], missing) if problem["type"] == "extra_forbidden" else ""
        lines.append(f"{dotted}: {problem['msg'].removeprefix('Value error, ')}{found}{hint}")
    first = lines[0] if len(lines) == 1 else f"{len(lines)} problems:\n            " + "\n            ".join(lines)
    return ConfigError("invalid configuration", file=file, place=first, remedy="correct the values named above")


def _misspelt(extra: tuple[int | str, ...], missing: Iterable[tuple[int | str, ...]]) -> str:
    """A key too many beside a key too few is often the same one."""
    absent = [str(loc[-1]) for loc in missing if loc[:-1] == extra[:-1]]
    near = difflib.get_close_matches(str(extra[-1]), absent, n=1)
    return f"; did you mean {near[0]}?" if near else ""
