"""Figures of given, generated and true visits and their differences."""

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
"""The largest number of given visits in a figure; the last ones are shown."""


@dataclass(frozen=True)
class StripRow:
    """One row of a strip: the images (C, W, H, D) of the given visits, a generated visit and the true one."""

    label: str
    given: Sequence[tuple[float, Tensor]]
    generated: Tensor
    true: Tensor
    time: float


def row_of(generated: Generated) -> StripRow:
    """Return the strip row of the last generated visit of a task."""
    subject, time = generated.prepared.subject, generated.times[-1]
    given = [i for i in generated.task.given if subject.times[i] < time]
    images = [(subject.times[i], generated.prepared.visit(i)) for i in given]
    label = f"{subject.id} {subject.channel}".rstrip()
    return StripRow(label, images, generated.images[-1], generated.true(len(generated.times) - 1), time)


def write_strip(generated: Generated | Sequence[Generated], path: Path, *, title: str) -> None:
    """Write a PNG with one row per subject and channel: given visits, generated visit, true visit, and the two errors.

    The errors are those of copy-last and of the model. All images share one grey scale, [-1, 1], and the two errors
    share one colour scale. The slice is perpendicular to the axis with the fewest voxels, where the true change is
    largest.
    """
    from matplotlib.figure import Figure

    items = [generated] if isinstance(generated, Generated) else generated
    rows = [row_of(part) for item in items for part in item.by_channel(with_true=True)]
    if not rows:  # the true visits lack the channels that were given
        return
    given_columns = min(MAX_GIVEN, max(len(row.given) for row in rows))
    columns = given_columns + 4
    width, height = 1.7 * columns, 1.95 * len(rows) + 0.5
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, fontsize=9)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        _, previous = row.given[-1]
        cut = Slice.through(previous, row.true)
        given = list(row.given)[-given_columns:]
        panels = [(f"given t={time:g}", image) for time, image in given]
        for axis in line:
            axis.set_axis_off()
        for axis, (name, image) in zip(line[given_columns - len(given) :], panels, strict=False):
            draw_grey(axis, cut(image), name)
        rest = line[given_columns:]
        draw_grey(rest[0], cut(row.generated), f"generated t={row.time:g}")
        draw_grey(rest[1], cut(row.true), f"true t={row.time:g}")
        limit = max(0.05, float(np.percentile(np.abs(cut(row.true - previous)), 99.5)))
        draw_difference(rest[2], cut(row.true - previous), f"true - last (±{limit:.2f})", limit)
        draw_difference(rest[3], cut(row.true - row.generated), "true - generated", limit)
        line[0].text(0, 1.18, row.label, transform=line[0].transAxes, fontsize=8)
    with atomic(path) as part:
        figure.savefig(part, dpi=110)


def write_comparison(generated: Mapping[str, Sequence[Generated]], path: Path, *, title: str) -> None:
    """Write a PNG with two rows per subject and channel: the images, and their errors.

    The images are of the true visit, of copy-last and of each method.

    Args:
        generated: the generated visits of each method, by its name, for the same tasks in the same order. Copy-last is
            drawn from the given visits.
        path: path of the PNG file.
        title: title of the figure.
    """
    from matplotlib.figure import Figure

    by_method = {
        method: [part for item in items for part in item.by_channel(with_true=True)]
        for method, items in generated.items()
    }
    tasks = next(iter(by_method.values()))
    if not tasks:
        return
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
        label = f"{row.label}\ntrue - generated\n±{limit:.2f}"
        errors[0].text(0, 0.5, label, transform=errors[0].transAxes, fontsize=8)
        draw_grey(images[1], cut(previous), f"copy-last t={last:g}")
        draw_difference(errors[1], cut(row.true - previous), "", limit)
        for column, (method, results) in enumerate(by_method.items(), start=2):
            image = results[place].images[-1]
            draw_grey(images[column], cut(image), method)
            draw_difference(errors[column], cut(row.true - image), "", limit)
    with atomic(path) as part:
        figure.savefig(part, dpi=110)


