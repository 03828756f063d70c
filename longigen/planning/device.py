"""A device: how much memory it has, and how fast it computes, reads and starts what a model asks of it."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch.nn import functional

from longigen.errors import LongigenError, did_you_mean
from longigen.planning.trace import Kernel

CONVOLUTIONS, PRODUCTS, TRAFFIC, START = 0.03, 0.4, 0.7, 50e-6
"""What PyTorch attains on a GPU: the shares of the largest FLOP/s in 3D convolutions and in matrix products and
attention, the share of the bandwidth, and the seconds to start an operation. They are fitted to the seconds per step
in ``docs/results/gpu``, of an NVIDIA H200."""

GPU_CONTEXT = 600_000_000
"""Bytes that a process needs on a GPU besides its tensors: the context of CUDA and its libraries."""

GPU_ERROR, CPU_ERROR = 0.15, 1.5
"""A measured peak is at most this share above the predicted one: of tensors on a GPU, and of a process on a CPU, where
gaps in the heap differ from run to run; see ``docs/results/plan``."""

TIME_FACTOR = 2.5
"""Predicted times are within this factor of measured ones; see ``docs/results/plan``."""

MEMORY_INFO = Path("/proc/meminfo")
CPU_THREADS_START = 20e-6


@dataclass(frozen=True)
class Device:
    """A device, with the rates that it attains.

    Attributes:
        name: what it is called.
        cuda: whether it is a GPU.
        memory: bytes that a process may use.
        convolutions: FLOP/s of 3D convolutions in 32 bits.
        products: FLOP/s of matrix products and attention in 32 bits.
        halves: how many times faster it computes in 16 bits; 1 if it is not.
        bf16: whether it computes in bf16.
        bandwidth: bytes per second from and to its memory.
        start: seconds to start an operation.
        here: whether it is this machine's.
    """

    name: str
    cuda: bool
    memory: int
    convolutions: float
    products: float
    halves: float
    bandwidth: float
    bf16: bool = True
    start: float = START
    here: bool = False

    @classmethod
    def of_peaks(
        cls, name: str, gigabytes: float, half: float, single: float, bandwidth: float, *, bf16: bool = True
    ) -> Self:
        """Return a GPU by its data sheet.

        Args:
            name: what it is called.
            gigabytes: its memory, in GB of 10⁹ bytes.
            half: TFLOP/s in 16 bits, without sparsity.
            single: TFLOP/s of convolutions in 32 bits, by TF32 where it has that.
            bandwidth: GB/s of its memory.
            bf16: whether it computes in bf16.
        """
        return cls(
            name,
            cuda=True,
            memory=int(gigabytes * 1e9),
            convolutions=CONVOLUTIONS * single * 1e12,
            products=PRODUCTS * single * 1e12,
            halves=half / single,
            bandwidth=TRAFFIC * bandwidth * 1e9,
            bf16=bf16,
        )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the device that a user names, or describes as ``24GB,165TFLOP/s,1008GB/s``.

        Raises:
            LongigenError: if it is not known.
        """
        described = DESCRIPTION.fullmatch(text.replace(" ", ""))
        if described is not None:
            memory, half, bandwidth = map(float, described.groups())
            if not (memory and half and bandwidth):
                raise LongigenError(f"A device needs memory, TFLOP/s and GB/s above 0, got '{text}'.")
            return cls.of_peaks(text, memory, half, half / 2, bandwidth)
        words = set(text.lower().split())
        found = [row for row in KNOWN if words and words <= set(row[0].lower().split())]
        names = [row[0] for row in found or KNOWN]
        if len(found) > 1:
            raise LongigenError(f"'{text}' is several devices, {' and '.join(names)}; give the whole name.")
        if not found:
            raise LongigenError(
                f"There is no device '{text}'.{did_you_mean(text, names)} Devices: {', '.join(names)}; another one is "
                "described by its memory, its speed in 16 bits and its bandwidth, as in 24GB,165TFLOP/s,1008GB/s."
            )
        name, gigabytes, half, single, bandwidth = found[0]
        return cls.of_peaks(name, gigabytes, half, single, bandwidth, bf16=name not in WITHOUT_BF16)

    @classmethod
    def this(cls) -> Self:
        """Return the device that training would use here; a CPU is measured, for about a second."""
        if torch.cuda.is_available():
            properties = torch.cuda.get_device_properties(0)
            known = next((row for row in KNOWN if set(row[0].split()[:2]) <= set(properties.name.split())), None)
            half, single, bandwidth = known[2:] if known else (100.0, 50.0, 900.0)
            made = cls.of_peaks(properties.name, properties.total_memory / 1e9, half, single, bandwidth)
            return cls(**{**vars(made), "here": True, "bf16": torch.cuda.get_device_capability(0) >= (8, 0)})
        volume, weight = torch.randn(1, 32, 32, 32, 32), torch.randn(32, 32, 3, 3, 3)
        matrix, copied = torch.randn(768, 768), torch.randn(2**24)
        with torch.no_grad():
            convolution = _seconds(lambda: functional.conv3d(volume, weight, padding=1))
            product = _seconds(lambda: matrix @ matrix)
            copy = _seconds(copied.clone)
        threads = torch.get_num_threads()
        return cls(
            f"this CPU, {threads} thread{'s' * (threads > 1)}",
            cuda=False,
            memory=_available(),
            convolutions=2 * 27 * 32 * 32 * 32**3 / convolution,
            products=2 * 768**3 / product,
            halves=1.0,
            bandwidth=2 * copied.nbytes / copy,
            start=CPU_THREADS_START,
            here=True,
        )

    @property
    def error(self) -> float:
        """By which share a peak may be above the predicted one."""
        return GPU_ERROR if self.cuda else CPU_ERROR

    @property
    def usable(self) -> float:
        """Bytes that a prediction may come to, so that its error and the context of CUDA fit too."""
        return (self.memory - (GPU_CONTEXT if self.cuda else 0)) / (1 + self.error)

    def seconds(self, kernels: Sequence[Kernel]) -> float:
        """Return the time of operations: what they compute and move, or as long as it takes to start them all."""
        busy = 0.0
        for kernel in kernels:
            rate = self.convolutions if kernel.convolution else self.products
            busy += max(kernel.flops / (rate * (self.halves if kernel.half else 1)), kernel.moved / self.bandwidth)
        return max(busy, self.start * len(kernels)) if self.cuda else busy + self.start * len(kernels)


