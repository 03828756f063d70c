"""Conditioner that encodes slices of the latest visits as tokens."""

import math
from dataclasses import replace
from typing import Annotated, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from longigen import Conditioner, Conditioning, Range, Routes, VisitSequence
from longigen_timm.backbone import PLANES, load_weights, make_backbone, normalisation, plane_slices, require_known

WAVELENGTHS = (2.0, 256.0)
"""Shortest and longest wavelength of the sinusoids of time, in typical gaps between visits."""


Positive = Annotated[int, Range(1)]


class TimmConditioner(Conditioner):
    """Slices of the latest visits in three planes as tokens, each encoded by a 2D backbone of timm.

    `slices` sagittal, coronal and axial slices of each of the latest `visits` observed visits before the target are
    resized to `size` × `size` and encoded. The backbone's pooled features are projected to the width of a token; an
    encoding of plane and slice and one of the real interval to the target are added. This gives
    3 · `slices` · `visits` tokens for cross-attention, in order of time. Missing visits are left out. If a subject has
    fewer visits, the remaining tokens are a learned one, without any encoding, so that padding changes nothing. The
    backbone is evaluated on observed images only.

    Tokens locate structures only coarsely. They are useful with ``model.target=residual``, where the last visit is also
    concatenated with the noisy volume at full resolution; tokens alone do not contain the anatomy.

    Pretrained weights are downloaded by timm when training starts. Loading a saved model does not download them, since
    it has its own. They are trained like other weights, but BatchNorm keeps its pretrained statistics, which small
    batches would spoil. A backbone with BatchNorm and random weights learns the statistics; LayerNorm, as in the
    default backbone, is safer.

    Args:
        backbone: name of a model in timm, with or without the tag of its weights, such as ``resnet18`` or
            ``resnet18.a1_in1k``.
        pretrained: start from timm's pretrained weights.
        visits: number of latest visits to encode.
        slices: number of slices per plane and visit.
        size: width and height of a resized slice, in pixels.
        dim: E, the width of a token.

    Raises:
        LongigenError: if timm has no such model, or its weights cannot be downloaded.
    """

    used_covariates = ()

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
        exists = latest.valid
        images = plane_slices(latest.images[exists], self.slices, self.size)
        images = ((images + 1) / 2 - self.mean) / self.std  # from [-1, 1] to [0, 1], then normalised
        weight = self.project.weight
        features = self.backbone(images.flatten(0, 2).to(weight.dtype))
        encoded = self.project(features).unflatten(0, (-1, PLANES, self.slices)) + self.place
        gap = torch.where(exists, target_time[:, None] - latest.times, 0.0) / self.time_scale
        time = self.time(self._sinusoids(gap).to(weight.dtype))
        tokens = self.absent.to(encoded.dtype).expand(*exists.shape, PLANES, self.slices, self.dim).clone()
        tokens[exists] = encoded + time[exists][:, None, None].to(encoded.dtype)
        return Conditioning(tokens=tokens.flatten(1, 3))

    def _sinusoids(self, gap: Tensor) -> Tensor:
        """Return sine and cosine of gaps (...) at `dim` // 2 wavelengths (..., dim), without the last odd feature."""
        shortest, longest = WAVELENGTHS
        number = self.dim // 2
        step = torch.arange(number, device=gap.device, dtype=torch.float32) / max(number - 1, 1)
        angle = gap.float()[..., None] * (2 * math.pi / shortest) * (shortest / longest) ** step
        return torch.cat([angle.sin(), angle.cos()], dim=-1)
