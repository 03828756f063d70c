"""MONAI's diffusion U-Net as a denoiser; needs the extra ``longigen[monai]``."""

from longigen_monai.denoiser import MONAIDenoiser

__all__ = ["MONAIDenoiser"]
