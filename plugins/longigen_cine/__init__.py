"""A denoiser for stacks of slices, such as short-axis cine of the heart: it moves the last visit's own voxels."""

from longigen_cine.denoiser import CineUNet

__all__ = ["CineUNet"]
