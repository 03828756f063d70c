"""Measure peak memory, and tune glibc malloc so that freed activation buffers are reused."""

import ctypes
import gc
import re
import sys
from pathlib import Path

import torch

from longigen.utils.processes import processes

PROC_STATUS, PROC_CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
INT_MAX = 2**31 - 1


def process_device() -> torch.device:
    """Return the device that Accelerate assigns to this process."""
    device = processes().device
    if device is None:
        raise RuntimeError("Accelerate has no device for this process")
    return device


def peak_memory_kind(device: torch.device) -> str:
    """Return what `peak_memory` counts on a device, for a table's notes."""
    return "CUDA tensors" if device.type == "cuda" else "resident process (RSS)"


def reset_peak_memory(device: torch.device) -> None:
    """Release memory that earlier work has freed, and start a new peak measurement."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only; needed after `keep_freed_memory`
        if trim is not None:
            trim(0)
        try:
            PROC_CLEAR_REFS.write_text("5")  # the kernel's documented way to reset VmHWM
        except OSError:  # not writable in a sandbox: the peak is then that of the process's whole life
            return


def peak_memory(device: torch.device) -> int | None:
    """Return the largest number of bytes in use since `reset_peak_memory`; None where it cannot be measured."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if not PROC_STATUS.exists():
        return None
    return _status("VmHWM")


def resident_memory() -> int:
    """Return the resident memory (RSS) of this process in bytes; 0 where the system does not say."""
    return (_status("VmRSS") if PROC_STATUS.exists() else None) or 0


def _status(name: str) -> int | None:
    match = re.search(rf"{name}:\s+(\d+) kB", PROC_STATUS.read_text())
    return int(match[1]) * 1024 if match else None


def keep_freed_memory() -> bool:
    """Stop glibc from returning memory to the system at each free; return whether that worked.

    On a CPU a training step allocates and frees the same large activations again and again. By default glibc maps new
    memory for each, and the kernel zeroes it page by page; ``benchmarks/heap.py`` measures the cost. After this call
    the process keeps its largest working set until it exits, which suits a command such as `longigen train` but not a
    library that others import. Without glibc it does nothing.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has no mallopt
        return False
    return all(mallopt(option, INT_MAX) == 1 for option in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD))
