"""The small 3D U-Net of the baselines `vae`, `gan` and `diffusemorph`."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from longigen import Conditioning, LongigenError, Range

GROUP = 4
"""Channels per group of group normalisation."""

Widths = tuple[Annotated[int, Range(4)], ...]
"""Channels of the levels of a network."""


def check_widths(name: str, widths: tuple[int, ...]) -> None:
    """Check the channels of a network's levels.

    Raises:
        LongigenError: if there are fewer than two levels, or a width is not a positive multiple of four.
    """
    if len(widths) < 2 or any(width % GROUP for width in widths):
        raise LongigenError(f"{name}: widths must be two multiples of {GROUP} or more, got {widths}; change them.")


def concatenate(conditioning: Conditioning, *volumes: Tensor) -> Tensor:
    """Concatenate volumes, the last visit and the conditioner's `concat` along the channels."""
    base, _ = conditioning.require_base()
    parts = [*volumes, base, *([] if conditioning.concat is None else [conditioning.concat])]
    return torch.cat([part.to(base.dtype) for part in parts], dim=1)


def zeroed(layer: nn.Conv3d) -> nn.Conv3d:
    """Set the weights and the bias of a layer to zero, so that its output is zero at the start of training."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class Block(nn.Module):
    """Two convolutions with a residual connection, and a scale and shift by a `vector` (B, V) between them if V > 0."""

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
            if vector is None:
                raise ValueError("the block was built for a conditioning vector, got None")
            scale, shift = self.scale_shift(vector)[..., None, None, None].chunk(2, dim=1)
            h = torch.addcmul(shift, h, 1 + scale)
        return self.skip(x) + self.conv2(functional.silu(h))


class Encoder(nn.Module):
    """The downsampling path: features at full resolution and at each half of it (sizes rounded up), finest first.

    Args:
        channels: channels of the input volume.
        widths: channels of each level, finest first; the finest level is a single convolution.
        vector: V, the width of the conditioning vector; 0 for none.
        tokens: E, the width of the tokens for cross-attention at the coarsest level; 0 for none.
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
        self.to(memory_format=torch.channels_last_3d)  # faster with oneDNN

    def forward(
        self, volume: Tensor, vector: Tensor | None, *, stem: Tensor | None, tokens: Tensor | None
    ) -> list[Tensor]:
        x = self.stem(volume.contiguous(memory_format=torch.channels_last_3d))
        features = [x if stem is None else x + stem.to(x.dtype)]
        for downsample, block in zip(self.downsample, self.blocks, strict=True):
            features.append(block(downsample(features[-1]), vector))
        if self.attention is not None:
            if tokens is None:
                raise ValueError("the encoder was built for tokens, got None")
            x = features[-1]
            voxels, tokens = x.flatten(2).transpose(1, 2), tokens.to(x.dtype)
            attended = self.attention(voxels, tokens, tokens, need_weights=False)[0]
            features[-1] = x + attended.transpose(1, 2).reshape(x.shape)
        return features


class Decoder(nn.Module):
    """The upsampling path, from the features of an `Encoder` with the same `widths` to a volume of `output` channels.

    The output is zero at the start of training.
    """

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
    """An `Encoder` and a `Decoder`, from a volume of any size to one of the same size."""

    def __init__(self, channels: int, output: int, widths: Sequence[int], *, vector: int, tokens: int) -> None:
        super().__init__()
        self.encoder = Encoder(channels, widths, vector=vector, tokens=tokens)
        self.decoder = Decoder(output, widths, vector=vector)

    def forward(
        self, volume: Tensor, vector: Tensor | None, *, stem: Tensor | None = None, tokens: Tensor | None = None
    ) -> Tensor:
        return self.decoder(self.encoder(volume, vector, stem=stem, tokens=tokens), vector)
