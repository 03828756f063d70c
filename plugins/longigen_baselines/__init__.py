"""Baselines: copy-last, linear extrapolation, SADM's ablations, Med-DDPM's conditioning, VAE, GAN and DiffuseMorph."""

from longigen_baselines.copylast import CopyLastConditioner
from longigen_baselines.diffusemorph import DiffuseMorph
from longigen_baselines.gan import GAN
from longigen_baselines.identity import IdentityDenoiser
from longigen_baselines.linear import LinearConditioner
from longigen_baselines.raw import RawConditioner
from longigen_baselines.regression import RegressionSampler
from longigen_baselines.source import SourceConditioner
from longigen_baselines.vae import VAE

__all__ = [
    "GAN",
    "VAE",
    "CopyLastConditioner",
    "DiffuseMorph",
    "IdentityDenoiser",
    "LinearConditioner",
    "RawConditioner",
    "RegressionSampler",
    "SourceConditioner",
]
