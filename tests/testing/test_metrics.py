"""The checks of metrics: a good one passes, and each check catches one that breaks it."""

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.conformance import assert_caught, assert_each_is_broken, broken_classes, problems
from longigen import Metric, RegionMasks, RegionMetric, SeriesMetric, SetMetric


class Good(Metric):
    """The mean absolute error."""

    higher_is_better = False

    def __init__(self, *, power: float = 1.0) -> None:
        super().__init__()
        self.power = power

    @property
    def definition(self) -> str:
        return f"mean of |generated - true| ** {self.power}"

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        return float((generated - true).abs().pow(self.power).mean())


class Similarity(Good):
    """Its negative: higher is better."""

    higher_is_better = True

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        return -super().__call__(generated, true, previous, foreground)


class OfSet(SetMetric):
    """The mean absolute error of all visits."""

    higher_is_better = False

    @property
    def definition(self) -> str:
        return "mean of |generated - true| over voxels, then visits"

    def describe(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> Tensor:
        return (generated - true).abs().mean()[None]

    def pooled(self, described: Tensor) -> float:
        return float(described.double().mean())


class Calibrated(SetMetric):
    """The spread of the samples over the error of their mean: 1 where they are as wide as the truth."""

    higher_is_better = None
    ensemble = True

    @property
    def definition(self) -> str:
        return "sqrt(mean of s^2 (K + 1) / K) / RMSE of the samples' mean"

    def aim(self, samples: int) -> float | None:
        return 1.0

    def describe(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> Tensor:
        spread = generated.var(dim=0).mean() * (len(generated) + 1) / len(generated)
        return torch.stack([spread, (generated.mean(dim=0) - true).square().mean()])

    def pooled(self, described: Tensor) -> float:
        spread, error = described.double().mean(dim=0).tolist()
        return math.sqrt(spread / error)


class Ratio(Metric):
    """The generated volume's variation over the true one's: 1 where it is as strong."""

    higher_is_better = None

    @property
    def definition(self) -> str:
        return "variance of the slopes, generated over true"

    def aim(self, samples: int) -> float | None:
        return 1.0

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        return float(generated.diff(dim=1).var() / true.diff(dim=1).var())


class OfSeries(SeriesMetric):
    """The mean absolute error of the rates of change."""

    higher_is_better = False

    @property
    def definition(self) -> str:
        return "mean of |generated - true rate| over the mean of |true rate|"

    def of_series(self, generated: Tensor, true: Tensor, foreground: Tensor, times: Sequence[float]) -> float:
        return self.rates(generated - true, times) / self.rates(true, times)

    def rates(self, series: Tensor, times: Sequence[float]) -> float:
        gaps = torch.tensor(times).diff().view(-1, 1, 1, 1, 1)
        return float((series.diff(dim=0) / gaps).abs().mean())


class OfRegion(RegionMetric):
    """The volume of a region, generated minus true, over the true one."""

    higher_is_better = False

    @property
    def definition(self) -> str:
        return f"|generated - true| volume / true volume of the {self.region}"

    def of_region(self, generated: RegionMasks, true: RegionMasks) -> float:
        if generated.visit is None or true.visit is None or not true.visit.any():
            return math.nan
        return abs(float(generated.visit.sum()) / float(true.visit.sum()) - 1)


@pytest.mark.parametrize("cls", [Good, Similarity, OfSet, Calibrated, Ratio, OfSeries, OfRegion])
def test_a_good_one_passes(cls: type) -> None:
    assert problems("metric", cls) == {}


CONFIGURATION = "can be made again from its configuration"
DEFINED = "is defined in one line"
TRUTH = "is best for the truth"
CLOSER = "prefers what is closer"
CALIBRATION = "aims at calibration"
ORDER = "pools in any order"
SERIES = "keeps to series"
REGIONS = "keeps to regions"
GLOBAL = "leaves global random generators alone"

BROKEN, caught = broken_classes(globals())


@caught(CONFIGURATION=r"the configuration \{'power': 2\.0\} became \{'power': 3\.0\}")
class ChangingItsConfiguration(Good):
    def __init__(self, *, power: float = 1.0) -> None:
        super().__init__(power=power)
        self.config["power"] = power + 1


@caught(DEFINED="the definition is empty")
class Undefined(Good):
    definition = ""


@caught(DEFINED="the definition is longer than one line")
class DefinedInTwoLines(Good):
    definition = "mean of\n|generated - true|"


@caught(DEFINED="the definition changes from one object to the next")
class DefinedByTheObject(Good):
    @property
    def definition(self) -> str:
        return f"mean of |generated - true| by {id(self)}"


class Scoring(Good):
    """`Good` with another value, by `value`."""

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> Any:
        return self.value(super().__call__(generated, true, previous, foreground), generated)

    def value(self, error: float, generated: Tensor) -> Any:
        raise NotImplementedError


@caught(TRUTH=r"the true volume has 0\.05 and one with noise .*, and lower is to be better")
class BlindToSmallErrors(Scoring):
    def value(self, error: float, generated: Tensor) -> float:
        return max(error, 0.05) if generated.shape[-1] == 16 and error < 0.01 else error


@caught(
    TRUTH="and higher is to be better", CLOSER=r"at \(20, 18, 16\) and growing error it is .*higher is to be better"
)
class TheOtherWay(Good):
    higher_is_better = True


@caught(CLOSER=r"at \(20, 18, 16\) and growing error it is \[.*\], and lower is to be better")
class BlindToLargeErrors(Scoring):
    def value(self, error: float, generated: Tensor) -> float:
        return min(error, 0.05)


@caught(CLOSER=r"at \(24, 20, 5\) and growing error it is \[nan, nan, nan\]")
class UndefinedWhereThin(Scoring):
    def value(self, error: float, generated: Tensor) -> float:
        return math.nan if generated.shape[-1] < 7 else error


@caught(CLOSER="gives Tensor, not float")
class OfTensors(Scoring):
    def value(self, error: float, generated: Tensor) -> Tensor:
        return torch.tensor(error)


@caught(CALIBRATION="higher_is_better is None, and aim gives no float")
class Aimless(Calibrated):
    def aim(self, samples: int) -> float | None:
        return None


@caught(CALIBRATION=r"samples of the truth's distribution have .*, the ideal value is 2\.0")
class OtherAim(Calibrated):
    def aim(self, samples: int) -> float | None:
        return 2.0


@caught(CALIBRATION=r"the true volume has 0\.5, the ideal value is 1\.0")
class HalfOfTheTruth(Ratio):
    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        return super().__call__(generated, true, previous, foreground) / 2


@caught(CALIBRATION=r"a volume with much noise has 1\.0, too near 1\.0")
class AlwaysIdeal(Ratio):
    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        return 1.0


@caught(CALIBRATION=r"samples 0\.3 times as wide have 1\.0, too near 1\.0")
class AlwaysCalibrated(Calibrated):
    def pooled(self, described: Tensor) -> float:
        return 1.0


class Describing(OfSet):
    """`OfSet` with other descriptions, by `described`."""

    def describe(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> Tensor:
        return self.described(super().describe(generated, true, previous, foreground), foreground)

    def described(self, described: Tensor, foreground: Tensor) -> Tensor:
        raise NotImplementedError


@caught(ORDER=r"shapes of features are \[", TRUTH="equal size", CLOSER="equal size", GLOBAL="equal size")
class AsManyAsVoxels(Describing):
    def described(self, described: Tensor, foreground: Tensor) -> Tensor:
        return described.expand(int(foreground.sum()))


@caught(ORDER=r"features are torch\.int64")
class InIntegers(Describing):
    def described(self, described: Tensor, foreground: Tensor) -> Tensor:
        return (1e6 * described).long()


@caught(ORDER=r"features are on meta", TRUTH="meta", CLOSER="meta", GLOBAL="meta")
class OnAnotherDevice(Describing):
    def described(self, described: Tensor, foreground: Tensor) -> Tensor:
        return described.to("meta")


class Pooling(OfSet):
    """`OfSet` pooled otherwise, by `pool`."""

    def pooled(self, described: Tensor) -> Any:
        return self.pool(described)

    def pool(self, described: Tensor) -> Any:
        raise NotImplementedError


@caught(ORDER="gives Tensor, not float", CLOSER="gives Tensor, not float")
class PooledToTensors(Pooling):
    def pool(self, described: Tensor) -> Tensor:
        return described.double().mean()


@caught(ORDER=r"is 0\.\d+, and 0\.\d+ in another order")
class TheFirstVisit(Pooling):
    def pool(self, described: Tensor) -> float:
        return float(described[0])


@caught(SERIES=r"is 0\.\d+, and 0\.\d+ with times in another unit")
class InOneUnit(OfSeries):
    def rates(self, series: Tensor, times: Sequence[float]) -> float:
        return super().rates(series, times) + 1.0


@caught(SERIES="of 3 visits it is nan")
class NeedingFour(OfSeries):
    def of_series(self, generated: Tensor, true: Tensor, foreground: Tensor, times: Sequence[float]) -> float:
        return super().of_series(generated, true, foreground, times) if len(times) > 3 else math.nan


@caught(SERIES=r"of one visit it is \d\.\d+, not NaN")
class OfOneVisitToo(OfSeries):
    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        return float((true - previous).abs().mean())


class Drawing(Scoring):
    """`Good` with something global drawn, by `draw`."""

    def value(self, error: float, generated: Tensor) -> float:
        return error * (1 + 1e-9 * self.draw())

    def draw(self) -> float:
        raise NotImplementedError


@caught(GLOBAL="draws from torch's global generator")
class DrawingFromTorch(Drawing):
    def draw(self) -> float:
        return float(torch.rand(()))


@caught(GLOBAL=r"draws from Python's global generator \(random\)")
class DrawingFromPython(Drawing):
    def draw(self) -> float:
        return random.random()


@caught(GLOBAL=r"draws from NumPy's global generator \(numpy.random\)")
class DrawingFromNumPy(Drawing):
    def draw(self) -> float:
        return float(np.random.rand())


@caught(GLOBAL="the result depends on the states of the global generators")
class LookingAtTheSeed(Drawing):
    def draw(self) -> float:
        return 1e3 * (torch.initial_seed() % 7)


@caught(GLOBAL="draws from torch's global generator")
class MadeAtRandom(Good):
    def __init__(self, *, power: float = 1.0) -> None:
        super().__init__(power=power)
        self.weights = torch.rand(3)


@caught(REGIONS="its definition does not name the region")
class NamingNoRegion(OfRegion):
    definition = "|generated - true| volume / true volume"


@caught(REGIONS="of a region that is nowhere it is 0.0, not NaN")
class CountingNothing(OfRegion):
    def of_region(self, generated: RegionMasks, true: RegionMasks) -> float:
        if true.visit is not None and not true.visit.any():
            return 0.0
        return super().of_region(generated, true)


@pytest.mark.parametrize("cls", BROKEN, ids=lambda cls: cls.__name__)
def test_a_broken_one_is_caught(cls: type) -> None:
    assert_caught("metric", cls, BROKEN[cls])


def test_every_check_can_fail() -> None:
    assert_each_is_broken("metric", BROKEN)
