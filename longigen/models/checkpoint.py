"""Check that weights fit a configuration before memory is spent on them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from longigen.errors import LongigenError
from longigen.hub.manifest import CONFIG, WEIGHTS
from longigen.hub.safetensors_header import Layout, number_count, read_header
from longigen.utils.files import reason

if TYPE_CHECKING:
    from torch import Tensor, nn

M = TypeVar("M", bound="nn.Module")

SPARE_TENSORS, SPARE_NUMBERS = 10_000, 2**26
"""What a network may register while it is made, and may hold in tables, beyond what its weights explain."""


def compose_checked(compose: Callable[[], M], folder: Path) -> M:
    """Compose the model of a configuration, once it is known that the weights beside it fit.

    It is composed twice: first without memory (on torch's ``meta`` device), to compare every tensor with the header of
    the weights, and to give up as soon as it grows beyond what they could be of; then for good.

    Args:
        compose: makes the model.
        folder: with the weights.

    Raises:
        LongigenError: if there are no weights, they are damaged or are of another configuration, or `compose` refuses
            the configuration; the message names the file.
    """
    import torch

    path = folder / WEIGHTS
    if not path.exists():
        raise LongigenError(f"{folder} has a {CONFIG} but no {WEIGHTS}; copy the whole model folder.")
    header = read_header(path)
    try:
        with torch.device("meta"), _bounded(4 * len(header) + SPARE_TENSORS, path):
            outline = compose()
    except LongigenError as error:
        if str(folder) in str(error):
            raise
        raise LongigenError(f"{folder / CONFIG}: {error}") from error
    except (RuntimeError, TypeError, ValueError, OverflowError, MemoryError, ZeroDivisionError) as error:
        raise LongigenError(
            f"{folder / CONFIG} asks for networks that cannot be made ({reason(error)}); it is damaged, or of another "
            "version of their package."
        ) from error
    _require_fitting(outline.state_dict(), header, path)
    numbers = sum(tensor.numel() for tensor in [*outline.parameters(), *outline.buffers()])
    if numbers > number_count(header) + SPARE_NUMBERS:
        raise LongigenError(
            f"{folder / CONFIG} asks for {numbers:,} numbers beside which {WEIGHTS} is too small; it is damaged or was "
            "made to fill the memory, so take another copy of the model."
        )
    return compose()


def _require_fitting(wanted: Mapping[str, "Tensor"], given: Mapping[str, Layout], path: Path) -> None:
    """Refuse weights whose names, shapes or kinds of number are not those of the model."""
    missing = [name for name in wanted if name not in given]
    spare = [name for name in given if name not in wanted]
    other = [name for name in wanted if name in given and tuple(wanted[name].shape) != given[name].shape]
    kinds = [
        name
        for name in wanted
        if name in given and wanted[name].is_floating_point() != given[name].dtype.endswith(("F64", "F32", "F16"))
    ]
    told = []
    if missing:
        told.append(f"it lacks {len(missing)} of {len(wanted)} tensors, such as '{missing[0]}'")
    if spare:
        told.append(f"it has {len(spare)} that the model has not, such as '{spare[0]}'")
    if other:
        name = other[0]
        told.append(
            f"{len(other)} have another shape, such as '{name}', {given[name]} there and "
            f"{Layout('', tuple(wanted[name].shape))} by the configuration"
        )
    if kinds:
        told.append(f"{len(kinds)} hold another kind of number, such as '{kinds[0]}', {given[kinds[0]].dtype} there")
    if told:
        raise LongigenError(
            f"{path} does not fit the {CONFIG} beside it: {'; '.join(told)}. Take both from one model; they may be of "
            "two versions."
        )


@contextmanager
def _bounded(most: int, path: Path) -> Iterator[None]:
    """Give up on networks made within that register more than `most` tensors: they would never fit the weights."""
    from torch.nn.modules.module import register_module_parameter_registration_hook

    count = 0

    def registered(module: "nn.Module", name: str, parameter: Any) -> None:
        nonlocal count
        count += 1
        if count > most:
            raise LongigenError(
                f"{path} does not fit the {CONFIG} beside it, which asks for many times as many tensors; take both "
                "from one model."
            )

    handle = register_module_parameter_registration_hook(registered)
    try:
        yield
    finally:
        handle.remove()
