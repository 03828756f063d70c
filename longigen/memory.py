"""Memory: how much a piece of work took at its peak."""

import ctypes
import gc
import re
import sys
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


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
