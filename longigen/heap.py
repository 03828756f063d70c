"""glibc's heap, told to keep what training frees."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Stop glibc from giving memory back to the system at each free, and say whether that worked.

    On a CPU a training step allocates and frees the same large activations again and again. By default glibc maps each
    afresh, and the kernel zeroes it page by page; see ``benchmarks/heap.py`` for what that costs. The process then
    keeps its largest working set to its end, which suits a training and not a library: only `longigen train` and
    `generate` do this. Elsewhere than on glibc it does nothing.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has none
        return False
    return all(mallopt(option, LARGEST) == 1 for option in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD))
