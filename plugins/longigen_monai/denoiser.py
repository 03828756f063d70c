"""MONAI's DiffusionModelUNet as a denoiser."""

import math
from dataclasses import asdict
from typing import Annotated, cast

import einops  # noqa: F401  MONAI imports it only when attention is built; importing it here reports it missing early
import torch
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
from torch import Tensor, nn
from torch.nn import functional

from longigen import Conditioning, Denoiser, LongigenError, Range, Routes

Positive = Annotated[int, Range(1)]


class MONAIDenoiser(Denoiser):
    """MONAI's `DiffusionModelUNet` (Pinaya et al. 2022, arXiv 2209.07162), unchanged, with a thin adapter.

    It is an example of how to add an existing network to longigen. The inputs of a denoiser are mapped as follows:

    - The noise level is MONAI's `timesteps`, 1000 · (2/π) · arctan(exp(-λ/2)), the time of the cosine schedule: any λ
      becomes a real number in [0, 1000], the range that the network's sinusoids are designed for.
    - `concat` is concatenated with z_t, as more input channels.
    - `stem` is added to the features of `conv_in`, which has F = ``channels[0]`` channels at full resolution.
    - `embedding` is added to the embedding of time, through a linear layer that replaces MONAI's class embedding.
    - `tokens` are the `context` of cross-attention, at the levels of `attention` and in the middle, where MONAI always
      has attention.

    Volumes are padded to a multiple of the stride by repeating their border. MONAI's last convolution starts at zero.

    Args:
        channels: channels of each level, a multiple of `groups`; each level has half the size of the one before.
        blocks: residual blocks per level.
        attention: levels with attention; 0 is the finest, -1 the coarsest.
        head_channels: channels of an attention head, a divisor of the channels of levels with attention.
        groups: groups of the group normalisation.

    Raises:
        LongigenError: for values that do not fit together.
    """

    def __init__(
        self,
        *,
        channels: tuple[Positive, ...] = (32, 64, 128),
        blocks: Positive = 1,
        attention: tuple[Annotated[int, Range(-16, 15)], ...] = (-1,),
        head_channels: Positive = 32,
        groups: Positive = 16,
    ) -> None:
        super().__init__()
        levels = len(channels)
        if not channels:
            raise LongigenError("monai: channels must name those of one level or more.")
        if any(each % groups for each in channels):
            raise LongigenError(f"monai: channels {channels} must be multiples of groups {groups}; change either.")
        if any(not -levels <= level < levels for level in attention):
            raise LongigenError(
                f"monai: attention must name levels from {-levels} to {levels - 1} of channels, got {attention}."
            )
        self.attention = {level % levels for level in attention}
        with_heads = {channels[-1], *(channels[level] for level in self.attention)}  # the last is also the middle's
        if any(each % head_channels for each in with_heads):
            raise LongigenError(
                f"monai: head_channels {head_channels} must divide the channels of the middle and of levels with "
                f"attention, {', '.join(map(str, sorted(with_heads)))}; change either."
            )
        self.channels, self.blocks, self.head_channels, self.groups = channels, blocks, head_channels, groups

    @property
    def stem_features(self) -> int:
        return self.channels[0]

    @property
    def stride(self) -> int:
        """The number that the sizes of a volume are padded to a multiple of."""
        return 2 ** (len(self.channels) - 1)

    def build(self, *, channels: int, routes: Routes) -> None:
        self.routes = routes
        inputs = channels + routes.concat
        self.network = DiffusionModelUNet(
            spatial_dims=3,
            in_channels=inputs,
            out_channels=channels,
            num_res_blocks=self.blocks,
            channels=self.channels,
            attention_levels=[level in self.attention for level in range(len(self.channels))],
            norm_num_groups=self.groups,
            num_head_channels=self.head_channels,
            with_conditioning=routes.tokens > 0,
            cross_attention_dim=routes.tokens or None,
            num_class_embeds=1 if routes.embedding else None,
            use_flash_attention=True,
        )
        if routes.embedding:
            width = cast(nn.Embedding, self.network.class_embedding).embedding_dim
            self.network.register_module("class_embedding", nn.Linear(routes.embedding, width))
        if routes.stem:
            self.network.register_module("conv_in", Stem(self.network.conv_in, inputs))

    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        self._check(conditioning)
        dtype, size = next(self.network.parameters()).dtype, z_t.shape[2:]
        volumes = [volume for volume in (z_t, conditioning.concat, conditioning.stem) if volume is not None]
        x = self._pad(torch.cat([volume.to(dtype) for volume in volumes], dim=1))
        tokens, embedding = (
            None if route is None else route.to(dtype)
            for route in (conditioning.tokens, conditioning.embedding_at(log_snr))
        )
        time = torch.atan(torch.exp(-0.5 * log_snr.float())) * (2.0 / math.pi)
        x = self.network(x, 1000.0 * time, context=tokens, class_labels=embedding)
        return x[:, :, : size[0], : size[1], : size[2]].to(z_t.dtype)

    def _pad(self, x: Tensor) -> Tensor:
        """Pad each axis to a multiple of the stride by repeating the last voxel."""
        missing = [-size % self.stride for size in x.shape[2:]]
        return functional.pad(x, (0, missing[2], 0, missing[1], 0, missing[0]), mode="replicate")

    def _check(self, conditioning: Conditioning) -> None:
        for route, channels in asdict(conditioning.routes).items():
            expected = getattr(self.routes, route)
            if channels != expected:
                raise ValueError(f"monai was built for {expected} channels on the route '{route}', got {channels}")


class Stem(nn.Module):
    """The first convolution on the first `inputs` channels; the remaining channels are added to its output."""

    def __init__(self, convolution: nn.Module, inputs: int) -> None:
        super().__init__()
        self.convolution, self.inputs = convolution, inputs

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(x[:, : self.inputs]) + x[:, self.inputs :]
