"""The checks of denoisers: a good one passes, and each check catches one that breaks it."""

import random
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helpers.conformance import COMPOSES, assert_caught, assert_each_is_broken, broken_classes, problems, registered
from longigen import Conditioning, Denoiser, Example, Moved, Routes
from longigen.testing import run_check


class Good(Denoiser):
    """A convolution of the noisy volume and `concat`; everything else is added."""

    def __init__(self, *, width: int = 4) -> None:
        super().__init__()
        self.width = width

    @property
    def stem_features(self) -> int:
        return self.width

    def build(self, *, channels: int, routes: Routes) -> None:
        self.stem = nn.Conv3d(channels + routes.concat, self.width, 1)
        self.level = nn.Linear(1 + routes.embedding + routes.tokens, self.width)
        self.head = nn.Conv3d(self.width, channels, 1)

    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        x = self.stem(z_t if conditioning.concat is None else torch.cat([z_t, conditioning.concat], dim=1))
        x = x if conditioning.stem is None else x + conditioning.stem
        known = [log_snr[:, None] / 20]
        known += [] if conditioning.embedding is None else [conditioning.embedding]
        known += [] if conditioning.tokens is None else [conditioning.tokens.mean(dim=1)]
        return self.head(x + self.level(torch.cat(known, dim=1))[:, :, None, None, None]).to(z_t.dtype)


class Silent(Denoiser):
    """It has no parameters, takes no route but `concat`, and does not denoise."""

    denoises = False
    predicts = "x"

    def build(self, *, channels: int, routes: Routes) -> None:
        pass

    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        parts = [getattr(conditioning, name) for name in ("concat", "stem", "embedding", "tokens")]
        total = sum(part.flatten(1).mean(dim=1) for part in parts if part is not None)
        return torch.zeros_like(z_t) + (total if torch.is_tensor(total) else z_t.new_zeros(len(z_t))).view(
            -1, 1, 1, 1, 1
        )


class Based(Good):
    """It adds the last visit."""

    needs_base = True

    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        assert conditioning.base is not None
        return super().forward(z_t, log_snr, conditioning) + conditioning.base


