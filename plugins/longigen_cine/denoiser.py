"""The `cine` denoiser: moves the last visit's own voxels, by an amount that samples draw."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from longigen import Conditioning, Denoiser, Example, LongigenError, Moved, Range, Routes, flow, randn_like
from longigen_cine.losses import (
    amount_error,
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
POSITIONS = 4
"""Channels with the position of a voxel."""
POSITION_UNIT = 50
"""Unit of positions in the plane, in voxels."""


@dataclass(frozen=True)
class Modes:
    """A Gaussian distribution of movements: a mean and K modes of velocity and change.

    Attributes:
        velocity: (B, 3 (K + 1), W/2, H/2, D), in voxels of that grid and in slices.
        change: (B, C (K + 1), W/2, H/2, D), in model intensities.
        shape: (B, C, W, H, D) of the last visit.
    """

    velocity: Tensor
    change: Tensor
    shape: torch.Size

    def repeated(self, times: int) -> "Modes":
        """Return the distributions of the batch, the whole batch repeated a number of times."""
        velocity, change = (part.repeat(times, 1, 1, 1, 1) for part in (self.velocity, self.change))
        return Modes(velocity, change, torch.Size([times * self.shape[0], *self.shape[1:]]))

    def draw(self, noise: Tensor) -> Moved:
        """Return the movement for standard normal `noise` (B, C, W, H, D); zeros give the central one."""
        size = self.shape[2:]
        count = self.velocity.shape[1] // 3 - 1
        latents = torch.cat([torch.ones_like(noise.flatten(1)[:, :1]), _latents(noise, count)], dim=1).float()
        velocity = torch.einsum("bk,bkcwhd->bcwhd", latents, self.velocity.unflatten(1, (count + 1, 3)))
        change = torch.einsum("bk,bkcwhd->bcwhd", latents, self.change.unflatten(1, (count + 1, -1)))
        in_plane = to_slices(torch.cat([velocity[:, :2], torch.zeros_like(velocity[:, :1])], dim=1))
        moved = PATCH * from_slices(flow(in_plane[..., None])[:, :2, ..., 0], size[2])
        displacement = torch.cat([moved, torch.tanh(velocity[:, 2:])], dim=1)
        return Moved(_doubled(displacement, size), _doubled(change, size))


class CineUNet(Denoiser):
    """Moves the last visit along a smooth deformation and adds a smooth change of intensity, in one evaluation.

    For stacks of thick slices, such as short-axis cine of the heart: convolutions are in the plane (W, H), neighbouring
    slices are mixed at the coarser levels, and the depth is not reduced, so any number of slices is accepted. The
    deformation is the flow of a velocity in the plane (Arsigny et al., MICCAI 2006), summed over the levels of a U-Net,
    and up to one slice across. So what is generated consists of the subject's own voxels and stays sharp, unlike the
    output of a network that was trained by squared error.

    The velocity v and the change c are Gaussian given the conditioning, of low rank (as the logits of Monteiro et al.,
    Stochastic Segmentation Networks, NeurIPS 2020, arXiv 2006.06015):

        v = v_0 + Σ_k u_k v_k,   c = c_0 + Σ_k u_k c_k

    The network predicts v_0 … v_K and c_0 … c_K in one evaluation, times tanh(gap) or the gap (`steady`), so that no
    time means no change. The K latents u are standard normal and come from the sampler's z_t. So draws differ in the
    amount of motion, which a single visit does not tell, and z_t = 0 gives the central forecast. Voxels have no noise
    of their own: a draw keeps that of the last visit. Training minimises two kinds of losses:

    - Of the central forecast: the squared error at several resolutions, 1 - SSIM in the plane, and the difference
      between the amounts of generated and true change. Where motion is uncertain, the first two are lowest for too
      little of it, and nearly as low for the true amount.
    - Of two draws: the fair CRPS per voxel at several resolutions, a proper scoring rule: it is smallest if the draws
      are from the distribution of what happens (Gneiting and Raftery, JASA 2007). Generators of ensembles are trained
      so in weather forecasting (Lang et al. 2024, arXiv 2412.15832).

    The sampler is not used in training. Use the `regression` sampler, with ``noise`` for draws. This is our own method.

    Args:
        width: channels of the first level, at half resolution.
        multipliers: channels of each level in units of `width`; each level has half the size of the one before.
        latents: size of the latent vector.
        similarity: weight of 1 - SSIM.
        amount: weight of the difference between the amounts of generated and true change.
        ensemble: weight of the CRPS of two draws; 0 trains the central forecast only.
        output_scale: factor of the network's outputs, about the movement in half voxels and the change that are to be
            expected. Each step of Adam changes every weight by the learning rate, and hundreds of weights add up in an
            output: with too large a factor the first steps move tissue too far, which takes long to unlearn.
        steady: velocity and change grow with the gap, as in ageing, instead of with its tanh, as in a beat.
        positions: give the network the position in the grid, since hearts contract towards a point near its middle. Not
            with ``augment.crop``: positions in a crop are not those in the whole grid.
        spread: factor of the latents in generation. Networks that were trained long are too sure of themselves; a
            factor above 1, chosen on subjects that they have not seen, widens the draws, not the central forecast.
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
        amount: Annotated[float, Range(0)] = 0.0,
        ensemble: Annotated[float, Range(0)] = 1.0,
        output_scale: Annotated[float, Range(above=0)] = 0.1,
        steady: bool = False,
        positions: bool = True,
        spread: Annotated[float, Range(0)] = 1.0,
        dropout: Annotated[float, Range(0, below=1)] = 0.1,
    ) -> None:
        super().__init__()
        if len(multipliers) < 2:
            raise LongigenError(f"cine: multipliers must name two levels or more, got {multipliers}.")
        if width % PATCH**2:
            raise LongigenError(f"cine: width must be a multiple of {PATCH**2}, got {width}.")
        self.widths = tuple(width * multiplier for multiplier in multipliers)
        self.latents, self.spread, self.dropout = latents, spread, dropout
        self.similarity, self.amount, self.ensemble = similarity, amount, ensemble
        self.output_scale, self.steady, self.positions = output_scale, steady, positions

    @property
    def stride(self) -> int:
        """The number that W and H are padded to a multiple of."""
        return PATCH * 2 ** (len(self.widths) - 1)

    @property
    def stem_features(self) -> int:
        return self.widths[0] // PATCH**2

    def build(self, *, channels: int, routes: Routes) -> None:
        self.network = SliceUNet(
            channels + routes.concat + (POSITIONS if self.positions else 0),
            velocity=3 * (self.latents + 1),
            change=channels * (self.latents + 1),
            widths=self.widths,
            embedding=EMBEDDING,
            tokens=routes.tokens,
            dropout=self.dropout,
        )
        self.gap = nn.Linear(2 * FREQUENCIES, EMBEDDING)
        self.condition = nn.Linear(routes.embedding, EMBEDDING) if routes.embedding else None
        self.vector = nn.Sequential(nn.SiLU(), nn.Linear(EMBEDDING, EMBEDDING), nn.SiLU())

    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        base, _ = conditioning.require_base()
        return self.moved(z_t, log_snr, conditioning).image(base).to(z_t.dtype)

    def moved(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Moved:
        # σ z_t is the noise that is expected in z_t, so a reverse process of many steps ends at the central forecast.
        noise = self.spread * torch.sigmoid(-log_snr).sqrt().view(-1, 1, 1, 1, 1) * z_t
        return self._modes(conditioning).draw(noise)

    def losses(self, example: Example) -> Mapping[str, Tensor]:
        true, conditioning = example.image, example.conditioning
        base, _ = conditioning.require_base()
        noise = [torch.zeros_like(base)]
        if self.ensemble:
            noise += [randn_like(base, example.generator) for _ in range(2)]
        moved = self._modes(conditioning).repeated(len(noise)).draw(torch.cat(noise))
        images = warp_slices(base.repeat(len(noise), 1, 1, 1, 1), moved.displacement) + moved.change
        central, *draws = (example.counting(image, true) for image in images.chunk(len(noise)))
        losses = {
            "error": ERROR_WEIGHT * squared_error(central, true),
            "similarity": self.similarity * dissimilarity(central, true),
        }
        if self.amount:
            losses["amount"] = self.amount * amount_error(central, true, base)
        if self.ensemble:
            losses["ensemble"] = self.ensemble * ensemble_error(draws[0], draws[1], true)
        return losses

    def _modes(self, conditioning: Conditioning) -> Modes:
        base, gap = conditioning.require_base()
        dtype, depth = self.gap.weight.dtype, base.shape[4]
        embedding = self.gap(_sinusoids(gap).to(dtype))
        if self.condition is not None and conditioning.embedding is not None:
            embedding = embedding + self.condition(conditioning.embedding.to(dtype))
        parts = [base]
        if conditioning.concat is not None:
            parts.append(conditioning.concat.to(base.dtype))
        if self.positions:
            parts.append(_positions(base))
        volume = torch.cat(parts, dim=1)
        velocity, change = self.network(
            self._pad(to_slices(volume.to(dtype))),
            self.vector(embedding).repeat_interleave(depth, dim=0),
            stem=None if conditioning.stem is None else self._pad(to_slices(conditioning.stem.to(dtype))),
            tokens=conditioning.tokens,
            depth=depth,
        )
        reach = self.output_scale * (gap.float() if self.steady else torch.tanh(gap.float())).view(-1, 1, 1, 1, 1)
        velocity, change = (reach * from_slices(part.float(), depth) for part in (velocity, change))
        return Modes(velocity, change, base.shape)

    def _pad(self, slices: Tensor) -> Tensor:
        """Pad W and H to a multiple of the stride by repeating the last voxel."""
        missing = [-size % self.stride for size in slices.shape[2:]]
        return functional.pad(slices, (0, missing[1], 0, missing[0]), mode="replicate") if any(missing) else slices


def _sinusoids(gap: Tensor) -> Tensor:
    """Return sines and cosines (B, 2 F) of a gap (B,) in typical gaps, of wavelengths from 2 to 256 of them."""
    step = torch.arange(FREQUENCIES, device=gap.device) / (FREQUENCIES - 1)
    angle = gap.float()[:, None] * math.pi * (1 / 128) ** step
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def _positions(volume: Tensor) -> Tensor:
    """Return the position of each voxel of (B, C, W, H, D) as four channels: x, y, their length, and the slice.

    x and y are from the middle of the grid, in units of `POSITION_UNIT` voxels; slices go from -1 to 1. Hearts lie
    around the middle and contract towards it.
    """
    W, H, D = volume.shape[2:]
    x, y, z = (
        (torch.arange(size, device=volume.device, dtype=volume.dtype) - (size - 1) / 2) / unit
        for size, unit in ((W, POSITION_UNIT), (H, POSITION_UNIT), (D, max(D - 1, 1) / 2))
    )
    x, y, z = x.view(-1, 1, 1), y.view(1, -1, 1), z.view(1, 1, -1)
    parts = torch.stack([part.expand(W, H, D) for part in (x, y, (x.square() + y.square()).sqrt(), z)])
    return parts.expand(volume.shape[0], -1, -1, -1, -1)


def _latents(noise: Tensor, count: int) -> Tensor:
    """Return `count` standard normal numbers (B, count): sums over interleaved voxels, over their number's root."""
    flat = noise.flatten(1)
    flat = functional.pad(flat, (0, -flat.shape[1] % count)).unflatten(1, (-1, count))
    return flat.sum(dim=1) / math.sqrt(noise[0].numel() / count)


def _doubled(volume: Tensor, size: torch.Size) -> Tensor:
    """Return a volume of half resolution in the plane at the full one, cropped to `size`."""
    scale = (PATCH, PATCH, 1)
    return functional.interpolate(volume, scale_factor=scale, mode="trilinear")[:, :, : size[0], : size[1]]
