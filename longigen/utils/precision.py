"""Precision: the floating-point type that networks compute in when visits are generated."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from longigen.errors import LongigenError

Precision = Literal["auto", "fp32", "bf16", "fp16"]
"""``auto`` is bf16 on a CUDA device that computes in it, and fp32 elsewhere; see `computing_type`."""
ComputingType = Literal["fp32", "bf16", "fp16"]

HALF_TYPES: dict[Literal["bf16", "fp16"], torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


def computing_type(precision: Precision, device: torch.device, weights: torch.dtype) -> ComputingType:
    """Return the type that networks compute in.

    ``auto`` is the type of the weights if that has 16 bits; else bf16 on a CUDA device of compute capability 8 or more,
    whose tensor cores compute in it; else fp32.

    Args:
        precision: the chosen precision.
        device: the device of the model.
        weights: the type of its floating-point weights.

    Raises:
        LongigenError: for fp32 with weights of 16 bits.
    """
    halves = "bf16" if weights == torch.bfloat16 else "fp16" if weights == torch.float16 else None
    if precision == "fp32" and halves is not None:
        raise LongigenError(
            f"The model's weights were loaded as {halves}, so it cannot compute in fp32; load them without dtype."
        )
    if precision != "auto":
        return precision
    fast = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return halves or ("bf16" if fast else "fp32")


@contextmanager
def computing_in(kind: ComputingType, device: torch.device) -> Iterator[None]:
    """Let layers compute in a type inside the context; those that need 32 bits keep them (autocasting)."""
    dtype = None if kind == "fp32" else HALF_TYPES[kind]
    with torch.autocast(device.type, dtype, enabled=dtype is not None):
        yield


@contextmanager
def tf32(enabled: bool) -> Iterator[None]:
    """Let products of 32-bit matrices round their factors to TF32 inside the context, on GPUs that have it.

    Convolutions do so by PyTorch's default.
    """
    before = torch.get_float32_matmul_precision()
    if enabled:
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
