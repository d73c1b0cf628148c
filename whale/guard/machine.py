"""What a run ran on, by allow-list: processor, memory, GPU, thread counts, switches, every installed package.

Nothing is asked that could hold a secret. Frameworks are asked only if the stage has imported them anyway.
"""

import hashlib
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from whale.common.json_files import canonical_json
from whale.lineage.own_cache import recall, remember
from whale.runtime.workers.process.environment import DEFAULTS, FORCED, STATE_DIR

PACKAGES_CACHE = "packages-cache.json"
RECORDED = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "PYTHONHASHSEED",
    "CUDA_VISIBLE_DEVICES",
    "GOMP_SPINCOUNT",
    *FORCED,
    *DEFAULTS,
)
PACKAGES = (
    *("apache-beam", "dvc", "mlflow", "numpy", "opencv-python-headless", "pyarrow", "pydantic", "ray", "safetensors"),
    *("simplejpeg", "tensorflow-cpu", "tensorflow-datasets", "torch", "webdataset"),
)


def describe() -> dict[str, Any]:
    """The machine and the software of this process; `packages`: those that compute."""
    installed = installed_packages()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "host": platform.node(),
        "processor": _processor(),
        "memory_mb": _memory_mb(),
        "cpus": os.cpu_count(),
        "cpus_allowed": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "variables": {name: os.environ[name] for name in sorted(RECORDED) if name in os.environ},
        "packages": {name: installed[name]["version"] for name in PACKAGES if name in installed},
        **torch_facts(),
    }


def torch_facts() -> dict[str, Any]:
    """Threads, determinism and device, if torch is in use: each can change a float sum."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {"torch_threads": None}
    facts = {
        "torch_threads": torch.get_num_threads(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cuda": torch.version.cuda,
        "gpus": [],
    }
    if torch.cuda.is_available():
        facts["gpus"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        facts["gpu_driver"] = _gpu_driver()
    return facts


def installed_packages() -> dict[str, Any]:
    """{name: {"version", "record_sha256"}} of every installed distribution; RECORD lists the sha256 of its files.

    Reading 270 of them takes half a second, so the answer is kept as long as no folder of packages changes.
    """
    folders = sorted({path for path in sys.path if path.endswith(("site-packages", "dist-packages"))})
    key = hashlib.sha256(canonical_json([[path, _changed(path)] for path in folders]).encode()).hexdigest()
    cached = STATE_DIR / PACKAGES_CACHE
    if (kept := recall(cached)).keys() >= {"key", "packages"} and kept["key"] == key:
        return kept["packages"]
    packages: dict[str, dict[str, str | None]] = {}
    for each in metadata.distributions(path=folders):
        record = each.read_text("RECORD")
        digest = hashlib.sha256(record.encode()).hexdigest() if record else None
        packages.setdefault(str(each.name), {"version": each.version, "record_sha256": digest})
    remember(cached, {"key": key, "packages": packages})
    return packages


def _changed(folder: str) -> int:
    return os.stat(folder).st_mtime_ns if os.path.isdir(folder) else 0


def _processor() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def _memory_mb() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    except (ValueError, OSError):
        return None


def _gpu_driver() -> str | None:
    try:
        text = Path("/proc/driver/nvidia/version").read_text(errors="replace")
    except OSError:
        return None
    words = text.split()
    return next((word for word in words if word[:1].isdigit() and word.count(".") >= 1), None)
