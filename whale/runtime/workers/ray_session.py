"""One Ray inside the stage that needs it: token mode, no dashboard, ended with the stage.

A plain start of Ray for two training workers costs 150 s of CPU time and 17 Python processes (measured under load); a
group on one machine needs a third of them, so the others are left out here.
"""

import contextlib
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from whale.runtime.workers.process import environment

OBJECT_STORE_BYTES = 256 * 2**20  # results are small: workers write their shards and models themselves
START_ATTEMPTS = 3
LEAN = {
    "RAY_enable_worker_prestart": "0",  # workers started on suspicion have no runtime environment, so none is ever used
    "RAY_prestart_worker_first_driver": "0",
    "RAY_worker_niceness": "0",  # 15 by itself: a busy machine would hardly let the workers run
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # asks a cloud provider
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # also how late the end of a training is noticed
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",  # a busy machine takes its time
}


@contextlib.contextmanager
def ray_session(num_workers: int, address: str | None = None) -> Iterator[None]:
    """Ray for `num_workers` processes and the code that leads them; nothing at all for 0 workers.

    `address` joins an existing cluster instead.
    """
    environment.apply()  # before ray reads its switches
    if num_workers == 0:
        yield
        return
    for name, value in LEAN.items():
        os.environ.setdefault(name, value)
    if address is None:
        environment.on_this_machine_only()  # Ray's processes inherit it
    import ray

    _remove_leftovers()
    prefix = f"whale-ray-{os.getpid()}-"
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder:
        local: dict[str, Any] = {
            "num_cpus": num_workers + 1,
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_dashboard": False,
            "_temp_dir": folder,
        }
        with _without_extras():
            _start(ray, address or "local", {} if address else local)
        try:
            yield
        finally:
            ray.shutdown()


def _start(ray: Any, address: str, settings: dict[str, Any]) -> None:
    """Ray gives its own processes 30 s to come up, which a busy machine does not always manage."""
    for attempt in range(START_ATTEMPTS):
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **settings)
            return
        except Exception as error:
            ray.shutdown()
            if "timed out during startup" not in str(error) or attempt == START_ATTEMPTS - 1:
                raise
            print("Ray took too long to start; once more", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _without_extras() -> Iterator[None]:
    """No autoscaler, log shipper and dashboard on a cluster of one: `ray.init` has no switch for any of them."""
    from ray._private import parameter, services

    class LeanParams(parameter.RayParams):
        def __init__(self, *args: Any, **kwargs: Any):
            super().__init__(*args, **kwargs)
            self.no_monitor, self.include_log_monitor = True, False

    params, start_api_server = parameter.RayParams, services.start_api_server
    parameter.RayParams, services.start_api_server = LeanParams, lambda *_, **__: (None, None)
    try:
        yield
    finally:
        parameter.RayParams, services.start_api_server = params, start_api_server


def _remove_leftovers() -> None:
    """Folders of sessions whose process was killed."""
    for path in Path(tempfile.gettempdir()).glob("whale-ray-*"):
        match = re.match(r"whale-ray-(\d+)-", path.name)
        if match and not Path(f"/proc/{match[1]}").exists() and Path("/proc").exists():
            shutil.rmtree(path, ignore_errors=True)
