"""From an uncertainty to a decision: below which value the world was right often enough on held-out episodes.

Read from calibration.json, which the uncertainty stage writes for the very weights it measured: at step s it expects
an error of scale_s * (uncertainty / mean uncertainty at s) ** exponent, and it names the expected error below which a
share of the steps lay. Shapes: E episodes, H steps.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whale.common.errors import ConfigError, MissingInputError
from whale.evaluation.uncertainty.estimation.calibration_file import read_calibration


@dataclass(frozen=True)
class TrustLimit:
    """`values`: the uncertainty above which a step is not trusted, for steps 1, 2, ...; the last one holds for later
    steps too; inf or -inf where the step's number alone decides. Such steps have an expected error above
    `expected_error`, in the distance that was calibrated. `coverage`: share of held-out steps below; `risk`: their mean
    error, beside `mean_error` of all. `source`: who says so, and how tokens were chosen there."""

    method: str
    values: tuple[float, ...]
    expected_error: float
    coverage: float
    risk: float
    mean_error: float
    source: str

    def at(self, step: int) -> float:
        """Of a step, counted from 1."""
        return self.values[min(max(step, 1), len(self.values)) - 1]

    def along(self, horizon: int) -> np.ndarray:
        """[H] of steps 1 to H."""
        return np.array([self.at(step) for step in range(1, horizon + 1)])


def limit_of(calibration: Mapping[str, Any] | None, identity: str, method: str, coverage: float) -> TrustLimit:
    """MissingInputError without a calibration of this method, ConfigError for a coverage it does not list."""
    if calibration is None or not thresholds_of(calibration, method):
        raise MissingInputError(
            "this world's uncertainties were never measured", place=method,
            expected="calibration.json beside it, retracing in the tokenizer's features",
            remedy="dvc repro evaluate_uncertainty, or give a limit of your own",
        )  # fmt: skip
    rows = thresholds_of(calibration, method)
    near = min(rows, key=lambda known: abs(known - coverage))
    if abs(near - coverage) > 1e-6:
        raise ConfigError("no such coverage in the calibration", place="coverage", found=coverage,
                          expected=f"one of {', '.join(f'{known:g}' for known in sorted(rows))}")  # fmt: skip
    row, found = rows[near], calibration["methods"][method]
    expected = float(row["expected_error"])
    return TrustLimit(
        method=method,
        values=tuple(_reached_at(expected, step, float(found["exponent"]), float(found["floor"]))
                     for step in found["steps"]),
        expected_error=expected,
        coverage=near,
        risk=float(row["risk"]),
        mean_error=float(rows[max(rows)]["risk"]),
        source=f"calibration.json of {identity}, tokens by {calibration['decoding']}",
    )  # fmt: skip


def thresholds_of(calibration: Mapping[str, Any], method: str) -> dict[float, Mapping[str, Any]]:
    """Coverage -> its row; empty for a method that was not calibrated as a world computes it.

    A world retraces in its tokenizer's features: limits in another distance, as percep-efflite0, say nothing of it.
    """
    if method == "retracing" and calibration["distance"] != "tokenizer":
        return {}
    rows = calibration["methods"].get(method, {}).get("thresholds", [])
    return {float(row["coverage"]): row for row in rows if row["expected_error"] is not None}


def entry_in(file: Path, digests: Mapping[str, str]) -> Mapping[str, Any] | None:
    """The entry of a calibration.json that was measured with exactly these weights; None where there is none.

    BadDataError for another format version.
    """
    for row in read_calibration(file):
        weights = {part: names["weights"] for part, names in row["checkpoint"].items()}
        if weights == dict(digests):
            return row
    return None


def _reached_at(expected: float, step: Mapping[str, Any], exponent: float, floor: float) -> float:
    """The uncertainty of which `expected` is the expected error; inf where nothing is known of a step."""
    mean, scale = step["mean_score"], step["scale"]
    if mean is None or scale is None:
        return math.inf
    if expected < scale * (floor**exponent if mean else 1.0):  # the least that is ever expected there
        return -math.inf
    if not mean or not exponent or not scale:
        return math.inf
    try:
        return float(mean * (expected / scale) ** (1 / exponent))
    except OverflowError:
        return math.inf
