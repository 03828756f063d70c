"""The interfaces of metrics."""

import abc
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from longigen.components.base import Component


class Metric(Component, abc.ABC):
    """One number for a generated volume, or for several samples of it, beside the true one.

    Contract:

    - `__call__(generated, true, previous, foreground)`: volumes (C, W, H, D) in [-1, 1]; `previous` is the last visit
      that was given; `foreground` (W, H, D), bool. The result is a float, NaN where the metric is not defined.
    - Where `ensemble` is True, `generated` is (K, C, W, H, D), K ≥ 1 samples of one visit; a point forecast such as
      copy-last comes as K = 1. Other metrics get one volume: a sample, or the mean of the samples.
    - `higher_is_better` says which way is good; None where neither is, and then `aim` says which value is.
    - `definition` is one line that pins the metric down, and becomes part of the protocol that is printed and hashed
      with every result.
    - `default` puts it into the table of everyone who installs it and does not say which metrics to use, whose results
      then have another protocol; leave it False where people can ask for it with ``--metric``.
    """

    kind: ClassVar[str] = "metric"
    higher_is_better: ClassVar[bool | None] = True
    ensemble: ClassVar[bool] = False
    default: ClassVar[bool] = False

    @property
    @abc.abstractmethod
    def definition(self) -> str:
        """What exactly is computed, in one line."""

    @abc.abstractmethod
    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        """Return the metric."""

    def aim(self, samples: int) -> float | None:
        """Return the value of a calibrated model with that many samples, where `higher_is_better` is None."""
        return None

    def arrow(self, samples: int = 1) -> str:
        """Return which way is good, as a table shows it."""
        if self.higher_is_better is None:
            aim = self.aim(samples)
            return "" if aim is None else f"→ {aim:.2f}"
        return "↑" if self.higher_is_better else "↓"


class SetMetric(Metric):
    """One number for all generated visits beside all true ones, such as a distance between two distributions.

    Contract, beside that of `Metric`:

    - `describe` takes what a metric's `__call__` takes and returns a float tensor, of one shape for all visits. It is
      kept for every visit, moved between processes and written to disk: a few thousand numbers, not the volumes.
    - `pooled` makes the metric of the descriptions of N visits (N, ...), NaN where there are too few. Their order has
      no meaning. It is called once per subject, too: the interval is found by leaving each subject out.
    - `note` says in a few words what a reader of the table must know, `caution` in a sentence what speaks against
      the number, for that many visits.
    """

    @abc.abstractmethod
    def describe(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> Tensor:
        """Return what the metric needs of one visit."""

    @abc.abstractmethod
    def pooled(self, described: Tensor) -> float:
        """Return the metric of the visits that were described."""

    @property
    def note(self) -> str:
        return ""

    def caution(self, visits: int) -> str | None:
        return None

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        """Return the metric of this visit alone."""
        return self.pooled(self.describe(generated, true, previous, foreground)[None])


def notes_of_sets(metrics: Mapping[str, Metric]) -> list[str]:
    """Return what must stand below a table of what its metrics of sets are, a line each."""
    pooled = {name: metric for name, metric in metrics.items() if isinstance(metric, SetMetric)}
    lines = [f"{', '.join(pooled)}: of all visits together [95 % jackknife interval over subjects]"] if pooled else []
    for note in dict.fromkeys(metric.note for metric in pooled.values() if metric.note):
        lines.append(f"{', '.join(name for name, metric in pooled.items() if metric.note == note)}: {note}")
    return lines
