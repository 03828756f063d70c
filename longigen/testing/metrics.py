"""The checks of metrics."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from longigen.components.metric import LEAST_VISITS, Metric, RegionMasks, RegionMetric, SeriesMetric, SetMetric
from longigen.testing.assertions import keeps_its_configuration
from longigen.testing.case import Case
from longigen.testing.randomness import assert_draws_nothing_global

VISITS = 12
SAMPLES = 8
TIMES = (0.0, 0.7, 1.1, 2.4, 3.0)
"""Of a series: uneven, as visits are."""


def _volumes(size: tuple[int, int, int], seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return a true volume, the previous one, noise of several samples (K, 1, W, H, D) and a foreground."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.meshgrid(*(torch.linspace(-2, 2, n) for n in size), indexing="ij")
    true = torch.sin(axes[0] + 0.5 * axes[1] + 0.3 * seed) * torch.cos(axes[2])
    previous = 0.8 * true + 0.1 * torch.sin(3 * axes[1])
    noise = torch.randn(SAMPLES, 1, *size, generator=generator)
    return true[None], previous[None], noise, true > -0.8


def _series_value(
    metric: SeriesMetric, size: tuple[int, int, int], error: float, times: Sequence[float] = TIMES, *, unit: float = 1.0
) -> float:
    """Return the metric of a true series that bends over time, with other noise in each visit but the first."""
    true, previous, noise, foreground = _volumes(size)
    series = torch.stack([previous + (true - previous) * (time + 0.3 * time**2) for time in times])
    generated = series.clone()
    generated[1:] += error * noise[1 : len(times)]
    return metric.of_series(generated, series, foreground, [unit * time for time in times])


def _region_value(metric: RegionMetric, size: tuple[int, int, int], error: float) -> float:
    """Return the metric of a region that grows, of which the generated visit has the less the more error."""
    true, previous, _, _ = _volumes(size)
    first, last, visit = (volume[0] > level for volume, level in ((previous, 0.5), (previous, 0.3), (true, 0.0)))
    generated = true[0] > error
    return metric.of_region(RegionMasks(first, last, generated), RegionMasks(first, last, visit))


def _value(metric: Metric, size: tuple[int, int, int], error: float) -> float:
    """Return the metric of true volumes with some noise: of one visit, a series, or several where it is of a set."""
    if isinstance(metric, SeriesMetric):
        return _series_value(metric, size, error)
    if isinstance(metric, RegionMetric):
        return _region_value(metric, size, error)
    features = []
    for seed in range(VISITS if isinstance(metric, SetMetric) else 1):
        true, previous, noise, foreground = _volumes(size, seed)
        generated = (true + error * noise).clamp(-1, 1)
        arguments = (generated if metric.ensemble else generated[0], true, previous, foreground)
        if not isinstance(metric, SetMetric):
            return metric(*arguments)
        features.append(metric.describe(*arguments))
    assert isinstance(metric, SetMetric)
    return metric.pooled(torch.stack(features))


def _calibration(metric: Metric, spread: float) -> float:
    """Return the metric where truth and samples are independent, the samples `spread` times as wide as the truth."""
    features, values = [], []
    for seed in range(VISITS):
        _, previous, noise, foreground = _volumes((10, 10, 10), seed)
        true = previous + 0.1 * torch.randn(previous.shape, generator=torch.Generator().manual_seed(100 + seed))
        arguments = (previous + 0.1 * spread * noise, true, previous, foreground)
        if isinstance(metric, SetMetric):
            features.append(metric.describe(*arguments))
        else:
            values.append(metric(*arguments))
    return metric.pooled(torch.stack(features)) if isinstance(metric, SetMetric) else sum(values) / VISITS


def prefers_what_is_closer(case: Case) -> None:
    """Check that less error is better, on volumes thick and thin."""
    metric = case.make()
    if metric.higher_is_better is None:
        return
    for size in ((20, 18, 16), (24, 20, 5)):
        values = [_value(metric, size, error) for error in (0.02, 0.1, 0.5)]
        assert all(isinstance(value, float) for value in values), f"gives {type(values[0]).__name__}, not float"
        ordered = all(a > b if metric.higher_is_better else a < b for a, b in pairwise(values))
        assert ordered, f"at {size} and growing error it is {values}, and {_better(metric)} is to be better"


def is_best_for_the_truth(case: Case) -> None:
    """Check that nothing is better than the true volume."""
    metric = case.make()
    if metric.higher_is_better is None:
        return
    best, other = (_value(metric, (16, 16, 16), error) for error in (0.0, 0.01))
    assert best > other if metric.higher_is_better else best < other, (
        f"the true volume has {best} and one with noise {other}, and {_better(metric)} is to be better"
    )


def _better(metric: Metric) -> str:
    return "higher" if metric.higher_is_better else "lower"


def aims_at_calibration(case: Case) -> None:
    """Check that where neither way is good, the truth, or samples of its own distribution, have the ideal value."""
    metric = case.make()
    if metric.higher_is_better is not None:
        return
    ideal = metric.aim(SAMPLES)
    assert isinstance(ideal, float), "higher_is_better is None, and aim gives no float"
    if not metric.ensemble:
        true, noisy = (_value(metric, (20, 18, 16), error) for error in (0.0, 0.5))
        assert abs(true - ideal) < 0.05, f"the true volume has {true}, the ideal value is {ideal}"
        assert abs(noisy - ideal) > 0.1, f"a volume with much noise has {noisy}, too near {ideal}"
        return
    values = {spread: _calibration(metric, spread) for spread in (0.3, 1.0, 3.0)}
    assert abs(values[1.0] - ideal) < 0.05, (
        f"samples of the truth's distribution have {values[1.0]}, the ideal value is {ideal}"
    )
    for spread in (0.3, 3.0):
        assert abs(values[spread] - ideal) > 0.1, (
            f"samples {spread:g} times as wide have {values[spread]}, too near {ideal}"
        )


def pools_in_any_order(case: Case) -> None:
    """Check that the features of all visits have one shape, and that the order of visits does not matter."""
    metric = case.make()
    if not isinstance(metric, SetMetric):
        return
    features = []
    for seed in range(4):
        true, previous, noise, foreground = _volumes((10, 12, 9), seed)
        generated = (true + 0.1 * noise).clamp(-1, 1)
        features.append(metric.describe(generated if metric.ensemble else generated[0], true, previous, foreground))
    assert len({each.shape for each in features}) == 1, (
        f"shapes of features are {[tuple(each.shape) for each in features]}"
    )
    assert features[0].is_floating_point(), f"features are {features[0].dtype}"
    assert features[0].device.type == "cpu", f"features are on {features[0].device}"
    one, two = metric.pooled(torch.stack(features)), metric.pooled(torch.stack(features[::-1]))
    assert isinstance(one, float), f"gives {type(one).__name__}, not float"
    assert abs(one - two) <= 1e-6 * max(1.0, abs(one)), f"is {one}, and {two} in another order"


def keeps_to_series(case: Case) -> None:
    """Check a metric of a series: one value, in any unit of time, of the fewest visits too; one visit has none."""
    metric = case.make()
    if not isinstance(metric, SeriesMetric):
        return
    assert not metric.ensemble, "ensemble is True, and a series is of one sample or of the mean"
    size = (10, 12, 9)
    one, other = (_series_value(metric, size, 0.1, unit=unit) for unit in (1.0, 365.25))
    assert isinstance(one, float), f"gives {type(one).__name__}, not float"
    assert abs(one - other) <= 1e-6 * max(1.0, abs(one)), f"is {one}, and {other} with times in another unit"
    few = _series_value(metric, size, 0.1, TIMES[:LEAST_VISITS])
    assert math.isfinite(few), f"of {LEAST_VISITS} visits it is {few}"
    true, previous, _, foreground = _volumes(size)
    alone = metric(true, true, previous, foreground)
    assert math.isnan(alone), f"of one visit it is {alone}, not NaN"


def draws_nothing_global(case: Case) -> None:
    """Check that it leaves the global random generators alone, also while it is made."""

    def answer() -> list[Tensor]:
        return [torch.tensor([_value(case.make(seed=None), (10, 12, 9), 0.1)], dtype=torch.float64)]

    assert_draws_nothing_global(answer)


def is_defined(case: Case) -> None:
    """Check that its definition is one line, and the same for each object."""
    one, other = case.make(), case.make(seed=1)  # both at once, so that they are two objects in memory too
    definition = one.definition
    assert definition, "the definition is empty"
    assert "\n" not in definition, "the definition is longer than one line"
    assert definition == other.definition, "the definition changes from one object to the next"


def keeps_to_regions(case: Case) -> None:
    """Check a metric of regions: its name has the region's, what is not known has no value, nor have images alone."""
    metric = case.make()
    if not isinstance(metric, RegionMetric):
        return
    assert not metric.ensemble, "ensemble is True, and regions are of one sample or of the mean"
    named = type(metric).from_config({**metric.config, "region": "left ventricle"})
    assert "left ventricle" in named.definition, "its definition does not name the region"
    nothing = RegionMasks(None, None, None)
    unknown = named.of_region(nothing, nothing)
    assert math.isnan(unknown), f"without a mask it is {unknown}, not NaN"
    empty = torch.zeros(3, 4, 5, dtype=torch.bool)
    absent = named.of_region(RegionMasks(empty, empty, empty), RegionMasks(empty, empty, empty))
    assert math.isnan(absent), f"of a region that is nowhere it is {absent}, not NaN"
    true, previous, _, foreground = _volumes((10, 12, 9))
    alone = metric(true, true, previous, foreground)
    assert math.isnan(alone), f"of images alone it is {alone}, not NaN"


CHECKS: dict[str, Callable[[Case], None]] = {
    "can be made again from its configuration": keeps_its_configuration,
    "is defined in one line": is_defined,
    "is best for the truth": is_best_for_the_truth,
    "prefers what is closer": prefers_what_is_closer,
    "aims at calibration": aims_at_calibration,
    "pools in any order": pools_in_any_order,
    "keeps to series": keeps_to_series,
    "keeps to regions": keeps_to_regions,
    "leaves global random generators alone": draws_nothing_global,
}
"""By what a metric is to do; see `Metric`. A check that does not concern a metric passes."""
