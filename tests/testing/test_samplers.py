"""The checks of samplers: a good one passes, and each check catches one that breaks it."""

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.conformance import COMPOSES, assert_caught, assert_each_is_broken, broken_classes, problems, registered
from longigen import Generators, Prediction, Sampler, alpha_sigma, prediction_target, randn_like
from longigen.testing import run_check


class Good(Sampler):
    """DDIM without fresh noise."""

    def __init__(self, *, prediction: Prediction = "v", steps: int = 20) -> None:
        super().__init__(prediction=prediction, steps=steps)

    def step(self, z_t: Tensor, x: Tensor, t: Tensor, s: Tensor, generator: Generators) -> Tensor:
        alpha_t, sigma_t, alpha_s, sigma_s = (each.to(x.dtype) for each in (*self.alpha_sigma(t), *self.alpha_sigma(s)))
        return alpha_s * x + sigma_s * (z_t - alpha_t * x) / sigma_t


class Fresh(Good):
    """As good, and all noise is fresh at each step."""

    def step(self, z_t: Tensor, x: Tensor, t: Tensor, s: Tensor, generator: Generators) -> Tensor:
        alpha_s, sigma_s = (each.to(x.dtype) for each in self.alpha_sigma(s))
        return alpha_s * x + sigma_s * randn_like(x, generator)


