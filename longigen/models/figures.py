"""Figures of generated visits beside the true ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from longigen.models.predict import Generated
from longigen.utils.files import atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_GIVEN = 4


@dataclass(frozen=True)
class StripRow:
    """One row of a strip: the given visits, then a generated and the true image (C, W, H, D), with their times."""

    label: str
    given: Sequence[tuple[float, Tensor]]
    generated: Tensor
    true: Tensor
    time: float


def row_of(generated: Generated) -> StripRow:
    """Return the row of the last generated visit."""
    subject, time = generated.prepared.subject, generated.times[-1]
    given = [i for i in generated.task.given if subject.times[i] < time]
    images = [(subject.times[i], generated.prepared.visit(i)) for i in given]
    return StripRow(subject.id, images, generated.images[-1], generated.true(len(generated.times) - 1), time)


def write_strip(generated: Generated | Sequence[Generated], path: Path, *, title: str) -> None:
    """Write a PNG: for each subject a row of given visits, generated, true, and what copy-last and the model miss.

    All images share one grey scale, [-1, 1]; the two differences from the true image share one scale too. Shown is the
    slice across the axis with the fewest voxels on which the true change is largest.
    """
    from matplotlib.figure import Figure

    rows = [row_of(item) for item in ([generated] if isinstance(generated, Generated) else generated)]
    shown = min(MAX_GIVEN, max(len(row.given) for row in rows))
    columns = shown + 4
    width, height = 1.7 * columns, 1.95 * len(rows) + 0.5
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, fontsize=9)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        _, previous = row.given[-1]
        cut = Slice.through(previous, row.true)
        given = list(row.given)[-shown:]
        panels = [(f"given t={time:g}", image) for time, image in given]
        for axis in line:
            axis.set_axis_off()
        for axis, (name, image) in zip(line[shown - len(given) :], panels, strict=False):
            draw_grey(axis, cut(image), name)
        draw_grey(line[shown], cut(row.generated), f"generated t={row.time:g}")
        draw_grey(line[shown + 1], cut(row.true), f"true t={row.time:g}")
        limit = max(0.05, float(np.percentile(np.abs(cut(row.true - previous)), 99.5)))
        draw_difference(line[shown + 2], cut(row.true - previous), f"true - last (±{limit:.2f})", limit)
        draw_difference(line[shown + 3], cut(row.true - row.generated), "true - generated", limit)
        line[0].text(0, 1.18, row.label, transform=line[0].transAxes, fontsize=8)
    with atomic(path) as part:
        figure.savefig(part, dpi=110)


def write_comparison(generated: Mapping[str, Sequence[Generated]], path: Path, *, title: str) -> None:
    """Write a PNG: for each subject the true visit, the last given one and each method's, over their errors.

    Args:
        generated: by method, for the same tasks in the same order. Copy-last is drawn from the given visits.
        path: of the picture.
        title: of the picture.
    """
    from matplotlib.figure import Figure

    tasks = next(iter(generated.values()))
    figure = Figure(figsize=(1.7 * (len(generated) + 2), 3.7 * len(tasks) + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=9)
    axes = figure.subplots(2 * len(tasks), len(generated) + 2, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for place, first in enumerate(tasks):
        images, errors = axes[2 * place], axes[2 * place + 1]
        row = row_of(first)
        last, previous = row.given[-1]
        cut = Slice.through(previous, row.true)
        limit = max(0.05, float(np.percentile(np.abs(cut(row.true - previous)), 99.5)))
        draw_grey(images[0], cut(row.true), f"true t={row.time:g}")
        errors[0].text(0, 0.5, f"{row.label}\ntrue - made\n±{limit:.2f}", transform=errors[0].transAxes, fontsize=8)
        draw_grey(images[1], cut(previous), f"copy-last t={last:g}")
        draw_difference(errors[1], cut(row.true - previous), "", limit)
        for column, (method, own) in enumerate(generated.items(), start=2):
            made = own[place].images[-1]
            draw_grey(images[column], cut(made), method)
            draw_difference(errors[column], cut(row.true - made), "", limit)
    with atomic(path) as part:
        figure.savefig(part, dpi=110)


def forecast_figure(
    given: Sequence[tuple[float, Tensor]],
    generated: Sequence[tuple[float, np.ndarray]],
    std: np.ndarray | None,
    *,
    title: str,
) -> "Figure":
    """Draw given visits and generated ones, the latter over their change from the last given visit before them.

    Args:
        given: times and images (C, W, H, D) in [-1, 1], ascending.
        generated: times and images, the mean of samples.
        std: their standard deviation over samples (T, C, W, H, D); None where there is one sample.
        title: above the figure.
    """
    import matplotlib.pyplot as plt  # a notebook shows a figure only once this is imported

    shown = list(given)[-MAX_GIVEN:]
    made = [(time, torch.from_numpy(np.ascontiguousarray(image))) for time, image in generated]
    columns, rows = len(shown) + len(made), 2 if std is None else 3
    figure = plt.figure(figsize=(1.7 * columns + 0.5, 1.95 * rows + 0.5), layout="constrained")
    plt.close(figure)  # and shows it twice where it stays open
    figure.suptitle(title, fontsize=9)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    previous = [max((visit for visit in given if visit[0] < time), key=lambda visit: visit[0])[1] for time, _ in made]
    cut = Slice.through(previous[-1], made[-1][1])
    changes = [image - last for (_, image), last in zip(made, previous, strict=True)]
    limit = max(0.05, *(float(np.percentile(np.abs(cut(change)), 99.5)) for change in changes))
    for axis, (time, image) in zip(axes[0], shown, strict=False):
        draw_grey(axis, cut(image), f"given t={time:g}")
    for place, (time, image) in enumerate(made):
        column = len(shown) + place
        draw_grey(axes[0, column], cut(image), f"generated t={time:g}")
        draw_difference(axes[1, column], cut(changes[place]), f"change (±{limit:.2f})", limit)
        if std is not None:
            spread = cut(torch.from_numpy(np.ascontiguousarray(std[place])))
            axes[2, column].imshow(spread, cmap="magma", vmin=0, vmax=limit, interpolation="nearest")
            axes[2, column].set_title(f"std (0 to {limit:.2f})", fontsize=7)
    return figure


class Slice:
    """A slice through a volume, turned as a radiologist expects: up is anterior or superior."""

    def __init__(self, axis: int, index: int) -> None:
        self.axis = axis
        self.index = index

    @classmethod
    def through(cls, previous: Tensor, true: Tensor) -> "Slice":
        axis = int(np.argmin(previous.shape[1:])) if len(set(previous.shape[1:])) > 1 else 2
        # An axial slice where two axes are equally short, as in brains.
        axis = 2 if previous.shape[3] == previous.shape[1 + axis] else axis
        change = (true - previous).abs().sum(dim=0).numpy()
        others = tuple(a for a in range(3) if a != axis)
        return cls(axis, int(np.argmax(change.sum(axis=others))))

    def __call__(self, volume: Tensor) -> np.ndarray:
        return np.rot90(np.take(volume[0].numpy(), self.index, axis=self.axis))


def draw_grey(axis: object, image: np.ndarray, name: str) -> None:
    axis.imshow(image, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")  # type: ignore[attr-defined]
    axis.set_title(name, fontsize=7)  # type: ignore[attr-defined]


def draw_difference(axis: object, image: np.ndarray, name: str, limit: float) -> None:
    axis.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")  # type: ignore[attr-defined]
    axis.set_title(name, fontsize=7)  # type: ignore[attr-defined]
