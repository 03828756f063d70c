"""Check that saved weights fit a model's configuration before memory is allocated."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from longigen.errors import LongigenError
from longigen.hub.manifest import CONFIG, DESCRIPTIONS, WEIGHTS
from longigen.hub.safetensors_header import Layout, number_count, read_header
from longigen.utils.files import reason

if TYPE_CHECKING:
    from torch import Tensor, nn

M = TypeVar("M", bound="nn.Module")

EXTRA_TENSORS, EXTRA_NUMBERS = 10_000, 2**26
"""How many tensors and numbers (in buffers) a network may have beyond those in its weights file."""


def compose_checked(compose: Callable[[], M], folder: Path, described: str = CONFIG) -> M:
    """Compose the model or the segmenter of a configuration, after checking that the weights in its folder fit.

    The model is composed twice: first on torch's ``meta`` device, which allocates no memory, to compare the shape of
    every tensor with the header of the weights file; this stops early if the model has far more tensors than the
    file. Then it is composed in memory.

    Args:
        compose: function that composes the model.
        folder: the model's folder, with its configuration and weights.
        described: name of the file with the configuration.

    Raises:
        LongigenError: if there are no weights, they are damaged, or they belong to another configuration, or `compose`
            refuses the configuration; the message names the file.
    """
    import torch

    path = folder / WEIGHTS
    if not path.exists():
        raise LongigenError(
            f"{folder} has a {described} but no {WEIGHTS}; copy the whole {DESCRIPTIONS[described]} folder."
        )
    header = read_header(path)
    try:
        with torch.device("meta"), _limit_tensors(4 * len(header) + EXTRA_TENSORS, path, described):
            outline = compose()
    except LongigenError as error:
        if str(folder) in str(error):
            raise
        raise LongigenError(f"{folder / described}: {error}") from error
    except (RuntimeError, TypeError, ValueError, OverflowError, MemoryError, ZeroDivisionError) as error:
        raise LongigenError(
            f"{folder / described} describes networks that cannot be composed ({reason(error)}); the file is damaged, "
            "or was written by another version of their package."
        ) from error
    _require_fitting(outline.state_dict(), header, path, described)
    numbers = sum(tensor.numel() for tensor in [*outline.parameters(), *outline.buffers()])
    if numbers > number_count(header) + EXTRA_NUMBERS:
        raise LongigenError(
            f"{folder / described} describes networks with {numbers:,} numbers, far more than {WEIGHTS} holds; the "
            "file is damaged or was written to exhaust the memory, so get another copy of the model."
        )
    return compose()


def _require_fitting(model: Mapping[str, "Tensor"], saved: Mapping[str, Layout], path: Path, described: str) -> None:
    """Raise a `LongigenError` if the names, shapes or types of saved tensors differ from those of the model."""
    missing = [name for name in model if name not in saved]
    unexpected = [name for name in saved if name not in model]
    reshaped = [name for name in model if name in saved and tuple(model[name].shape) != saved[name].shape]
    retyped = [
        name for name in model if name in saved and model[name].is_floating_point() != saved[name].floating_point
    ]
    problems = []
    if missing:
        problems.append(f"it lacks {len(missing)} of {len(model)} tensors, such as '{missing[0]}'")
    if unexpected:
        problems.append(f"it has {len(unexpected)} tensors that the model does not have, such as '{unexpected[0]}'")
    if reshaped:
        name = reshaped[0]
        problems.append(
            f"{len(reshaped)} tensors have another shape, such as '{name}', which is {saved[name]} in the file and "
            f"{Layout('', tuple(model[name].shape))} in the model"
        )
    if retyped:
        name = retyped[0]
        problems.append(f"{len(retyped)} tensors have another type, such as '{name}', {saved[name].dtype} in the file")
    if problems:
        raise LongigenError(
            f"{path} does not fit the {described} beside it: {'; '.join(problems)}. Copy both files from the same "
            "version of the model."
        )


@contextmanager
def _limit_tensors(limit: int, path: Path, described: str) -> Iterator[None]:
    """Raise a `LongigenError` as soon as networks composed in this context have more than `limit` tensors."""
    from torch.nn.modules.module import register_module_parameter_registration_hook

    count = 0

    def count_tensor(module: "nn.Module", name: str, parameter: Any) -> None:
        nonlocal count
        count += 1
        if count > limit:
            raise LongigenError(
                f"{path} does not fit the {described} beside it, which describes many times as many tensors; copy both "
                "files from the same version of the model."
            )

    handle = register_module_parameter_registration_hook(count_tensor)
    try:
        yield
    finally:
        handle.remove()
