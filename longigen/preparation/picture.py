"""A picture of a subject before and after: its visits side by side in three planes, and their differences."""

from pathlib import Path

import numpy as np
import torch

from longigen.data.volume import Volume
from longigen.models.figures import MAX_GIVEN, Slice, draw_difference, draw_grey
from longigen.preparation.subject import PreparedSubject
from longigen.utils.files import atomic
from longigen.utils.time_units import time_text

PLANES = ((2, "axial"), (1, "coronal"), (0, "sagittal"))
"""The axis that each plane is perpendicular to, and its name."""


def write_picture(prepared: PreparedSubject, path: Path, time_unit: str) -> None:
    """Write a PNG with a row for each plane before, then after: the visits, and what each differs by from the first.

    Before, the given images lie where their headers place them. All images share one grey scale, and all differences
    one colour scale. The slices go through the middle of what is kept. Of more than four visits the first and the last
    three are drawn.

    Args:
        prepared: the subject.
        path: path of the PNG file.
        time_unit: unit of the times in the titles.
    """
    from matplotlib.figure import Figure

    visits = (
        prepared.visits
        if len(prepared.visits) <= MAX_GIVEN
        else (prepared.visits[0], *prepared.visits[1 - MAX_GIVEN :])
    )
    inside = prepared.mask.data > 0 if prepared.mask is not None else visits[0].image.data != 0
    middle = [int(np.median(where)) for where in np.nonzero(inside)]
    shown = np.concatenate([visit.image.data[inside] for visit in visits])
    low, high = min(0.0, float(shown.min())), float(np.percentile(shown, 99.5))

    def scaled(volume: Volume) -> torch.Tensor:
        return torch.from_numpy(2 * (volume.data - low) / max(high - low, 1e-12) - 1)[None]

    stages = {
        "before": [scaled(visit.before) for visit in visits],
        "after": [scaled(visit.image) for visit in visits],
    }
    changes = {name: [image - images[0] for image in images[1:]] for name, images in stages.items()}
    cuts = {name: Slice(axis, middle[axis]) for axis, name in PLANES}
    kept = torch.from_numpy(inside)
    limits = [float(np.percentile(np.abs(change[0][kept]), 99)) for change in changes["before"]]
    limit = max(0.1, *limits) if limits else 0.1
    columns, rows = 2 * len(visits) - 1, 2 * len(PLANES)
    figure = Figure(figsize=(1.9 * columns + 0.4, 1.9 * rows + 0.5), layout="constrained")
    figure.suptitle(f"{prepared.subject.id}: visits as given (above) and prepared (below)", fontsize=9)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for row, (stage, plane) in enumerate((stage, name) for stage in stages for _, name in PLANES):
        cut = cuts[plane]
        for column, (visit, image) in enumerate(zip(visits, stages[stage], strict=True)):
            draw_grey(axes[row, column], cut(image), f"{stage}, {time_text(visit.visit.time)} {time_unit}")
        for column, (visit, change) in enumerate(zip(visits[1:], changes[stage], strict=True), start=len(visits)):
            first, last = time_text(visits[0].visit.time), time_text(visit.visit.time)
            draw_difference(axes[row, column], cut(change), f"{last} - {first} (±{limit:.2f})", limit)
    with atomic(path) as part:
        figure.savefig(part, dpi=100)
