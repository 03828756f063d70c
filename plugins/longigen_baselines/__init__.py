"""What a model is measured against: SADM's ablations, copy-last and linear extrapolation, the last visit alone."""

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