def forecast_figure(
    given: Sequence[tuple[float, Tensor]],
    generated: Sequence[tuple[float, np.ndarray]],
    std: np.ndarray | None,
    *,
    title: str,
) -> "Figure":
    """Draw the given and the generated visits, and below each generated one its change from the last given visit.

    Args:
        given: times and images (C, W, H, D) in [-1, 1], in order of time.
        generated: times and images (C, W, H, D) of the generated visits, each the mean of its samples.
        std: standard deviation over the samples (T, C, W, H, D), drawn below the changes; None for a single sample.
        title: title of the figure.
    """
    import matplotlib.pyplot as plt  # a notebook displays figures only if this is imported

    history = list(given)[-MAX_GIVEN:]
    forecasts = [(time, torch.from_numpy(np.ascontiguousarray(image))) for time, image in generated]
    columns, rows = len(history) + len(forecasts), 2 if std is None else 3
    figure = plt.figure(figsize=(1.7 * columns + 0.5, 1.95 * rows + 0.5), layout="constrained")
    plt.close(figure)  # otherwise a notebook displays it twice
    figure.suptitle(title, fontsize=9)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    previous = [
        max((visit for visit in given if visit[0] < time), key=lambda visit: visit[0])[1] for time, _ in forecasts
    ]
    cut = Slice.through(previous[-1], forecasts[-1][1])
    changes = [image - last for (_, image), last in zip(forecasts, previous, strict=True)]
    limit = max(0.05, *(float(np.percentile(np.abs(cut(change)), 99.5)) for change in changes))
    for axis, (time, image) in zip(axes[0], history, strict=False):
        draw_grey(axis, cut(image), f"given t={time:g}")
    for place, (time, image) in enumerate(forecasts):
        column = len(history) + place
        draw_grey(axes[0, column], cut(image), f"generated t={time:g}")
        draw_difference(axes[1, column], cut(changes[place]), f"change (±{limit:.2f})", limit)
        if std is not None:
            spread = cut(torch.from_numpy(np.ascontiguousarray(std[place])))
            axes[2, column].imshow(spread, cmap="magma", vmin=0, vmax=limit, interpolation="nearest")
            set_title(axes[2, column], f"std (0 to {limit:.2f})")
    return figure


class Slice:
    """A slice through a volume, oriented as in radiology: up is anterior or superior."""

    def __init__(self, axis: int, index: int) -> None:
        self.axis = axis
        self.index = index

    @classmethod
    def through(cls, previous: Tensor, true: Tensor) -> "Slice":
        """Return the slice with the largest change between two volumes (C, W, H, D), across their shortest axis."""
        axis = int(np.argmin(previous.shape[1:])) if len(set(previous.shape[1:])) > 1 else 2
        # An axial slice if two axes are equally short, as in brains.
        axis = 2 if previous.shape[3] == previous.shape[1 + axis] else axis
        change = (true - previous).abs().sum(dim=0).numpy()
        others = tuple(a for a in range(3) if a != axis)
        return cls(axis, int(np.argmax(change.sum(axis=others))))

    def __call__(self, volume: Tensor) -> np.ndarray:
        """Return the slice of the first channel of a volume (C, W, H, D) as a 2D image."""
        return np.rot90(np.take(volume[0].numpy(), self.index, axis=self.axis))


def set_title(axis: object, text: str) -> None:
    """Write the title of an image.

    Its height is said, though it is the usual one: matplotlib finds it otherwise by measuring every tick, which takes
    more than half of the time of a figure.
    """
    axis.set_title(text, fontsize=7, y=1.0)  # type: ignore[attr-defined]


def draw_grey(axis: object, image: np.ndarray, name: str) -> None:
    """Draw a 2D image in grey values from -1 to 1."""
    axis.imshow(image, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")  # type: ignore[attr-defined]
    set_title(axis, name)


def draw_difference(axis: object, image: np.ndarray, name: str, limit: float) -> None:
    """Draw a 2D difference image in colours from blue (-limit) to red (limit)."""
    axis.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")  # type: ignore[attr-defined]
    set_title(axis, name)
