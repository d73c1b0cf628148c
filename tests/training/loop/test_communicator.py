import pytest
from worker_group import in_group

from whale.training.loop.communicator import Communicator


@pytest.mark.parametrize("world_size", [1, 3])
def test_a_flag_of_any_worker_reaches_all_of_them(world_size):
    def work(communicator: Communicator) -> None:
        is_last = communicator.rank == world_size - 1
        answers = [communicator.any_soon(flag) for flag in (False, is_last, True)]  # all three are under way
        assert [answer() for answer in answers] == [False, True, True]

    in_group(world_size, work)
