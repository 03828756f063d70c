"""Metrics of a generated volume beside the true one."""

from longigen_metrics.change import ChangeCorrelation
from longigen_metrics.error import NRMSE, PSNR
from longigen_metrics.similarity import SSIM, ForegroundSSIM

__all__ = ["NRMSE", "PSNR", "SSIM", "ChangeCorrelation", "ForegroundSSIM"]
