"""The `unet3d` denoiser: a 3D U-Net on 2×2×2 patches that serves all four routes."""

from longigen_unet3d.unet import UNet3D

__all__ = ["UNet3D"]
