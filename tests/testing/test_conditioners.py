"""The checks of conditioners: a good one passes, and each check catches one that breaks it."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helpers.conformance import COMPOSES, assert_caught, assert_each_is_broken, broken_classes, problems, registered
from longigen import Conditioner, Conditioning, Routes, VisitSequence
from longigen.testing import run_check


class Good(Conditioner):
    """The last image, and an embedding of its gap to the target and of the covariates."""

    def __init__(self, *, width: int = 4) -> None:
        super().__init__()
        self.width = width

    def build(self, *, channels: int, stem_features: int, time_scale: float, covariates: tuple[str, ...]) -> None:
        self.routes = Routes(concat=channels, embedding=self.width)
        self.time_scale, self.names = time_scale, covariates
        self.layer = nn.Linear(1 + len(covariates), self.width)

    def seen(self, history: VisitSequence, target_time: Tensor) -> Tensor:
        return history.before(target_time)

    def forward(self, history: VisitSequence, target_time: Tensor) -> Conditioning:
        image, time = self.last(history, target_time)
        numbers = [(target_time - time) / self.time_scale]
        for name in self.names:
            values, present = history.covariates[name]
            used = present & self.seen(history, target_time)
            numbers.append(torch.where(used, values, 0.0).sum(dim=1))
        return Conditioning(concat=image, embedding=self.layer(torch.stack(numbers, dim=1)))

    def last(self, history: VisitSequence, target_time: Tensor) -> tuple[Tensor, Tensor]:
        return history.last(target_time)

    def explain(self, history: VisitSequence, target_time: Tensor) -> Tensor:
        seen = self.seen(history, target_time).float()
        shares = seen / seen.sum(dim=1, keepdim=True)
        return shares[:, :, None, None, None].expand(*shares.shape, *history.images.shape[3:]).clone()


class Silent(Good):
    """It has no parameters and does not say where it looked."""

    explain = Conditioner.explain

    def build(self, *, channels: int, stem_features: int, time_scale: float, covariates: tuple[str, ...]) -> None:
        self.routes = Routes(concat=channels)
        self.time_scale = time_scale

    def forward(self, history: VisitSequence, target_time: Tensor) -> Conditioning:
        return Conditioning(concat=history.last(target_time)[0])


class Either(Good):
    """It uses later visits too, and so is not causal."""

    causal = False

    def seen(self, history: VisitSequence, target_time: Tensor) -> Tensor:
        return history.valid & (history.times != target_time[:, None])

    def last(self, history: VisitSequence, target_time: Tensor) -> tuple[Tensor, Tensor]:
        used = history.observed & self.seen(history, target_time)
        index = torch.where(used, history.times, -torch.inf).argmax(dim=1)
        rows = torch.arange(len(index))
        return history.images[rows, index], history.times[rows, index]


@pytest.mark.parametrize("cls", [Good, Silent, Either])
def test_a_good_one_passes(cls: type) -> None:
    assert problems("conditioner", cls, also="compiles") == {}


@pytest.mark.slow
@pytest.mark.parametrize("cls", [Good, Either])
def test_a_good_one_composes(cls: type) -> None:
    with registered("conditioner", cls) as name:
        run_check("conditioner", COMPOSES, name)


CONFIGURATION = "can be made again from its configuration"
ROUTES = "emits the routes that it declares, at any size"
ONE = "takes a history of one visit"
MISSING = "takes visits without an image"
CHANNELS = "takes several channels, and visits that lack one"
DETERMINISTIC = "is deterministic"
GLOBAL = "leaves global random generators alone"
FUTURE = "sees neither the target nor, if causal, what comes after it"
COVARIATES = "does not see covariates that are missing"
NAMED = "uses no other covariates than it names"
PADDING = "ignores padding"
APART = "treats the subjects of a batch apart"
UNIT = "gives the same in any unit of time"
EXPLAINS = "says where it looked, if it says so at all"
GRADIENTS = "gives gradients to every parameter"
SAVES = "saves and loads"
BFLOAT = "runs in bfloat16"
COMPILES = "compiles"

BROKEN, caught = broken_classes(globals())


@caught(CHANNELS=r"declares Routes\(concat=2, .* but emits Routes\(concat=1, .* for two channels")
class SeeingTheFirstChannel(Good):
    def forward(self, history: VisitSequence, target_time: Tensor) -> Conditioning:
        given = super().forward(history, target_time)
        assert given.concat is not None
        return Conditioning(concat=given.concat[:, :1], embedding=given.embedding)


class Changed(Good):
    """`Good` with its embedding changed, by `change`."""

    def forward(self, history: VisitSequence, target_time: Tensor) -> Conditioning:
        given = super().forward(history, target_time)
        assert given.embedding is not None
        change = torch.as_tensor(self.change(history, target_time), dtype=torch.float32)
        return Conditioning(concat=given.concat, embedding=given.embedding + change.view(-1, 1))

    def change(self, history: VisitSequence, target_time: Tensor) -> Any:
        raise NotImplementedError


@caught(CONFIGURATION=r"the configuration \{'width': 5\} became \{'width': 6\}")
class ChangingItsConfiguration(Good):
    def __init__(self, *, width: int = 4) -> None:
        super().__init__(width=width)
        self.config["width"] = width + 1


@caught(CONFIGURATION=r"its configuration .* does not make it again: .*has no parameter 'offset'")
class AddingToItsConfiguration(Good):
    def __init__(self, *, width: int = 4) -> None:
        super().__init__(width=width)
        self.config["offset"] = 0.5


@caught(CONFIGURATION="its configuration .* does not make it again: .*not JSON serializable")
class ConfigurationThatIsNotPlain(Good):
    def __init__(self, *, width: int = 4) -> None:
        super().__init__(width=width)
        self.config["width"] = np.int64(width)


@caught(
    ROUTES=r"declares Routes\(concat=2, .* but emits Routes\(concat=1",
    CHANNELS=r"declares Routes\(concat=3, .* but emits Routes\(concat=2, .* for two channels",
)
class OtherRoutes(Good):
    def build(self, *, channels: int, stem_features: int, time_scale: float, covariates: tuple[str, ...]) -> None:
        super().build(channels=channels, stem_features=stem_features, time_scale=time_scale, covariates=covariates)
        self.routes = Routes(concat=channels + 1, embedding=self.width)


class OtherImage(Silent):
    """`Silent` with another image, by `image`."""

    def forward(self, history: VisitSequence, target_time: Tensor) -> Conditioning:
        return Conditioning(concat=self.image(history.last(target_time)[0], history))

    def image(self, last: Tensor, history: VisitSequence) -> Tensor:
        raise NotImplementedError


@caught(ROUTES=r"concat is \(8, 10, 10\) for volumes of \(9, 10, 11\)")
class OnlyEvenSizes(OtherImage):
    def image(self, last: Tensor, history: VisitSequence) -> Tensor:
        return last[..., : last.shape[-3] // 2 * 2, :, : last.shape[-1] // 2 * 2]


@caught(ROUTES=r"concat is torch\.int32, not floating", BFLOAT="point")
class OfIntegers(OtherImage):
    def image(self, last: Tensor, history: VisitSequence) -> Tensor:
        return (100 * last).int()


@caught(ROUTES=r"concat is not finite at size \(16, 8, 5\)")
class NotFiniteWhereThin(OtherImage):
    def image(self, last: Tensor, history: VisitSequence) -> Tensor:
        return last / (last.shape[-1] > 5)


@caught(ROUTES="concat has batch 1 for 2 subjects", APART="index 1 is out of bounds")
class OneSubject(OtherImage):
    def image(self, last: Tensor, history: VisitSequence) -> Tensor:
        return last[:1]


@caught(ONE="embedding is not finite for a history of a single visit")
class OverSeveralVisits(Changed):
    def change(self, history: VisitSequence, target_time: Tensor) -> Any:
        return torch.zeros(()) / (len(history) - 1)


@caught(MISSING="embedding is not finite for a history in which visits lack an image", GRADIENTS="not finite")
class WithEveryImage(Changed):
    def change(self, history: VisitSequence, target_time: Tensor) -> Any:
        seen = history.before(target_time)
        return 0 / (history.observed | ~seen).all(dim=1).float()


@caught(DETERMINISTIC="the same history gives another embedding the second time")
class Counting(Changed):
    calls = 0

    def change(self, history: VisitSequence, target_time: Tensor) -> Any:
        self.calls += 1
        return 1e-6 * self.calls


@caught(DETERMINISTIC="the same history gives another concat the second time")
class Remembering(OtherImage):
    before: Tensor | None = None

    def image(self, last: Tensor, history: VisitSequence) -> Tensor:
        result = last + 1e-6 * (self.before is not None)
        self.before = last
        return result


@caught(GLOBAL="draws from torch's global generator", DETERMINISTIC="another embedding")
class DrawingFromTorch(Changed):
    def change(self, history: VisitSequence, target_time: Tensor) -> Any:
        return 1e-6 * torch.rand(())


@caught(GLOBAL="draws from torch's global generator")
class SeedingTorch(Changed):
    def change(self, history: VisitSequence, target_time: Tensor) -> Any:
        torch.manual_seed(0)
        return torch.rand(())


@caught(GLOBAL=r"draws from Python's global generator \(random\)", DETERMINISTIC="another embedding")
class DrawingFromPython(Changed):
    def change(self, history: VisitSequence, target_time: Tensor) -> Any:
        return 1e-6 * random.random()


@caught(GLOBAL=r"draws from NumPy's global generator \(numpy.random\)", DETERMINISTIC="another embedding")
class DrawingFromNumPy(Changed):
    def change(self, history: VisitSequence, target_time: Tensor) -> Any:
        return 1e-6 * np.random.rand()


@caught(GLOBAL="the result depends on the states of the global generators")
class LookingAtTheSeed(Changed):
    def change(self, history: VisitSequence, target_time: Tensor) -> Any:
        return float(torch.initial_seed() % 7)


@caught(GLOBAL="draws from torch's global generator")
class ExplainingAtRandom(Good):
    def explain(self, history: VisitSequence, target_time: Tensor) -> Tensor:
        torch.manual_seed(0)
        return super().explain(history, target_time)


@caught(NAMED="a covariate that used_covariates does not name matters")
class NamingNoCovariate(Good):
    used_covariates = ()


@caught(FUTURE="the image of a visit at or after the target's time matters: concat moved by")
class SeeingLaterImages(OtherImage):
    def image(self, last: Tensor, history: VisitSequence) -> Tensor:
        return last + torch.where(history.valid[:, :, None, None, None, None], history.images, 0.0).sum(dim=1)


@caught(FUTURE="the time of a visit at or after the target's time matters: embedding moved by")
class SeeingLaterTimes(Changed):
    def change(self, history: VisitSequence, target_time: Tensor) -> Any:
        times = torch.where(history.valid, history.times, -torch.inf).amax(dim=1)
        return (target_time - times) / self.time_scale


@caught(FUTURE="a covariate of a visit at or after the target's time matters")
class SeeingLaterCovariates(Changed):
    def change(self, history: VisitSequence, target_time: Tensor) -> Any:
        values, present = history.covariates["age"]
        return torch.where(present & history.valid, values, 0.0).sum(dim=1)


@caught(FUTURE="whether a covariate is present at a visit at or after the target's time matters")
class CountingLaterCovariates(Changed):
    def change(self, history: VisitSequence, target_time: Tensor) -> Any:
        return (history.covariates["age"].present & history.valid).sum(dim=1)


@caught(FUTURE="whether there is an image of a visit at or after the target's time matters")
class CountingLaterImages(Changed):
    def change(self, history: VisitSequence, target_time: Tensor) -> Any:
        return history.observed.sum(dim=1)


@caught(FUTURE="whether there is a visit at or after the target's time matters")
class CountingLaterVisits(Changed):
    def change(self, history: VisitSequence, target_time: Tensor) -> Any:
        return history.valid.sum(dim=1)


@caught(FUTURE="the image of the target's own visit matters")
class SeeingTheTarget(Either):
    def seen(self, history: VisitSequence, target_time: Tensor) -> Tensor:
        return history.valid

    explain = Conditioner.explain

    def last(self, history: VisitSequence, target_time: Tensor) -> tuple[Tensor, Tensor]:
        image, time = super().last(history, target_time)
        own = history.observed & (history.times == target_time[:, None])
        return image + torch.where(own[:, :, None, None, None, None], history.images, 0.0).sum(dim=1), time


@caught(FUTURE="a covariate of the target's own visit matters")
class SeeingTheTargetsCovariates(Either):
    explain = Conditioner.explain

    def seen(self, history: VisitSequence, target_time: Tensor) -> Tensor:
        return history.valid

    def last(self, history: VisitSequence, target_time: Tensor) -> tuple[Tensor, Tensor]:
        return history.images[:, 0], history.times[:, 0]


@caught(FUTURE="whether there is the target's own visit matters")
class KnowingOfTheTarget(Either, Changed):
    def change(self, history: VisitSequence, target_time: Tensor) -> Any:
        return (history.valid & (history.times == target_time[:, None])).sum(dim=1)


@caught(COVARIATES="the value of a covariate that is not present matters: embedding moved by")
class SeeingMissingCovariates(Changed):
    def change(self, history: VisitSequence, target_time: Tensor) -> Any:
        return torch.where(history.before(target_time), history.covariates["age"].values, 0.0).sum(dim=1)


@caught(PADDING="padding matters: embedding moved by")
class CountingPadding(Changed):
    def change(self, history: VisitSequence, target_time: Tensor) -> Any:
        return float(len(history))


@caught(PADDING=r"padding matters: routes are .*tokens=2\)|padding matters: tokens is \(1, 2, 4\) and \(1, 4, 4\)")
class TokensOfPadding(Good):
    def build(self, *, channels: int, stem_features: int, time_scale: float, covariates: tuple[str, ...]) -> None:
        super().build(channels=channels, stem_features=stem_features, time_scale=time_scale, covariates=covariates)
        self.routes = Routes(tokens=self.width)

    def forward(self, history: VisitSequence, target_time: Tensor) -> Conditioning:
        embedding = super().forward(history, target_time).embedding
        assert embedding is not None
        return Conditioning(tokens=embedding[:, None].expand(-1, len(history), -1))


@caught(APART="concat of a subject depends on the others in the batch")
class NormalisingOverTheBatch(OtherImage):
    def image(self, last: Tensor, history: VisitSequence) -> Tensor:
        return last - last.mean()


@caught(UNIT="times and time_scale both multiplied by 256 matter; divide times by time_scale: embedding moved by")
class IgnoringTheTypicalGap(Changed):
    def change(self, history: VisitSequence, target_time: Tensor) -> Any:
        return torch.sin(target_time - history.last(target_time)[1])


@caught(UNIT="divide times by time_scale")
class TellingTheTypicalGap(Changed):
    def change(self, history: VisitSequence, target_time: Tensor) -> Any:
        return self.time_scale


class Explaining(Good):
    """`Good` with its shares changed, by `shares`."""

    def explain(self, history: VisitSequence, target_time: Tensor) -> Tensor:
        return self.shares(super().explain(history, target_time), history, target_time)

    def shares(self, shares: Tensor, history: VisitSequence, target_time: Tensor) -> Tensor:
        raise NotImplementedError


@caught(EXPLAINS=r"shares are \(2, 4, 1, 1, 1\) for volumes of \(9, 10, 11\)")
class SharesOfVisitsAlone(Explaining):
    def shares(self, shares: Tensor, history: VisitSequence, target_time: Tensor) -> Tensor:
        return shares[..., :1, :1, :1]


@caught(EXPLAINS=r"shares are torch\.float64, not float32")
class DoubleShares(Explaining):
    def shares(self, shares: Tensor, history: VisitSequence, target_time: Tensor) -> Tensor:
        return shares.double()


@caught(EXPLAINS="shares carry gradients")
class SharesWithGradients(Explaining):
    def shares(self, shares: Tensor, history: VisitSequence, target_time: Tensor) -> Tensor:
        return shares + 0 * self.layer.weight.sum()


@caught(EXPLAINS="a share is negative or not a number")
class NegativeShares(Explaining):
    def shares(self, shares: Tensor, history: VisitSequence, target_time: Tensor) -> Tensor:
        return -shares


@caught(EXPLAINS="the shares do not sum to 1 over visits")
class SharesOfAHalf(Explaining):
    def shares(self, shares: Tensor, history: VisitSequence, target_time: Tensor) -> Tensor:
        return shares / 2


@caught(EXPLAINS="padding, the target's own or a later visit has a share")
class SharesForAll(Explaining):
    def shares(self, shares: Tensor, history: VisitSequence, target_time: Tensor) -> Tensor:
        return torch.full_like(shares, 1 / shares.shape[1])


@caught(EXPLAINS="an image that must not be seen moves the shares")
class SharesByLaterImages(Explaining):
    def shares(self, shares: Tensor, history: VisitSequence, target_time: Tensor) -> Tensor:
        first = torch.zeros_like(shares)
        first[:, 0] = 1
        later = (history.observed & ~history.before(target_time)).any(dim=1)
        return torch.where(later.view(-1, 1, 1, 1, 1), first, shares)


@caught(EXPLAINS="the shares are others the second time")
class CountingShares(Explaining):
    calls = 0

    def shares(self, shares: Tensor, history: VisitSequence, target_time: Tensor) -> Tensor:
        self.calls += 1
        return shares * (1 + 1e-6 * self.calls)


@caught(EXPLAINS="asking where it looked changes what it emits")
class ChangedByExplaining(Changed):
    asked = 0

    def change(self, history: VisitSequence, target_time: Tensor) -> Any:
        return float(self.asked)

    def explain(self, history: VisitSequence, target_time: Tensor) -> Tensor:
        self.asked += 1
        return super().explain(history, target_time)


@caught(GRADIENTS=r"no gradient reaches unused\.weight, unused\.bias")
class UnusedLayer(Good):
    def build(self, *, channels: int, stem_features: int, time_scale: float, covariates: tuple[str, ...]) -> None:
        super().build(channels=channels, stem_features=stem_features, time_scale=time_scale, covariates=covariates)
        self.unused = nn.Linear(2, 2)


@caught(GRADIENTS="no gradient reaches any parameter")
class Detached(Good):
    @torch.no_grad()
    def forward(self, history: VisitSequence, target_time: Tensor) -> Conditioning:
        return super().forward(history, target_time)


@caught(GRADIENTS=r"the gradient of layer\.bias is not finite")
class RootOfZero(Changed):
    def change(self, history: VisitSequence, target_time: Tensor) -> Any:
        return (0 * self.layer.bias.sum()).sqrt()


@caught(GRADIENTS="every gradient is zero")
class TimesZero(Good):
    def forward(self, history: VisitSequence, target_time: Tensor) -> Conditioning:
        given = super().forward(history, target_time)
        assert given.embedding is not None
        return Conditioning(concat=given.concat, embedding=0 * given.embedding)


@caught(SAVES="with its weights loaded, another one differs: embedding moved by")
class WeightsThatAreNotSaved(Changed):
    def build(self, *, channels: int, stem_features: int, time_scale: float, covariates: tuple[str, ...]) -> None:
        super().build(channels=channels, stem_features=stem_features, time_scale=time_scale, covariates=covariates)
        self.offset = torch.rand(())

    def change(self, history: VisitSequence, target_time: Tensor) -> Any:
        return self.offset


@caught(SAVES="it cannot be made and built on torch's meta device .*meta")
class LookingAtAWeight(Good):
    def build(self, *, channels: int, stem_features: int, time_scale: float, covariates: tuple[str, ...]) -> None:
        super().build(channels=channels, stem_features=stem_features, time_scale=time_scale, covariates=covariates)
        self.scale = self.layer.weight.abs().max().item()


@caught(SAVES="made on torch's meta device, it differs in late")
class MoreWeightsOffTheMetaDevice(Changed):
    def build(self, *, channels: int, stem_features: int, time_scale: float, covariates: tuple[str, ...]) -> None:
        super().build(channels=channels, stem_features=stem_features, time_scale=time_scale, covariates=covariates)
        if not self.layer.weight.is_meta:
            self.late = nn.Parameter(torch.zeros(()))

    def change(self, history: VisitSequence, target_time: Tensor) -> Any:
        return self.late


@caught(BFLOAT="embedding is off by .*% in bfloat16")
class SmallDifferenceOfLargeNumbers(Good):
    def forward(self, history: VisitSequence, target_time: Tensor) -> Conditioning:
        given = super().forward(history, target_time)
        assert given.embedding is not None
        return Conditioning(concat=given.concat, embedding=(given.embedding + 300) - 300)


@caught(COMPILES="compiled, it differs: embedding moved by")
class OtherwiseCompiled(Changed):
    def change(self, history: VisitSequence, target_time: Tensor) -> Any:
        return float(torch.compiler.is_compiling())


@caught(COMPOSES="with .* and .*, target image: AssertionError: the loss of step 1 is nan")
class NotFiniteInTraining(Changed):
    def change(self, history: VisitSequence, target_time: Tensor) -> Any:
        return torch.nan if self.training else 0.0


@pytest.mark.parametrize("cls", BROKEN, ids=lambda cls: cls.__name__)
def test_a_broken_one_is_caught(cls: type) -> None:
    assert_caught("conditioner", cls, BROKEN[cls])


def test_every_check_can_fail() -> None:
    assert_each_is_broken("conditioner", BROKEN)
