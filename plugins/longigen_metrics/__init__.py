"""Metrics of a generated volume beside the true one, of several samples of it, and of all volumes together."""

from longigen_metrics.change import ChangeCorrelation
from longigen_metrics.distance import FID, KID
from longigen_metrics.ensemble import CRPS, Coverage, SpreadSkill
from longigen_metrics.error import NRMSE, PSNR
from longigen_metrics.similarity import SSIM, ForegroundSSIM

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
    "SpreadSkill",
]
