"""Voxelwise error metrics: PSNR and NRMSE."""

import math

from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio
from torchmetrics.functional.regression import normalized_root_mean_squared_error

from longigen import Metric


class PSNR(Metric):
    """Peak signal-to-noise ratio, 10 log10(2² / MSE), in dB; infinite for identical volumes."""

    default = True

    @property
    def definition(self) -> str:
        return "PSNR in dB, 10 log10(range^2 / MSE) with data range 2, over the whole volume"

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        return float(peak_signal_noise_ratio(generated.double(), true.double(), data_range=2.0))


class NRMSE(Metric):
    """Root mean squared error divided by the range of the true volume; NaN if the true volume is constant."""

    higher_is_better = False
    default = True

    @property
    def definition(self) -> str:
        return "NRMSE, root mean squared error over the whole volume divided by the true volume's max - min"

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        if bool(true.min() == true.max()):
            return math.nan
        # Flattened, since torchmetrics takes the range along the first axis only, and cannot `view` strided volumes.
        error = normalized_root_mean_squared_error(
            generated.double().flatten(), true.double().flatten(), normalization="range"
        )
        return float(error)
