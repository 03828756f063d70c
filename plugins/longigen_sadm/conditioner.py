"""SADM's attention module as a conditioner."""

import math
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from longigen import Conditioner, Conditioning, LongigenError, Range, Routes, VisitSequence
from longigen_sadm.positions import TimeEncoding, space_encoding
from longigen_sadm.rollout import shares
from longigen_sadm.spatial import Head, SpatialAttention
from longigen_sadm.temporal import Merge, TemporalAttention, visibility

Positive = Annotated[int, Range(1)]


class SADMConditioner(Conditioner):
    """The sequence-aware transformer of SADM: a history of visits as a volume `c` (B, K, W, H, D) on the concat route.

    Yoon et al., "SADM: Sequence-Aware Diffusion Model for Longitudinal Medical Image Generation", IPMI 2023,
    arXiv 2212.08228, Section 3.1 and Fig. 3:

    1. 4D patch embedding, with one visit per patch (l = 1), and positional encoding over space and real time.
    2. `depth` temporal encoder blocks: self-attention along time at each place, then an MLP that merges 2×2×2
       neighbouring tokens into one.
    3. `depth` spatial decoder blocks: self-attention over the places of each time, then ×2 upsampling.
    4. Tokens are unflattened, upsampled to the volume's own size and convolved.

    What is decided here, where the paper leaves it open or differs:

    - The target is one more slot of the sequence, empty like a missing visit, at the target's time. Only that slot is
      decoded: the decoder does not mix times, so the others could not reach `c`.
    - Time is the gap to the target over `time_scale`, not the index of a visit.
    - An empty visit is a zero tensor with its (non-zero) positional encoding, as in the paper, or with
      ``missing="mask"`` a learned token. Background is -1, so a zero tensor is no image of background.
    - `skip` adds the target slot's tokens of each encoder level to the decoder's at the same level. This is not in
      the paper, whose `c` passes through the coarsest grid alone and so starts at that grid's resolution.
    - Encoder tokens keep one width at all levels. Images are padded to a multiple of the patch by repeating their
      border; axes of one token stay so. For thin axes take a thin patch, such as (4, 4, 1).
    - All operations keep a token over the voxels it came from, and what writes the output starts with no weights that
      repeat with the patch, so `c` lies over the anatomy, without a mosaic, before any training.

    Args:
        patch: w, h, d of a patch, voxels.
        dim: width of a token, at least 6 and a multiple of `heads`.
        heads: attention heads.
        depth: ℓ, the number of temporal encoder blocks, and of spatial decoder blocks (3 in the paper).
        features: K, the channels of `c`.
        mlp_ratio: hidden width of a transformer block's MLP over `dim`.
        dropout: after attention's projection and in the MLPs.
        missing: how a visit without an image is represented.
        skip: whether encoder levels feed decoder levels.
        bidirectional: use visits after the target too, for imputation between visits.
        rates: how strongly each visit's rate of change towards the last one, per typical gap, is seen beside its image
            (`VisitSequence.rates`): as one more channel of the patches, and as further channels of `c`, one for each
            head and channel, where the target's attention to the visits, at the finest level, averages their rates
            voxel by voxel. 0 for not at all, as in the paper. From one visit to the next an image changes by little,
            and a short training does not find a subject's own rate in the images alone. About 1 over the standard
            deviation of that change is right.

    Raises:
        LongigenError: for sizes that do not fit together.
    """

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
    ) -> None:
        super().__init__()
        if dim % heads:
            raise LongigenError(f"sadm: dim {dim} must be a multiple of heads {heads}; change either.")
        self.patch, self.dim, self.heads, self.depth, self.features = patch, dim, heads, depth, features
        self.mlp_ratio, self.dropout, self.missing, self.skip = mlp_ratio, dropout, missing, skip
        self.bidirectional, self.rates = bidirectional, rates
        self.causal = not bidirectional

    def build(self, *, channels: int, stem_features: int, time_scale: float, covariates: tuple[str, ...]) -> None:
        self.routes = Routes(concat=self.features + (self.heads * channels if self.rates else 0))
        self.time_scale = time_scale
        sizes = (self.dim, self.heads, self.mlp_ratio, self.dropout)
        self.embed = nn.Conv3d(2 * channels if self.rates else channels, self.dim, self.patch, stride=self.patch)
        self.mask_token = nn.Parameter(0.02 * torch.randn(self.dim)) if self.missing == "mask" else None
        self.time = TimeEncoding(self.dim)
        self.temporal = nn.ModuleList(TemporalAttention(*sizes) for _ in range(self.depth))
        self.merges = nn.ModuleList(Merge(self.dim, self.dropout) for _ in range(self.depth))
        self.spatial = nn.ModuleList(SpatialAttention(*sizes, stride=2**level) for level in range(self.depth, 0, -1))
        self.head = Head(self.dim, self.features, self.patch)

    def forward(self, history: VisitSequence, target_time: Tensor) -> Conditioning:
        rates = self._rates(history, target_time)
        tokens = self._tokens(history, target_time, rates)
        visible = visibility(history.times, history.valid, target_time, bidirectional=self.bidirectional)
        averaged = None if rates is None else self._averaged(rates, tokens, visible)
        levels = []
        for attention, merge in zip(self.temporal, self.merges, strict=True):
            tokens = attention(tokens, visible)
            levels.append(tokens[..., -1, :])
            # Nothing after the last attention along time looks at a visit again.
            tokens = merge(tokens if len(levels) < self.depth else tokens[..., -1:, :])
        c = tokens[..., 0, :]
        for attention, level in zip(self.spatial, reversed(levels), strict=True):
            _, w, h, d, _ = level.shape
            c = attention(c)[:, :w, :h, :d]
            c = c + level if self.skip else c
        _, _, _, width, height, depth = history.images.shape
        c = self.head(c)[:, :, :width, :height, :depth]
        return Conditioning(concat=c if averaged is None else torch.cat([c, averaged.to(c.dtype)], dim=1))

    @torch.no_grad()
    def explain(self, history: VisitSequence, target_time: Tensor) -> Tensor:
        """Return what the target's slot attended to: `shares` by rollout of the temporal encoder's attention.

        Equal shares mean indifference. A voxel has the shares of its patch. A visit without an image has one too: its
        time is attended to.
        """
        tokens = self._tokens(history, target_time, self._rates(history, target_time))
        visible = visibility(history.times, history.valid, target_time, bidirectional=self.bidirectional)
        levels = []
        for level, attention in enumerate(self.temporal):
            assert isinstance(attention, TemporalAttention)
            levels.append(attention.weights(tokens, visible))
            if level < self.depth - 1:
                tokens = self.merges[level](attention(tokens, visible))
        found = shares(levels, visible).movedim(-1, 1)
        for axis, (patch, size) in enumerate(zip(self.patch, history.images.shape[3:], strict=True), start=2):
            found = found.repeat_interleave(patch, dim=axis).narrow(axis, 0, size)
        return found

    def _rates(self, history: VisitSequence, target_time: Tensor) -> Tensor | None:
        """Return the visits' rates of change (B, L, C, W, H, D), scaled, or None where they are not asked for."""
        return self.rates * self.time_scale * history.rates(target_time) if self.rates else None

    def _averaged(self, rates: Tensor, tokens: Tensor, visible: Tensor) -> Tensor:
        """Return the rates averaged over visits with the target's attention (B, heads · C, W, H, D).

        What the target pays to its own slot counts as no change. Weights are those of patches, and smooth in between.
        """
        attention = self.temporal[0]
        assert isinstance(attention, TemporalAttention)
        weights = attention.target_weights(tokens, visible)
        size = [n * patch for n, patch in zip(weights.shape[3:], self.patch, strict=True)]
        averaged = rates.new_zeros(())
        for visit in range(rates.shape[1]):  # one by one, for memory
            smooth = nn.functional.interpolate(weights[:, :, visit], size=size, mode="trilinear")
            width, height, depth = rates.shape[3:]
            smooth = smooth[:, :, None, :width, :height, :depth]
            averaged = averaged + smooth * rates[:, visit, None]
        return averaged.flatten(1, 2)

    def _tokens(self, history: VisitSequence, target_time: Tensor, rates: Tensor | None) -> Tensor:
        """Return the embedded history with the target's slot behind it, (B, w, h, d, L + 1, dim)."""
        images = history.images if rates is None else torch.cat([history.images, rates.to(history.images)], dim=2)
        images = images.flatten(0, 1)
        padding = [
            side
            for size, patch in zip(reversed(images.shape[2:]), reversed(self.patch), strict=True)
            for side in (0, math.ceil(size / patch) * patch - size)
        ]
        content = self.embed(nn.functional.pad(images, padding, mode="replicate"))
        content = content.unflatten(0, history.times.shape).permute(0, 3, 4, 5, 1, 2)
        # What the embedding makes of a zero tensor is its bias.
        empty = self.embed.bias if self.mask_token is None else self.mask_token
        assert empty is not None
        observed = history.observed[:, None, None, None, :, None]
        content = torch.where(observed, content, empty.to(content.dtype))
        slot = empty.to(content.dtype).expand(*content.shape[:4], 1, self.dim)
        content = torch.cat([content, slot], dim=4)
        # The times of padding may be anything, and a masked NaN is still a NaN.
        gap = torch.where(history.valid, target_time[:, None] - history.times, 0.0) / self.time_scale
        when = self.time(nn.functional.pad(gap, (0, 1)))[:, None, None, None]
        _, w, h, d, _, _ = content.shape
        return content + when + space_encoding((w, h, d), self.dim, 1, content)[..., None, :]
