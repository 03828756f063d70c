"""The header of a safetensors file: which tensors it holds, known before one is read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from longigen.errors import LongigenError
from longigen.utils.files import reason

MAX_HEADER = 100 * 2**20
"""A longer header is refused, as safetensors itself does."""
WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
"""The types of numbers that a model of ours may hold, and their bytes."""


@dataclass(frozen=True)
class Layout:
    """A tensor as the header has it: its type and its shape."""

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return " × ".join(map(str, self.shape)) or "a single number"


def read_header(path: Path) -> dict[str, Layout]:
    """Return the tensors of a safetensors file by name; none of them is read.

    Raises:
        LongigenError: if the file is cut short, is no safetensors file, or holds types that no model of ours does.
    """
    again = "copy or pull it again"
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, MAX_HEADER):
                kind = "is cut short" if size >= 8 and length <= MAX_HEADER else "is no safetensors file"
                raise LongigenError(f"{path} {kind} ({size} bytes); {again}.")
            header = json.loads(file.read(length))
    except (OSError, ValueError) as error:
        raise LongigenError(f"{path} is damaged ({reason(error)}); {again}.") from None
    found, end = {}, 0
    try:
        for name, tensor in header.items():
            if name == "__metadata__":
                continue
            layout = Layout(tensor["dtype"], tuple(tensor["shape"]))
            first, last = tensor["data_offsets"]
            count = 1
            for extent in layout.shape:
                if not isinstance(extent, int) or extent < 0:
                    raise ValueError(f"'{name}' has the shape {layout}")
                count *= extent
            if layout.dtype not in WIDTHS:
                raise ValueError(f"'{name}' is of the type {layout.dtype}")
            if last - first != count * WIDTHS[layout.dtype]:
                raise ValueError(f"'{name}' of {last - first} bytes cannot be {layout} of {layout.dtype}")
            found[name], end = layout, max(end, last)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LongigenError(f"{path} has a header that cannot be right ({reason(error)}); {again}.") from None
    whole = 8 + length + end
    if size != whole:
        kind = "cut short" if size < whole else "too long"
        raise LongigenError(f"{path} is {kind}: it has {size} bytes and by its header {whole}; {again}.")
    return found


def number_count(layouts: Mapping[str, Layout]) -> int:
    """Return how many numbers there are in all tensors together."""
    total = 0
    for layout in layouts.values():
        count = 1
        for extent in layout.shape:
            count *= extent
        total += count
    return total
