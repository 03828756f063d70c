"""The U-Net of the `cine` denoiser: convolutions in the plane of the slices, with mixing of neighbouring slices.

Slices are stacked along the batch axis: (N, C, W, H), where N = B·D and the D slices of a volume follow each other.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


def zeroed(layer: nn.Conv1d | nn.Conv2d) -> nn.Module:
    """Set the weights of a layer to zero, so that its output is zero at the start of training."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(8, channels), channels)


class Block(nn.Module):
    """Two convolutions with a scale and shift by an embedding between them (Dhariwal and Nichol 2021, Equation 3)."""

    def __init__(self, channels: int, features: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.conv1 = group_norm(channels), nn.Conv2d(channels, features, 3, padding=1)
        self.norm2, self.conv2 = group_norm(features), zeroed(nn.Conv2d(features, features, 3, padding=1))
        self.scale_shift = nn.Linear(embedding, 2 * features)
        self.dropout = nn.Dropout2d(dropout)
        self.skip = nn.Conv2d(channels, features, 1) if channels != features else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        hidden = self.conv1(functional.silu(self.norm1(x)))
        scale, shift = self.scale_shift(embedding)[:, :, None, None].chunk(2, dim=1)
        hidden = functional.silu(self.norm2(hidden) * (1 + scale) + shift)
        return self.skip(x) + self.conv2(self.dropout(hidden))


class SliceMixing(nn.Module):
    """A residual convolution over three neighbouring slices; zero at the start of training."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.conv = zeroed(nn.Conv1d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor, depth: int) -> Tensor:
        N, C, W, H = x.shape
        lines = functional.silu(self.norm(x)).view(N // depth, depth, C, W, H)
        lines = lines.permute(0, 3, 4, 2, 1).reshape(-1, C, depth)
        mixed = self.conv(lines).view(N // depth, W, H, C, depth).permute(0, 4, 3, 1, 2)
        return x + mixed.reshape(x.shape)


class SliceUNet(nn.Module):
    """A U-Net on 2×2 patches of slices, with two outputs of half the slices' resolution: velocity and change.

    Args:
        channels: channels of the input slices.
        velocity: channels of the velocity: velocities of three components each, of which the last is across slices.
        change: channels of the change.
        widths: channels of the levels, at half the resolution of the slices and each half of it.
        embedding: width of the embedding.
        tokens: width of the conditioner's tokens, which the coarsest level attends to; 0 for none.
        dropout: dropout probability inside the blocks.
    """

    def __init__(
        self,
        channels: int,
        *,
        velocity: int,
        change: int,
        widths: Sequence[int],
        embedding: int,
        tokens: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4 * channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(Block(width, width, embedding, dropout) for width in widths[:-1])
        self.downsample = nn.ModuleList(nn.Conv2d(n, m, 3, stride=2, padding=1) for n, m in pairwise(widths))
        self.mix = nn.ModuleList(SliceMixing(width) for width in widths[1:])
        last = widths[-1]
        self.before, self.after = (Block(last, last, embedding, dropout) for _ in range(2))
        self.attention = nn.MultiheadAttention(last, 1, kdim=tokens, vdim=tokens, batch_first=True) if tokens else None
        self.upsample = nn.ModuleList(nn.Conv2d(m, n, 1) for n, m in pairwise(widths))
        self.up = nn.ModuleList(Block(2 * width, width, embedding, dropout) for width in widths[:-1])
        self.velocity = nn.ModuleList(zeroed(nn.Conv2d(width, velocity, 3, padding=1)) for width in widths)
        self.change = zeroed(nn.Conv2d(widths[0], change, 3, padding=1))

    def forward(
        self, slices: Tensor, embedding: Tensor, *, stem: Tensor | None, tokens: Tensor | None, depth: int
    ) -> tuple[Tensor, Tensor]:
        """Return the velocity and the change, both (N, ·, W/2, H/2).

        Each level adds to the velocity of the coarser one, so that large movements come from coarse levels.

        Args:
            slices: (N, C, W, H), of sizes that are multiples of the stride.
            embedding: (N, E).
            stem: features (N, F, W, H) of full resolution that are added to those of the first layer; 4 F is its width.
            tokens: (B, T, E) for each of the B volumes.
            depth: D, the slices of a volume.
        """
        features = self._encode(slices, embedding, stem, tokens, depth)
        x = self.after(features.pop(), embedding)
        velocity = self.velocity[-1](x)
        for level in reversed(range(len(self.up))):
            x = functional.interpolate(self.upsample[level](x), scale_factor=2)
            x = self.up[level](torch.cat([x, features.pop()], dim=1), embedding)
            velocity = functional.interpolate(velocity, scale_factor=2, mode="bilinear") + self.velocity[level](x)
        return velocity, self.change(x)

    def _encode(
        self, slices: Tensor, embedding: Tensor, stem: Tensor | None, tokens: Tensor | None, depth: int
    ) -> list[Tensor]:
        """Return the features of every level, the coarsest last; arguments as `forward`."""
        x = self.stem(functional.pixel_unshuffle(slices, 2))
        if stem is not None:
            x = x + functional.pixel_unshuffle(stem, 2)
        features = []
        for block, downsample, mix in zip(self.down, self.downsample, self.mix, strict=True):
            features.append(block(x, embedding))
            x = mix(downsample(features[-1]), depth)
        x = self.before(x, embedding)
        if self.attention is not None:
            if tokens is None:
                raise ValueError("the network was built for tokens, got None")
            tokens = tokens.to(x.dtype).repeat_interleave(depth, dim=0)
            attended = self.attention(x.flatten(2).transpose(1, 2), tokens, tokens, need_weights=False)[0]
            x = x + attended.transpose(1, 2).reshape(x.shape)
        return [*features, x]
