"""From an uncertainty to a decision: below which value the world was right often enough on held-out episodes.

Read from calibration.json, which the uncertainty stage writes for the very weights it measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from whale.common.errors import ConfigError, MissingInputError


@dataclass(frozen=True)
class TrustLimit:
    """`value`: uncertainties above it are not trusted. `coverage`: share of held-out steps below it; `risk`: their
    mean error, beside `mean_error` of all, in the distance that was calibrated. `source`: who says so."""

    method: str
    value: float
    coverage: float
    risk: float
    mean_error: float
    source: str


def limit_of(calibration: Mapping[str, Any] | None, identity: str, method: str, coverage: float) -> TrustLimit:
    """MissingInputError without a calibration of this method, ConfigError for a coverage it does not list."""
    if calibration is None or method not in calibration.get("methods", {}):
        raise MissingInputError(
            "this world's uncertainties were never measured", place=method, expected="calibration.json beside it",
            remedy="dvc repro evaluate_uncertainty, or give a limit of your own",
        )  # fmt: skip
    found = calibration["methods"][method]
    rows = {float(row["coverage"]): row for row in found.get("thresholds", [])}
    near = min(rows, key=lambda known: abs(known - coverage), default=None)
    if near is None or abs(near - coverage) > 1e-6:
        raise ConfigError("no such coverage in the calibration", place="coverage", found=coverage,
                          expected=f"one of {', '.join(f'{known:g}' for known in sorted(rows))}")  # fmt: skip
    row = rows[near]
    return TrustLimit(method, float(row["uncertainty"]), near, float(row["risk"]), float(found["mean_error"]),
                      f"calibration.json of {identity}")  # fmt: skip


def entry_of(calibration: Mapping[str, Any], digests: Mapping[str, str]) -> Mapping[str, Any] | None:
    """The entry of calibration.json that was measured with exactly these weights; None where there is none."""
    for row in calibration.get("checkpoints", []):
        weights = {part: names["weights"] for part, names in row["checkpoint"].items()}
        if weights == dict(digests):
            return row
    return None
