"""The convolutional network that the baselines `vae`, `gan` and `diffusemorph` are made of: a small 3D U-Net."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from longigen import Conditioning, LongigenError, Range

GROUP = 4
"""Channels that are normalised together."""

Widths = tuple[Annotated[int, Range(4)], ...]
"""Channels of the levels of a network."""


def check_widths(name: str, widths: tuple[int, ...]) -> None:
    """Refuse channels that cannot be.

    Raises:
        LongigenError: unless there are two levels or more, and each is a multiple of four.
    """
    if len(widths) < 2 or any(width % GROUP for width in widths):
        raise LongigenError(f"{name}: widths must be two multiples of {GROUP} or more, got {widths}; change them.")


def beside(conditioning: Conditioning, *volumes: Tensor) -> Tensor:
    """Return volumes, the last visit and the conditioner's `concat` as the channels of one."""
    assert conditioning.base is not None
    parts = [*volumes, conditioning.base, *([] if conditioning.concat is None else [conditioning.concat])]
    return torch.cat([part.to(conditioning.base.dtype) for part in parts], dim=1)


def zeroed(layer: nn.Conv3d) -> nn.Conv3d:
    """Return `layer` with zero weights and bias, so that what it ends is nothing at first."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class Block(nn.Module):
    """Two convolutions beside a skip; a `vector` (B, V), if there is one, scales and shifts between them."""

    def __init__(self, channels: int, features: int, vector: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.GroupNorm(n // GROUP, n) for n in (channels, features))
        self.conv1 = nn.Conv3d(channels, features, 3, padding=1)
        self.conv2 = nn.Conv3d(features, features, 3, padding=1)
        self.skip = nn.Identity() if channels == features else nn.Conv3d(channels, features, 1)
        self.scale_shift = nn.Linear(vector, 2 * features) if vector else None

    def forward(self, x: Tensor, vector: Tensor | None) -> Tensor:
        h = self.norm2(self.conv1(functional.silu(self.norm1(x))))
        if self.scale_shift is not None:
            assert vector is not None
            scale, shift = self.scale_shift(vector)[..., None, None, None].chunk(2, dim=1)
            h = torch.addcmul(shift, h, 1 + scale)
        return self.skip(x) + self.conv2(functional.silu(h))


class Encoder(nn.Module):
    """The way down: features at full resolution and at each half of it (sizes are rounded up), finest first.

    Args:
        channels: of the volume that comes in.
        widths: channels of each level, the finest, which is one convolution, first.
        vector: V; 0 for none.
        tokens: E of the tokens that the coarsest level attends to; 0 for none.
    """

    def __init__(self, channels: int, widths: Sequence[int], *, vector: int, tokens: int) -> None:
        super().__init__()
        self.stem = nn.Conv3d(channels, widths[0], 3, padding=1)
        self.downsample = nn.ModuleList(nn.Conv3d(n, m, 3, stride=2, padding=1) for n, m in pairwise(widths))
        self.blocks = nn.ModuleList(Block(width, width, vector) for width in widths[1:])
        last = widths[-1]
        self.attention = (
            nn.MultiheadAttention(last, GROUP, kdim=tokens, vdim=tokens, batch_first=True) if tokens else None
        )
        self.to(memory_format=torch.channels_last_3d)  # oneDNN is faster so

    def forward(
        self, volume: Tensor, vector: Tensor | None, *, stem: Tensor | None, tokens: Tensor | None
    ) -> list[Tensor]:
        x = self.stem(volume.contiguous(memory_format=torch.channels_last_3d))
        features = [x if stem is None else x + stem.to(x.dtype)]
        for downsample, block in zip(self.downsample, self.blocks, strict=True):
            features.append(block(downsample(features[-1]), vector))
        if self.attention is not None:
            assert tokens is not None
            x = features[-1]
            voxels, tokens = x.flatten(2).transpose(1, 2), tokens.to(x.dtype)
            attended = self.attention(voxels, tokens, tokens, need_weights=False)[0]
            features[-1] = x + attended.transpose(1, 2).reshape(x.shape)
        return features


class Decoder(nn.Module):
    """The way up, from what an `Encoder` of the same `widths` gives to a volume of `output` channels, zero at first."""

    def __init__(self, output: int, widths: Sequence[int], *, vector: int) -> None:
        super().__init__()
        self.upsample = nn.ModuleList(nn.Conv3d(m, n, 1) for n, m in pairwise(widths))
        self.blocks = nn.ModuleList(Block(2 * width, width, vector) for width in widths[1:-1])
        self.refine = nn.Conv3d(2 * widths[0], widths[0], 3, padding=1)
        self.head = zeroed(nn.Conv3d(widths[0], output, 3, padding=1))
        self.to(memory_format=torch.channels_last_3d)

    def forward(self, features: Sequence[Tensor], vector: Tensor | None) -> Tensor:
        x = features[-1]
        for level in reversed(range(len(self.upsample))):
            skip = features[level]
            x = functional.interpolate(self.upsample[level](x), size=skip.shape[2:])
            x = torch.cat([x.to(skip.dtype), skip], dim=1)
            x = self.blocks[level - 1](x, vector) if level else functional.silu(self.refine(x))
        return self.head(x)


class UNet(nn.Module):
    """An `Encoder` and a `Decoder`, from a volume to one of the same size, and any size."""

    def __init__(self, channels: int, output: int, widths: Sequence[int], *, vector: int, tokens: int) -> None:
        super().__init__()
        self.encoder = Encoder(channels, widths, vector=vector, tokens=tokens)
        self.decoder = Decoder(output, widths, vector=vector)

    def forward(
        self, volume: Tensor, vector: Tensor | None, *, stem: Tensor | None = None, tokens: Tensor | None = None
    ) -> Tensor:
        return self.decoder(self.encoder(volume, vector, stem=stem, tokens=tokens), vector)
