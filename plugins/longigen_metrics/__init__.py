"""Metrics of single generated volumes, of several samples of a visit, and of the set of all generated visits."""

from longigen_metrics.change import ChangeCorrelation
from longigen_metrics.distance import FID, KID
from longigen_metrics.ensemble import CRPS, Coverage, SpreadSkill
from longigen_metrics.error import NRMSE, PSNR
from longigen_metrics.sharpness import Sharpness
from longigen_metrics.similarity import SSIM, ForegroundSSIM, SliceSSIM

__all__ = [
    "CRPS",
    "FID",
    "KID",
    "NRMSE",
    "PSNR",
    "SSIM",
    "ChangeCorrelation",
    "Coverage",
    "ForegroundSSIM",
    "Sharpness",
    "SliceSSIM",
    "SpreadSkill",
]
