"""Classifier-free guidance: the number of network calls, and Eq. 4 of SADM by hand."""

import math
import warnings
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from longigen import Conditioning, Denoiser, LongigenError, LongigenWarning, LongitudinalModel, Routes
from longigen.components.parameterization import Prediction
from longigen.models.guidance import Space, guided
from longigen.models.predict import GenerationSettings, generation_metadata, recorded_generation
from longigen.models.settings import ModelSettings
from longigen.testing.case import after, history
from longigen_baselines import SourceConditioner
from longigen_continuous import ContinuousSampler
from longigen_unet3d import UNet3D

WIDE = torch.tensor(math.inf, dtype=torch.float64)


class Affine(Denoiser):
    """Predicts z_t / 2 plus the first number of the embedding, and records the size of each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def build(self, *, channels: int, routes: Routes) -> None:
        pass

    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        assert conditioning.embedding is not None
        assert len(z_t) == len(log_snr) == len(conditioning.embedding)
        self.batches.append(len(z_t))
        return z_t / 2 + conditioning.embedding[:, :1, None, None, None]


def embed(*values: float) -> Conditioning:
    return Conditioning(embedding=torch.tensor([[value, 9.0] for value in values], dtype=torch.float64))


def predict(
    denoiser: Denoiser,
    conditional: Conditioning,
    unconditional: Conditioning,
    z_t: Tensor,
    *,
    weight: float,
    space: Space = "x",
    prediction: Prediction = "x",
    bound: Tensor = WIDE,
    interval: tuple[float, float] | None = None,
) -> Tensor:
    log_snr = torch.tensor([-1.0, 2.0], dtype=torch.float64)[: len(z_t)]
    return guided(
        denoiser,
        prediction,
        z_t,
        log_snr,
        conditional,
        unconditional,
        weight=weight,
        interval=interval,
        space=space,
        low=-bound,
        high=bound,
    )


Z = torch.randn(2, 1, 2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(("weight", "batches"), [(0, [2]), (0.0, [2]), (0.1, [4]), (3.0, [4])])
@pytest.mark.parametrize("space", ["x", "epsilon"])
def test_guidance_is_one_call_with_twice_the_batch(weight: float, batches: list[int], space: Space) -> None:
    denoiser = Affine()
    predict(denoiser, embed(0.1, 0.2), embed(0.1, 0.2).null(), Z, weight=weight, space=space)
    assert denoiser.batches == batches


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("space", ["x", "epsilon"])
def test_equation_4_by_hand(weight: float, space: Space) -> None:
    conditional = embed(0.3, -0.2)
    result = predict(Affine(), conditional, conditional.null(), Z, weight=weight, space=space)
    # (1 + w) (z/2 + c) - w (z/2 + 0) = z/2 + (1 + w) c
    c = torch.tensor([0.3, -0.2], dtype=torch.float64).view(2, 1, 1, 1, 1)
    torch.testing.assert_close(result, Z / 2 + (1 + weight) * c)


@pytest.mark.parametrize("prediction", ["x", "epsilon", "v", "velocity"])
def test_both_spaces_are_one_equation_without_bounds(prediction: Prediction) -> None:
    conditional, unconditional = embed(0.3, -0.2), embed(0.05, 0.4)
    in_x, in_eps = (
        predict(Affine(), conditional, unconditional, Z, weight=1.5, space=space, prediction=prediction)
        for space in ("x", "epsilon")
    )
    torch.testing.assert_close(in_x, in_eps)
    alone = predict(Affine(), conditional, unconditional, Z, weight=0, prediction=prediction)
    assert not torch.allclose(in_x, alone)


@pytest.mark.parametrize(
    ("interval", "guided_there"), [((-1.0, 5.0), True), ((-3.0, -1.0), True), ((-0.9, 5.0), False), (None, True)]
)
def test_outside_of_the_interval_there_is_one_evaluation_and_no_guidance(
    interval: tuple[float, float] | None, guided_there: bool
) -> None:
    denoiser, conditional = Affine(), embed(0.3)
    result = predict(denoiser, conditional, conditional.null(), Z[:1], weight=2.0, interval=interval)  # at λ = -1
    torch.testing.assert_close(result, Z[:1] / 2 + (3 if guided_there else 1) * 0.3)
    assert denoiser.batches == [2 if guided_there else 1]


def test_a_visit_is_guided_at_the_noise_levels_of_the_interval_alone() -> None:
    """Of λ = -20, -5.1, 0 … the schedule's levels at t = 1, 3/4, 1/2, 1/4, those from -6 to 0.1 are guided."""
    parts = SourceConditioner(), UNet3D(width=8, multipliers=(1,)), ContinuousSampler(steps=4)
    model = LongitudinalModel(*parts, settings=ModelSettings(guidance_interval=(-6.0, 0.1))).eval()
    visits, sizes = history((8, 8, 8), lengths=(2,)), []
    model.denoiser.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    model.generate(visits, after(visits)[:, None], guidance=1.0)
    levels = parts[2].log_snr(torch.tensor([1.0, 0.75, 0.5, 0.25])).tolist()
    assert sizes == [2 if -6 <= level <= 0.1 else 1 for level in levels]
    assert sorted(set(sizes)) == [1, 2]
    model.generate(visits, after(visits)[:, None], guidance=1.0, guidance_interval=(-60.0, 60.0))
    assert sizes[4:] == [2] * 4
    with pytest.raises(LongigenError, match="the lowest and the highest λ, got 3 and -3; give the lower one first"):
        model.generate(visits, after(visits)[:, None], guidance_interval=(3.0, -3.0))


