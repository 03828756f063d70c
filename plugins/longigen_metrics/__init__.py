"""Metrics of generated volumes, of several samples of one, of series, of regions, and of the set of all."""

from longigen_metrics.change import ChangeAUROC, ChangeCorrelation, DeltaRMAE
from longigen_metrics.distance import FID, KID
from longigen_metrics.ensemble import CRPS, Coverage, SpreadSkill
from longigen_metrics.error import NRMSE, PSNR
from longigen_metrics.perceptual import PerceptualDistance
from longigen_metrics.published import AUROCDistance, CorrelationDistance, EdgeRMSE, UnitRMSE
from longigen_metrics.regions import Dice, EjectionFractionError, VolumeChangeError, VolumeError
from longigen_metrics.sharpness import LaplacianError, Sharpness
from longigen_metrics.similarity import SSIM, ForegroundSSIM, SliceSSIM
from longigen_metrics.trajectory import Flicker, Monotonicity, SlopeError

__all__ = [
    "CRPS",
    "FID",
    "KID",
    "NRMSE",
    "PSNR",
    "SSIM",
    "AUROCDistance",
    "ChangeAUROC",
    "ChangeCorrelation",
    "CorrelationDistance",
    "Coverage",
    "DeltaRMAE",
    "Dice",
    "EdgeRMSE",
    "EjectionFractionError",
    "Flicker",
    "ForegroundSSIM",
    "LaplacianError",
    "Monotonicity",
    "PerceptualDistance",
    "Sharpness",
    "SliceSSIM",
    "SlopeError",
    "SpreadSkill",
    "UnitRMSE",
    "VolumeChangeError",
    "VolumeError",
]
