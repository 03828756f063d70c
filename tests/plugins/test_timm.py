"""The timm conditioner: slices in three planes, any backbone, tokens that padding does not change."""

from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from longigen import LongigenError, VisitSequence
from longigen_timm import TimmConditioner
from longigen_timm.backbone import make_backbone, plane_slices

SMALL = {"backbone": "test_convnext", "size": 32, "slices": 2, "visits": 2, "dim": 16}
SIZE = (9, 8, 7)


def visits(count: int = 3, channels: int = 1) -> VisitSequence:
    images = torch.rand(1, count, channels, *SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    every = torch.ones(1, count, dtype=torch.bool)
    return VisitSequence(images, torch.arange(count, dtype=torch.float32)[None] * 1.3, every, every)


def built(channels: int = 1, **config: Any) -> TimmConditioner:
    torch.manual_seed(0)
    conditioner = TimmConditioner(**(SMALL | config))
    conditioner.build(channels=channels, stem_features=0, time_scale=1.0, covariates=())
    return conditioner.eval()


def tokens(conditioner: TimmConditioner, history: VisitSequence, time: float = 6.0) -> Tensor:
    given = conditioner(history, torch.tensor([time])).tokens
    assert given is not None
    return given


def test_slices_are_taken_in_three_planes() -> None:
    volume = torch.arange(8 * 8 * 8, dtype=torch.float32).view(1, 1, 8, 8, 8)
    planes = plane_slices(volume, 2, 8)
    assert planes.shape == (1, 3, 2, 1, 8, 8)
    for place, index in enumerate((2, 6)):
        assert torch.allclose(planes[0, 0, place, 0], volume[0, 0, index])
        assert torch.allclose(planes[0, 1, place, 0], volume[0, 0, :, index])
        assert torch.allclose(planes[0, 2, place, 0], volume[0, 0, :, :, index])


def test_slices_of_a_thin_axis_are_repeated() -> None:
    planes = plane_slices(torch.rand(1, 1, 6, 6, 2), 4, 6)
    assert torch.equal(planes[0, 2, 0], planes[0, 2, 1])
    assert not torch.equal(planes[0, 2, 1], planes[0, 2, 2])


def test_each_visit_has_its_tokens() -> None:
    conditioner, history = built(), visits()
    before = tokens(conditioner, history)
    assert before.shape == (1, 2 * 3 * 2, 16)
    for index, changed in enumerate(((), range(6), range(6, 12))):  # only the latest two of three visits are used
        images = history.images.clone()
        images[:, index] *= -1
        after = tokens(conditioner, replace(history, images=images))
        differ = (after - before).abs().amax(dim=2)[0] > 1e-6
        assert differ.nonzero().flatten().tolist() == list(changed)


def test_tokens_encode_plane_position_and_time() -> None:
    """All tokens of a constant volume differ."""
    history = visits(2)
    flat = replace(history, images=torch.zeros_like(history.images))
    given = tokens(built(), flat)[0]
    assert torch.cdist(given, given).fill_diagonal_(1.0).min() > 1e-3
    assert not torch.allclose(given, tokens(built(), flat, time=7.0)[0])


def test_missing_visits_are_left_out_and_padding_changes_nothing() -> None:
    conditioner, history = built(), visits()
    gap = replace(history, observed=torch.tensor([[True, False, True]]))
    selected = history.select(torch.tensor([[0, 2]]))
    assert torch.allclose(tokens(conditioner, gap), tokens(conditioner, selected), atol=1e-6)
    one = history.select(torch.tensor([[0]]))
    alone = tokens(conditioner, one)
    assert torch.equal(alone[0, :6], conditioner.absent.expand(6, -1))
    padded = one.pad_front(3)
    assert torch.allclose(tokens(conditioner, padded), alone, atol=1e-6)


def test_the_backbone_sees_only_observed_images() -> None:
    """Also in training, since the statistics of BatchNorm must not depend on padding."""
    conditioner = built(backbone="test_resnet").train()
    shapes: list[int] = []
    conditioner.backbone.register_forward_pre_hook(lambda _, inputs: shapes.append(len(inputs[0])))
    tokens(conditioner, visits(1).pad_front(2))
    assert shapes == [3 * 2]


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_vit", "test_efficientnet", "test_nfnet", "mobilenetv3_small_050"]
)
def test_backbones_of_all_kinds(name: str) -> None:
    conditioner = built(backbone=name, channels=2)
    assert tokens(conditioner, visits(channels=2)).isfinite().all()


def test_every_name_of_timm_is_known_with_its_normalisation() -> None:
    for name in timm.list_models()[::25]:
        assert TimmConditioner(backbone=name).backbone_name == name
        assert timm.get_pretrained_cfg(name) is not None
    TimmConditioner(backbone="resnet18.a1_in1k", pretrained=True)


def test_unknown_backbones_are_refused() -> None:
    with pytest.raises(LongigenError, match=r"no backbone 'resnet19' among timm's \d+\. Similar names: .*resnet18"):
        TimmConditioner(backbone="resnet19")
    with pytest.raises(LongigenError, match=r"'resnet18' has no weights 'nowhere'; choose one of: .*a1_in1k"):
        TimmConditioner(backbone="resnet18.nowhere")
    without = next(name for name in timm.list_models() if not timm.list_pretrained(f"{name}.*"))
    with pytest.raises(LongigenError, match="no pretrained weights of"):
        TimmConditioner(backbone=without, pretrained=True)
    with pytest.raises(LongigenError, match="at least 1"):
        TimmConditioner(slices=0)
    with pytest.raises(LongigenError, match="cannot be used on slices of 7 × 7"):
        make_backbone("test_vit", channels=1, size=7)


def test_weights_are_downloaded_when_training_starts_and_not_when_a_model_is_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    conditioner = built(backbone="test_resnet", pretrained=True)
    assert tokens(conditioner, visits()).isfinite().all()
    with pytest.raises(
        LongigenError, match=r"weights of 'test_resnet' cannot be downloaded \(.*set pretrained=false\.$"
    ):
        conditioner.initialise()
    built(backbone="test_resnet").initialise()


def test_pretrained_weights_keep_their_statistics() -> None:
    for pretrained in (True, False):
        conditioner = built(backbone="test_resnet", pretrained=pretrained).train()
        before = {name: value.clone() for name, value in conditioner.backbone.named_buffers() if "mean" in name}
        tokens(conditioner, visits())
        after = dict(conditioner.backbone.named_buffers())
        assert before
        assert all(torch.equal(value, after[name]) for name, value in before.items()) == pretrained
