"""Pictures of what a model made."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from longigen.explanation import Explanation
from longigen.files import atomic
from longigen.generation import Answer

MAX_GIVEN = 4
COLUMNS = 6
ORIGINS = {"given": "tab:blue", "generated": "tab:orange", "missing": "lightgrey"}


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


def write_comparison(answers: Mapping[str, Sequence[Answer]], path: Path, *, title: str) -> None:
    """Write a PNG: for each subject the true visit, the last given one, and what each method made, over the errors.

    Args:
        answers: by method, to the same questions in the same order. Copy-last is drawn from the given visits.
        path: of the picture.
        title: of the picture.
    """
    from matplotlib.figure import Figure

    questions = next(iter(answers.values()))
    figure = Figure(figsize=(1.7 * (len(answers) + 2), 3.7 * len(questions) + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=9)
    axes = figure.subplots(2 * len(questions), len(answers) + 2, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for place, question in enumerate(questions):
        images, errors = axes[2 * place], axes[2 * place + 1]
        row = row_of(question)
        last, previous = row.given[-1]
        cut = _Cut.through(previous, row.true)
        limit = max(0.05, float(np.percentile(np.abs(cut(row.true - previous)), 99.5)))
        _grey(images[0], cut(row.true), f"true t={row.time:g}")
        errors[0].text(0, 0.5, f"{row.label}\ntrue - made\n±{limit:.2f}", transform=errors[0].transAxes, fontsize=8)
        _grey(images[1], cut(previous), f"copy-last t={last:g}")
        _difference(errors[1], cut(row.true - previous), "", limit)
        for column, (method, own) in enumerate(answers.items(), start=2):
            made = own[place].images[-1]
            _grey(images[column], cut(made), method)
            _difference(errors[column], cut(row.true - made), "", limit)
    with atomic(path) as part:
        figure.savefig(part, dpi=110)


def write_explanation(found: Explanation, path: Path, *, title: str, unit: str) -> None:
    """Write a PNG: the visit that was made, each visit it was made from under its share, and the mean shares over time.

    Shown is the slice across the axis with the fewest voxels on which the visit that was made differs most from the
    last one before it. All shares have one colour scale: blue is less than an equal share, red is more.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import TwoSlopeNorm
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    number = len(found.times)
    rows, columns = math.ceil((number + 1) / COLUMNS), min(number + 1, COLUMNS)
    figure = Figure(figsize=(max(1.6 * columns, 5.0) + 0.7, 1.9 * rows + 2.6), layout="constrained")
    figure.suptitle(title, fontsize=8)
    above, below = figure.subfigures(2, 1, height_ratios=[1.9 * rows, 2.2])  # type: ignore[misc]
    axes = above.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes:
        axis.set_axis_off()
    last = max(place for place, time in enumerate(found.times) if time < found.time)
    cut = _Cut.through(found.images[last], found.image)
    _grey(axes[0], cut(found.image), f"made: t={found.time:.3g}")
    equal = 1 / max(number, 2)  # one visit has all there is
    most = min(1.0, max(2 * equal, float(found.shares.max())))
    scale = ScalarMappable(TwoSlopeNorm(vmin=0.0, vcenter=equal, vmax=most), "coolwarm")
    for place, axis in enumerate(axes[1 : number + 1]):
        _grey(axis, cut(found.images[place]), f"{found.origins[place]} t={found.times[place]:.3g}")
        share = cut(found.shares[place, None])
        opacity = 0.6 * np.abs(2 * np.asarray(scale.norm(share)) - 1)  # none where the share is equal
        axis.imshow(share, cmap=scale.cmap, norm=scale.norm, alpha=opacity, interpolation="nearest")
    bar = above.colorbar(scale, ax=list(axes), shrink=0.8, pad=0.01)
    bar.set_label("share", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    axis = below.subplots()
    gaps = np.array([found.time - time for time in found.times])
    span = float(np.ptp([0.0, *gaps]))
    width = max(0.7 * float(np.min(-np.diff(gaps), initial=span / 5)), 0.01 * span)
    axis.bar(gaps, found.means, width=width, color=[ORIGINS[origin] for origin in found.origins])
    axis.axhline(1 / number, color="black", linewidth=0.8, linestyle=":")
    axis.set_xlim(max(gaps) + width, min(0.0, *gaps) - width)
    axis.set_xlabel(f"time from there to the visit that was made ({unit})", fontsize=8)
    axis.set_ylabel("mean share in the foreground", fontsize=8)
    axis.tick_params(labelsize=7)
    handles = [Patch(color=ORIGINS[origin], label=origin) for origin in dict.fromkeys(found.origins)]
    below.legend(
        handles=[*handles, Line2D([], [], color="black", linewidth=0.8, linestyle=":", label="equal shares")],
        fontsize=7,
        loc="outside right center",
        frameon=False,
    )
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
