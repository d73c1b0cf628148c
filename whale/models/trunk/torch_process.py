"""How a process that computes with torch uses cores and memory."""

import ctypes
import sys

import torch

# Numbers of glibc's mallopt: blocks below a size come from the heap, whose end is given back when that much is free.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST, LARGEST_OF_OLD = 2**30, 2**25  # older versions refuse more than half a heap


def set_up_torch(threads: int) -> None:
    """Compute with `threads` threads, and use memory again.

    glibc hands large blocks back to the system as soon as they are free, so every training step pays for the pages of
    its activations anew, on one core while the others wait: a quarter of a small step. This process keeps what it has
    needed once, as far as its main thread took it. On other systems nothing happens.
    """
    torch.set_num_threads(threads)
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        is_taken = libc.mallopt(M_MMAP_THRESHOLD, LARGEST)
        if not is_taken:
            libc.mallopt(M_MMAP_THRESHOLD, LARGEST_OF_OLD)
        libc.mallopt(M_TRIM_THRESHOLD, LARGEST)
