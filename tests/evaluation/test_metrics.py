"""Metrics by name."""

import pytest

from longigen import LongigenError
from longigen.evaluation.metrics import load_metrics


def test_which_metrics_are_in_the_default_table() -> None:
    usual = ["change-correlation", "nrmse", "psnr", "sharpness", "ssim", "ssim-foreground", "ssim-slice"]
    assert list(load_metrics()) == usual
    assert sorted(load_metrics(samples=2)) == sorted([*usual, "coverage", "crps", "spread-skill"])
    metrics = load_metrics(["fid:seed=2,layer=0", "psnr"])
    named = "fid-resnet18-random-stage0-3slices"  # its features are not the usual ones
    assert list(metrics) == [named, "psnr"]
    usual_config = {"weights": None, "resize": None, "slices": 1}
    assert metrics[named].config == {"extractor": "resnet18", "layer": 0, "seed": 2, **usual_config}
    assert list(load_metrics(["fid:seed=2", "kid"])) == ["fid", "kid"]
    assert list(load_metrics(["fid", "fid:extractor=tf_efficientnet_lite0,weights=package,slices=5,resize=224"])) == [
        "fid",
        "fid-tf_efficientnet_lite0-stage1-15slices-224px",
    ]
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
