"""Fixtures for every test, and the switches that must be set before any framework is imported."""

import atexit
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

PROJECT_ROOT = Path(__file__).resolve().parents[1]

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny networks: more threads only wait for each other

# No test signs with, or adds to, the keys of whoever runs it.
os.environ["WHALE_CONFIG_DIR"] = tempfile.mkdtemp(prefix="whale-config-")
atexit.register(shutil.rmtree, os.environ["WHALE_CONFIG_DIR"], ignore_errors=True)
os.environ.pop("WHALE_SIGNING_KEY", None)

# An example takes as long as a busy machine lets it.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

# Started in the background, a shell makes us ignore Ctrl-C, and so would every stage that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

from whale.runtime.workers.process import environment

environment.apply(PROJECT_ROOT)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The whole program, which takes longest, begins first; with `-n 2` a file runs in one process."""
    items.sort(key=lambda item: item.path.name != "test_pipeline.py")
    if any(item.get_closest_marker("gpu") for item in items):
        import torch

        absent = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(absent)


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The folder of params.yaml and data_specs/."""
    return PROJECT_ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The samples of real datasets, which are never committed; tests that use it carry the mark `real_data`."""
    directory = PROJECT_ROOT.parent / "shared" / "data"
    if not directory.is_dir():
        pytest.skip("real samples are absent: expected a folder shared/data beside the project")
    return directory
