"""SADM's attention module as a conditioner: a transformer over the visits of the history."""

import math
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from longigen import Conditioner, Conditioning, LongigenError, Range, Routes, VisitSequence, recomputed
from longigen_sadm.positions import TimeEncoding, space_encoding
from longigen_sadm.rollout import shares
from longigen_sadm.spatial import Head, SpatialAttention
from longigen_sadm.temporal import Merge, TemporalAttention, TemporalEncoder, visibility

Positive = Annotated[int, Range(1)]


class SADMConditioner(Conditioner):
    """SADM's sequence-aware transformer: encodes the history as a volume `c` (B, K, W, H, D) on the concat route.

    Yoon et al., "SADM: Sequence-Aware Diffusion Model for Longitudinal Medical Image Generation", IPMI 2023,
    arXiv 2212.08228, Section 3.1 and Fig. 3:

    1. 4D patch embedding, with one visit per patch (l = 1), and positional encoding over space and real time.
    2. `depth` temporal encoder blocks: self-attention along time at each position, then an MLP that merges 2×2×2
       neighbouring tokens into one.
    3. `depth` spatial decoder blocks: self-attention over the positions of each time, then ×2 upsampling.
    4. Tokens are unflattened, upsampled to the size of the volume and convolved.

    Choices where the paper is open, and differences from it:

    - The target is one more slot of the sequence, empty like a missing visit, at the target's time. Only that slot is
      decoded: the decoder does not mix times, so the other slots cannot contribute to `c`.
    - Time is the gap to the target divided by `time_scale`, not the index of a visit.
    - An empty visit is a zero tensor with its (non-zero) positional encoding, as in the paper, or with
      ``missing="mask"`` a learned token. Background is -1, so a zero tensor differs from a background image.
    - `skip` adds the target slot's tokens of each encoder level to the decoder's at the same level. The paper has no
      such connections; its `c` passes through the coarsest grid only and starts at that grid's resolution.
    - Encoder tokens have the same width at all levels. Images are padded to a multiple of the patch by repeating their
      border; axes with a single token are not merged further. For thin axes use a thin patch, such as (4, 4, 1).
    - All operations are spatially aligned, and the output layers start without weights that repeat with the patch, so
      `c` shows the anatomy without a visible patch grid before any training.

    Args:
        patch: w, h, d of a patch, in voxels.
        dim: width of a token, at least 6 and a multiple of `heads`.
        heads: attention heads.
        depth: ℓ, the number of temporal encoder blocks and of spatial decoder blocks.
        features: K, the channels of `c`.
        mlp_ratio: hidden width of a transformer block's MLP, as a multiple of `dim`.
        dropout: dropout probability after the attention's projection and in the MLPs.
        missing: representation of a visit without an image: a ``zero`` tensor, or a learned ``mask`` token.
        skip: add the encoder's levels to the decoder's.
        bidirectional: use visits after the target too, for imputation between visits.
        rates: factor of each visit's rate of change towards the last one, per typical gap (`VisitSequence.rates`); 0,
            as in the paper, does not use rates. The scaled rates are one more channel of the patches. Their average
            over visits, weighted by the target's attention at the finest level, is appended to `c`, with one channel
            per head and image channel. Images change little between visits, so a short training does not learn a
            subject's own rate from the images alone. A good value is 1 over the standard deviation of the change.
        gap: E, the width of an embedding of the gap between the last visit and the target; 0, as in the paper, for
            none. In the paper the gap is known to the tokens alone; the embedding scales the denoiser's features, so
            that what changes at a rate can be multiplied by the time that passes.
        recompute: recompute the activations of the attention, merging and output layers in the backward pass, which
            saves memory and takes more time.

    Raises:
        LongigenError: for sizes that do not fit together.
    """

    used_covariates = ()

    def __init__(
        self,
        *,
        patch: tuple[Positive, Positive, Positive] = (4, 4, 4),
        dim: Annotated[int, Range(6)] = 64,
        heads: Positive = 4,
        depth: Positive = 2,
        features: Positive = 8,
        mlp_ratio: Annotated[float, Range(above=0)] = 2.0,
        dropout: Annotated[float, Range(0, below=1)] = 0.0,
        missing: Literal["zero", "mask"] = "zero",
        skip: bool = True,
        bidirectional: bool = False,
        rates: Annotated[float, Range(0)] = 0.0,
        gap: Annotated[int, Range(0)] = 0,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        if dim % heads:
            raise LongigenError(f"sadm: dim {dim} must be a multiple of heads {heads}; change either.")
        self.patch, self.dim, self.heads, self.depth, self.features = patch, dim, heads, depth, features
        self.mlp_ratio, self.dropout, self.missing, self.skip = mlp_ratio, dropout, missing, skip
        self.bidirectional, self.rates, self.gap, self.recompute = bidirectional, rates, gap, recompute
        self.causal = not bidirectional

    def build(self, *, channels: int, stem_features: int, time_scale: float, covariates: tuple[str, ...]) -> None:
        self.routes = Routes(concat=self.features + (self.heads * channels if self.rates else 0), embedding=self.gap)
        self.time_scale = time_scale
        sizes = (self.dim, self.heads, self.mlp_ratio, self.dropout)
        self.embed = nn.Conv3d(2 * channels if self.rates else channels, self.dim, self.patch, stride=self.patch)
        self.mask_token = nn.Parameter(0.02 * torch.randn(self.dim)) if self.missing == "mask" else None
        self.time = TimeEncoding(self.dim)
        self.temporal = TemporalEncoder(TemporalAttention(*sizes) for _ in range(self.depth))
        self.merges = nn.ModuleList(Merge(self.dim, self.dropout) for _ in range(self.depth))
        self.spatial = nn.ModuleList(SpatialAttention(*sizes, stride=2**level) for level in range(self.depth, 0, -1))
        self.head = Head(self.dim, self.features, self.patch)
        self.embed_gap = TimeEncoding(self.gap) if self.gap else None

    def forward(self, history: VisitSequence, target_time: Tensor) -> Conditioning:
        rates = self._rates(history, target_time)
        tokens = self._tokens(history, target_time, rates)
        visible = visibility(history.times, history.valid, target_time, bidirectional=self.bidirectional)
        average = None if rates is None else self._average_rates(rates, tokens, visible)
        levels = []
        for attention, merge in zip(self.temporal, self.merges, strict=True):
            tokens = self._run(attention, tokens, visible)
            levels.append(tokens[..., -1, :])
            # After the last attention along time only the target's slot is needed.
            tokens = self._run(merge, tokens if len(levels) < self.depth else tokens[..., -1:, :])
        c = tokens[..., 0, :]
        for attention, level in zip(self.spatial, reversed(levels), strict=True):
            _, w, h, d, _ = level.shape
            c = self._run(attention, c)[:, :w, :h, :d]
            c = c + level if self.skip else c
        _, _, _, width, height, depth = history.images.shape
        c = self._run(self.head, c)[:, :, :width, :height, :depth]
        concat = c if average is None else torch.cat([c, average.to(c.dtype)], dim=1)
        return Conditioning(concat=concat, embedding=self._gap_embedding(history, target_time))

    def _gap_embedding(self, history: VisitSequence, target_time: Tensor) -> Tensor | None:
        """Return the embedding (B, E) of the gap between the last visit and the target, or None if `gap` is 0."""
        if self.embed_gap is None:
            return None
        latest = history.latest_observed(1, target_time)
        gap = torch.where(latest.valid, target_time[:, None] - latest.times, 0.0)[:, 0] / self.time_scale
        return self.embed_gap(gap)

    def _run(self, layer: nn.Module, *inputs: Tensor) -> Tensor:
        return recomputed(layer, *inputs) if self.recompute else layer(*inputs)

    @torch.no_grad()
    def explain(self, history: VisitSequence, target_time: Tensor) -> Tensor:
        """Return the share of each visit in the target's slot, by rollout of the temporal encoder's attention.

        Without any preference all shares are equal. All voxels of a patch have the same shares. A visit without an
        image has a share too, since its time is attended to.
        """
        tokens = self._tokens(history, target_time, self._rates(history, target_time))
        visible = visibility(history.times, history.valid, target_time, bidirectional=self.bidirectional)
        levels = []
        for level, attention in enumerate(self.temporal):
            levels.append(attention.weights(tokens, visible))
            if level < self.depth - 1:
                tokens = self.merges[level](attention(tokens, visible))
        result = shares(levels, visible).movedim(-1, 1)
        for axis, (patch, size) in enumerate(zip(self.patch, history.images.shape[3:], strict=True), start=2):
            result = result.repeat_interleave(patch, dim=axis).narrow(axis, 0, size)
        return result

    def _rates(self, history: VisitSequence, target_time: Tensor) -> Tensor | None:
        """Return the scaled rates of change of the visits (B, L, C, W, H, D), or None if `rates` is 0."""
        return self.rates * self.time_scale * history.rates(target_time) if self.rates else None

    def _average_rates(self, rates: Tensor, tokens: Tensor, visible: Tensor) -> Tensor:
        """Return the rates averaged over visits with the target's attention (B, heads · C, W, H, D).

        The target's attention to its own slot counts as a rate of zero. The weights of the patches are interpolated.
        """
        weights = next(iter(self.temporal)).target_weights(tokens, visible)
        size = [n * patch for n, patch in zip(weights.shape[3:], self.patch, strict=True)]
        width, height, depth = rates.shape[3:]
        # Of all visits at once: a loop over them would be compiled again for each number of visits.
        smooth = nn.functional.interpolate(weights.flatten(1, 2), size=size, mode="trilinear")
        smooth = smooth[:, :, :width, :height, :depth].unflatten(1, (self.heads, -1))
        return (smooth[:, :, :, None] * rates[:, None]).sum(dim=2).flatten(1, 2)

    def _tokens(self, history: VisitSequence, target_time: Tensor, rates: Tensor | None) -> Tensor:
        """Return the tokens of the history and, as the last slot, of the target: (B, w, h, d, L + 1, dim)."""
        images = history.images if rates is None else torch.cat([history.images, rates.to(history.images)], dim=2)
        images = images.flatten(0, 1)
        padding = [
            side
            for size, patch in zip(reversed(images.shape[2:]), reversed(self.patch), strict=True)
            for side in (0, math.ceil(size / patch) * patch - size)
        ]
        content = self.embed(nn.functional.pad(images, padding, mode="replicate"))
        content = content.unflatten(0, history.times.shape).permute(0, 3, 4, 5, 1, 2)
        # The embedding of a zero tensor is the bias.
        empty = self.embed.get_parameter("bias") if self.mask_token is None else self.mask_token
        observed = history.observed[:, None, None, None, :, None]
        content = torch.where(observed, content, empty.to(content.dtype))
        slot = empty.to(content.dtype).expand(*content.shape[:4], 1, self.dim)
        content = torch.cat([content, slot], dim=4)
        # The times of padding may have any value, and NaN times zero is NaN.
        gap = torch.where(history.valid, target_time[:, None] - history.times, 0.0) / self.time_scale
        when = self.time(nn.functional.pad(gap, (0, 1)))[:, None, None, None]
        _, w, h, d, _, _ = content.shape
        return content + when + space_encoding((w, h, d), self.dim, 1, content)[..., None, :]
