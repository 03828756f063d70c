"""The spatial decoder: attention over the positions of one time, upsampling, and the output volume."""

import math

from timm.models.vision_transformer import Block
from torch import Tensor, nn

from longigen_sadm.positions import space_encoding


class Upsample(nn.Module):
    """Upsampling of a grid of tokens by factors f: `tokens` (B, w, h, d, E) -> (B, F, w·f₁, h·f₂, d·f₃).

    The result is the sum of a smooth part, interpolated between the centres of the tokens, and a sharp part, which maps
    each token to the positions that it covers. The sharp part starts at zero, since random weights, equal for all
    tokens, would print the patch grid on the output.
    """

    def __init__(self, inputs: int, outputs: int, factor: tuple[int, int, int]) -> None:
        super().__init__()
        self.factor = factor
        self.smooth = nn.Linear(inputs, outputs)
        self.sharp = nn.Linear(inputs, math.prod(factor) * outputs)
        nn.init.zeros_(self.sharp.weight)
        nn.init.zeros_(self.sharp.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        smooth = self.smooth(tokens).movedim(-1, 1)
        smooth = nn.functional.interpolate(
            smooth, scale_factor=tuple(map(float, self.factor)), mode="trilinear", align_corners=False
        )
        sharp = self.sharp(tokens).unflatten(-1, (-1, *self.factor))
        sharp = sharp.permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(smooth.shape)
        return smooth + sharp


class SpatialAttention(nn.Module):
    """A transformer block over all positions, then ×2 upsampling: `tokens` (B, w, h, d, E) -> (B, 2w, 2h, 2d, E).

    The encoding over space is added again, with this level's `stride` (patches per token), as merging has blurred it.
    """

    def __init__(self, dim: int, heads: int, mlp_ratio: float, dropout: float, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.block = Block(dim, heads, mlp_ratio=mlp_ratio, qkv_bias=True, proj_drop=dropout)
        self.upsample = Upsample(dim, dim, (2, 2, 2))

    def forward(self, tokens: Tensor) -> Tensor:
        _, w, h, d, dim = tokens.shape
        tokens = tokens + space_encoding((w, h, d), dim, self.stride, tokens)
        tokens = self.block(tokens.flatten(1, 3)).view_as(tokens)
        return self.upsample(tokens).movedim(1, -1)


class Head(nn.Module):
    """The output volume from the tokens of its patches: `tokens` (B, w, h, d, E) -> (B, K, W, H, D)."""

    def __init__(self, dim: int, features: int, patch: tuple[int, int, int]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.upsample = Upsample(dim, features, patch)
        first, last = (nn.Conv3d(features, features, 3, padding=1, padding_mode="replicate") for _ in range(2))
        # With torch's default initialisation c would be about thirty times weaker than the noisy volume.
        nn.init.kaiming_normal_(first.weight, nonlinearity="relu")
        nn.init.kaiming_normal_(last.weight, nonlinearity="linear")
        self.convolutions = nn.Sequential(first, nn.GELU(), last)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.convolutions(self.upsample(self.norm(tokens)))