class FromABase(Good):
    """As good, from the base in the place of noise."""

    start = "base"

    def noise_std(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def corrupt(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        log_snr = self.log_snr(self.training_times(len(x), generator))
        alpha, sigma = (part.view(-1, *[1] * (x.ndim - 1)) for part in alpha_sigma(log_snr))
        origin = self.origin(x, generator)
        return alpha * x + sigma * origin, log_snr, prediction_target(self.prediction, x, origin, log_snr)

    def origin(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return self.base


@pytest.mark.parametrize("cls", [Good, Fresh, FromABase])
@pytest.mark.parametrize("prediction", ["epsilon", "x", "v", "velocity"])
def test_a_good_one_passes(cls: type, prediction: Prediction) -> None:
    assert problems("sampler", cls, {"prediction": prediction}) == {}


@pytest.mark.slow
def test_a_good_one_composes() -> None:
    with registered("sampler", Good) as name:
        run_check("sampler", COMPOSES, name)


CONFIGURATION = "can be made again from its configuration"
SCHEDULE = "has a schedule that preserves variance"
CORRUPTS = "corrupts by its schedule"
KNOWN = "returns a volume that is known"
STEPS = "steps to the noise level of the next time"
RANGE = "keeps to what the network knows"
SEEDED = "is seeded per sample"
GLOBAL = "leaves global random generators alone"
PROGRESS = "tells its progress"

BROKEN, caught = broken_classes(globals())


@caught(CONFIGURATION=r"the configuration .*'steps': 21\} became .*'steps': 22\}")
class ChangingItsConfiguration(Good):
    def __init__(self, *, prediction: Prediction = "v", steps: int = 20) -> None:
        super().__init__(prediction=prediction, steps=steps)
        self.config["steps"] = steps + 1


class Schedule(Good):
    """A schedule that is linear in t, and its inverse."""

    first, last = 20.0, -20.0

    def log_snr(self, t: Tensor) -> Tensor:
        return self.first + (self.last - self.first) * t

    def time(self, log_snr: Tensor) -> Tensor:
        return (log_snr - self.first) / (self.last - self.first)


def test_a_good_schedule_passes() -> None:
    assert problems("sampler", Schedule) == {}


@caught(SCHEDULE="λ is not finite somewhere on \\[0, 1\\]")
class InfiniteAtTheStart(Schedule):
    def log_snr(self, t: Tensor) -> Tensor:
        return torch.where(t == 0, torch.inf, super().log_snr(t))

    @property
    def trained_range(self) -> tuple[float, float]:
        return -20.0, 20.0

    def span(self, steps: int, within: tuple[float, float] | None) -> tuple[float, float]:
        low, high = within or (-20.0, 20.0)
        return max(low, -20.0), min(high, 20.0)


@caught(
    SCHEDULE="λ does not fall with t", STEPS="does not hold α x", RANGE="training leaves its range, λ from 20 to -20"
)
class Rising(Schedule):
    first, last = -20.0, 20.0


@caught(SCHEDULE="α² \\+ σ² is not 1", STEPS="z_s does not hold α x")
class VarianceExploding(Good):
    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = super().alpha_sigma(t)
        return torch.ones_like(alpha), sigma / alpha


@caught(SCHEDULE="λ is not log\\(α²/σ²\\)")
class OtherAlpha(Good):
    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cos(t * torch.pi / 2), torch.sin(t * torch.pi / 2)


@caught(SCHEDULE="time\\(λ\\) is not the inverse of log_snr\\(t\\)")
class ScheduleWithoutInverse(Schedule):
    def time(self, log_snr: Tensor) -> Tensor:
        return super().time(log_snr) ** 1.001


@caught(SCHEDULE="timesteps\\(7\\) gives 8 times")
class OneTimeMore(Good):
    def timesteps(self, steps: int, within: tuple[float, float] | None = None) -> Tensor:
        return super().timesteps(steps + 1, within)


@caught(SCHEDULE="times of generation do not fall")
class RepeatingTheLastTime(Good):
    def timesteps(self, steps: int, within: tuple[float, float] | None = None) -> Tensor:
        times = super().timesteps(steps, within)
        return torch.cat([times[:-1], times[-2:-1]]) if steps > 2 else times


@caught(SCHEDULE="generation starts after t = 1", RANGE="asks λ")
class StartingLate(Schedule):
    def timesteps(self, steps: int, within: tuple[float, float] | None = None) -> Tensor:
        return super().timesteps(steps, within) + 1e-4


@caught(SCHEDULE="generation ends before t = 0", RANGE=r"asks λ = -20 of a network that begins at -3\.0")
class EndingEarly(Schedule):
    def timesteps(self, steps: int, within: tuple[float, float] | None = None) -> Tensor:
        return torch.linspace(1.0, -0.1, steps, dtype=torch.float64)


class Corrupting(Good):
    """`Good` with another `corrupt`, by `corrupted`."""

    def corrupt(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        return self.corrupted(x, *super().corrupt(x, generator))

    def corrupted(self, x: Tensor, z_t: Tensor, log_snr: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        raise NotImplementedError


@caught(CORRUPTS=r"z_t is \(3, 1, 16, 16\) for \(3, 1, 16, 16, 16\)")
class CorruptingASlice(Corrupting):
    def corrupted(self, x: Tensor, z_t: Tensor, log_snr: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return z_t[..., 0], log_snr, target


@caught(CORRUPTS=r"λ is \(\) for a batch of 3")
class OneLevelForAll(Corrupting):
    def corrupted(self, x: Tensor, z_t: Tensor, log_snr: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return z_t, log_snr[0], target


@caught(CORRUPTS="z_t at λ = .* does not hold α x, but .* σ more or less of x")
class CorruptingNothing(Corrupting):
    def __init__(self, *, prediction: Prediction = "x", steps: int = 20) -> None:
        super().__init__(prediction=prediction, steps=steps)

    def corrupted(self, x: Tensor, z_t: Tensor, log_snr: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x, log_snr, target


@caught(CORRUPTS="the noise in z_t at λ = .* is .* times σ")
class TooMuchNoise(Corrupting):
    def __init__(self, *, prediction: Prediction = "x", steps: int = 20) -> None:
        super().__init__(prediction=prediction, steps=steps)

    def corrupted(self, x: Tensor, z_t: Tensor, log_snr: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return z_t + torch.randn(z_t.shape, generator=torch.Generator().manual_seed(9)), log_snr, target


@caught(CORRUPTS="the target does not give x back")
class OtherTarget(Corrupting):
    def corrupted(self, x: Tensor, z_t: Tensor, log_snr: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return z_t, log_snr, -target


@caught(CORRUPTS="z_t at λ = .* does not hold α x|the noise in z_t at λ = .* times σ")
class ForgettingItsBase(FromABase):
    def origin(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return randn_like(x, generator)


@caught(STEPS="at λ = .* of 2 steps z_s (does not hold α x|holds noise of)")
class LeavingItsBase(FromABase):
    def step(self, z_t: Tensor, x: Tensor, t: Tensor, s: Tensor, generator: Generators) -> Tensor:
        alpha_s, sigma_s = (each.to(x.dtype) for each in self.alpha_sigma(s))
        return alpha_s * x + sigma_s * randn_like(x, generator)


class Losing(Good):
    """`Good` with another loss, by `lost`."""

    def loss(self, output: Tensor, target: Tensor, log_snr: Tensor) -> Tensor:
        return self.lost(super().loss(output, target, log_snr))

    def lost(self, loss: Tensor) -> Tensor:
        raise NotImplementedError


@caught(CORRUPTS=r"the loss is \(\), not one per sample")
class MeanLoss(Losing):
    def lost(self, loss: Tensor) -> Tensor:
        return loss.mean()


@caught(CORRUPTS="a perfect prediction has a loss")
class LossOfThePerfect(Losing):
    def lost(self, loss: Tensor) -> Tensor:
        return loss + 1


@caught(CORRUPTS="a wrong prediction has no loss")
class NoLoss(Losing):
    def lost(self, loss: Tensor) -> Tensor:
        return 0 * loss


class Sampling(Good):
    """`Good` with another `sample`, by `sampled`."""

    def sample(
        self,
        predict: Callable[[Tensor, Tensor], Tensor],
        z: Tensor,
        generator: Generators,
        *,
        steps: int | None = None,
        within: tuple[float, float] | None = None,
        callback: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        last: list[Tensor] = []

        def remembered(z_t: Tensor, log_snr: Tensor) -> Tensor:
            last[:] = [z_t]
            return predict(z_t, log_snr)

        made = super().sample(remembered, z, generator, steps=steps, within=within, callback=callback)
        return self.sampled(made, last[0])

    def sampled(self, made: Tensor, z: Tensor) -> Tensor:
        raise NotImplementedError


@caught(KNOWN="1 steps end .* away")
class ReturningTheNoisyVolume(Sampling):
    def sampled(self, made: Tensor, z: Tensor) -> Tensor:
        return z


@caught(KNOWN="λ is not per sample", RANGE="zero-dimensional")
class AskingForAll(Good):
    def sample(
        self,
        predict: Callable[[Tensor, Tensor], Tensor],
        z: Tensor,
        generator: Generators,
        *,
        steps: int | None = None,
        within: tuple[float, float] | None = None,
        callback: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        def of_all(z_t: Tensor, log_snr: Tensor) -> Tensor:
            return predict(z_t, log_snr[0])

        return super().sample(of_all, z, generator, steps=steps, within=within, callback=callback)


@caught(STEPS="at λ = .* of 2 steps z_s does not hold α x, but .* σ more or less of x")
class WithoutAlpha(Good):
    def step(self, z_t: Tensor, x: Tensor, t: Tensor, s: Tensor, generator: Generators) -> Tensor:
        sigma_s = self.alpha_sigma(s)[1].to(x.dtype)
        return x + sigma_s * randn_like(x, generator)


@caught(STEPS="at λ = .* steps z_s holds noise of .* σ")
class NoiseOfSizeOne(Good):
    def step(self, z_t: Tensor, x: Tensor, t: Tensor, s: Tensor, generator: Generators) -> Tensor:
        return self.alpha_sigma(s)[0].to(x.dtype) * x + randn_like(x, generator)


@caught(STEPS="at λ = .* of 2 steps z_s holds noise of .*e-0. σ")
class WithoutNoise(Good):
    def step(self, z_t: Tensor, x: Tensor, t: Tensor, s: Tensor, generator: Generators) -> Tensor:
        return self.alpha_sigma(s)[0].to(x.dtype) * x


@caught(RANGE=r"asks λ = .* of a network that begins at -3\.0")
class StartingFromItsOwnLevel(Good):
    def timesteps(self, steps: int, within: tuple[float, float] | None = None) -> Tensor:
        return super().timesteps(steps)


@caught(RANGE=r"asks λ = .* of a network that ends at 1\.0")
class EndingAtItsOwnLevel(Good):
    def span(self, steps: int, within: tuple[float, float] | None) -> tuple[float, float]:
        low, high = super().span(steps, within)
        return low, max(high, 15.0)


@caught(RANGE=r"training leaves its range, λ from -20 to 0")
class TrainingBeyondItsRange(Good):
    @property
    def trained_range(self) -> tuple[float, float]:
        return super().trained_range[0], 0.0


@caught(SEEDED="a sample depends on its batch")
class OneGeneratorForAll(Good):
    def step(self, z_t: Tensor, x: Tensor, t: Tensor, s: Tensor, generator: Generators) -> Tensor:
        first = generator if isinstance(generator, torch.Generator) else generator[0]
        alpha_s, sigma_s = (each.to(x.dtype) for each in self.alpha_sigma(s))
        return alpha_s * x + sigma_s * randn_like(x, first)


@caught(SEEDED="a sample depends on those that were generated before")
class RememberingSamples(Sampling):
    made = 0

    def sampled(self, made: Tensor, z: Tensor) -> Tensor:
        self.made += 1
        return made + 1e-7 * self.made


@caught(SEEDED="it says that it is deterministic, and samples differ")
class ClaimingToBeDeterministic(Fresh):
    deterministic = True


class Drawing(Good):
    """`Good` with something global drawn at each step, by `draw`."""

    def step(self, z_t: Tensor, x: Tensor, t: Tensor, s: Tensor, generator: Generators) -> Tensor:
        return super().step(z_t, x, t, s, generator) + 1e-3 * self.draw()

    def draw(self) -> float:
        raise NotImplementedError


@caught(GLOBAL="draws from torch's global generator", SEEDED="a sample depends on")
class DrawingFromTorch(Drawing):
    def draw(self) -> float:
        return float(torch.rand(()))


@caught(GLOBAL="draws from torch's global generator")
class SeedingTorch(Drawing):
    def draw(self) -> float:
        torch.manual_seed(0)
        return float(torch.rand(()))


@caught(GLOBAL=r"draws from Python's global generator \(random\)")
class SeedingPython(Drawing):
    def draw(self) -> float:
        random.seed(0)
        return random.random()


@caught(GLOBAL=r"draws from NumPy's global generator \(numpy.random\)")
class SeedingNumPy(Drawing):
    def draw(self) -> float:
        np.random.seed(0)
        return float(np.random.rand())


@caught(GLOBAL="the result depends on the states of the global generators")
class LookingAtTheSeed(Drawing):
    def draw(self) -> float:
        return torch.initial_seed() % 7


@caught(GLOBAL="the result is another each time")
class TrainingTimesOfItsOwn(Good):
    generator = torch.Generator()

    def training_times(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.rand(count, generator=self.generator)


@caught(GLOBAL="draws from torch's global generator")
class TrainingTimesFromTorch(Good):
    def training_times(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.rand(count)


@caught(GLOBAL="draws from torch's global generator")
class MadeAtRandom(Good):
    def __init__(self, *, prediction: Prediction = "v", steps: int = 20) -> None:
        super().__init__(prediction=prediction, steps=steps)
        self.shift = 1e-3 * float(torch.rand(()))

    def step(self, z_t: Tensor, x: Tensor, t: Tensor, s: Tensor, generator: Generators) -> Tensor:
        return super().step(z_t, x, t, s, generator) + self.shift


@caught(PROGRESS="the callback is never called")
class SayingNothing(Good):
    def sample(
        self,
        predict: Callable[[Tensor, Tensor], Tensor],
        z: Tensor,
        generator: Generators,
        *,
        steps: int | None = None,
        within: tuple[float, float] | None = None,
        callback: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        return super().sample(predict, z, generator, steps=steps, within=within)


@caught(PROGRESS="the last call of the callback says 2 of 3 steps")
class CountingFromZero(Good):
    def sample(
        self,
        predict: Callable[[Tensor, Tensor], Tensor],
        z: Tensor,
        generator: Generators,
        *,
        steps: int | None = None,
        within: tuple[float, float] | None = None,
        callback: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        less = callback and (lambda done, total: callback(done - 1, total))
        return super().sample(predict, z, generator, steps=steps, within=within, callback=less)


@caught(COMPOSES="with .* and .*, target image: AssertionError: the generated visit is not finite")
class ForEvenDepths(Sampling):
    def sampled(self, made: Tensor, z: Tensor) -> Tensor:
        return made * torch.nan if made.shape[-1] % 2 else made


@pytest.mark.parametrize("cls", BROKEN, ids=lambda cls: cls.__name__)
def test_a_broken_one_is_caught(cls: type) -> None:
    assert_caught("sampler", cls, BROKEN[cls])


def test_every_check_can_fail() -> None:
    assert_each_is_broken("sampler", BROKEN)
