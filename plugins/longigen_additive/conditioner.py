"""The source visit and the real time interval, added to the noisy volume's first features."""

from dataclasses import replace
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from longigen import BACKGROUND, Conditioner, Conditioning, LongigenError, Range, Routes, VisitSequence, did_you_mean
from longigen_additive.encoding import CovariateEncoding, NumberEncoding

Positive = Annotated[int, Range(1)]


class AdditiveConditioner(Conditioner):
    """The source visit S and its interval Δ to the target, added to the features of the denoiser's first layer.

    Dao, Yang and Kim, "Conditional Diffusion Model for Longitudinal Medical Image Generation", 2024, arXiv 2411.05860,
    Equation 11: ε_θ = D(E(F(x_t) + H(S) + P(Δ), t), t). F is the denoiser's first layer and E and D its encoder and
    decoder. H, a convolutional network at full resolution, and P, sinusoids and a perceptron, are here; H(S) + P(Δ),
    with P(Δ) the same at every voxel, goes to the `stem` route.

    What is decided here, where the paper leaves it open:

    - H is `layers` 3×3×3 convolutions with SiLU between, of the source less the background, so that the zeros that
      convolutions pad with are background.
    - Δ is the real interval, target's time minus source's, over `time_scale`: years, days or any other unit give the
      same model, and an interval twice as long is twice the number.
    - A denoiser without a stem to add to is given H(S) + P(Δ), of `features` channels, on the `concat` route. If its
      first layer is a convolution that is Equation 11 still, through one more: it makes of (x_t, u) F(x_t) + W * u.

    Beyond the paper, and off by default:

    - Several source visits, `visits`, in order of time; P then gets all their intervals. Where a subject has fewer,
      background stands for the rest, and a channel per visit says which are there.
    - Covariates: for each, the value that was last recorded before the target's time, and how long before, encoded as
      Δ is and added to it. Where there is none a learned vector takes its place. Sinusoids tell values of up to about
      ±100 apart; scale what is larger.

    Args:
        source: which observed visits before the target to take: the first (the paper's), or the last.
        visits: how many.
        covariates: by name, those that the data set must have, such as age, sex, diagnosis.
        width: channels inside H.
        layers: convolutions of H.
        features: channels of the result where the denoiser has no stem.

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
        features: Positive = 8,
    ) -> None:
        super().__init__()
        self.source, self.visits, self.names = source, visits, tuple(dict.fromkeys(covariates))
        self.width, self.layers, self.features = width, layers, features

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
        widths = [inputs, *[self.width] * (self.layers - 1), features]
        self.image = nn.Sequential()
        for index in range(self.layers):
            convolution = nn.Conv3d(widths[index], widths[index + 1], 3, padding=1)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")  # PyTorch's default shrinks at each layer
            assert convolution.bias is not None
            nn.init.zeros_(convolution.bias)
            self.image.extend([nn.SiLU()] * (index > 0) + [convolution])
        self.image.to(memory_format=torch.channels_last_3d)  # oneDNN is faster so
        self.interval = NumberEncoding(self.visits, features)
        self.covariates = nn.ModuleList(CovariateEncoding(features) for _ in self.names)

    def forward(self, history: VisitSequence, target_time: Tensor) -> Conditioning:
        sources = self._sources(history, target_time)
        images = (sources.images - BACKGROUND).flatten(1, 2)
        if self.visits > 1:
            there = sources.valid[:, :, None, None, None].expand(-1, -1, *images.shape[2:])
            images = torch.cat([images, there.to(images.dtype)], dim=1)
        interval = (target_time[:, None] - sources.times) / self.time_scale
        everywhere = self.interval(interval, sources.valid)
        for name, encoding in zip(self.names, self.covariates, strict=True):
            everywhere = everywhere + encoding(*self._last_known(history, name, target_time))
        weight = self.interval.output.weight
        images = images.to(weight.dtype).contiguous(memory_format=torch.channels_last_3d)
        features = self.image(images) + everywhere[:, :, None, None, None]
        return Conditioning(stem=features) if self.stem else Conditioning(concat=features)

    def _sources(self, history: VisitSequence, target_time: Tensor) -> VisitSequence:
        """Return the source visits, in order of time; padded in front where there are fewer."""
        seen = replace(history, valid=history.observed)
        if self.source == "first":
            order = torch.where(seen.before(target_time), seen.times, torch.inf).argsort(dim=1, stable=True)
            seen = seen.select(order[:, : self.visits])
        return seen.latest(self.visits, target_time)

    def _last_known(self, history: VisitSequence, name: str, target_time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return a covariate's last value before the target's time, how long ago that was, and if there is one (B,)."""
        item = history.covariates.get(name)
        if item is None:  # not one subject of this batch has it
            nothing = torch.zeros_like(target_time)
            return nothing, nothing, nothing.bool()
        present = item.present & history.before(target_time)
        index = torch.where(present, history.times, -torch.inf).argmax(dim=1, keepdim=True)

        def at(values: Tensor) -> Tensor:
            return torch.gather(values, 1, index)[:, 0]

        return at(item.values), (target_time - at(history.times)) / self.time_scale, at(present)
