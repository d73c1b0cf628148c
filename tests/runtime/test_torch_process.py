import subprocess
import sys

import pytest

# 48 MB are more than glibc ever keeps by itself. In a process of its own: it is the main thread's memory that is kept.
FAULTS = """
import resource, sys, torch
from whale.runtime.torch_process import set_up_torch
if sys.argv[1] == "set up":
    set_up_torch(threads=1)
    assert torch.get_num_threads() == 1
for _ in range(20):  # until the heap is as large as it gets
    torch.ones(12 * 2**20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    torch.ones(12 * 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 48 * 2**20 // 4096


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_the_memory_of_large_blocks_is_used_again():
    faults = {
        how: int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("set up", "as it comes")
    }
    assert faults["set up"] < PAGES < faults["as it comes"]
