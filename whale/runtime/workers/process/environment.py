"""The switches of every framework, set before any of them is imported (frameworks are imported inside functions).

`apply` is called by the guard, by the command line and by the tests. Child processes inherit what it sets.
"""

import os
import secrets
import time
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
}


# Threads that wait for one another spin for a while, which is fast on idle cores (by a third of a small step). Beside
# two busy processes it is slower by a factor of 20: there they go to sleep soon (benchmarks/busy_cores.py).
SPIN, SOON_ASLEEP = "GOMP_SPINCOUNT", "1000"


def apply(root: Path | None = None) -> None:
    """Set the switches in this process; make the Ray token of the project at `root` (default: here) on first use."""
    os.environ.update(FORCED)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    if SPIN not in os.environ and cores_are_busy(int(os.environ.get("WHALE_THREADS") or 2)):
        os.environ[SPIN] = SOON_ASLEEP
    token = (root or Path.cwd()).absolute() / STATE_DIR / "ray-token"
    if not os.environ.get("RAY_AUTH_TOKEN_PATH"):
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)
        _make_token(token)


def on_this_machine_only() -> None:
    """gloo and NCCL find their peers over the loopback, not over the interface that they think the best."""
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(name, "lo")


def cores_are_busy(threads: int, looks: int = 5) -> bool:
    """Whether, beside what runs now, `threads` more would have to share cores; False where Linux does not tell."""
    running = []
    try:
        for _ in range(looks):
            running.append(_running())
            time.sleep(0.005)
    except (OSError, ValueError, IndexError):
        return False
    others = sorted(running)[looks // 2] - 1  # this thread looks, so it runs
    return others + threads > len(os.sched_getaffinity(0)) and others > 0


def _running() -> int:
    """Tasks of the whole machine that run or wait for a core."""
    return int(Path("/proc/loadavg").read_text().split()[3].partition("/")[0])


def _make_token(path: Path) -> None:
    """64 random hex digits, readable by the owner only, complete under the final name from the first moment."""
    if not path.exists():
        write_secret_once(path, secrets.token_hex(32).encode())
