import json

import pytest

from whale.common.errors import BadDataError
from whale.evaluation.uncertainty.estimation.calibration_file import FORMAT_VERSION, read_calibration


def test_a_file_of_another_version_is_refused_with_the_command_that_makes_it_again(tmp_path):
    file = tmp_path / "calibration.json"
    file.write_text(json.dumps({"version": FORMAT_VERSION, "checkpoints": []}))
    assert read_calibration(file) == []
    for other in ({"version": 1, "checkpoints": []}, [], {"version": FORMAT_VERSION, "checkpoints": [{"role": "a"}]}):
        file.write_text(json.dumps(other))
        with pytest.raises(BadDataError, match=r"calibration\.json[\s\S]*dvc repro evaluate_uncertainty"):
            read_calibration(file)
