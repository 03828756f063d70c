"""The VAE baseline: a conditional variational autoencoder."""

import math
from collections.abc import Mapping
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from longigen import Conditioning, Denoiser, Example, Range, Routes, randn_like
from longigen_baselines.network import Decoder, Encoder, Widths, check_widths, concatenate, zeroed


class VAE(Denoiser):
    """A conditional 3D VAE (Kingma and Welling, ICLR 2014; Sohn et al., NeurIPS 2015), baseline of Dao et al. 2024.

    Let c be the last visit and the conditioner's routes, and u a latent volume at the resolution of the coarsest level.
    The model has an encoder q(u | x, c), a decoder p(x | u, c) and a standard normal prior p(u). The decoder is a U-Net
    on c, and u is added to its coarsest features, as in Kohl et al. 2018 (arXiv 1806.05034). Since c bypasses the
    bottleneck, u has to encode only what c does not determine.

    Training minimises the negative evidence lower bound per voxel: the mean squared error of x, plus `beta` times
    KL(q(u | x, c) || p(u)) divided by the number of voxels. With `beta` 1 this is the bound itself, for a Gaussian
    decoder of variance 1/2. The sampler is not used in training.

    In generation the latent is computed from the sampler's noise z_t. The voxels of a block, which corresponds to one
    latent position, are distributed over the latent channels; each channel is the sum of its voxels divided by the
    square root of their number (for a block of k³ voxels and one channel, the mean times k^1.5). For standard normal
    noise the latent is then standard normal and independent too. z_t is first multiplied by σ, since σ z_t is the
    expected noise given z_t for x of unit variance. A reverse process of many steps thus ends near u = 0, the mean of
    the prior, while one evaluation of pure noise is a sample. So use the `regression` sampler: with ``noise`` for
    samples, without it for u = 0.

    Args:
        widths: channels of the levels, at full resolution and each half of it.
        latents: channels of the latent volume.
        beta: weight of the KL divergence.

    Raises:
        LongigenError: if the widths are invalid.
    """

    predicts = "x"
    needs_base = True

    def __init__(
        self,
        *,
        widths: Widths = (8, 16, 32, 64),
        latents: Annotated[int, Range(1)] = 4,
        beta: Annotated[float, Range(0)] = 1.0,
    ) -> None:
        super().__init__()
        check_widths("vae", widths)
        self.widths, self.latents, self.beta = widths, latents, beta

    @property
    def stem_features(self) -> int:
        return self.widths[0]

    @property
    def stride(self) -> int:
        """Voxels per latent position along each axis."""
        return 2 ** (len(self.widths) - 1)

    def build(self, *, channels: int, routes: Routes) -> None:
        condition, last = channels + routes.concat, self.widths[-1]
        self.posterior = Encoder(channels + condition, self.widths, vector=routes.embedding, tokens=routes.tokens)
        self.moments = zeroed(nn.Conv3d(last, 2 * self.latents, 1))  # training starts with the prior's moments
        self.encoder = Encoder(condition, self.widths, vector=routes.embedding, tokens=routes.tokens)
        self.latent = nn.Conv3d(self.latents, last, 1)
        self.decoder = Decoder(channels, self.widths, vector=routes.embedding)

    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        noise = torch.sigmoid(-log_snr).sqrt().view(-1, 1, 1, 1, 1) * z_t
        return self.decode(latent_noise(noise, self.stride, self.latents), conditioning).to(z_t.dtype)

    def losses(self, example: Example) -> Mapping[str, Tensor]:
        x = example.x
        mean, log_variance = self.encode(x, example.conditioning)
        u = mean + torch.exp(0.5 * log_variance) * randn_like(mean, example.generator)
        decoded = example.counting(self.decode(u, example.conditioning), x)
        error = (decoded - x).float().square().flatten(1).mean(dim=1)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(dim=1)
        return {"reconstruction": error, "kl": self.beta * divergence / x[0].numel()}

    def encode(self, x: Tensor, conditioning: Conditioning) -> tuple[Tensor, Tensor]:
        """Return the mean and the logarithm of the variance of q(u | x, c), each (B, latents, W/k, H/k, D/k)."""
        features = self._features(self.posterior, concatenate(conditioning, x), conditioning)
        mean, log_variance = self.moments(features[-1]).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-10, 10)

    def decode(self, u: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the mean of p(x | u, c)."""
        features = self._features(self.encoder, concatenate(conditioning), conditioning)
        features[-1] = features[-1] + self.latent(u.to(self.latent.weight.dtype))
        return self.decoder(features, conditioning.embedding)

    @staticmethod
    def _features(encoder: nn.Module, volume: Tensor, conditioning: Conditioning) -> list[Tensor]:
        return encoder(volume, conditioning.embedding, stem=conditioning.stem, tokens=conditioning.tokens)


def latent_noise(noise: Tensor, stride: int, latents: int) -> Tensor:
    """Return a latent volume (B, latents, W/k, H/k, D/k), sizes rounded up, of noise (B, C, W, H, D), k = `stride`.

    Voxel (w, h, d) belongs to channel (w + h + d) mod `latents` of its block of `stride`³ voxels. A cropped block at
    the border may have no voxel for a channel, which is then 0.
    """
    axes = torch.meshgrid(*(torch.arange(size, device=noise.device) for size in noise.shape[2:]), indexing="ij")
    channel = torch.stack(axes).sum(dim=0) % latents
    belongs = (channel == torch.arange(latents, device=noise.device).view(-1, 1, 1, 1)).to(noise.dtype)
    merged = noise.sum(dim=1, keepdim=True) / math.sqrt(noise.shape[1])
    total, count = (_block_sums(volume, stride) for volume in (merged * belongs, belongs[None]))
    return total / count.clamp(min=1).sqrt()


def _block_sums(volume: Tensor, stride: int) -> Tensor:
    """Return sums over blocks of `stride`³ voxels; blocks at the border are cropped."""
    missing = [-size % stride for size in volume.shape[2:]]
    padded = functional.pad(volume, (0, missing[2], 0, missing[1], 0, missing[0]))
    return functional.avg_pool3d(padded, stride) * stride**3
