"""Space to depth and back: the voxels of a patch as channels, without loss (Shi et al. 2016, arXiv 1609.05158)."""

from torch import Tensor


def patchify(x: Tensor, patch: int) -> Tensor:
    """Space to depth: (B, C, W, H, D) to (B, C·p³, W/p, H/p, D/p). Sizes must be multiples of p = `patch`."""
    if patch == 1:
        return x
    B, C, W, H, D = x.shape
    x = x.reshape(B, C, W // patch, patch, H // patch, patch, D // patch, patch)
    x = x.permute(0, 2, 4, 6, 1, 3, 5, 7)
    return x.reshape(B, W // patch, H // patch, D // patch, C * patch**3).permute(0, 4, 1, 2, 3)


def unpatchify(x: Tensor, patch: int) -> Tensor:
    """Depth to space, the inverse of `patchify`: (B, C·p³, W, H, D) to (B, C, W·p, H·p, D·p)."""
    if patch == 1:
        return x
    B, C, W, H, D = x.shape
    x = x.permute(0, 2, 3, 4, 1).reshape(B, W, H, D, C // patch**3, patch, patch, patch)
    x = x.permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.reshape(B, W * patch, H * patch, D * patch, C // patch**3).permute(0, 4, 1, 2, 3)
