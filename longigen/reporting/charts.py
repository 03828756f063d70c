"""Charts of a report, as SVG images: training curves, similarity by visit, gains of subjects, calibration."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from longigen.hub.metrics_file import COPY_LAST
from longigen.reporting.results import TRUE, Result
from longigen.reporting.training import Series, Training
from longigen.training.noise_loss import QUARTERS
from longigen.utils.intervals import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0b6e99", "#c8553d", "#588157", "#7b4b94", "#b07d2b", "#46494c")
GREY = "#8a8f94"
VALIDATED, GAIN = ("validation", "training_subjects"), "gain over copy-last"
BY_NOISE: Mapping[str, str] = dict(
    zip(QUARTERS, ("least noise", "less noise", "more noise", "most noise"), strict=True)
)
"""The metrics of the loss by noise level, and their names in a legend."""
MOST_COLUMNS = 3
"""The largest number of charts of training curves beside each other."""
MOST_REGIONS = 6
"""The largest number of regions in a chart."""
MOST_POINTS = 600
"""The largest number of points of a curve; of longer ones every so-many-th is drawn."""


def as_uri(figure: "Figure") -> str:
    """Return a figure as the URI of an SVG image, for an ``img`` element."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _axes(number: int, height: float = 2.6, width: float = 3.6, *, rows: int = 1) -> "tuple[Figure, Sequence[Axes]]":
    """Return a figure with a number of axes, of the same size, in rows."""
    from matplotlib.figure import Figure

    columns = -(-number // rows)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in axes[number:]:
        unused.set_axis_off()
    axes = axes[:number]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    return figure, axes


def training_curves(training: Training) -> str | None:
    """Draw what was measured by step, None if nothing was.

    That is the losses and that of validation, the loss by noise level, the gain of validation visits over copy-last,
    the gradient norm and the learning rate.
    """
    panels = [(title, curves) for title, curves in _panels(training.series("")) if curves]
    if not panels:
        return None
    figure, axes = _axes(len(panels), rows=-(-len(panels) // MOST_COLUMNS))
    for axis, (title, curves) in zip(axes, panels, strict=True):
        for number, (name, (steps, values)) in enumerate(curves.items()):
            every = -(-len(steps) // MOST_POINTS)
            marked = "o-" if name.startswith(VALIDATED) else "-"
            axis.plot(
                steps[::every],
                values[::every],
                marked,
                markersize=3,
                linewidth=1.2,
                color=COLOURS[number % len(COLOURS)],
                label=BY_NOISE.get(name, name.replace("_", " ")),
            )
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("step", fontsize=8)
        if title.endswith(GAIN):
            axis.axhline(0.0, color=GREY, linewidth=0.8, linestyle="--")
        if title.startswith("loss"):
            everything = [value for _, values in curves.values() for value in values]
            if min(everything) > 0:
                axis.set_yscale("log")
            axis.legend(fontsize=7, frameon=False)
    return as_uri(figure)


def _panels(series: Mapping[str, Series]) -> list[tuple[str, dict[str, Series]]]:
    """Return the title and the curves of each panel."""

    def those(wanted: Callable[[str], bool]) -> dict[str, Series]:
        return {name: curve for name, curve in series.items() if wanted(name)}

    gains = those(lambda name: name.startswith(VALIDATED) and name.endswith("_gain"))
    metrics = {name: name.removesuffix("_gain").rpartition("_")[2].upper() for name in gains}
    return [
        (
            "loss",
            {
                **those(lambda name: name.startswith("loss") and name not in BY_NOISE),
                **those(lambda name: name.startswith(VALIDATED) and name.endswith("_loss")),
            },
        ),
        ("loss by noise level", those(lambda name: name in BY_NOISE)),
        *((f"{metrics[name]}, {GAIN}", {name: curve}) for name, curve in gains.items()),
        ("gradient norm", those(lambda name: name == "gradient_norm")),
        ("learning rate", those(lambda name: name == "learning_rate")),
    ]


def similarity_by_visit(result: Result) -> str | None:
    """Draw a metric by visit (frame) in each setting, of each method and copy-last, with 95 % intervals.

    None if the result has no scores of several visits of each subject.
    """
    metric = result.ranking
    if metric is None or result.protocol["targets"] != "all":  # else each visit would be of other subjects
        return None
    shown = {
        setting: {method: result.by_visit(setting, method, metric) for method in (COPY_LAST, *result.methods)}
        for setting in result.settings()
    }
    if max((len(visits) for of in shown.values() for visits in of.values()), default=0) < 2:
        return None
    from matplotlib.ticker import MaxNLocator

    figure, axes = _axes(len(shown))
    for axis, (setting, methods) in zip(axes, shown.items(), strict=True):
        for number, (method, visits) in enumerate(methods.items()):
            colour = GREY if method == COPY_LAST else COLOURS[(number - 1) % len(COLOURS)]
            _curve(axis, visits, colour, method, dashed=method == COPY_LAST)
        axis.set_title(f"setting {setting}", fontsize=9)
        axis.set_xlabel("visit (index, from 0)", fontsize=8)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    bounds = [axis.get_ylim() for axis in axes]
    for axis in axes:
        axis.set_ylim(min(low for low, _ in bounds), max(high for _, high in bounds))
    axes[0].set_ylabel(f"{metric} {result.arrows.get(metric, '')}", fontsize=8)
    axes[0].legend(fontsize=7, frameon=False)
    return as_uri(figure)


def volumes_of_regions(result: Result, setting: str) -> str:
    """Draw the volume of each region by visit (frame): true, of copy-last and of each method, with 95 % intervals.

    The setting is one of `Result.volume_settings`. Of many regions the first `MOST_REGIONS` are drawn.
    """
    from matplotlib.ticker import MaxNLocator

    shown = {region: result.volumes_by_visit(setting, region) for region in result.regions}
    shown = dict([(region, methods) for region, methods in shown.items() if methods][:MOST_REGIONS])
    figure, axes = _axes(len(shown))
    for axis, (region, methods) in zip(axes, shown.items(), strict=True):
        for method, visits in methods.items():
            number = result.methods.index(method) if method in result.methods else 0
            colour = {TRUE: "black", COPY_LAST: GREY}.get(method, COLOURS[number % len(COLOURS)])
            _curve(axis, visits, colour, method, dashed=method == COPY_LAST)
        axis.set_title(region, fontsize=9)
        axis.set_xlabel("visit (index, from 0)", fontsize=8)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set_ylabel("volume in mL", fontsize=8)
    axes[0].legend(fontsize=7, frameon=False)
    return as_uri(figure)


def _curve(axis: "Axes", visits: Mapping[int, Summary], colour: str, label: str, *, dashed: bool) -> None:
    places = [visit for visit, summary in visits.items() if summary.subjects]
    kept = [visits[place] for place in places]
    axis.plot(
        places,
        [s.mean for s in kept],
        "o--" if dashed else "o-",
        markersize=3,
        linewidth=1.3,
        color=colour,
        label=label,
    )
    axis.fill_between(
        places,
        [s.mean if s.low != s.low else s.low for s in kept],  # NaN: too few subjects for an interval
        [s.mean if s.high != s.high else s.high for s in kept],
        color=colour,
        alpha=0.15,
        linewidth=0,
    )


def gains_of_subjects(result: Result, setting: str, method: str) -> str | None:
    """Draw each subject's gain over copy-last in a setting, the lowest first; None if there are no scores."""
    metric = result.ranking
    gains = {} if metric is None else result.gains(setting, method, metric)
    if not gains:
        return None
    figure, (axis,) = _axes(1, height=2.2, width=7.2)
    colours = [COLOURS[1] if gain < 0 else COLOURS[0] for gain in gains.values()]
    axis.bar(range(len(gains)), list(gains.values()), color=colours, width=0.8)
    axis.axhline(0, color=GREY, linewidth=0.8)
    if len(gains) <= 40:
        axis.set_xticks(range(len(gains)), list(gains), rotation=90, fontsize=6)
    axis.set_ylabel(f"{metric} minus copy-last's", fontsize=8)
    axis.set_title(f"gain of each subject, {method}, setting {setting}", fontsize=9)
    return as_uri(figure)


def calibration(result: Result, metric: str, target: float) -> str | None:
    """Draw a metric of the samples by subject in each setting, beside the value of a calibrated model."""
    by_setting: dict[str, list[float]] = {}
    for score in result.scores:
        value = score.values.get(metric)
        if score.method in result.methods and value is not None and value == value:
            by_setting.setdefault(score.setting, []).append(value)
    if not by_setting:
        return None
    figure, (axis,) = _axes(1, height=2.2, width=4.2)
    axis.boxplot(list(by_setting.values()), tick_labels=list(by_setting), widths=0.5)
    axis.axhline(target, color=COLOURS[1], linewidth=1, linestyle="--", label=f"calibrated: {target:.3g}")
    axis.set_title(f"{metric} of each visit", fontsize=9)
    axis.legend(fontsize=7, frameon=False)
    return as_uri(figure)
