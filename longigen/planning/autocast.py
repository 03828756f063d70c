"""CUDA's autocasting on a CPU: the operations that CUDA computes in 32 bits where a CPU keeps 16.

A traced step computes nothing, so it runs on a machine without a GPU. What a GPU keeps in memory depends on the
operations that autocasting promotes to 32 bits, and CUDA promotes more of them than a CPU: normalisations, softmax,
sums and interpolation (https://docs.pytorch.org/docs/stable/amp.html, "CUDA Ops that can autocast to float32").
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

HALVES = (torch.bfloat16, torch.float16)

PROMOTED = [
    "acos",
    "asin",
    "cosh",
    "erfinv",
    "exp",
    "expm1",
    "log",
    "log10",
    "log2",
    "log1p",
    "reciprocal",
    "rsqrt",
    "sinh",
    "tan",
    "pow",
    "softplus",
    "layer_norm",
    "native_layer_norm",
    "group_norm",
    "norm",
    "cosine_similarity",
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
    "cdist",
    "renorm",
    "logsumexp",
    "prod",
    "softmax",
    "log_softmax",
    "cumprod",
    "cumsum",
    "sum",
    "upsample_nearest1d",
    "upsample_nearest2d",
    "upsample_nearest3d",
    "upsample_linear1d",
    "upsample_bilinear2d",
    "upsample_trilinear3d",
]
"""The operations that CUDA's autocasting computes in 32 bits."""


@contextmanager
def autocasting_of_cuda() -> Iterator[None]:
    """Let autocasting on the CPU promote what it promotes on CUDA, inside the context and in the whole process."""
    with warnings.catch_warnings(), torch.library._scoped_library("aten", "IMPL") as library:
        warnings.simplefilter("ignore")  # of kernels that are replaced
        for name in PROMOTED:
            packet = getattr(torch.ops.aten, name)
            for overload in packet.overloads():
                if "out" not in overload and "dimname" not in overload:
                    operation = getattr(packet, overload)
                    library.impl(operation, _in_single(operation), "AutocastCPU")
        yield


def _in_single(operation: Callable[..., Any]) -> Callable[..., Any]:
    """Return an operation whose tensors of 16 bits are converted to 32 first."""

    def single(value: Any) -> Any:
        return value.float() if isinstance(value, Tensor) and value.dtype in HALVES else value

    def kernel(*values: Any, **named: Any) -> Any:
        key = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)
        with torch._C._ExcludeDispatchKeyGuard(key):
            return operation(*map(single, values), **{name: single(value) for name, value in named.items()})

    return kernel
