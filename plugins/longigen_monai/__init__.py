"""The `monai` denoiser: MONAI's diffusion U-Net; needs the extra ``longigen[monai]``."""

from longigen_monai.denoiser import MONAIDenoiser

__all__ = ["MONAIDenoiser"]
