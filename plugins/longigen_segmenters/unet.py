"""A small 3D U-Net that marks regions, for volumes thick and thin."""

import math
from typing import Annotated

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from longigen import NetworkSegmenter, Range

COARSE = 2.0
"""An axis is not halved while its voxels are at least this many times as long as the shortest."""


class UNetSegmenter(NetworkSegmenter):
    """A 3D U-Net of residual blocks, after nnU-Net (Isensee et al., Nature Methods 2021) in its treatment of slices.

    Each level halves the axes whose voxels are shorter than twice the shortest, so that thick slices are halved when
    the voxels in plane have become as long. Sizes of images need not be divisible: they are padded inside.

    Args:
        width: channels of the first level; each further one has twice as many, 8 times at most. The default trains
            on a CPU in minutes; on a GPU, 32 is usual.
        levels: number of levels.
    """

    def __init__(self, *, width: Annotated[int, Range(4, 256)] = 8, levels: Annotated[int, Range(1, 6)] = 4) -> None:
        super().__init__()
        self.width = width
        self.levels = levels

    def build(self, *, classes: int, spacing: tuple[float, float, float]) -> None:
        self.strides = _strides(spacing, self.levels - 1)
        widths = [self.width * min(2**level, 8) for level in range(self.levels)]
        self.first = nn.Conv3d(1, widths[0], 3, padding=1)
        self.down = nn.ModuleList(_Block(width) for width in widths)
        self.shrink = nn.ModuleList(
            nn.Conv3d(width, wider, stride, stride)
            for width, wider, stride in zip(widths, widths[1:], self.strides, strict=False)
        )
        self.grow = nn.ModuleList(
            nn.ConvTranspose3d(wider, width, stride, stride)
            for width, wider, stride in zip(widths, widths[1:], self.strides, strict=False)
        )
        self.up = nn.ModuleList(_Block(width) for width in widths[:-1])
        self.last = nn.Conv3d(widths[0], classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of each class (B, classes, W, H, D) of images (B, 1, W, H, D)."""
        size = images.shape[2:]
        multiple = [1, 1, 1]
        for stride in self.strides:
            multiple = [whole * step for whole, step in zip(multiple, stride, strict=True)]
        padding = [n for axis in (2, 1, 0) for n in (0, -size[axis] % multiple[axis])]
        x = self.first(F.pad(images, padding, value=-1.0))
        kept = []
        for block, shrink in zip(self.down, self.shrink, strict=False):
            x = block(x)
            kept.append(x)
            x = shrink(x)
        x = self.down[-1](x)
        for block, grow, before in [*zip(self.up, self.grow, kept, strict=True)][::-1]:
            x = block(grow(x) + before)
        return self.last(x)[:, :, : size[0], : size[1], : size[2]]


class _Block(nn.Module):
    """Two convolutions, added to their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(math.gcd(4, width), width),
            nn.SiLU(),
            nn.Conv3d(width, width, 3, padding=1),
            nn.GroupNorm(math.gcd(4, width), width),
            nn.SiLU(),
            nn.Conv3d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def _strides(spacing: tuple[float, float, float], number: int) -> list[tuple[int, int, int]]:
    """Return by how much each level shortens each axis: 2, or 1 where its voxels are long already."""
    voxel, strides = spacing, []
    for _ in range(number):
        width, height, depth = (1 if length >= COARSE * min(voxel) else 2 for length in voxel)
        strides.append((width, height, depth))
        voxel = (voxel[0] * width, voxel[1] * height, voxel[2] * depth)
    return strides
