"""Voxelwise error metrics: PSNR and NRMSE."""

import math
from typing import Literal

from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio

from longigen import Metric


class PSNR(Metric):
    """Peak signal-to-noise ratio, 10 log10(2² / MSE), in dB; infinite for identical volumes."""

    default = True

    @property
    def definition(self) -> str:
        return "PSNR in dB, 10 log10(range^2 / MSE) with data range 2, over the whole volume"

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        return float(peak_signal_noise_ratio(generated.double(), true.double(), data_range=2.0))


DIVISORS = {
    "range": "the true volume's max - min",
    "mean": "the true volume's mean",
    "euclidean": "the true volume's root mean square",
}


class NRMSE(Metric):
    """Root mean squared error over the whole volume divided by a scale of the true volume; NaN if that is 0.

    Papers seldom say which scale: the names are those of scikit-image, whose default is ``euclidean``. The mean and the
    root mean square depend on where 0 is; they are of intensities in [0, 1], where 0 is the background.

    Args:
        normalisation: the scale: ``range`` (max - min), ``mean`` or ``euclidean`` (root mean square). Tables and
            protocols call the metric ``nrmse``, ``nrmse-mean`` and ``nrmse-euclidean``.
    """

    higher_is_better = False
    default = True

    def __init__(self, *, normalisation: Literal["range", "mean", "euclidean"] = "range") -> None:
        self.normalisation = normalisation

    @property
    def variant(self) -> str:
        return "" if self.normalisation == "range" else self.normalisation

    @property
    def definition(self) -> str:
        of = ", both of intensities scaled from [-1, 1] to [0, 1]" if self.variant else ""
        return f"NRMSE, root mean squared error over the whole volume divided by {DIVISORS[self.normalisation]}{of}"

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        made, aim = generated.double(), true.double()
        if self.variant:
            made, aim = (made + 1) / 2, (aim + 1) / 2
        scale = {
            "range": aim.max() - aim.min(),
            "mean": aim.mean(),
            "euclidean": aim.square().mean().sqrt(),
        }[self.normalisation]
        return float((made - aim).square().mean().sqrt() / scale) if bool(scale > 0) else math.nan
