import platform
import subprocess
import sys

import pytest

# 48 MB are more than glibc ever keeps by itself. In a process of its own: it is the main thread's memory that is kept.
KEPT = """
import sys, torch
from pathlib import Path
from whale.models.trunk.torch_process import set_up_torch
if sys.argv[1] == "set up":
    set_up_torch(threads=1)
    assert torch.get_num_threads() == 1
def pages():
    return int(Path("/proc/self/statm").read_text().split()[1])
before = pages()
torch.ones(12 * 2**20)
print((pages() - before) * 4096 // 2**20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_the_memory_of_large_blocks_is_kept():
    kept_mb = {
        how: int(subprocess.run([sys.executable, "-c", KEPT, how], capture_output=True, text=True, check=True).stdout)
        for how in ("set up", "as it comes")
    }
    assert kept_mb["set up"] >= 48 > 16 > kept_mb["as it comes"]
