"""`LabelStats`: what the doctor keeps of a visit's true label map."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from nibabel.affines import apply_affine

from longigen.data.dataset import Visit
from longigen.data.grid import to_canonical
from longigen.data.issues import BadData, Finding
from longigen.data.volume import Volume, format_shape

MAX_SHIFT = 0.1
"""How far a corner of a label map may lie from that of its image, in voxels: headers are rounded."""


@dataclass(frozen=True)
class LabelStats:
    """What is known of a visit's label map after reading it.

    Attributes:
        source: name of the label map in messages.
        problem: why it cannot be used; None if it can.
        grid: how its grid differs from the image's, worded to follow the source; None if it does not, or is not known.
        empty: the regions of which it has no voxel.
    """

    source: str
    problem: Finding | None = None
    grid: str | None = None
    empty: tuple[str, ...] = ()

    @classmethod
    def of(cls, visit: Visit, subject: str, image: Volume | None, regions: Mapping[int, str]) -> Self | None:
        """Read the label map of a visit; None if it has none.

        Args:
            visit: the visit.
            subject: id of the subject, for messages.
            image: the visit's volume; None if it cannot be read.
            regions: the name of the region that each label stands for.
        """
        source = f"The label map of {visit.source}"
        try:
            labels = visit.read_labels(subject)
        except BadData as error:
            return cls(source, replace(error.finding, severity="warning"))
        if labels is None:
            return None
        present = {int(label) for label in np.unique(labels.data)}
        shown = {name for label, name in regions.items() if label in present}
        empty = tuple(name for name in dict.fromkeys(regions.values()) if name not in shown)
        return cls(source, grid=None if image is None else _difference(labels, image), empty=empty)


def _difference(labels: Volume, image: Volume) -> str | None:
    """Return how the grid of a label map differs from its image's, whatever the order of their axes; None if not."""
    labels, image = to_canonical(labels), to_canonical(image)
    if labels.data.shape != image.data.shape:
        return f"has {format_shape(labels.data.shape)} voxels, where the image has {format_shape(image.data.shape)}"
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(image.data.shape) - 1)
    there = apply_affine(labels.affine, corners)
    shift = np.abs(apply_affine(np.linalg.inv(image.affine), there) - corners).max()
    if shift <= MAX_SHIFT:
        return None
    distance = float(np.linalg.norm(there - apply_affine(image.affine, corners), axis=1).max())
    return f"has another affine than the image, by which its corners lie up to {distance:.3g} mm from the image's"
