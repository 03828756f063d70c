"""Memory: how much a piece of work took at its peak, and keeping what training frees."""

import ctypes
import gc
import re
import sys
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGEST = 2**31 - 1


def process_device() -> torch.device:
    """Return the device of this process, as Accelerate chooses it."""
    from accelerate import PartialState

    device = PartialState().device
    if device is None:
        raise RuntimeError("Accelerate has no device for this process")
    return device


def peak_kind(device: torch.device) -> str:
    """Say what `peak` counts on a device."""
    return "CUDA tensors" if device.type == "cuda" else "resident process (RSS)"


def start_peak(device: torch.device) -> None:
    """Give back what earlier work has freed, and count the peak from here."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; the heap may have been told to keep all
        if trim is not None:
            trim(0)
        try:
            CLEAR.write_text("5")  # the kernel's documented way to reset VmHWM
        except OSError:  # a sandbox without it: the peak is then that of the process's life
            return


def peak(device: torch.device) -> int | None:
    """Return the largest number of bytes in use since `start_peak`; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if not STATUS.exists():
        return None
    found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
    return int(found[1]) * 1024 if found else None


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
