"""Layers of the U-Net. Volumes are (B, C, W, H, D), stored with the channels last."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from longigen_unet3d.convolution import Convolution, Pointwise


def zeroed(layer: nn.Conv3d | nn.Linear) -> nn.Conv3d | nn.Linear:
    """Set the weights and the bias of a layer to zero, so that its output is zero at the start of training."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def group_norm(channels: int) -> nn.GroupNorm:
    """Return a GroupNorm of 8 groups, or of as many of them as divide `channels`."""
    return nn.GroupNorm(math.gcd(8, channels), channels)


class NoiseEmbedding(nn.Module):
    """Embedding (B, E) of the noise level λ (B,), plus a projection of the conditioner's `embedding` if it has one."""

    def __init__(self, frequencies: int, features: int, conditioning: int) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.linear1 = nn.Linear(frequencies, features)
        self.linear2 = nn.Linear(features, features)
        self.conditioning = nn.Linear(conditioning, features) if conditioning else None

    def forward(self, log_snr: Tensor, conditioning: Tensor | None) -> Tensor:
        # The time of the cosine schedule, arctan(exp(-λ/2)) in units of π/2, maps any λ into [0, 1]
        # (Ho and Salimans 2022, Section 4). The frequencies are designed for times up to 1000.
        time = torch.atan(torch.exp(-0.5 * log_snr.float())) * (2.0 / math.pi)
        from diffusers.models.embeddings import get_timestep_embedding  # slow to import

        features = get_timestep_embedding(1000.0 * time, self.frequencies)
        embedding = self.linear2(functional.silu(self.linear1(features.to(self.linear1.weight.dtype))))
        if self.conditioning is not None and conditioning is not None:
            embedding = embedding + self.conditioning(conditioning.to(self.linear1.weight.dtype))
        return functional.silu(embedding)


class ResidualBlock(nn.Module):
    """Two convolutions with a scale and shift by the embedding between them (Dhariwal and Nichol 2021, Equation 3)."""

    def __init__(self, channels: int, features: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = group_norm(channels)
        self.conv1 = Convolution(channels, features)
        self.norm2 = group_norm(features)
        self.scale_shift = nn.Linear(embedding, 2 * features)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zeroed(Convolution(features, features))
        self.skip = nn.Identity() if channels == features else Pointwise(channels, features)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(functional.silu(self.norm1(x)))
        scale, shift = self.scale_shift(embedding)[..., None, None, None].chunk(2, dim=1)
        h = functional.silu(torch.addcmul(shift, self.norm2(h), 1 + scale))
        return self.skip(x) + self.conv2(self.dropout(h))


class Attention(nn.Module):
    """Self-attention of the voxels, or cross-attention to `context` tokens (B, N, E), with a residual connection."""

    def __init__(self, channels: int, heads: int, context: int = 0) -> None:
        super().__init__()
        self.heads = heads
        self.norm = group_norm(channels)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(context or channels, 2 * channels)
        self.output = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        voxels = self.norm(x).flatten(2).transpose(1, 2)
        source = voxels if context is None else context
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(voxels), *self.key_value(source).chunk(2, dim=2))
        )
        attended = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return x + self.output(attended).transpose(1, 2).reshape(x.shape)


class Block(nn.Module):
    """A residual block, optionally followed by self-attention and by cross-attention to `tokens`."""

    def __init__(
        self, channels: int, features: int, embedding: int, dropout: float, *, heads: int, tokens: int
    ) -> None:
        super().__init__()
        self.residual = ResidualBlock(channels, features, embedding, dropout)
        self.self_attention = Attention(features, heads) if heads else None
        self.cross_attention = Attention(features, heads, tokens) if heads and tokens else None

    def forward(self, x: Tensor, embedding: Tensor, tokens: Tensor | None) -> Tensor:
        x = self.residual(x, embedding)
        if self.self_attention is not None:
            x = self.self_attention(x)
        if self.cross_attention is not None:
            x = self.cross_attention(x, tokens)
        return x


class Refinement(nn.Module):
    """Two convolutions at full resolution from the network's features and its input to the prediction.

    A patched head has different weights for each of a patch's eight voxels, so its errors can form a visible grid. A
    convolution at full resolution has the same weights for every voxel.
    """

    def __init__(self, channels: int, features: int, output: int, embedding: int) -> None:
        super().__init__()
        self.conv1 = Convolution(channels, features)
        self.scale_shift = nn.Linear(embedding, 2 * features)
        self.conv2 = zeroed(Convolution(features, output))

    def forward(self, x: Tensor, embedding: Tensor, more: Tensor | None = None) -> Tensor:
        """Return the prediction.

        Args:
            x: the first channels of the input (B, C, W, H, D).
            embedding: of the noise level (B, E).
            more: what the first convolution makes of the other channels; None if there are none.
        """
        scale, shift = self.scale_shift(embedding)[..., None, None, None].chunk(2, dim=1)
        h = self.conv1.of_channels(x, 0)
        h = h if more is None else h + more
        return self.conv2(functional.silu(torch.addcmul(shift, h, 1 + scale)))
