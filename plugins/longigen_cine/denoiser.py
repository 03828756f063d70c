"""The `cine` denoiser: moves the last visit's own voxels, by an amount that samples draw."""

import math
from collections.abc import Mapping
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from longigen import Conditioning, Denoiser, Example, LongigenError, Moved, Range, Routes, flow, randn_like
from longigen_cine.losses import (
    dissimilarity,
    ensemble_error,
    from_slices,
    squared_error,
    to_slices,
    warp_slices,
)
from longigen_cine.network import SliceUNet

Positive = Annotated[int, Range(1)]
EMBEDDING = 64
PATCH = 2
"""The network works on 2×2 patches of a slice."""
ERROR_WEIGHT = 12.5
"""Weight of the squared error: of intensities in [0, 1] it is 50."""
FREQUENCIES = 8


class CineUNet(Denoiser):
    """Moves the last visit along a smooth deformation and adds a smooth change of intensity, in one evaluation.

    For stacks of thick slices, such as short-axis cine of the heart: convolutions are in the plane (W, H), neighbouring
    slices are mixed at the coarser levels, and the depth is not reduced, so any number of slices is accepted. The
    deformation is the flow of a velocity in the plane (Arsigny et al., MICCAI 2006), summed over the levels of a U-Net,
    and up to one slice across. So what is generated consists of the subject's own voxels and stays sharp, unlike the
    output of a network that was trained by squared error.

    The velocity and the change depend on a latent vector and a map of noise, both taken from the sampler's z_t: draws
    differ in the amount of motion, which a single visit does not tell. z_t = 0 gives the central forecast. Training is
    by two kinds of losses on the same pair:

    - The central forecast: squared error at several resolutions, and 1 - SSIM in the plane.
    - Two draws: the fair CRPS per voxel (Ferro, QJRMS 2014) at several resolutions, a proper scoring rule: it is
      smallest if the draws are from the distribution of what happens (Gneiting and Raftery, JASA 2007). One-step
      generators of ensembles are trained so in weather forecasting (Lang et al. 2024, arXiv 2412.15832).

    The sampler is not used in training. Use the `regression` sampler, with ``noise`` for draws. This is our own method.

    Args:
        width: channels of the first level, at half resolution.
        multipliers: channels of each level in units of `width`; each level has half the size of the one before.
        latents: size of the latent vector.
        similarity: weight of 1 - SSIM.
        ensemble: weight of the CRPS of two draws; 0 trains the central forecast only.
        dropout: dropout probability inside the blocks.

    Raises:
        LongigenError: for values that do not fit together.
    """

    predicts = "image"
    needs_base = True
    moves = True

    def __init__(
        self,
        *,
        width: Positive = 16,
        multipliers: tuple[Positive, ...] = (1, 2, 4, 6),
        latents: Positive = 8,
        similarity: Annotated[float, Range(0)] = 1.0,
        ensemble: Annotated[float, Range(0)] = 1.0,
        dropout: Annotated[float, Range(0, below=1)] = 0.1,
    ) -> None:
        super().__init__()
        if len(multipliers) < 2:
            raise LongigenError(f"cine: multipliers must name two levels or more, got {multipliers}.")
        self.widths = tuple(width * multiplier for multiplier in multipliers)
        self.latents, self.similarity, self.ensemble, self.dropout = latents, similarity, ensemble, dropout

    @property
    def stride(self) -> int:
        """The number that W and H are padded to a multiple of."""
        return PATCH * 2 ** (len(self.widths) - 1)

    @property
    def stem_features(self) -> int:
        return self.widths[0] // PATCH**2

    def build(self, *, channels: int, routes: Routes) -> None:
        self.network = SliceUNet(
            channels + routes.concat,
            channels,
            self.widths,
            embedding=EMBEDDING,
            tokens=routes.tokens,
            dropout=self.dropout,
        )
        self.gap = nn.Linear(2 * FREQUENCIES, EMBEDDING)
        self.condition = nn.Linear(routes.embedding, EMBEDDING) if routes.embedding else None
        self.vector = nn.Sequential(nn.SiLU(), nn.Linear(EMBEDDING, EMBEDDING))
        self.latent = nn.Linear(self.latents, EMBEDDING, bias=False)

    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        base, _ = conditioning.require_base()
        return self.moved(z_t, log_snr, conditioning).image(base).to(z_t.dtype)

    def moved(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Moved:
        # σ z_t is the noise that is expected in z_t, so a reverse process of many steps ends at the central forecast.
        noise = torch.sigmoid(-log_snr).sqrt().view(-1, 1, 1, 1, 1) * z_t
        return self._decode(self._encode(conditioning), noise, conditioning)

    def losses(self, example: Example) -> Mapping[str, Tensor]:
        true, conditioning = example.image, example.conditioning
        base, _ = conditioning.require_base()
        encoded = self._encode(conditioning)

        def draw(noise: Tensor) -> Tensor:
            moved = self._decode(encoded, noise, conditioning)
            return warp_slices(base, moved.displacement) + moved.change

        central = draw(torch.zeros_like(base))
        losses = {
            "error": ERROR_WEIGHT * squared_error(central, true),
            "similarity": self.similarity * dissimilarity(central, true),
        }
        if self.ensemble:
            first, second = (draw(randn_like(base, example.generator)) for _ in range(2))
            losses["ensemble"] = self.ensemble * ensemble_error(first, second, true)
        return losses

    def _encode(self, conditioning: Conditioning) -> tuple[list[Tensor], Tensor]:
        """Return the features of every level of the network, and the embedding (B, E) of time and conditioning."""
        base, gap = conditioning.require_base()
        dtype = self.gap.weight.dtype
        embedding = self.gap(_sinusoids(gap).to(dtype))
        if self.condition is not None and conditioning.embedding is not None:
            embedding = embedding + self.condition(conditioning.embedding.to(dtype))
        embedding = self.vector(embedding)
        volume = base if conditioning.concat is None else torch.cat([base, conditioning.concat.to(base.dtype)], dim=1)
        stem = None if conditioning.stem is None else self._pad(to_slices(conditioning.stem.to(dtype)))
        features = self.network.encode(
            self._pad(to_slices(volume.to(dtype))), _spread(embedding, base), stem, conditioning.tokens, base.shape[4]
        )
        return features, embedding

    def _decode(self, encoded: tuple[list[Tensor], Tensor], noise: Tensor, conditioning: Conditioning) -> Moved:
        """Return the movement for a standard normal `noise` (B, C, W, H, D); zeros give the central forecast."""
        features, embedding = encoded
        base, _ = conditioning.require_base()
        size, depth = base.shape[2:4], base.shape[4]
        dtype = embedding.dtype
        embedding = functional.silu(embedding + self.latent(_latents(noise, self.latents).to(dtype)))
        # The mean of a patch's voxels times their number's root is standard normal again.
        texture = PATCH * functional.avg_pool2d(self._pad(to_slices(noise)).mean(1, keepdim=True), PATCH)
        velocity, change = self.network.decode(features, _spread(embedding, base), texture.to(dtype))
        velocity = velocity.float()
        in_plane = torch.cat([velocity[:, :2], torch.zeros_like(velocity[:, :1])], dim=1)[..., None]
        moved = PATCH * _doubled(flow(in_plane)[:, :2, ..., 0], size)
        across = torch.tanh(_doubled(velocity[:, 2:], size))
        displacement = from_slices(torch.cat([moved, across], dim=1), depth)
        return Moved(displacement, from_slices(_doubled(change.float(), size), depth))

    def _pad(self, slices: Tensor) -> Tensor:
        """Pad W and H to a multiple of the stride by repeating the last voxel."""
        missing = [-size % self.stride for size in slices.shape[2:]]
        return functional.pad(slices, (0, missing[1], 0, missing[0]), mode="replicate") if any(missing) else slices


def _sinusoids(gap: Tensor) -> Tensor:
    """Return sines and cosines (B, 2 F) of a gap (B,) in typical gaps, of wavelengths from 2 to 256 of them."""
    step = torch.arange(FREQUENCIES, device=gap.device) / (FREQUENCIES - 1)
    angle = gap.float()[:, None] * math.pi * (1 / 128) ** step
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def _latents(noise: Tensor, count: int) -> Tensor:
    """Return `count` standard normal numbers (B, count): sums over interleaved voxels, over their number's root."""
    flat = noise.flatten(1)
    flat = functional.pad(flat, (0, -flat.shape[1] % count)).unflatten(1, (-1, count))
    return flat.sum(dim=1) / math.sqrt(noise[0].numel() / count)


def _spread(embedding: Tensor, base: Tensor) -> Tensor:
    """Return the embedding (B, E) of each slice (B·D, E)."""
    return embedding.repeat_interleave(base.shape[4], dim=0)


def _doubled(slices: Tensor, size: torch.Size) -> Tensor:
    """Return slices of half resolution at the full one, cropped to `size`."""
    return functional.interpolate(slices, scale_factor=PATCH, mode="bilinear")[:, :, : size[0], : size[1]]
