"""`Metric`, `SeriesMetric`, `SetMetric`, `RegionMetric`: base classes of metrics, per visit, series, set and region."""

import abc
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from longigen.components.base import Component

LEAST_VISITS = 3
"""The smallest number of visits that have a trajectory: a line fits any two."""


class Metric(Component, abc.ABC):
    """Compares a generated volume, or several samples of it, with the true volume, and returns one number.

    Contract:

    - `__call__(generated, true, previous, foreground)`: volumes (C, W, H, D) whose intensity range is [-1, 1], which
      single voxels exceed in the subject's space; `previous` is the last given visit; `foreground` (W, H, D), bool. The
      result is a float, NaN where the metric is not defined.
    - Where `ensemble` is True, `generated` is (K, C, W, H, D), K ≥ 1 samples of one visit; a point forecast such as
      copy-last has K = 1. Other metrics get one volume: a sample, or the mean of the samples.
    - `higher_is_better` is None if neither higher nor lower is better; `aim` then returns the best value, which the
      true volume has (of an ensemble metric, samples of the truth's own distribution).
    - `definition` is one line that defines the metric exactly. It is part of the protocol that is printed and hashed
      with every result.
    - `default` includes the metric in every evaluation that does not choose its metrics, which changes the protocol of
      everyone who installs it. Leave it False where users can select the metric with ``--metric``.
    - `note` is a short text for the table's footnote, or empty.
    """

    kind: ClassVar[str] = "metric"
    higher_is_better: ClassVar[bool | None] = True
    ensemble: ClassVar[bool] = False
    default: ClassVar[bool] = False

    @property
    def variant(self) -> str:
        """What the parameters make of the metric where that needs a name of its own, added to its name; else empty."""
        return ""

    @property
    def note(self) -> str:
        """A short text for the table's footnote; empty where the name says enough."""
        return ""

    @property
    @abc.abstractmethod
    def definition(self) -> str:
        """The exact definition of the metric, in one line."""

    @abc.abstractmethod
    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        """Return the value of the metric."""

    def aim(self, samples: int) -> float | None:
        """Return the value of a calibrated model with `samples` samples, where `higher_is_better` is None."""
        return None

    def arrow(self, samples: int = 1) -> str:
        """Return the direction of better values for a table: ``↑``, ``↓``, or ``→ VALUE`` for an ideal value."""
        if self.higher_is_better is None:
            ideal = self.aim(samples)
            return "" if ideal is None else f"→ {ideal:.2f}"
        return "↑" if self.higher_is_better else "↓"


class SeriesMetric(Metric):
    """Compares a series of generated visits of one subject with the true one, such as their slopes over time.

    Contract, in addition to that of `Metric`:

    - `of_series` takes the visits (N, C, W, H, D) that were generated together, in the order of time, as they were
      generated and as they were; both series begin with the last visit that was given before them. N is at least
      `LEAST_VISITS`; a shorter series has no value (NaN). `times` are N ascending numbers, and the result does not
      depend on their unit.
    - `ensemble` is False: of several samples, the first or the mean is scored.
    - The value stands in the scores of each visit of the series.
    """

    @property
    def note(self) -> str:
        return (
            f"of the visits that are generated together and the last given one, {LEAST_VISITS} or more; setting full "
            "generates each visit by itself, and has no value"
        )

    @abc.abstractmethod
    def of_series(self, generated: Tensor, true: Tensor, foreground: Tensor, times: Sequence[float]) -> float:
        """Return the value of the metric for a series."""

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        """Return NaN: one generated visit is no series."""
        return math.nan


@dataclass(frozen=True)
class RegionMasks:
    """Where a region is at three visits of a subject, on one grid: (W, H, D), bool; None where that is not known.

    Attributes:
        first: at the subject's first visit.
        previous: at the last given visit.
        visit: at the visit that is scored.
    """

    first: Tensor | None
    previous: Tensor | None
    visit: Tensor | None


class RegionMetric(Metric):
    """Compares a region, such as a ventricle of the heart, in a generated visit with the region in the true visit.

    Contract, in addition to that of `Metric`:

    - `of_region` takes the masks of the region as a segmenter marks it in images, of which the scored visit's is
      generated and the others are true, and as the true label maps have it. It returns NaN where a mask that it needs
      is None, or the metric is not defined, such as a relative error of an empty region.
    - `region` is a parameter of every such metric. Where it is empty, an evaluation makes the metric once for each
      region that it `covers`.
    - `ensemble` is False: of several samples, the first or the mean is scored.

    Args:
        region: the name of the region; empty for each region of the data.
    """

    def __init__(self, *, region: str = "") -> None:
        super().__init__()
        self.region = region

    @property
    def variant(self) -> str:
        return "-".join(self.region.split())

    @property
    def note(self) -> str:
        return "regions as a segmenter marks them in images, against the true label maps"

    def covers(self, region: str) -> bool:
        """Return whether the metric is made for a region where the user does not choose regions."""
        return True

    @abc.abstractmethod
    def of_region(self, generated: RegionMasks, true: RegionMasks) -> float:
        """Return the value of the metric for one region of one visit."""

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        """Return NaN: without a segmenter, images have no regions."""
        return math.nan


class SetMetric(Metric):
    """Compares the set of all generated visits with the set of all true ones, such as FID or KID.

    Contract, in addition to that of `Metric`:

    - `describe` takes the arguments of `__call__` and returns a float tensor, of one shape for all visits. The
      tensor of every visit is stored, moved between processes and written to disk: a few thousand numbers at most.
    - `pooled` returns the metric from the features of N visits (N, ...), NaN if there are too few. It must not depend
      on their order. It is also called once without each subject, for the jackknife interval.
    - `caution` is a sentence on why the value for that number of visits should be read with care, or None.
    """

    @abc.abstractmethod
    def describe(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> Tensor:
        """Return the features of one visit."""

    @abc.abstractmethod
    def pooled(self, described: Tensor) -> float:
        """Return the metric from the features of N visits (N, ...)."""

    def caution(self, visits: int) -> str | None:
        return None

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        """Return the metric of a set that has only this visit."""
        return self.pooled(self.describe(generated, true, previous, foreground)[None])


def metric_notes(metrics: Mapping[str, Metric]) -> list[str]:
    """Return the footnotes of a table on its metrics, one line each."""
    pooled = {name: metric for name, metric in metrics.items() if isinstance(metric, SetMetric)}
    lines = [f"{', '.join(pooled)}: of all visits together [95 % jackknife interval over subjects]"] if pooled else []
    for note in dict.fromkeys(metric.note for metric in metrics.values() if metric.note):
        lines.append(f"{', '.join(name for name, metric in metrics.items() if metric.note == note)}: {note}")
    return lines
