"""Metrics by name."""

import pytest

from longigen import LongigenError
from longigen.evaluation.metrics import load_metrics


def test_which_metrics_are_in_the_default_table() -> None:
    usual = ["change-correlation", "nrmse", "psnr", "sharpness", "ssim", "ssim-foreground", "ssim-slice"]
    assert list(load_metrics()) == usual
    assert sorted(load_metrics(samples=2)) == sorted([*usual, "coverage", "crps", "spread-skill"])
    metrics = load_metrics(["fid:seed=2,layer=0", "psnr"])
    assert list(metrics) == ["fid", "psnr"]
    assert metrics["fid"].config == {"extractor": "resnet18", "layer": 0, "seed": 2, "weights": None}
    variants = load_metrics(["nrmse", "nrmse:normalisation=mean", "nrmse:normalisation=euclidean"])
    assert list(variants) == ["nrmse", "nrmse-mean", "nrmse-euclidean"]
    assert len({metric.definition for metric in variants.values()}) == 3
    with pytest.raises(LongigenError, match="'nrmse-mean' is given twice"):
        load_metrics(["nrmse:normalisation=mean", "nrmse:normalisation=mean"])
    for wrong, message in (
        ("crps", "give --samples 2"),
        ("fid:sed=2", "'seed'"),
        ("fdi", "'fid'"),
        ("fid:seed=x", "seed must be a whole number"),
    ):
        with pytest.raises(LongigenError, match=message):
            load_metrics([wrong])
