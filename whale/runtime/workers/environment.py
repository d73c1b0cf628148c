"""The switches of every framework, set before any of them is imported (frameworks are imported inside functions).

`apply` is called by the guard, by the command line and by the tests. Child processes inherit what it sets.
"""

import os
import secrets
from pathlib import Path

from whale.common.files import write_secret_once

STATE_DIR = Path(".whale")

FORCED = {  # security or silence that nobody may switch off by accident
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",  # Ray listens on every interface, whatever its node address
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WDS_SECURE": "1",
}
DEFAULTS = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",  # other kernels, other sums
    # Threads that wait for one another go to sleep soon. By itself OpenMP spins for a millisecond: beside two busy
    # processes a training then fell to a hundredth of its speed (benchmarks/busy_cores.py).
    "GOMP_SPINCOUNT": "1000",
    "MUJOCO_GL": "osmesa",
    "LP_NUM_THREADS": "0",
}


def apply(root: Path | None = None) -> None:
    """Set the switches in this process; make the Ray token of the project at `root` (default: here) on first use."""
    os.environ.update(FORCED)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    token = (root or Path.cwd()).absolute() / STATE_DIR / "ray-token"
    if not os.environ.get("RAY_AUTH_TOKEN_PATH"):
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)
        _make_token(token)


def _make_token(path: Path) -> None:
    """64 random hex digits, readable by the owner only, complete under the final name from the first moment."""
    if not path.exists():
        write_secret_once(path, secrets.token_hex(32).encode())
