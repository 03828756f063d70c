"""The 3D U-Net."""

from dataclasses import asdict
from itertools import pairwise
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from longigen import Conditioning, Denoiser, LongigenError, Range, Routes, doubled, flow, warp
from longigen_unet3d.blocks import (
    Block,
    Convolution,
    NoiseEmbedding,
    Refinement,
    group_norm,
    patchify,
    unpatchify,
    zeroed,
)

Positive = Annotated[int, Range(1)]


class UNet3D(Denoiser):
    """A 3D U-Net after Dhariwal and Nichol 2021 (arXiv 2105.05233), by default on 2×2×2 patches.

    It differs where volumes on a CPU ask for it: one skip connection per level, channels changed by 1×1×1
    convolutions before upsampling, and the coarsest level, where nothing is skipped, is the middle.

    With `patch` 2 the volume enters as patches (space to depth: Shi et al. 2016, arXiv 1609.05158) and the first
    level works at half resolution, several times faster than the same network at full resolution. `refine` then
    ends the network with two light convolutions at full resolution that see the noisy volume and `concat` again.

    The routes: `concat` enters beside z_t; `stem`, of width / patch³ channels at full resolution, is put into patches
    and added to the first layer's features (Dao et al. 2024, Equation 11); `embedding` is projected and added to the
    noise level's embedding, which scales and shifts every residual block; `tokens` are attended to wherever there is
    self-attention.

    Args:
        width: channels of the first level; a multiple of patch³.
        multipliers: channels of each level, in units of `width`; one level each, half the size of the one before.
        blocks: residual blocks of a level, on the way down and again on the way up.
        attention: levels whose blocks have self- and cross-attention; 0 is the finest, -1 the coarsest.
        heads: attention heads.
        patch: 2 for 2×2×2 patches, 1 for the plain stem and head at full resolution.
        refine: channels of the refinement at full resolution after a patched head; 0 for none.
        scale_input: let the noisy volume in as α z_t. Where there is hardly any signal nothing is then left of it, and
            the network looks at the conditioning from the first step; as z_t it sees mostly noise there. For networks
            that predict x or v; ε at high noise is z_t itself and could not be told.
        motion: answer with the follow-up image, whatever the sampler would have predicted: the last visit moved along
            a smooth field, the flow of a velocity that the network gives for each patch, plus what its head gives. For
            tissue that moves, such as a beating heart's: a head alone, trained by squared error, turns the voxels grey
            that an edge may pass. It is ours.
        dropout: probability, inside residual blocks.
        checkpointing: recompute the blocks' activations in the backward pass: less memory, more time.

    Raises:
        LongigenError: for values that do not fit together.
    """

    def __init__(
        self,
        *,
        width: Positive = 32,
        multipliers: tuple[Positive, ...] = (1, 2, 4),
        blocks: Positive = 2,
        attention: tuple[Annotated[int, Range(-16, 15)], ...] = (-1,),
        heads: Positive = 4,
        patch: Literal[1, 2] = 2,
        refine: Annotated[int, Range(0)] = 8,
        scale_input: bool = False,
        motion: bool = False,
        dropout: Annotated[float, Range(0, below=1)] = 0.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        levels = len(multipliers)
        if not multipliers:
            raise LongigenError("UNet3D: multipliers must name one level or more.")
        if width % patch**3:
            raise LongigenError(f"UNet3D: width must be a multiple of {patch**3} (patch cubed), got {width}.")
        if any(not -levels <= level < levels for level in attention):
            raise LongigenError(
                f"UNet3D: attention must name levels from {-levels} to {levels - 1} of multipliers, got {attention}."
            )
        self.attention = {level % levels for level in attention}
        self.widths = tuple(width * multiplier for multiplier in multipliers)
        if any(self.widths[level] % heads for level in self.attention):
            raise LongigenError(
                f"UNet3D: heads must divide the channels {self.widths} of levels with attention, got {heads}."
            )
        self.blocks, self.heads, self.patch, self.dropout = blocks, heads, patch, dropout
        self.refine = refine if patch > 1 else 0
        self.scale_input, self.motion = scale_input, motion
        if motion:
            self.predicts, self.needs_base = "image", True
        self.checkpointing = checkpointing

    @property
    def stem_features(self) -> int:
        return self.widths[0] // self.patch**3

    @property
    def stride(self) -> int:
        """What the sizes of a volume are padded to a multiple of."""
        return self.patch * 2 ** (len(self.widths) - 1)

    def build(self, *, channels: int, routes: Routes) -> None:
        if routes.tokens and not self.attention:
            raise LongigenError(
                "UNet3D: the conditioner gives tokens and nothing attends to them; name levels in attention."
            )
        self.routes = routes
        width = self.widths[0]
        embedding = 4 * width

        def level(index: int, channels: int, blocks: int) -> nn.ModuleList:
            features = self.widths[index]
            heads = self.heads if index in self.attention else 0
            return nn.ModuleList(
                Block(
                    features if block else channels,
                    features,
                    embedding,
                    self.dropout,
                    heads=heads,
                    tokens=routes.tokens,
                )
                for block in range(blocks)
            )

        self.embedding = NoiseEmbedding(2 * width, embedding, routes.embedding)
        self.stem = Convolution((channels + routes.concat) * self.patch**3, width)
        self.down, self.downsample = nn.ModuleList(), nn.ModuleList()
        self.up, self.upsample = nn.ModuleList(), nn.ModuleList()
        for index, (features, coarser) in enumerate(pairwise(self.widths)):
            self.down.append(level(index, features, self.blocks))
            self.downsample.append(Convolution(features, coarser, stride=2))
            self.upsample.append(nn.Conv3d(coarser, features, 1))
            self.up.append(level(index, 2 * features, self.blocks))
        self.middle = level(len(self.widths) - 1, self.widths[-1], 2 * self.blocks)
        self.norm = group_norm(width)
        self.velocity = zeroed(Convolution(width, 3)) if self.motion else None
        if self.refine:
            self.head = Convolution(width, self.refine * self.patch**3)
            self.refinement = Refinement(channels + routes.concat + self.refine, self.refine, channels, embedding)
        else:
            self.head = zeroed(Convolution(width, channels * self.patch**3))
        self.to(memory_format=torch.channels_last_3d)  # oneDNN is faster so, above all in bf16

    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        self._check(conditioning)
        dtype, size = self.stem.weight.dtype, z_t.shape[2:]
        if self.scale_input:
            z_t = z_t * torch.sigmoid(log_snr).sqrt().view(-1, 1, 1, 1, 1)
        volume = z_t if conditioning.concat is None else torch.cat([z_t, conditioning.concat.to(z_t.dtype)], dim=1)
        volume = self._pad(volume.to(dtype)).contiguous(memory_format=torch.channels_last_3d)
        tokens = None if conditioning.tokens is None else conditioning.tokens.to(dtype)
        embedding = self.embedding(log_snr, conditioning.embedding)

        x = self.stem(patchify(volume, self.patch))
        if conditioning.stem is not None:
            x = x + patchify(self._pad(conditioning.stem.to(dtype)), self.patch)
        skips = []
        for blocks, downsample in zip(self.down, self.downsample, strict=True):
            x = self._level(blocks, x, embedding, tokens)
            skips.append(x)
            x = downsample(x)
        x = self._level(self.middle, x, embedding, tokens)
        for blocks, upsample in zip(reversed(self.up), reversed(self.upsample), strict=True):
            x = torch.cat([functional.interpolate(upsample(x), scale_factor=2), skips.pop()], dim=1)
            x = self._level(blocks, x, embedding, tokens)
        features = functional.silu(self.norm(x))
        x = unpatchify(self.head(features), self.patch)
        if self.refine:
            x = self._run(self.refinement, torch.cat([x, volume], dim=1), embedding)
        x = x[:, :, : size[0], : size[1], : size[2]].to(z_t.dtype)
        return x if self.velocity is None else x + self._moved(self.velocity(features), conditioning, size).to(x.dtype)

    def _moved(self, velocity: Tensor, conditioning: Conditioning, size: torch.Size) -> Tensor:
        """Return the last visit, once for each sample of the batch, after unit time along a velocity per patch."""
        assert conditioning.base is not None
        displacement = flow(velocity)
        displacement = (
            doubled(displacement, size) if self.patch == 2 else displacement[:, :, : size[0], : size[1], : size[2]]
        )
        return warp(conditioning.base, displacement)

    def _level(self, blocks: nn.Module, x: Tensor, embedding: Tensor, tokens: Tensor | None) -> Tensor:
        for block in blocks.children():
            x = self._run(block, x, embedding, tokens)
        return x

    def _run(self, layer: nn.Module, *inputs: Tensor | None) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(layer, *inputs, use_reentrant=False)
        return layer(*inputs)

    def _pad(self, x: Tensor) -> Tensor:
        """Repeat the last voxel of each axis up to a multiple of the stride."""
        missing = [-size % self.stride for size in x.shape[2:]]
        if not any(missing):
            return x
        return functional.pad(x, (0, missing[2], 0, missing[1], 0, missing[0]), mode="replicate")

    def _check(self, conditioning: Conditioning) -> None:
        for route, channels in asdict(conditioning.routes).items():
            expected = getattr(self.routes, route)
            if channels != expected:
                raise ValueError(f"UNet3D was built for {expected} channels on the route '{route}', got {channels}")