DESCRIPTION = re.compile(r"(\d+\.?\d*)GB,(\d+\.?\d*)TFLOP(?:/s|s),(\d+\.?\d*)GB/s", re.IGNORECASE)
"""A device by its memory, its speed and its bandwidth."""

KNOWN: tuple[tuple[str, float, float, float, float], ...] = (
    ("NVIDIA H200", 150.1, 989, 494, 4800),
    ("NVIDIA H100 80GB", 85.0, 989, 494, 3350),
    ("NVIDIA A100 80GB", 85.1, 312, 156, 2039),
    ("NVIDIA A100 40GB", 42.3, 312, 156, 1555),
    ("NVIDIA L40S 48GB", 47.7, 362, 183, 864),
    ("NVIDIA RTX 6000 Ada 48GB", 50.9, 364, 182, 960),
    ("NVIDIA A40 48GB", 47.7, 150, 75, 696),
    ("NVIDIA RTX A6000 48GB", 50.9, 155, 77, 768),
    ("NVIDIA RTX 5090 32GB", 33.7, 210, 105, 1792),
    ("NVIDIA V100 32GB", 34.1, 125, 15.7, 900),
    ("NVIDIA RTX 4090 24GB", 25.3, 165, 83, 1008),
    ("NVIDIA RTX 3090 24GB", 25.3, 71, 36, 936),
    ("NVIDIA A10 24GB", 23.7, 125, 62, 600),
    ("NVIDIA L4 24GB", 23.7, 121, 60, 300),
    ("NVIDIA V100 16GB", 16.9, 125, 15.7, 900),
    ("NVIDIA T4 16GB", 15.6, 65, 8.1, 320),
)
"""By data sheet: name, memory in GB as PyTorch finds it, TFLOP/s in 16 and in 32 bits (TF32 if it has that), GB/s."""

WITHOUT_BF16 = ("NVIDIA V100 32GB", "NVIDIA V100 16GB", "NVIDIA T4 16GB")


def _seconds(function: Callable[[], object], repeats: int = 5) -> float:
    """Return the shortest time of some calls."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return min(times[1:])


def _available() -> int:
    """Return the bytes of main memory that are free; more than any machine has where the system does not say."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", MEMORY_INFO.read_text()) if MEMORY_INFO.exists() else None
    return int(found[1]) * 1024 if found else 2**60
