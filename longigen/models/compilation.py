"""Compiled networks: `torch.compile` of a model's conditioner and denoiser, for as long as a context lasts."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields, is_dataclass
from functools import cache, partial
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from longigen.components.denoiser import Denoiser
from longigen.components.visit_sequence import VisitSequence
from longigen.errors import LongigenError
from longigen.utils.files import reason

Compile = Literal["none", "regional", "full"]
"""``full`` compiles each of a model's two networks as a whole, ``regional`` the blocks that repeat in them, which
compile once for all blocks of one shape and so in less time; ``none`` computes as it is written."""

BACKEND = "inductor"
"""The backend of `torch.compile`."""

RECOMPILE_LIMIT = 64
"""Graphs of one function. By PyTorch's own limit, 8, the shapes of a U-Net's blocks in training and generation would be
too many, and the rest would not be compiled."""


@contextmanager
def compiled(networks: Sequence[nn.Module], kind: Compile) -> Iterator[None]:
    """Compute with compiled networks inside the context; the names of their weights stay as they are.

    What is compiled is kept for the life of the process, so a context that is entered again compiles nothing again. The
    sizes of a batch and of a history may change without compiling again, those of volumes may not. (With ``regional``,
    blocks that see the visits are compiled a second time when the number of visits changes for the first time.)

    Args:
        networks: a model's conditioner and denoiser.
        kind: what is compiled.

    Raises:
        LongigenError: when a network is used that cannot be compiled on this machine.
    """
    with ExitStack() as stack:
        if kind != "none":
            _configure(stack)
        for network in networks:
            for module in regions(network, kind):
                stack.enter_context(_replaced(module, "forward"))
                if kind == "full" and isinstance(module, Denoiser) and module.moves:  # generation calls `moved`
                    stack.enter_context(_replaced(module, "moved"))
        yield


def _configure(stack: ExitStack) -> None:
    """Set what PyTorch's compiler has no argument for, until the stack is closed."""
    from torch._dynamo import config  # slow to import
    from torch.fx.experimental import _config

    shapes: Any = _config  # its functions are added when it is imported
    limit = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"  # before torch 2.6
    stack.enter_context(config.patch({limit: RECOMPILE_LIMIT}))
    if hasattr(shapes, "backed_size_oblivious"):  # before torch 2.7 a size of 1 has a graph of its own
        stack.enter_context(shapes.patch(backed_size_oblivious=True))


def regions(network: nn.Module, kind: Compile) -> list[nn.Module]:
    """Return the modules of a network that are compiled, none of which is part of another."""
    if kind == "none":
        return []
    return [network] if kind == "full" else list(_repeated(network))


def _repeated(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the outermost elements of module lists that are no lists themselves."""
    for child in module.children():
        if isinstance(module, nn.ModuleList) and not isinstance(child, nn.ModuleList):
            yield child
        else:
            yield from _repeated(child)


@cache
def _compiled(function: Any, backend: str) -> Any:
    """Return a compiled function; there is one of each, which keeps the graphs of all modules of a class."""
    return torch.compile(function, backend=backend)


@contextmanager
def _replaced(module: nn.Module, name: str) -> Iterator[None]:
    """Let the instance's method be the compiled one of its class."""
    from torch._dynamo.exc import BackendCompilerFailed  # slow to import

    function = partial(_compiled(getattr(type(module), name), BACKEND), module)

    def call(*inputs: Any) -> Any:
        if not torch.compiler.is_compiling():
            inputs = tuple(_as_first_laid_out(module, place, value) for place, value in enumerate(inputs))
            _mark_dynamic(inputs)
        try:
            return function(*inputs)
        except BackendCompilerFailed as error:
            raise LongigenError(
                f"PyTorch cannot compile the networks on this machine ({reason(error.inner_exception)}); "
                "use compile=none."
            ) from error

    before = vars(module).get(name)
    vars(module)[name] = call
    try:
        yield
    finally:
        if before is None:
            del vars(module)[name]
        else:
            vars(module)[name] = before


_strides: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], tuple[int, ...]]] = WeakKeyDictionary()
"""Of each compiled module, the strides of its inputs at the first call, by their place and size but for the batch."""


def _as_first_laid_out(module: nn.Module, place: int, value: Any) -> Any:
    """Return an input with the layout in memory that an input of its size had at the module's first call.

    A graph is for one layout, and PyTorch chooses that of a convolution's output by the size of the batch: on a CPU a
    batch of one has another than those of two and more.
    """
    if not isinstance(value, Tensor) or value.ndim < 2:
        return value
    size, strides = value.shape[1:], value.stride()[1:]
    if sum((axis - 1) * stride for axis, stride in zip(size, strides, strict=True)) + 1 != size.numel():
        return value  # not dense in memory, such as an expanded one
    first = _strides.setdefault(module, {}).setdefault((place, *size), strides)
    if first == strides:
        return value
    return torch.empty_strided(value.shape, (size.numel(), *first), dtype=value.dtype, device=value.device).copy_(value)


def _mark_dynamic(value: Any, axes: tuple[int, ...] = (0,)) -> None:
    """Mark the axes of tensors, in whatever they are held, whose sizes change from call to call.

    They are the batch, and the visits of a history.
    """
    if isinstance(value, Tensor):
        from torch._dynamo import maybe_mark_dynamic  # slow to import

        for axis in axes[: value.ndim]:
            maybe_mark_dynamic(value, axis)
    elif is_dataclass(value):
        inner = (0, 1) if isinstance(value, VisitSequence) else axes
        for each in fields(value):
            _mark_dynamic(getattr(value, each.name), inner)
    elif isinstance(value, Mapping):
        for each in value.values():
            _mark_dynamic(each, axes)
    elif isinstance(value, tuple | list):
        for each in value:
            _mark_dynamic(each, axes)
