"""Pictures of what a model made."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from longigen.files import atomic
from longigen.generation import Answer

MAX_GIVEN = 4


@dataclass(frozen=True)
class Row:
    """One row of a strip: the given visits, then a generated and the true image (C, W, H, D), with their times."""

    label: str
    given: Sequence[tuple[float, Tensor]]
    generated: Tensor
    true: Tensor
    time: float


def row_of(answer: Answer) -> Row:
    """Return the row of the last visit that an answer made."""
    subject, time = answer.prepared.subject, answer.times[-1]
    given = [i for i in answer.task.given if subject.times[i] < time]
    images = [(subject.times[i], answer.prepared.visit(i)) for i in given]
    return Row(subject.id, images, answer.images[-1], answer.true(len(answer.times) - 1), time)


def write_strip(answers: Answer | Sequence[Answer], path: Path, *, title: str) -> None:
    """Write a PNG: for each answer a row of given visits, generated, true, and what copy-last and the model miss.

    All images share one grey scale, [-1, 1]; the two differences from the true image share one scale too. Shown is the
    slice across the axis with the fewest voxels on which the true change is largest.
    """
    from matplotlib.figure import Figure

    rows = [row_of(item) for item in ([answers] if isinstance(answers, Answer) else answers)]
    shown = min(MAX_GIVEN, max(len(row.given) for row in rows))
    columns = shown + 4
    width, height = 1.7 * columns, 1.95 * len(rows) + 0.5
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, fontsize=9)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        _, previous = row.given[-1]
        cut = _Cut.through(previous, row.true)
        given = list(row.given)[-shown:]
        panels = [(f"given t={time:g}", image) for time, image in given]
        for axis in line:
            axis.set_axis_off()
        for axis, (name, image) in zip(line[shown - len(given) :], panels, strict=False):
            _grey(axis, cut(image), name)
        _grey(line[shown], cut(row.generated), f"generated t={row.time:g}")
        _grey(line[shown + 1], cut(row.true), f"true t={row.time:g}")
        limit = max(0.05, float(np.percentile(np.abs(cut(row.true - previous)), 99.5)))
        _difference(line[shown + 2], cut(row.true - previous), f"true - last (±{limit:.2f})", limit)
        _difference(line[shown + 3], cut(row.true - row.generated), "true - generated", limit)
        line[0].text(0, 1.18, row.label, transform=line[0].transAxes, fontsize=8)
    with atomic(path) as part:
        figure.savefig(part, dpi=110)


class _Cut:
    """A slice through a volume, turned as a radiologist expects: up is anterior or superior."""

    def __init__(self, axis: int, index: int) -> None:
        self.axis = axis
        self.index = index

    @classmethod
    def through(cls, previous: Tensor, true: Tensor) -> "_Cut":
        axis = int(np.argmin(previous.shape[1:])) if len(set(previous.shape[1:])) > 1 else 2
        # An axial slice where two axes are equally short, as in brains.
        axis = 2 if previous.shape[3] == previous.shape[1 + axis] else axis
        change = (true - previous).abs().sum(dim=0).numpy()
        others = tuple(a for a in range(3) if a != axis)
        return cls(axis, int(np.argmax(change.sum(axis=others))))

    def __call__(self, volume: Tensor) -> np.ndarray:
        return np.rot90(np.take(volume[0].numpy(), self.index, axis=self.axis))


def _grey(axis: object, image: np.ndarray, name: str) -> None:
    axis.imshow(image, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")  # type: ignore[attr-defined]
    axis.set_title(name, fontsize=7)  # type: ignore[attr-defined]


def _difference(axis: object, image: np.ndarray, name: str, limit: float) -> None:
    axis.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")  # type: ignore[attr-defined]
    axis.set_title(name, fontsize=7)  # type: ignore[attr-defined]
