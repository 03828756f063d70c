"""The 3D U-Net denoiser."""

from dataclasses import asdict, replace
from itertools import pairwise
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from longigen import (
    Conditioning,
    Denoiser,
    LongigenError,
    Moved,
    Range,
    Routes,
    doubled,
    flow,
    patchify,
    recomputed,
    unpatchify,
)
from longigen_unet3d.blocks import (
    Block,
    NoiseEmbedding,
    Refinement,
    group_norm,
    zeroed,
)
from longigen_unet3d.convolution import Convolution, Pointwise, joined

Positive = Annotated[int, Range(1)]


class UNet3D(Denoiser):
    """A 3D U-Net after Dhariwal and Nichol 2021 (arXiv 2105.05233), by default on 2×2×2 patches.

    To be fast for volumes on a CPU, it differs in three ways: it has one skip connection per level, 1×1×1 convolutions
    change the channels before upsampling, and the coarsest level, without a skip connection, is the middle.

    With `patch` 2 the volume is split into patches (space to depth: Shi et al. 2016, arXiv 1609.05158) and the first
    level works at half resolution, several times faster than the same network at full resolution. With `refine` the
    network ends with two light convolutions at full resolution whose input includes the noisy volume and `concat`.

    The routes: `concat` is concatenated with z_t; `stem`, of width / patch³ channels at full resolution, is split into
    patches and added to the first layer's features (Dao et al. 2024, Equation 11); `embedding` is projected and added
    to the embedding of the noise level, which scales and shifts every residual block; `tokens` are used by
    cross-attention wherever there is self-attention.

    Args:
        width: channels of the first level; a multiple of patch³.
        multipliers: channels of each level in units of `width`; each level has half the size of the one before.
        blocks: residual blocks per level, in the downsampling and in the upsampling path each.
        attention: levels whose blocks have self- and cross-attention; 0 is the finest, -1 the coarsest.
        heads: attention heads.
        patch: 2 for 2×2×2 patches, 1 for a plain stem and head at full resolution.
        refine: channels of the refinement at full resolution after a patched head; 0 for none.
        scale_input: multiply z_t by α, so that at high noise the network relies on the conditioning from the first
            training step. For networks that predict x or v; the noise ε could not be predicted from α z_t at high
            noise, where it is about z_t itself.
        motion: predict the follow-up image itself, whatever the sampler's prediction type: the last visit warped along
            a smooth deformation, the flow of a velocity predicted for each patch, plus the output of the head. For
            moving tissue, such as a beating heart: a head alone, trained by squared error, blurs moving edges. This
            is our own extension.
        dropout: dropout probability inside residual blocks.
        checkpointing: recompute the blocks' activations in the backward pass, which saves memory and takes more time:
            of all levels, or of this number of the finest ones, which have the most.

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
        checkpointing: bool | Annotated[int, Range(0)] = False,
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
        self.scale_input = scale_input
        if motion:
            self.predicts, self.needs_base, self.moves = "image", True, True
        # True is not one level.
        self.recomputed_levels = levels * checkpointing if isinstance(checkpointing, bool) else checkpointing

    @property
    def stem_features(self) -> int:
        return self.widths[0] // self.patch**3

    @property
    def stride(self) -> int:
        """The number that the sizes of a volume are padded to a multiple of."""
        return self.patch * 2 ** (len(self.widths) - 1)

    def build(self, *, channels: int, routes: Routes) -> None:
        if routes.tokens and not self.attention:
            raise LongigenError(
                "UNet3D: the conditioner emits tokens, but no level has attention to them; set attention, e.g. to -1."
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
            self.upsample.append(Pointwise(coarser, features))
            self.up.append(level(index, 2 * features, self.blocks))
        self.middle = level(len(self.widths) - 1, self.widths[-1], 2 * self.blocks)
        self.norm = group_norm(width)
        self.velocity = zeroed(Convolution(width, 3)) if self.moves else None
        if self.refine:
            self.head = Convolution(width, self.refine * self.patch**3)
            self.refinement = Refinement(channels + routes.concat + self.refine, self.refine, channels, embedding)
        else:
            self.head = zeroed(Convolution(width, channels * self.patch**3))
        self.to(memory_format=torch.channels_last_3d)  # faster with oneDNN, above all in bf16

    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        if self.moves:
            base, _ = conditioning.require_base()
            return self.moved(z_t, log_snr, conditioning).image(base)
        return self._output(z_t, log_snr, conditioning)[0]

    def moved(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Moved:
        if self.velocity is None:
            return super().moved(z_t, log_snr, conditioning)
        change, features = self._output(z_t, log_snr, conditioning)
        displacement, size = flow(self.velocity(features)), z_t.shape[2:]
        if self.patch == 2:  # there is one velocity per patch
            displacement = doubled(displacement, size)
        return Moved(displacement[:, :, : size[0], : size[1], : size[2]], change)

    def _output(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> tuple[Tensor, Tensor]:
        """Return the output of the head, with the shape and dtype of `z_t`, and the features of the first level."""
        self._check(conditioning)
        dtype, size = self.stem.weight.dtype, z_t.shape[2:]
        if self.scale_input:
            z_t = z_t * torch.sigmoid(log_snr).sqrt().view(-1, 1, 1, 1, 1)
        volume = self._padded(z_t)
        tokens = None if conditioning.tokens is None else conditioning.tokens.to(dtype)
        embedding = self.embedding(log_snr, conditioning.embedding_at(log_snr))
        given = self._features(conditioning) if conditioning.features is None else conditioning.features

        x = self.stem.of_channels(patchify(volume, self.patch), 0)
        x = x + given[0] if given else x
        skips = []
        for level, (blocks, downsample) in enumerate(zip(self.down, self.downsample, strict=True)):
            x = self._level(level, blocks, x, embedding, tokens)
            skips.append(x)
            x = downsample(x)
        x = self._level(len(skips), self.middle, x, embedding, tokens)
        for blocks, upsample in zip(reversed(self.up), reversed(self.upsample), strict=True):
            x = joined(functional.interpolate(upsample(x), scale_factor=2), skips.pop())
            x = self._level(len(skips), blocks, x, embedding, tokens)
        features = functional.silu(self.norm(x))
        x = unpatchify(self.head(features), self.patch)
        if self.refine:
            more = given[1] if len(given) > 1 else None
            x = self._run(0, self.refinement, joined(x, volume), embedding, more)
        return x[:, :, : size[0], : size[1], : size[2]].to(z_t.dtype), features

    def prepared(self, conditioning: Conditioning) -> Conditioning:
        self._check(conditioning)
        return replace(conditioning, features=self._features(conditioning))

    def _features(self, conditioning: Conditioning) -> tuple[Tensor, ...]:
        """Return what `concat` and `stem` add to the first layer, and `concat` to that of the refinement, if any."""
        stem = None if conditioning.stem is None else patchify(self._padded(conditioning.stem), self.patch)
        if conditioning.concat is None:
            return () if stem is None else (stem,)
        concat = self._padded(conditioning.concat)
        patches = patchify(concat, self.patch)
        first = self.stem.of_channels(patches, self.stem.in_channels - patches.shape[1])
        first = first if stem is None else first + stem
        if not self.refine:
            return (first,)
        layer = self.refinement.conv1
        return first, layer.of_channels(concat, layer.in_channels - concat.shape[1])

    def _level(self, level: int, blocks: nn.Module, x: Tensor, embedding: Tensor, tokens: Tensor | None) -> Tensor:
        for block in blocks.children():
            x = self._run(level, block, x, embedding, tokens)
        return x

    def _run(self, level: int, layer: nn.Module, *inputs: Tensor | None) -> Tensor:
        return recomputed(layer, *inputs) if level < self.recomputed_levels else layer(*inputs)

    def _padded(self, x: Tensor) -> Tensor:
        """Return a volume in the type of the weights, channels last, each axis padded to a multiple of the stride.

        The last voxel is repeated.
        """
        missing = [-size % self.stride for size in x.shape[2:]]
        x = x.to(self.stem.weight.dtype)
        if any(missing):
            x = functional.pad(x, (0, missing[2], 0, missing[1], 0, missing[0]), mode="replicate")
        return x.contiguous(memory_format=torch.channels_last_3d)

    def _check(self, conditioning: Conditioning) -> None:
        for route, channels in asdict(conditioning.routes).items():
            expected = getattr(self.routes, route)
            if channels != expected:
                raise ValueError(f"UNet3D was built for {expected} channels on the route '{route}', got {channels}")
