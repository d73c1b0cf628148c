"""F1-F8, F12, F22, F24-F27, F29: the right samples or an error that names the place; `silent` fails."""

import pytest
from faults.ingest_faults import INGEST_FAULTS
from faults.outcomes import CLEAR, RIGHT
from faults.shard_cases import SHARD_FAULTS

FAULTS = [*INGEST_FAULTS, *SHARD_FAULTS]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.number} {fault.name}")
def test_a_fault_ends_right_or_in_a_clear_error(fault, memory_folder):
    assert fault.run(memory_folder) in (RIGHT, CLEAR)
