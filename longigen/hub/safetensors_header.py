"""Read and validate the header of a safetensors file: names, types and shapes of its tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from longigen.errors import LongigenError
from longigen.utils.files import parse_json, reason, regular_size

MAX_HEADER_BYTES = 2**22
"""A longer header is refused; it has some 150 bytes per tensor."""
MAX_AXES = 16
MAX_INTEGER = 2**63
TYPE_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
"""The number types that a longigen model may have, and their size in bytes."""


@dataclass(frozen=True)
class Layout:
    """The type and shape of a tensor in the header."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def floating_point(self) -> bool:
        """Whether the numbers are real, and not whole or truth values."""
        return self.dtype.endswith(("F64", "F32", "F16"))

    def __str__(self) -> str:
        return " × ".join(map(str, self.shape)) or "a single number"


def read_header(path: Path) -> dict[str, Layout]:
    """Return type and shape of the tensors of a safetensors file by name, without reading the tensors.

    Raises:
        LongigenError: if the file is truncated, is not a safetensors file, or has tensors of an unsupported type.
    """
    advice = "copy or pull it again"
    try:
        size = regular_size(path)
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
                truncated = size >= 8 and length <= MAX_HEADER_BYTES
                problem = "is truncated" if truncated else "is not a safetensors file"
                raise LongigenError(f"{path} {problem} ({size} bytes); {advice}.")
            header = parse_json(file.read(length).decode())
    except (OSError, ValueError) as error:
        raise LongigenError(f"{path} is damaged ({reason(error)}); {advice}.") from None
    layouts, end = {}, 0
    try:
        for name, tensor in header.items():
            if name == "__metadata__":
                continue
            layout = Layout(tensor["dtype"], tuple(tensor["shape"]))
            first, last = tensor["data_offsets"]
            numbers = (*layout.shape, first, last)
            if len(numbers) > MAX_AXES + 2 or any(abs(number) > MAX_INTEGER for number in numbers):
                raise ValueError(f"'{name[:99]}' has more axes or larger numbers than any tensor")
            count = 1
            for extent in layout.shape:
                if not isinstance(extent, int) or extent < 0:
                    raise ValueError(f"'{name}' has the shape {layout}")
                count *= extent
            if layout.dtype not in TYPE_BYTES:
                raise ValueError(f"'{name}' has the unsupported type {layout.dtype}")
            if last - first != count * TYPE_BYTES[layout.dtype]:
                raise ValueError(f"'{name}' has {last - first} bytes, which do not match {layout} of {layout.dtype}")
            layouts[name], end = layout, max(end, last)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LongigenError(f"{path} has an invalid header ({reason(error)}); {advice}.") from None
    expected = 8 + length + end
    if size != expected:
        kind = "truncated" if size < expected else "too long"
        raise LongigenError(f"{path} is {kind}: it has {size} bytes, where its header requires {expected}; {advice}.")
    return layouts


def number_count(layouts: Mapping[str, Layout]) -> int:
    """Return the number of elements in all tensors together."""
    total = 0
    for layout in layouts.values():
        count = 1
        for extent in layout.shape:
            count *= extent
        total += count
    return total