class Moving(Good):
    """It moves the last visit by one voxel at most, and adds its prediction."""

    predicts = "image"
    needs_base = True
    moves = True

    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        base, _ = conditioning.require_base()
        return self.moved(z_t, log_snr, conditioning).image(base)

    def moved(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Moved:
        change = super().forward(z_t, log_snr, conditioning)
        return Moved(torch.tanh(change[:, :1].float()).repeat(1, 3, 1, 1, 1), change)


class Adversarial(Good):
    """It has an adversary that looks at predictions."""

    def build(self, *, channels: int, routes: Routes) -> None:
        super().build(channels=channels, routes=routes)
        self.adversary = nn.Conv3d(channels, 1, 1)

    def adversary_losses(self, example: Example) -> Mapping[str, Tensor]:
        assert self.adversary is not None
        z_t, log_snr, _ = example.sampler.corrupt(example.x, example.generator)
        with torch.no_grad():
            x = example.counting(self(z_t, log_snr, example.conditioning), example.x)
        scores = self.adversary(x) - self.adversary(example.x)
        return {"scores": scores.square().flatten(1).mean(dim=1)}


@pytest.mark.parametrize("cls", [Good, Silent, Based, Moving, Adversarial])
def test_a_good_one_passes(cls: type) -> None:
    assert problems("denoiser", cls, also="compiles") == {}


@pytest.mark.slow
@pytest.mark.parametrize("cls", [Good, Adversarial])
def test_a_good_one_composes(cls: type) -> None:
    with registered("denoiser", cls) as name:
        run_check("denoiser", COMPOSES, name)


CONFIGURATION = "can be made again from its configuration"
SHAPE = "keeps shape and dtype, at any size"
ROUTES = "serves every route"
ALONE = "serves each route alone"
MOVES = "moves the last visit as it declares"
DETERMINISTIC = "is deterministic"
GLOBAL = "leaves global random generators alone"
APART = "treats the samples of a batch apart"
LOSSES = "has losses, named and of each sample"
CHANNELS = "has two channels, and counts none that is missing"
GRADIENTS = "gives gradients to every parameter"
ADVERSARY = "keeps its adversary apart"
SAVES = "saves and loads"
BFLOAT = "runs in bfloat16"
COMPILES = "compiles"

BROKEN, caught = broken_classes(globals())


class Changed(Good):
    """`Good` with its prediction changed, by `change`."""

    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        return self.change(super().forward(z_t, log_snr, conditioning), z_t, log_snr, conditioning)

    def change(self, output: Tensor, z_t: Tensor, log_snr: Tensor, given: Conditioning) -> Tensor:
        raise NotImplementedError


@caught(CONFIGURATION=r"the configuration \{'width': 5\} became \{'width': 6\}")
class ChangingItsConfiguration(Good):
    def __init__(self, *, width: int = 4) -> None:
        super().__init__(width=width)
        self.config["width"] = width + 1


@caught(SHAPE=r"\(2, 1, 9, 10, 11\) became \(2, 1, 10, 10, 12\) with Routes\(concat=3", LOSSES="size of tensor",
        GRADIENTS="size of tensor", GLOBAL="size of tensor", CHANNELS=r"became \(2, 2, 10, 10, 12\)")  # fmt: skip
class PaddingWithoutCropping(Changed):
    def change(self, output: Tensor, z_t: Tensor, log_snr: Tensor, given: Conditioning) -> Tensor:
        pad = [side for size in reversed(output.shape[2:]) for side in (0, size % 2)]
        return nn.functional.pad(output, pad)


@caught(SHAPE=r"torch\.float32 became torch\.float64")
class Double(Changed):
    def change(self, output: Tensor, z_t: Tensor, log_snr: Tensor, given: Conditioning) -> Tensor:
        return output.double()


@caught(SHAPE=r"not finite at \(16, 8, 5\)", LOSSES="the loss 'denoising' is not finite")
class NotFiniteWhereThin(Changed):
    def change(self, output: Tensor, z_t: Tensor, log_snr: Tensor, given: Conditioning) -> Tensor:
        return output / (z_t.shape[-1] > 5)


@caught(SHAPE="list index out of range")
class WithoutRoutesNot(Changed):
    def change(self, output: Tensor, z_t: Tensor, log_snr: Tensor, given: Conditioning) -> Tensor:
        present = [part for part in (given.concat, given.stem, given.embedding, given.tokens) if part is not None]
        return output + 0 * present[0].flatten(1).mean(dim=1).view(-1, 1, 1, 1, 1)


class Without(Good):
    """`Good` without one of its inputs, by `without`."""

    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        return super().forward(*self.without(z_t, log_snr, conditioning))

    def without(self, z_t: Tensor, log_snr: Tensor, given: Conditioning) -> tuple[Tensor, Tensor, Conditioning]:
        raise NotImplementedError


@caught(ROUTES="the route 'tokens' changes nothing", ALONE="the route 'tokens' alone changes nothing")
class IgnoringTokens(Without):
    def without(self, z_t: Tensor, log_snr: Tensor, given: Conditioning) -> tuple[Tensor, Tensor, Conditioning]:
        return z_t, log_snr, Conditioning(given.concat, given.stem, given.embedding, _zero(given.tokens))


@caught(ROUTES="the noise level changes nothing")
class IgnoringTheNoiseLevel(Without):
    def without(self, z_t: Tensor, log_snr: Tensor, given: Conditioning) -> tuple[Tensor, Tensor, Conditioning]:
        return z_t, 0 * log_snr, given


@caught(ROUTES="the noisy volume changes nothing")
class IgnoringTheNoisyVolume(Without):
    def without(self, z_t: Tensor, log_snr: Tensor, given: Conditioning) -> tuple[Tensor, Tensor, Conditioning]:
        return 0 * z_t, log_snr, given


def _zero(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else 0 * tensor


@caught(ROUTES="needs the last visit, which changes nothing")
class NeedingTheLastVisitForNothing(Good):
    needs_base = True


@caught(ROUTES="does not need the last visit, but looks at it")
class LookingAtTheLastVisit(Changed):
    def change(self, output: Tensor, z_t: Tensor, log_snr: Tensor, given: Conditioning) -> Tensor:
        return output if given.base is None else output + given.base


@caught(ROUTES="declares that it does not denoise, but the noise level matters")
class LookingAtTheNoiseLevel(Silent):
    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        return super().forward(z_t, log_snr, conditioning) + log_snr.view(-1, 1, 1, 1, 1)


@caught(ROUTES="declares that it does not denoise, but the noisy volume matters")
class LookingAtTheNoisyVolume(Silent):
    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        return super().forward(z_t, log_snr, conditioning) + z_t


@caught(ALONE="the route 'tokens' alone changes nothing")
class TokensWithEmbeddingsOnly(Without):
    def without(self, z_t: Tensor, log_snr: Tensor, given: Conditioning) -> tuple[Tensor, Tensor, Conditioning]:
        tokens = _zero(given.tokens) if given.embedding is None else given.tokens
        return z_t, log_snr, Conditioning(given.concat, given.stem, given.embedding, tokens)


@caught(ALONE="with the route 'embedding' alone the prediction is not finite")
class EmbeddingsWithTokensOnly(Changed):
    def change(self, output: Tensor, z_t: Tensor, log_snr: Tensor, given: Conditioning) -> Tensor:
        return output if given.embedding is None else output / (given.tokens is not None)


@caught(MOVES="the prediction differs from the last visit moved by up to")
class MovingOtherwise(Moving):
    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        base, _ = conditioning.require_base()
        return Good.forward(self, z_t, log_snr, conditioning) + base


@caught(MOVES=r"the displacement is \(2, 1, 9, 10, 11\), not \(2, 3, 9, 10, 11\)")
class MovingAlongOneAxis(MovingOtherwise):
    def moved(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Moved:
        change = Good.forward(self, z_t, log_snr, conditioning)
        return Moved(change, change)


@caught(MOVES="moves, but predicts is None and not 'image'")
class MovingWithoutAnImage(Moving):
    predicts = None


@caught(MOVES="does not predict the last visit moved")
class MovingWithoutSayingWhere(Based):
    predicts = "image"
    moves = True


@caught(DETERMINISTIC="the same input gives another prediction the second time",
        ROUTES="looks at it", LOSSES="differs for generators of the same seed")  # fmt: skip
class Counting(Changed):
    calls = 0

    def change(self, output: Tensor, z_t: Tensor, log_snr: Tensor, given: Conditioning) -> Tensor:
        self.calls += 1
        return output + 1e-5 * self.calls


@caught(DETERMINISTIC="the same input gives another prediction the second time", ROUTES="looks at it",
        LOSSES="differs for generators of the same seed")  # fmt: skip
class Remembering(Changed):
    before: Tensor | None = None

    def change(self, output: Tensor, z_t: Tensor, log_snr: Tensor, given: Conditioning) -> Tensor:
        first, self.before = self.before is None, z_t.detach()
        return output + 1e-5 * first


@caught(GLOBAL="draws from torch's global generator", DETERMINISTIC="another prediction", ROUTES="looks at it",
        LOSSES="differs for generators of the same seed")  # fmt: skip
class DrawingFromTorch(Changed):
    def change(self, output: Tensor, z_t: Tensor, log_snr: Tensor, given: Conditioning) -> Tensor:
        return output + 1e-5 * torch.rand_like(output)


@caught(GLOBAL="draws from torch's global generator")
class SeedingTorch(Changed):
    def change(self, output: Tensor, z_t: Tensor, log_snr: Tensor, given: Conditioning) -> Tensor:
        torch.manual_seed(0)
        return output + 0.1 * torch.rand(())


@caught(GLOBAL=r"draws from Python's global generator \(random\)")
class SeedingPython(Changed):
    def change(self, output: Tensor, z_t: Tensor, log_snr: Tensor, given: Conditioning) -> Tensor:
        random.seed(0)
        return output + random.random()


@caught(GLOBAL=r"draws from NumPy's global generator \(numpy.random\)")
class SeedingNumPy(Changed):
    def change(self, output: Tensor, z_t: Tensor, log_snr: Tensor, given: Conditioning) -> Tensor:
        np.random.seed(0)
        return output + float(np.random.rand())


@caught(GLOBAL="the result depends on the states of the global generators")
class LookingAtTheSeed(Changed):
    def change(self, output: Tensor, z_t: Tensor, log_snr: Tensor, given: Conditioning) -> Tensor:
        return output + torch.initial_seed() % 7


@caught(
    GLOBAL="draws from torch's global generator", LOSSES="the loss 'weighted' differs for generators of the same seed"
)
class LossesDrawnFromTorch(Good):
    def losses(self, example: Example) -> Mapping[str, Tensor]:
        return {"weighted": torch.rand(2) * super().losses(example)["denoising"]}


@caught(APART="a sample depends on its batch")
class NormalisingOverTheBatch(Changed):
    def change(self, output: Tensor, z_t: Tensor, log_snr: Tensor, given: Conditioning) -> Tensor:
        return output - output.mean()


@caught(LOSSES="predicts is 'velocity', not None, 'x' or 'image'")
class PredictingSomethingElse(Good):
    predicts = "velocity"


class Losses(Good):
    """`Good` with other losses, by `change_loss`."""

    def losses(self, example: Example) -> Mapping[str, Tensor]:
        return self.change_loss(super().losses(example)["denoising"])

    def change_loss(self, loss: Tensor) -> Mapping[str, Tensor]:
        raise NotImplementedError


@caught(LOSSES="losses returns no loss", GRADIENTS="non-empty TensorList")
class NoLosses(Losses):
    def change_loss(self, loss: Tensor) -> Mapping[str, Tensor]:
        return {}


@caught(CHANNELS="what is predicted in a missing channel changes the loss 'denoising'; use Example.counting")
class CountingEveryChannel(Good):
    def losses(self, example: Example) -> Mapping[str, Tensor]:
        z_t, log_snr, target = example.sampler.corrupt(example.x, example.generator)
        return {"denoising": example.sampler.loss(self(z_t, log_snr, example.conditioning), target, log_snr)}


@caught(LOSSES="a loss has no name")
class NamelessLoss(Losses):
    def change_loss(self, loss: Tensor) -> Mapping[str, Tensor]:
        return {"": loss}


@caught(LOSSES=r"the loss 'mean' is \(\), not one per sample")
class MeanLoss(Losses):
    def change_loss(self, loss: Tensor) -> Mapping[str, Tensor]:
        return {"mean": loss.mean()}


@caught(LOSSES="the loss 'log' is not finite", GRADIENTS="not finite")
class LogOfZero(Losses):
    def change_loss(self, loss: Tensor) -> Mapping[str, Tensor]:
        return {"log": (0 * loss).log()}


@caught(LOSSES="the loss 'own' differs for generators of the same seed")
class LossesOfItsOwnGenerator(Losses):
    def build(self, *, channels: int, routes: Routes) -> None:
        super().build(channels=channels, routes=routes)
        self.generator = torch.Generator().manual_seed(0)

    def change_loss(self, loss: Tensor) -> Mapping[str, Tensor]:
        return {"own": loss * torch.rand(2, generator=self.generator)}


@caught(GRADIENTS=r"no gradient reaches unused\.weight, unused\.bias")
class UnusedLayer(Good):
    def build(self, *, channels: int, routes: Routes) -> None:
        super().build(channels=channels, routes=routes)
        self.unused = nn.Linear(2, 2)


@caught(GRADIENTS="no gradient reaches any parameter")
class Detached(Losses):
    def change_loss(self, loss: Tensor) -> Mapping[str, Tensor]:
        return {"denoising": loss.detach()}


@caught(GRADIENTS=r"the gradient of head\.bias is not finite")
class RootOfZero(Losses):
    def change_loss(self, loss: Tensor) -> Mapping[str, Tensor]:
        return {"denoising": loss, "root": (0 * self.head.bias.sum()).sqrt().expand(2)}


@caught(GRADIENTS="every gradient is zero")
class TimesZero(Losses):
    def change_loss(self, loss: Tensor) -> Mapping[str, Tensor]:
        return {"denoising": 0 * loss}


@caught(ADVERSARY=r"the adversary's losses give gradients to stem\.weight")
class TrainedByItsAdversary(Adversarial):
    def adversary_losses(self, example: Example) -> Mapping[str, Tensor]:
        assert self.adversary is not None
        z_t, log_snr, _ = example.sampler.corrupt(example.x, example.generator)
        x = example.counting(self(z_t, log_snr, example.conditioning), example.x)
        scores = self.adversary(x) - self.adversary(example.x)
        return {"scores": scores.square().flatten(1).mean(dim=1)}


@caught(ADVERSARY=r"no gradient reaches adversary\.1")
class AdversaryInParts(Adversarial):
    def build(self, *, channels: int, routes: Routes) -> None:
        super().build(channels=channels, routes=routes)
        self.adversary = nn.Sequential(nn.Conv3d(channels, 1, 1), nn.Conv3d(channels, 1, 1))

    def adversary_losses(self, example: Example) -> Mapping[str, Tensor]:
        assert isinstance(self.adversary, nn.Sequential)
        return {"scores": self.adversary[0](example.x).square().flatten(1).mean(dim=1)}


@caught(ADVERSARY="no gradient reaches the adversary")
class DetachedAdversary(Adversarial):
    def adversary_losses(self, example: Example) -> Mapping[str, Tensor]:
        return {name: loss.detach() for name, loss in super().adversary_losses(example).items()}


@caught(ADVERSARY="the adversary changes the prediction", CHANNELS=r"became \(2, 1, 9, 10, 11\)")
class PredictingWithItsAdversary(Adversarial):
    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        assert self.adversary is not None
        return self.adversary(super().forward(z_t, log_snr, conditioning))


@caught(ADVERSARY="has an adversary and must override adversary_losses",
        LOSSES="has an adversary", GLOBAL="has an adversary", CHANNELS="has an adversary")  # fmt: skip
class AdversaryWithoutLosses(Adversarial):
    adversary_losses = Denoiser.adversary_losses


@caught(SAVES="with its weights loaded, another one differs by")
class WeightsThatAreNotSaved(Changed):
    def build(self, *, channels: int, routes: Routes) -> None:
        super().build(channels=channels, routes=routes)
        self.offset = torch.rand(())

    def change(self, output: Tensor, z_t: Tensor, log_snr: Tensor, given: Conditioning) -> Tensor:
        return output + self.offset


@caught(SAVES="it cannot be made and built on torch's meta device .*meta")
class LookingAtAWeight(Good):
    def build(self, *, channels: int, routes: Routes) -> None:
        super().build(channels=channels, routes=routes)
        self.scale = self.head.weight.abs().max().item()


@caught(BFLOAT="the prediction is off by .*% in bfloat16")
class SmallDifferenceOfLargeNumbers(Good):
    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        x = self.stem(z_t if conditioning.concat is None else torch.cat([z_t, conditioning.concat], dim=1))
        return super().forward(z_t, log_snr, conditioning) + ((x + 300) - 300).mean(dim=1, keepdim=True)


@caught(COMPILES="compiled, it differs")
class OtherwiseCompiled(Changed):
    def change(self, output: Tensor, z_t: Tensor, log_snr: Tensor, given: Conditioning) -> Tensor:
        return output + float(torch.compiler.is_compiling())


@caught(COMPOSES="with .* and .*, target image: AssertionError: the generated visit is not finite")
class NotFiniteInGeneration(Changed):
    def change(self, output: Tensor, z_t: Tensor, log_snr: Tensor, given: Conditioning) -> Tensor:
        guided = len(z_t) == 4 and not self.training  # guidance doubles the batch of two
        return output * torch.nan if guided else output


@pytest.mark.parametrize("cls", BROKEN, ids=lambda cls: cls.__name__)
def test_a_broken_one_is_caught(cls: type) -> None:
    assert_caught("denoiser", cls, BROKEN[cls])


def test_every_check_can_fail() -> None:
    assert_each_is_broken("denoiser", BROKEN)
