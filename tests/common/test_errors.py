"""An error says what, where, found, expected, remedy; and it survives the trip between processes."""

import errno
import pickle

import pytest

from whale.common import errors
from whale.guard.failure import as_whale_error, report

CLASSES = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.WhaleError)]


def test_the_message_has_one_line_per_known_fact_in_a_fixed_order():
    error = errors.BadDataError("bad", file="a.tar", place="byte 7", found=3, expected=4, remedy="fetch it again")
    words = [line.split(":")[0].strip() for line in str(error).splitlines()]
    assert words == ["bad", "file", "place", "found", "expected", "remedy"]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_keeps_its_fields_between_processes(kind):
    error = kind("what", file="f", found=1)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind and str(copy) == str(error) and copy.exit_code == error.exit_code


def test_exit_codes_are_those_of_the_one_table():
    found = {each.__name__: each.exit_code for each in CLASSES}
    assert found == {
        "WhaleError": 70,
        "MismatchError": 1,
        "MissingInputError": 2,
        "RefusedError": 3,
        "IncompleteError": 4,
        "TaintedError": 5,
        "ConfigError": 64,
        "BadDataError": 65,
        "BeyondLimitError": 65,
        "WorkerLostError": 71,
        "CannotWriteError": 73,
        "BusyError": 75,
    }


def test_a_cause_inside_a_framework_error_decides_the_exit_code():
    try:
        try:
            raise errors.BadDataError("torn record")
        except errors.BadDataError as cause:
            raise RuntimeError("worker failed") from cause
    except RuntimeError as error:
        assert as_whale_error(error).exit_code == 65


def test_a_full_disk_is_no_bug():
    assert as_whale_error(OSError(errno.ENOSPC, "No space left on device", "x")).exit_code == 73
    assert as_whale_error(OSError(errno.ENOENT, "gone", "x")) is None


def test_a_bug_keeps_its_traceback_and_ends_with_70(capsys):
    assert report(ValueError("a bug")) == 70
    assert "ValueError: a bug" in capsys.readouterr().err
    assert report(KeyboardInterrupt()) == 130
