"""The `monai` denoiser, a diffusion U-Net, and the `monai` codec, an autoencoder; they need ``longigen[monai]``."""

from longigen_monai.codec import MONAICodec
from longigen_monai.denoiser import MONAIDenoiser

__all__ = ["MONAICodec", "MONAIDenoiser"]
