"""What the evaluation of MIC-DKFZ/Longitudinal4DMed computes of a pair of volumes (Disch et al., arXiv 2512.16577).

Its images are in [0, 1], so volumes are mapped there first; all values are over the whole volume, background and all.
They are for comparison with its published numbers (the protocol ``cronos-acdc``). Its PSNR is `PSNR`, its SSIM that of
`SSIM` with ``data_range=images``.
"""

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor
from torch.nn.functional import conv3d
from torchmetrics.functional.regression import spearman_corrcoef

from longigen import Metric

CHANGED, FEWEST, MOST = 0.02, 10, 5000
"""The correlation is over voxels whose true change is above `CHANGED`, at least `FEWEST` and a sample of `MOST`."""
SAMPLING_SEED = 42
TOP = 5.0
"""The percentage of the increases, and of the decreases, that count as the largest."""
NO_SIGNAL = 0.5
"""Half of the way from perfect to reversed: the value of a copy, and of a change that cannot be ranked."""


class UnitRMSE(Metric):
    """Root mean squared error of intensities in [0, 1], which CRONOS calls NRMSE."""

    higher_is_better = False

    @property
    def definition(self) -> str:
        return "root mean squared error over the whole volume of intensities in [0, 1], divided by nothing"

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        return float((_unit(generated) - _unit(true)).double().square().mean().sqrt())


class EdgeRMSE(Metric):
    """Root mean squared difference of the Laplacians, which a blurred copy may lower more than a forecast."""

    higher_is_better = False

    @property
    def definition(self) -> str:
        return (
            "root mean squared difference of the Laplacians (six neighbours minus six times the voxel, zeros outside) "
            "over the whole volume of intensities in [0, 1]"
        )

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        # The Laplacian is linear, so the difference of two is that of the difference.
        difference = _unit(generated) - _unit(true)
        return float(conv3d(difference[:, None], _stencil(), padding=1).double().square().mean().sqrt())


class CorrelationDistance(Metric):
    """(1 - ρ) / 2 with Spearman's ρ of the generated and the true change, where the true one is above 0.02.

    0 is perfect, 1 reversed; a copy has 0.5.
    """

    higher_is_better = False

    @property
    def definition(self) -> str:
        return (
            f"(1 - Spearman correlation of (generated - previous) with (true - previous)) / 2 over voxels of the whole "
            f"volume with |true - previous| > {CHANGED} of [0, 1], of more than {MOST} a sample (NumPy's RandomState "
            f"{SAMPLING_SEED}); {NO_SIGNAL} for fewer than {FEWEST} or a constant change"
        )

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        made, change = _changes(generated, true, previous)
        chosen = change.abs() > CHANGED
        made, change = made[chosen], change[chosen]
        if len(change) < FEWEST:
            return NO_SIGNAL
        if len(change) > MOST:
            # NumPy's old generator, since its choice of voxels is a part of the published definition.
            sample = np.random.RandomState(SAMPLING_SEED).choice(len(change), size=MOST, replace=False)
            made, change = made[sample], change[sample]
        if bool(made.min() == made.max()) or bool(change.min() == change.max()):
            return NO_SIGNAL
        return (1 - float(spearman_corrcoef(made.double(), change.double()))) / 2


class AUROCDistance(Metric):
    """1 minus the mean of two areas under the ROC curve: of the largest increases, and of the largest decreases.

    0 is perfect, 1 reversed; a copy has 0.5.
    """

    higher_is_better = False

    @property
    def definition(self) -> str:
        return (
            "1 - mean of the areas under the ROC curve of (generated - previous) for the voxels of the whole volume in "
            f"the top {TOP:g} % of the increases true - previous, and of the reversed one for the top {TOP:g} % of the "
            f"decreases; {NO_SIGNAL} without either"
        )

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        made, change = (part.numpy() for part in _changes(generated, true, previous))
        areas = []
        for predicted, moved in ((made, change), (-made, -change)):
            increases = moved[moved > 0]
            largest = moved >= (np.percentile(increases, 100 - TOP) if len(increases) else np.inf)
            count, rest = int(largest.sum()), int((~largest).sum())
            if count and rest:
                areas.append((rankdata(predicted)[largest].sum() - count * (count + 1) / 2) / count / rest)
        return 1 - float(np.mean(areas)) if areas else NO_SIGNAL


def _unit(volume: Tensor) -> Tensor:
    """Map a volume (C, W, H, D) from [-1, 1] to [0, 1], float32."""
    return (volume.float() + 1) / 2


def _changes(generated: Tensor, true: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
    """Return the generated and the true change of intensities in [0, 1], over all voxels, float32."""
    before = _unit(previous)
    made, change = ((_unit(volume) - before).flatten().cpu() for volume in (generated, true))
    return made, change


def _stencil() -> Tensor:
    """Return the Laplacian as weights of a convolution (1, 1, 3, 3, 3)."""
    distance = torch.cartesian_prod(*[torch.tensor([-1, 0, 1])] * 3).abs().sum(dim=1)
    return torch.tensor([-6.0, 1.0, 0.0, 0.0])[distance].reshape(1, 1, 3, 3, 3)
