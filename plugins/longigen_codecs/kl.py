"""The `kl` codec: a small 3D variational autoencoder, to train on patches (longigen train-codec)."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from longigen import LongigenError, NetworkCodec, Range
from longigen_codecs.perceptual import SliceDistance

Weight = Annotated[float, Range(0)]


class KLCodec(NetworkCodec):
    """An autoencoder of a few convolutions with a weak pull towards a standard normal code (Rombach et al. 2022).

    The loss is the L1 distance, the divergence with a small weight, and, if their weights are not 0, the distance of
    the features of slices (Zhang et al. 2018, arXiv 1801.03924) and the least-squares loss of a discriminator of
    patches (Mao et al. 2017, arXiv 1611.04076; Isola et al. 2017).

    Each voxel is normalised over its channels and never over space, so that what is trained on patches holds on whole
    images. The decoder enlarges by interpolation and then convolves, which leaves no grid as strided transposed
    convolutions do (Odena et al., Distill 2016). At full resolution there is one narrow convolution, so that a large
    volume costs little.

    Args:
        halvings: number of times that each axis is halved.
        code_channels: channels of a code.
        codec_width: channels of the network at half resolution; twice as many at each coarser one.
        divergence: weight of the divergence from a standard normal distribution, per element of a code.
        adversarial: weight of the adversarial loss; 0 for none.
        critic: channels of the discriminator's levels.
        perceptual: weight of the distance of features of slices; 0 for none.
        perceptual_network: name of a network in timm.
        perceptual_file: file with timm's weights of that network; needed where `perceptual` is not 0.

    Raises:
        LongigenError: for a perceptual loss without weights.
    """

    def __init__(
        self,
        *,
        halvings: Annotated[int, Range(1, 4)] = 2,
        code_channels: Annotated[int, Range(1, 64)] = 4,
        codec_width: Annotated[int, Range(4, 512)] = 16,
        divergence: Weight = 1e-4,
        adversarial: Weight = 0.0,
        critic: tuple[Annotated[int, Range(4)], ...] = (16, 32, 64),
        perceptual: Weight = 0.0,
        perceptual_network: str = "resnet18",
        perceptual_file: Path | None = None,
    ) -> None:
        super().__init__()
        if perceptual and perceptual_file is None:
            raise LongigenError(
                f"kl: the perceptual loss needs weights of timm's {perceptual_network}, which longigen does not "
                "download; give perceptual_file=FILE, or set perceptual=0."
            )
        self.halvings, self.code_channels, self.codec_width = halvings, code_channels, codec_width
        self.kl_weight, self.adversarial, self.critic = divergence, adversarial, critic
        self.perceptual, self.perceptual_network, self.perceptual_file = perceptual, perceptual_network, perceptual_file
        self.factor = 2**halvings
        self.distance: SliceDistance | None = None  # no module, so its weights are neither trained nor saved

    def build(self, *, channels: int) -> None:
        self.channels = self.code_channels
        widths = [self.codec_width * 2**level for level in range(self.halvings)]
        self.encoder = nn.Sequential(
            nn.Conv3d(channels, widths[0], 3, stride=2, padding=1),
            Residual(widths[0]),
            *(layer for a, b in pairwise(widths) for layer in (nn.Conv3d(a, b, 3, stride=2, padding=1), Residual(b))),
            nn.Conv3d(widths[-1], 2 * self.code_channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv3d(self.code_channels, widths[-1], 1),
            Residual(widths[-1]),
            *(layer for a, b in pairwise(widths[::-1]) for layer in (Enlarge(a, b), Residual(b))),
            Enlarge(widths[0], widths[0] // 2),
            nn.SiLU(),
            nn.Conv3d(widths[0] // 2, channels, 3, padding=1),
        )

    def distribution(self, image: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encoder(image).chunk(2, dim=1)
        return mean, log_variance

    def reconstruct(self, code: Tensor) -> Tensor:
        return self.decoder(code)

    def make_adversary(self) -> nn.Module | None:
        return Critic(self.critic) if self.adversarial else None

    def losses(self, images: Tensor, generator: torch.Generator, adversary: nn.Module | None) -> Mapping[str, Tensor]:
        made, losses = self.reconstruction(images, generator)
        if self.perceptual and self.perceptual_file is not None:
            distance = self.distance or SliceDistance(self.perceptual_network, self.perceptual_file)
            self.distance = distance
            losses["perceptual"] = self.perceptual * distance(made, images)
        if adversary is not None:
            losses["adversarial"] = self.adversarial * _squares(adversary(made), 1.0)
        return losses

    def adversary_losses(
        self, images: Tensor, generator: torch.Generator, adversary: nn.Module
    ) -> Mapping[str, Tensor]:
        with torch.no_grad():
            made, _ = self.reconstruction(images, generator)
        return {"real": 0.5 * _squares(adversary(images), 1.0), "fake": 0.5 * _squares(adversary(made), 0.0)}


class VoxelNorm(nn.Module):
    """Scales each voxel to a mean square of 1 over its channels, times a weight per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.square().mean(dim=1, keepdim=True) + 1e-6).rsqrt() * self.weight.view(-1, 1, 1, 1)


class Residual(nn.Module):
    """Two convolutions, added to their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            VoxelNorm(width), nn.SiLU(), nn.Conv3d(width, width, 3, padding=1),
            VoxelNorm(width), nn.SiLU(), nn.Conv3d(width, width, 3, padding=1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class Enlarge(nn.Module):
    """Doubles each axis by trilinear interpolation, of the channels that a convolution leaves."""

    def __init__(self, width: int, narrower: int) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(width, narrower, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(self.convolution(x), scale_factor=2, mode="trilinear")


class Critic(nn.Module):
    """Convolutions of stride 2 with one output for each remaining position, for images of one channel or more."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = nn.Conv3d(1, widths[0], 3, stride=2, padding=1)
        self.down = nn.ModuleList(nn.Conv3d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
        self.head = nn.Conv3d(widths[-1], 1, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Return how real each part of the images (B, C, W, H, D) looks, (B, C, w, h, d); channels are judged alone."""
        x = functional.leaky_relu(self.stem(images.flatten(0, 1)[:, None]), 0.2)
        for convolution in self.down:
            x = functional.leaky_relu(convolution(x), 0.2)
        return self.head(x)[:, 0].unflatten(0, images.shape[:2])


def _squares(output: Tensor, label: float) -> Tensor:
    """Return the mean squared distance (B,) of a discriminator's output to a label, 0 or 1."""
    return (output.float() - label).square().flatten(1).mean(dim=1)
