"""The limit of a step is where the calibrated error is reached; only this format of calibration.json is read."""

import math

import numpy as np
import pytest

from whale.common.errors import BadDataError, MissingInputError
from whale.common.json_files import write_json
from whale.evaluation.uncertainty.calibration import Calibrated, calibration
from whale.worlds.trust import entry_in, limit_of

SCORE = "entropy"


def measured(exponent: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores and errors [60, 4] of 20 episodes; errors grow over the steps, and with the score as the exponent says."""
    rng = np.random.default_rng(seed)
    score = rng.uniform(0.2, 2.0, (60, 4))
    error = score**exponent * np.arange(1, 5) * rng.uniform(0.8, 1.2, (60, 4))
    return score, error, np.repeat(np.arange(20), 3)


def entry_of(score, error, episode) -> dict:
    return {"decoding": "sample", "methods": {SCORE: calibration(score, error, episode)}}


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("coverage", [0.2, 0.8, 1.0])
def test_a_step_is_within_its_limit_where_its_expected_error_is(exponent, coverage):
    entry = entry_of(*measured(exponent))
    limit = limit_of(entry, "me", SCORE, coverage)
    asked = np.random.default_rng(1).uniform(0.0, 3.0, (200, 6))
    expected = Calibrated.from_json(entry["methods"][SCORE]).model(asked)
    clear = ~np.isclose(expected, limit.expected_error, rtol=1e-6)
    assert np.array_equal((asked <= limit.along(6))[clear], (expected <= limit.expected_error)[clear]) and clear.any()
    assert limit.source == "calibration.json of me, tokens by sample"


def test_where_scores_tell_nothing_the_number_of_the_step_decides():
    errors, episode = np.tile(np.arange(1.0, 5), (60, 1)), np.repeat(np.arange(20), 3)
    entry = entry_of(np.ones_like(errors), errors, episode)
    assert limit_of(entry, "me", SCORE, 0.5).values == (math.inf, math.inf, -math.inf, -math.inf)


def test_what_was_not_measured_has_no_limit():
    with pytest.raises(MissingInputError, match="never measured"):
        limit_of({"decoding": "argmax", "methods": {SCORE: {"num_pairs": 0}}}, "me", SCORE, 0.8)


def test_a_limit_of_retracing_holds_in_the_distance_that_a_world_retraces_in_alone():
    entry = entry_of(*measured(1.0))
    entry["methods"]["retracing"] = entry["methods"][SCORE]
    known = limit_of(entry | {"distance": "tokenizer"}, "me", "retracing", 0.8)
    other = entry | {"distance": "percep-efflite0-44a4126c2acbe185"}
    assert known.values == limit_of(other, "me", SCORE, 0.8).values  # entropy has no distance
    with pytest.raises(MissingInputError, match="tokenizer's features"):
        limit_of(other, "me", "retracing", 0.8)


def test_a_calibration_of_the_first_format_is_refused_with_the_command_that_makes_it_again(tmp_path):
    file = tmp_path / "calibration.json"
    write_json(file, {"version": 1, "checkpoints": []})
    with pytest.raises(BadDataError, match="evaluate_uncertainty"):
        entry_in(file, {})
