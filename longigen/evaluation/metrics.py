"""Load the metrics of an evaluation by name."""

import warnings
from collections.abc import Iterator, Mapping, Sequence

from longigen.components.base import parameters
from longigen.components.changes import parse_change
from longigen.components.metric import Metric, RegionMetric
from longigen.errors import LongigenError, LongigenWarning, did_you_mean
from longigen.registry.registry import registry


def load_metrics(chosen: Sequence[str] | None = None, *, samples: int = 1) -> dict[str, Metric]:
    """Return metrics by name, by default all installed ones that belong to the default table.

    A metric's `variant` is a part of its name here, such as ``nrmse-mean``.

    A metric of the default table that cannot be loaded is left out, with a `LongigenWarning`.

    Args:
        chosen: names of metrics, or ``name:key=value,key=value`` with parameters.
        samples: number of samples of each visit; ensemble metrics need at least two.

    Raises:
        LongigenError: if a chosen metric is unknown, cannot be loaded, needs several samples, or is given twice.
    """
    metrics: dict[str, Metric] = {}
    for text in chosen or ():
        metric = _metric(text, samples)
        name = "-".join(part for part in (text.partition(":")[0], metric.variant) if part)
        if name in metrics:
            raise LongigenError(f"The metric '{name}' is given twice, and a table has one column of it; leave one out.")
        metrics[name] = metric
    if chosen:
        return metrics
    return {name: cls() for name, cls in loadable() if cls.default and (samples > 1 or not cls.ensemble)}


def of_channels(metrics: Mapping[str, Metric], channels: Sequence[str]) -> dict[str, Metric]:
    """Return each metric once for each channel, as ``ssim-T1w`` and ``ssim-FLAIR``; as they are without channels.

    Regions are of a visit, so a `RegionMetric` stays one.
    """
    found: dict[str, Metric] = {}
    for name, metric in metrics.items():
        alone = isinstance(metric, RegionMetric) or not channels
        found |= {name: metric} if alone else {f"{name}-{channel}": metric for channel in channels}
    return found


def of_channel(metrics: Mapping[str, Metric], channel: str, *, first: bool) -> dict[str, Metric]:
    """Return those of the metrics of `of_channels` that are of one channel.

    Args:
        metrics: metrics by name.
        channel: the name of the channel.
        first: whether it is the first one, in which regions are marked.
    """
    return {
        name: metric
        for name, metric in metrics.items()
        if (first if isinstance(metric, RegionMetric) else name.rpartition("-")[2] == channel)
    }


def loadable() -> Iterator[tuple[str, type[Metric]]]:
    """Yield the name and class of each installed metric; one that cannot be loaded gives a `LongigenWarning`."""
    for name in registry.entries("metric"):
        try:
            yield name, registry.load("metric", name)
        except LongigenError as error:
            warnings.warn(f"Left out: {error}", LongigenWarning, stacklevel=3)


def _metric(text: str, samples: int) -> Metric:
    name, _, rest = text.partition(":")
    known = registry.entries("metric")
    if name not in known:
        raise LongigenError(f"There is no metric '{name}'.{did_you_mean(name, known)} Installed: {', '.join(known)}.")
    cls = registry.load("metric", name)
    if cls.ensemble and samples < 2:
        raise LongigenError(
            f"The metric '{name}' needs several samples of each visit, and there is one; give --samples 2 or more "
            "to 'longigen evaluate', or leave the metric out."
        )
    allowed = parameters(cls)
    changes = [parse_change(change, {"metric": allowed}) for change in rest.split(",") if change]
    return registry.make("metric", name, {key: value for _, key, value in changes})
