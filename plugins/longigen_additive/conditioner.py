"""Conditioner that adds the source visit and the time interval to the features of the denoiser's first layer."""

from dataclasses import replace
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from longigen import (
    BACKGROUND,
    Conditioner,
    Conditioning,
    LongigenError,
    Range,
    Routes,
    VisitSequence,
    did_you_mean,
    patchify,
    unpatchify,
)
from longigen_additive.encoding import CovariateEncoding, NumberEncoding

Positive = Annotated[int, Range(1)]


class AdditiveConditioner(Conditioner):
    """The source visit S and its interval Δ to the target, added to the features of the denoiser's first layer.

    Dao, Yang and Kim, "Conditional Diffusion Model for Longitudinal Medical Image Generation", 2024, arXiv 2411.05860,
    Equation 11: ε_θ = D(E(F(x_t) + H(S) + P(Δ), t), t). F is the denoiser's first layer, E and D are its encoder and
    decoder. This conditioner implements H, a convolutional network, and P, sinusoids followed by a perceptron. It emits
    H(S) + P(Δ), with P(Δ) the same in every voxel, on the `stem` route.

    Choices where the paper is open:

    - H works at full resolution, or with `source_patch` 2 on 2×2×2 patches, for a denoiser whose F does too (`unet3d`
      with ``patch=2``). Space to depth only renames voxels as channels, so it is Equation 11 all the same: F and H are
      then convolutions of stride 2, and P(Δ) has a value for each of the first layer's features. It is emitted at full
      resolution, and the denoiser's own patches are those of H again.

    - H is `layers` 3×3×3 convolutions with SiLU between them. Its input is the source minus the background intensity,
      so that zero padding is background.
    - Δ is the real interval, the target's time minus the source's, divided by `time_scale`, so the model does not
      depend on the unit of time.
    - For a denoiser without a stem, H(S) + P(Δ) has `features` channels and is emitted on the `concat` route. If the
      denoiser's first layer is a convolution, it then computes F(x_t) + W * u of (x_t, u), which is Equation 11 with
      one more convolution.

    Options beyond the paper, off by default:

    - Several source visits, `visits`, in order of time; P then encodes all their intervals. A subject with fewer visits
      is padded with background images, and one more channel per visit marks which ones exist.
    - Covariates: the last value recorded before the target's time and the time since then are encoded like Δ and added
      to P(Δ); a learned vector replaces missing ones. The sinusoids distinguish values up to about ±100; scale larger
      ones.

    Args:
        source: which observed visits before the target to use: the ``first`` ones (as in the paper) or the ``last``.
        visits: number of source visits.
        covariates: names of covariates that the data set must have, such as age, sex, diagnosis.
        width: channels inside H.
        layers: number of convolutions of H.
        source_patch: 2 for H on 2×2×2 patches, about eight times cheaper; 1 for H at full resolution.
        features: channels of the result if the denoiser has no stem.

    Raises:
        LongigenError: from `build`, for a covariate that the data set does not have.
    """

    def __init__(
        self,
        *,
        source: Literal["first", "last"] = "first",
        visits: Positive = 1,
        covariates: tuple[str, ...] = (),
        width: Positive = 16,
        layers: Positive = 3,
        source_patch: Literal[1, 2] = 1,
        features: Positive = 8,
    ) -> None:
        super().__init__()
        self.source, self.visits, self.names = source, visits, tuple(dict.fromkeys(covariates))
        self.used_covariates = self.names
        self.width, self.layers, self.source_patch, self.features = width, layers, source_patch, features

    def build(self, *, channels: int, stem_features: int, time_scale: float, covariates: tuple[str, ...]) -> None:
        for name in self.names:
            if name not in covariates:
                raise LongigenError(
                    f"additive: the data set has no covariate '{name}'.{did_you_mean(name, covariates)} It has: "
                    f"{', '.join(covariates) or 'none'}."
                )
        self.stem = stem_features > 0
        features = stem_features or self.features
        self.routes = Routes(stem=features) if self.stem else Routes(concat=features)
        self.time_scale = time_scale
        inputs = channels * self.visits + (self.visits if self.visits > 1 else 0)
        features *= self.source_patch**3  # those of a patch
        widths = [inputs * self.source_patch**3, *[self.width] * (self.layers - 1), features]
        self.image = nn.Sequential()
        for index in range(self.layers):
            convolution = nn.Conv3d(widths[index], widths[index + 1], 3, padding=1)
            # PyTorch's default initialisation makes features smaller at each layer.
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            nn.init.zeros_(convolution.get_parameter("bias"))
            self.image.extend([nn.SiLU()] * (index > 0) + [convolution])
        self.image.to(memory_format=torch.channels_last_3d)  # faster with oneDNN
        self.interval = NumberEncoding(self.visits, features)
        self.covariates = nn.ModuleList(CovariateEncoding(features) for _ in self.names)

    def forward(self, history: VisitSequence, target_time: Tensor) -> Conditioning:
        sources = self._sources(history, target_time)
        images = (sources.images - BACKGROUND).flatten(1, 2)
        if self.visits > 1:
            exists = sources.valid[:, :, None, None, None].expand(-1, -1, *images.shape[2:])
            images = torch.cat([images, exists.to(images.dtype)], dim=1)
        interval = (target_time[:, None] - sources.times) / self.time_scale
        vector = self.interval(interval, sources.valid)
        for name, encoding in zip(self.names, self.covariates, strict=True):
            vector = vector + encoding(*self._last_recorded(history, name, target_time))
        weight = self.interval.output.weight
        size, patch = images.shape[2:], self.source_patch
        images = _padded(images.to(weight.dtype), patch).contiguous(memory_format=torch.channels_last_3d)
        patches = self.image(patchify(images, patch)) + vector[:, :, None, None, None]
        if torch.compiler.is_compiling():  # a batch of one has another layout, for which the denoiser is compiled again
            patches = patches.contiguous(memory_format=torch.channels_last_3d)
        features = unpatchify(patches, patch)[:, :, : size[0], : size[1], : size[2]]
        return Conditioning(stem=features) if self.stem else Conditioning(concat=features)

    def _sources(self, history: VisitSequence, target_time: Tensor) -> VisitSequence:
        """Return the source visits in order of time, padded in front if there are fewer than `visits`."""
        observed = replace(history, valid=history.observed)
        if self.source == "first":
            order = torch.where(observed.before(target_time), observed.times, torch.inf).argsort(dim=1, stable=True)
            observed = observed.select(order[:, : self.visits])
        return observed.latest(self.visits, target_time)

    def _last_recorded(self, history: VisitSequence, name: str, target_time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return a covariate's last value before the target's time, the time since then, and whether it exists (B,)."""
        item = history.covariates.get(name)
        if item is None:  # no subject of this batch has the covariate
            zeros = torch.zeros_like(target_time)
            return zeros, zeros, zeros.bool()
        present = item.present & history.before(target_time)
        index = torch.where(present, history.times, -torch.inf).argmax(dim=1, keepdim=True)

        def at(values: Tensor) -> Tensor:
            return torch.gather(values, 1, index)[:, 0]

        return at(item.values), (target_time - at(history.times)) / self.time_scale, at(present)


def _padded(images: Tensor, patch: int) -> Tensor:
    """Pad each axis to a multiple of the patch with zeros, which are background here."""
    missing = [-size % patch for size in images.shape[2:]]
    if not any(missing):
        return images
    return nn.functional.pad(images, (0, missing[2], 0, missing[1], 0, missing[0]))
