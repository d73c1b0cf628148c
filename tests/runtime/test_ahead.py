import os
import time

import pytest

from whale.errors import BadDataError
from whale.runtime.ahead import made_ahead


def square(number: int) -> tuple[int, int]:
    if number == 3:
        raise BadDataError("three", found=number)
    time.sleep(0.05 if number % 2 else 0.0)
    return number**2, os.getpid()


def test_items_come_in_order_from_other_processes():
    with made_ahead(square, ((number,) for number in (0, 5, 2, 7, 4))) as items:
        made = list(items)
    assert [value for value, _ in made] == [0, 25, 4, 49, 16]
    assert os.getpid() not in {pid for _, pid in made}


def test_an_error_is_raised_at_its_place():
    with made_ahead(square, [(1,), (3,), (2,)]) as items:
        assert next(items)[0] == 1
        with pytest.raises(BadDataError, match="three") as caught:
            next(items)
    assert caught.value.found == 3


def test_no_more_than_twice_the_workers_are_asked_for_ahead():
    asked = []

    def calls():
        for number in (0, 2, 4, 6, 8, 10):
            asked.append(number)
            yield (number,)

    with made_ahead(square, calls(), workers=1) as items:
        assert asked == [0, 2]
        next(items)
        assert asked == [0, 2, 4]
