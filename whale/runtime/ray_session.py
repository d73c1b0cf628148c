"""One Ray inside the stage that needs it: token mode, no dashboard, ended with the stage."""

import contextlib
import logging
import tempfile
from collections.abc import Iterator

from whale.runtime.guard import environment

OBJECT_STORE_BYTES = 256 * 2**20  # results are small: workers write their shards and models themselves


@contextlib.contextmanager
def ray_session(num_workers: int, address: str | None = None) -> Iterator[None]:
    """Ray for `num_workers` processes and the code that leads them; nothing at all for 0 workers.

    `address` joins an existing cluster instead.
    """
    environment.apply()  # before ray reads its switches
    if num_workers == 0:
        yield
        return
    import ray

    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        local = {
            "num_cpus": num_workers + 1,
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_dashboard": False,
            "_temp_dir": folder,
        }
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            **({} if address else local),
        )
        try:
            yield
        finally:
            ray.shutdown()
