import resource
import sys

import pytest
import torch

from whale.runtime.torch_process import set_up_torch

PAGE = 4096


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_the_memory_of_large_blocks_is_used_again():
    threads = torch.get_num_threads()
    set_up_torch(threads)
    assert torch.get_num_threads() == threads
    torch.ones(12 * 2**20)  # 48 MB: more than glibc ever keeps by itself
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(12 * 2**20)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 48 * 2**20 // PAGE
