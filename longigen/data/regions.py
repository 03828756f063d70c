"""Regions of label maps: their names by label, and their masks."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from longigen.data.volume import Volume
from longigen.errors import LongigenError


def parse_regions(texts: Sequence[str], option: str = "regions") -> dict[int, str]:
    """Return the name of the region that each label stands for.

    Args:
        texts: one text for each region, as a user writes it: ``left ventricle=3``, or ``ventricles=4+11+49`` for a
            region of several labels.
        option: what the user set, for the message.

    Raises:
        LongigenError: if a text is not of that form, or a label has two names.
    """
    regions: dict[int, str] = {}
    for text in texts:
        name, equals, numbers = text.rpartition("=")
        labels = [number.strip() for number in numbers.split("+")]
        if not equals or not name.strip() or not all(label.isdecimal() and int(label) for label in labels):
            raise LongigenError(
                f"{option} takes NAME=LABELS, such as 'left ventricle=3' or 'ventricles=4+11', got '{text}'."
            )
        for label in map(int, labels):
            if regions.setdefault(label, name.strip()) != name.strip():
                raise LongigenError(f"{option} names label {label} twice: {regions[label]} and {name.strip()}.")
    return regions


def region_mask(labels: Volume, regions: Mapping[int, str], name: str) -> Tensor:
    """Return where a label map has a region (W, H, D), bool.

    Args:
        labels: the label map.
        regions: the name of the region that each label stands for.
        name: the region.
    """
    chosen = [label for label, region in regions.items() if region == name]
    return torch.from_numpy(np.isin(labels.data, chosen))
