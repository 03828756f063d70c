"""How data are prepared: which mask, which correction of the bias field, which voxels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from longigen.components.base import Parameter
from longigen.components.ranges import Range
from longigen.errors import LongigenError

MaskChoice = Literal["auto", "given", "synthstrip", "hd-bet", "nonzero", "none"]
"""Where masks come from, as a user says it."""

MaskMethod = Literal["given", "synthstrip", "hd-bet", "nonzero", "none"]
"""Where masks come from, decided."""

BiasChoice = Literal["n4", "none"]

Millimetres = Annotated[float, Range(0.05, 100)]

BRAIN: tuple[MaskMethod, ...] = ("given", "synthstrip", "hd-bet")
"""The methods whose masks are of the brain."""

METHODS: dict[MaskMethod, str] = {
    "given": "brain masks that come with the images",
    "synthstrip": "brain masks of SynthStrip (mri_synthstrip)",
    "hd-bet": "brain masks of HD-BET (hd-bet)",
    "nonzero": "voxels other than 0",
    "none": "none",
}
"""What each mask is, in words."""


@dataclass(frozen=True)
class PrepareSettings:
    """The settings of a prepared folder, which are the same for all of its subjects.

    Attributes:
        mask: where masks come from.
        bias: how each visit's bias field is corrected.
        spacing: size of the voxels in mm, along the axes of RAS.
    """

    mask: MaskMethod
    bias: BiasChoice
    spacing: tuple[float, float, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"mask": self.mask, "bias": self.bias, "spacing": list(self.spacing)}

    def __str__(self) -> str:
        """Return the settings as options of the command line."""
        return f"--mask {self.mask} --bias {self.bias} --spacing {','.join(f'{size:g}' for size in self.spacing)}"


def spacing_of(values: float | str | Sequence[float]) -> tuple[float, float, float]:
    """Return the size of voxels along three axes of what a user gave: one number, three, or text such as ``1,1,3``.

    Raises:
        LongigenError: if it is not one or three numbers from 0.05 to 100.
    """
    parts: list[Any] = [values] if isinstance(values, int | float) else [*values]
    parts = values.split(",") if isinstance(values, str) else parts
    if len(parts) not in (1, 3):
        raise LongigenError(f"spacing is the size of a voxel in mm, one number or three such as 1,1,3; got {values!r}.")
    checked = [Parameter("spacing", Millimetres).check(part) for part in parts]
    first, second, third = checked * 3 if len(checked) == 1 else checked
    return first, second, third
