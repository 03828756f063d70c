"""The history's slices as tokens."""

import math
from dataclasses import replace
from typing import Annotated, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from longigen import Conditioner, Conditioning, Range, Routes, VisitSequence
from longigen_timm.backbone import load_weights, make_backbone, normalisation, require_known
from longigen_timm.slices import PLANES, slices

WAVELENGTHS = (2.0, 256.0)
"""Shortest and longest of the sinusoids of time, in typical gaps between visits."""


Positive = Annotated[int, Range(1)]


class TimmConditioner(Conditioner):
    """Slices of the latest visits in three planes, each encoded by a 2D backbone of timm, as tokens.

    Of each of the latest `visits` observed visits before the target, `slices` sagittal, coronal and axial slices are
    resized to `size` × `size` and encoded; the backbone's pooled features are projected to the token's width, and to
    them are added an encoding of plane and place and one of the real interval to the target. That makes
    3 · `slices` · `visits` tokens for cross-attention, in order of time. Missing visits are left out; where a subject
    has fewer visits than there are places, a learned token with nothing else in it stands in the rest, so that
    padding changes nothing. The backbone never sees it, nor any image but the observed ones.

    Tokens say what is where only coarsely. Beside ``model.target=residual``, which lays the last visit at full
    resolution beside the noisy volume, they tell the denoiser of the history; alone they cannot carry an anatomy.

    Pretrained weights are fetched by timm when training starts, never when a model is loaded: a saved model has its
    own. They are trained on like any other weights, but BatchNorm keeps its statistics then: batches of a few subjects
    would ruin them. A backbone with BatchNorm that starts at random learns them; LayerNorm, as by default, is safer.

    Args:
        backbone: timm's name of a model, with or without the tag of its weights, as ``resnet18`` or
            ``resnet18.a1_in1k``.
        pretrained: start from timm's weights.
        visits: the latest visits that are seen.
        slices: per plane and visit.
        size: edge of a resized slice, pixels.
        dim: E, the width of a token.

    Raises:
        LongigenError: for a name that timm does not have, or weights that cannot be had.
    """

    def __init__(
        self,
        *,
        backbone: str = "convnext_atto",
        pretrained: bool = False,
        visits: Positive = 3,
        slices: Positive = 3,
        size: Positive = 64,
        dim: Annotated[int, Range(2)] = 64,
    ) -> None:
        super().__init__()
        require_known(backbone, pretrained=pretrained)
        self.backbone_name, self.pretrained = backbone, pretrained
        self.visits, self.slices, self.size, self.dim = visits, slices, size, dim

    def build(self, *, channels: int, stem_features: int, time_scale: float, covariates: tuple[str, ...]) -> None:
        self.routes = Routes(tokens=self.dim)
        self.time_scale, self.channels = time_scale, channels
        self.backbone, width = make_backbone(self.backbone_name, channels=channels, size=self.size)
        self.mean, self.std = normalisation(self.backbone_name)
        self.project = nn.Linear(width, self.dim)
        self.place = nn.Parameter(0.02 * torch.randn(PLANES, self.slices, self.dim))
        self.absent = nn.Parameter(0.02 * torch.randn(self.dim))
        self.time = nn.Sequential(nn.Linear(2 * (self.dim // 2), self.dim), nn.SiLU(), nn.Linear(self.dim, self.dim))

    def initialise(self) -> None:
        if self.pretrained:
            load_weights(self.backbone, self.backbone_name, channels=self.channels, size=self.size)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.pretrained and hasattr(self, "backbone"):
            for layer in self.backbone.modules():
                if isinstance(layer, _NormBase):
                    layer.eval()
        return self

    def forward(self, history: VisitSequence, target_time: Tensor) -> Conditioning:
        latest = replace(history, valid=history.observed).latest(self.visits, target_time)
        there = latest.valid
        pictures = slices(latest.images[there], self.slices, self.size)
        pictures = ((pictures + 1) / 2 - self.mean) / self.std  # from [-1, 1] by way of [0, 1]
        weight = self.project.weight
        features = self.backbone(pictures.flatten(0, 2).to(weight.dtype))
        seen = self.project(features).unflatten(0, (-1, PLANES, self.slices)) + self.place
        gap = torch.where(there, target_time[:, None] - latest.times, 0.0) / self.time_scale
        when = self.time(self._sinusoids(gap).to(weight.dtype))
        tokens = self.absent.to(seen.dtype).expand(*there.shape, PLANES, self.slices, self.dim).clone()
        tokens[there] = seen + when[there][:, None, None].to(seen.dtype)
        return Conditioning(tokens=tokens.flatten(1, 3))

    def _sinusoids(self, gap: Tensor) -> Tensor:
        shortest, longest = WAVELENGTHS
        number = self.dim // 2
        step = torch.arange(number, device=gap.device, dtype=torch.float32) / max(number - 1, 1)
        angle = gap.float()[..., None] * (2 * math.pi / shortest) * (shortest / longest) ** step
        return torch.cat([angle.sin(), angle.cos()], dim=-1)