def test_the_interval_is_recorded_and_files_without_one_guided_at_all_levels() -> None:
    parts = SourceConditioner(), UNet3D(width=8, multipliers=(1,)), ContinuousSampler(steps=4)
    model = LongitudinalModel(*parts, settings=ModelSettings(guidance_interval=(-6, 0.5)))
    assert generation_metadata(model, GenerationSettings())["guidance_interval"] == [-6.0, 0.5]
    chosen = GenerationSettings(guidance_interval=(-1, 1))
    assert generation_metadata(model, chosen)["guidance_interval"] == [-1.0, 1.0]
    assert recorded_generation({"guidance": 0.1})["guidance_interval"] is None


def test_guidance_changes_nothing_if_the_conditioning_is_null() -> None:
    null = embed(0.0, 0.0)
    torch.testing.assert_close(predict(Affine(), null, null, Z, weight=4.0), predict(Affine(), null, null, Z, weight=0))


def test_bounds() -> None:
    one, zero = torch.ones((), dtype=torch.float64), torch.zeros(1, 1, 1, 1, 1, dtype=torch.float64)
    # x̂(c) = 0.2 and x̂(∅) = 5, w = 1. In x-space 5 is clamped to 1 first: 2 · 0.2 - 1 = -0.6.
    in_x = predict(Affine(), embed(0.2), embed(5.0), zero, weight=1.0, bound=one)
    assert in_x.item() == pytest.approx(-0.6)
    # In ε-space only the result is clamped: 2 · 0.2 - 5 = -4.6, so -1.
    in_eps = predict(Affine(), embed(0.2), embed(5.0), zero, weight=1.0, space="epsilon", bound=one)
    assert in_eps.item() == -1.0
    # 3 · 0.9 - 2 · 0 is above the bound in both; without guidance 7 is too.
    for space in ("x", "epsilon"):
        assert predict(Affine(), embed(0.9), embed(0.0), zero, weight=2.0, space=space, bound=one).item() == 1.0
    assert predict(Affine(), embed(7.0), embed(0.0), zero, weight=0, bound=one).item() == 1.0


def test_bounds_may_differ_by_voxel() -> None:
    high = torch.linspace(0.1, 1, Z[0].numel(), dtype=torch.float64).view_as(Z[0])[None]
    result = predict(Affine(), embed(0.8, 0.8), embed(0.0, 0.0), Z, weight=1.0, bound=high)
    assert bool((result.abs() <= high).all())
    assert bool((result == high).any())
    assert bool((result.abs() < high).any())


@pytest.mark.parametrize(
    ("settings", "weight", "reason"),
    [
        ({"p_uncond": 0.0}, 0.5, r"model\.p_uncond=0"),
        ({"p_uncond": 0.0, "guidance": 0.3}, None, r"model\.p_uncond=0"),
        ({"p_uncond": 0.2, "unconditional": "random"}, 0.5, r"model\.unconditional=random"),
        ({"p_uncond": 0.2}, 0.5, None),
        ({"p_uncond": 0.0}, 0.0, None),
    ],
)
def test_guidance_by_a_prediction_that_was_never_trained_is_said(
    settings: dict[str, Any], weight: float | None, reason: str | None
) -> None:
    parts = SourceConditioner(), UNet3D(width=8, multipliers=(1,)), ContinuousSampler(steps=1)
    model = LongitudinalModel(*parts, settings=ModelSettings(**settings)).eval()
    visits = history((8, 8, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = pytest.warns(LongigenWarning, match=reason) if reason else nullcontext()
        with expected:
            model.generate(visits, after(visits)[:, None], guidance=weight)
