"""Meta-World for tests: skipped, with the reason, where its packages or an OpenGL are missing."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from whale.common.errors import MissingInputError
from whale.sim.metaworld.simulator.opengl import drawn_by


@pytest.fixture(scope="session")
def apart():
    """apart(function, *arguments, **more): its result, from a process that may draw."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield lambda function, *arguments, **more: pool.submit(function, *arguments, **more).result()


@pytest.fixture(scope="session")
def drawn(apart) -> dict[str, str]:
    """What draws here."""
    try:
        return apart(drawn_by)
    except MissingInputError as error:
        pytest.skip(f"{error.what}: {error.remedy}")
