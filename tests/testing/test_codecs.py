"""The checks of codecs: a good one passes, and each check catches one that breaks it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers.conformance import assert_caught, assert_each_is_broken, broken_classes, problems
from longigen import Codec, NetworkCodec, patchify, unpatchify


class Good(Codec):
    """The voxels of cubes as channels, with their sign changed."""

    def __init__(self, *, side: int = 2) -> None:
        super().__init__()
        self.factor = side

    @property
    def error(self) -> float:
        return 0.0

    def build(self, *, channels: int) -> None:
        self.channels = channels * self.factor**3

    def to_code(self, image: Tensor) -> Tensor:
        return -patchify(image, self.factor)

    def to_image(self, code: Tensor) -> Tensor:
        return -unpatchify(code, self.factor)


class GoodNetwork(NetworkCodec):
    """A convolution to a code of half the size and one back."""

    def __init__(self, *, width: int = 3) -> None:
        super().__init__()
        self.width, self.factor = width, 2

    def build(self, *, channels: int) -> None:
        self.channels = self.width
        self.down = nn.Conv3d(channels, 2 * self.width, 2, stride=2)
        self.up = nn.ConvTranspose3d(self.width, channels, 2, stride=2)

    def distribution(self, image: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.down(image).chunk(2, dim=1)
        return mean, log_variance

    def reconstruct(self, code: Tensor) -> Tensor:
        return self.up(code)


@pytest.mark.parametrize(("cls", "config"), [(Good, {}), (Good, {"side": 3}), (GoodNetwork, {})])
def test_a_good_one_passes(cls: type, config: dict[str, Any]) -> None:
    assert problems("codec", cls, config) == {}


CONFIGURATION = "can be made again from its configuration"
SIZES = "encodes images of any size"
ERROR = "states the error of its round trip"
FUNCTION = "is one function of the image"
GRADIENTS = "passes gradients"
GLOBAL = "leaves global random generators alone"
WEIGHTS = "keeps its weights"
LEARNS = "learns, where it is a network"
COMPOSES = "composes with every installed part"
SURROUNDINGS = "sees surroundings alone, where it is a network"

BROKEN, caught = broken_classes(globals())


@caught(CONFIGURATION=r"the configuration .*'side': 3\} became .*'side': 4")
class ChangingItsConfiguration(Good):
    def __init__(self, *, side: int = 2) -> None:
        super().__init__(side=side)
        self.config["side"] = side + 1


@caught(SIZES="a code is larger than the limit, 1")
class LargerThanItsLimit(Good):
    def to_code(self, image: Tensor) -> Tensor:
        return 2 * super().to_code(image)

    def to_image(self, code: Tensor) -> Tensor:
        return super().to_image(code) / 2


@caught(ERROR="a round trip changes images by .* and 0 is stated")
class Rounding(Good):
    def to_code(self, image: Tensor) -> Tensor:
        rounded = (8 * image).round() / 8
        return super().to_code(image + (rounded - image).detach())


@caught(FUNCTION="depends on the others of its batch")
class ScaledByItsBatch(Good):
    def to_code(self, image: Tensor) -> Tensor:
        self.largest = image.abs().amax(dim=(0, 1, 2, 3, 4)).detach()
        return super().to_code(image) / self.largest

    def to_image(self, code: Tensor) -> Tensor:
        return super().to_image(code) * self.largest


@caught(GRADIENTS="no finite gradient passes from a code to its image")
class Detached(Good):
    def to_code(self, image: Tensor) -> Tensor:
        return super().to_code(image).detach()


@caught(GLOBAL="draws from torch's global generator")
class Drawing(Good):
    def to_code(self, image: Tensor) -> Tensor:
        return super().to_code(image) + 0 * torch.rand(1)


@caught(WEIGHTS="the identity differs for|codes differ once the weights")
class ForgettingItsWeights(Good):
    shift: Tensor

    def build(self, *, channels: int) -> None:
        super().build(channels=channels)
        self.register_buffer("shift", torch.rand(()), persistent=False)

    def to_code(self, image: Tensor) -> Tensor:
        return super().to_code(image) * (1 - self.shift / 10)

    def to_image(self, code: Tensor) -> Tensor:
        return super().to_image(code) / (1 - self.shift / 10)


@caught(LEARNS="no gradient reaches unused")
class UnusedWeights(GoodNetwork):
    def build(self, *, channels: int) -> None:
        super().build(channels=channels)
        self.unused = nn.Parameter(torch.ones(1))


@caught(SURROUNDINGS="a code depends on voxels that are far away")
class NormalisedOverTheImage(GoodNetwork):
    def distribution(self, image: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = super().distribution(image)
        return mean / mean.std(dim=(2, 3, 4), keepdim=True), log_variance


@caught(COMPOSES="with .*: RuntimeError: too many")
class OfFewImages(Good):
    def to_code(self, image: Tensor) -> Tensor:
        if len(image) > 4:
            raise RuntimeError("too many images")
        return super().to_code(image)


@pytest.mark.parametrize("cls", BROKEN)
def test_each_is_caught(cls: type) -> None:
    assert_caught("codec", cls, BROKEN[cls])


def test_every_check_has_one_that_breaks_it() -> None:
    assert_each_is_broken("codec", BROKEN)
