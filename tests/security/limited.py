"""Code in a child with little memory and little time: what a bomb would need must not be there."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# A thread more takes address space; so does an allocator that keeps a thread of its own.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
LIMITED = """
import resource, sys
{imports}
pages = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (pages + {memory}, pages + {memory}))
resource.setrlimit(resource.RLIMIT_CPU, ({seconds}, {seconds}))
from whale.common.errors import WhaleError
try:
    {call}
except WhaleError as error:
    print(f"{{type(error).__name__}}: {{error}}")
"""


def run_limited(imports: str, call: str, memory: int = 256 << 20, seconds: int = 10, cwd: Path | None = None) -> str:
    """What `call` printed, or the named error it ended in; an assertion for a traceback, a kill or a signal.

    The limits count from behind `imports`, which may also use the sample once: libraries load their parts then.
    """
    code = LIMITED.format(imports=imports, call=call, memory=memory, seconds=seconds)
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests/security")))
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path} | ONE_THREAD,
                          cwd=cwd, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-3000:]}"
    return done.stdout
