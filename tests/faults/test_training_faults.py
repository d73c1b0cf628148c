"""F4, F9, F13-F16, F18-F20, F23, F28: training ends in a straight run's bytes, or in an error that names the place."""

import pytest
from faults.outcomes import CLEAR, RIGHT
from faults.training_faults import TRAINING_FAULTS

NIGHTLY = ("F19", "F23")  # a fresh process; a tracking store made anew
CASES = [
    pytest.param(fault, id=f"{fault.number} {fault.name}", marks=[pytest.mark.nightly] * (fault.number in NIGHTLY))
    for fault in TRAINING_FAULTS
]


@pytest.mark.parametrize("fault", CASES)
def test_a_fault_ends_right_or_in_a_clear_error(fault, tmp_path):
    assert fault.run(tmp_path) in (RIGHT, CLEAR)
