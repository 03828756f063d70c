"""The raw and source conditioners."""

from dataclasses import replace

import pytest
import torch

from longigen import BACKGROUND, Conditioner, LongigenError, Routes, VisitSequence
from longigen.registry.registry import registry
from longigen.testing import cases, run_check
from longigen_baselines import RawConditioner, SourceConditioner
from longigen_baselines.raw import explaining_displacement


def history(*, batch: int = 2, channels: int = 1, times: tuple[float, ...] = (0.0, 1.0, 2.5, 4.0)) -> VisitSequence:
    generator = torch.Generator().manual_seed(0)
    shape = (batch, len(times))
    return VisitSequence(
        images=torch.rand(*shape, channels, 5, 6, 7, generator=generator) * 2 - 1,
        times=torch.tensor(times).expand(shape),
        observed=torch.ones(shape, dtype=torch.bool),
        valid=torch.ones(shape, dtype=torch.bool),
    )


def built(conditioner: Conditioner, channels: int = 1, time_scale: float = 1.0) -> Conditioner:
    torch.manual_seed(0)
    conditioner.build(channels=channels, stem_features=0, time_scale=time_scale, covariates=())
    return conditioner.eval()


CONDITIONERS = [lambda: RawConditioner(frames=3, embedding=16), lambda: SourceConditioner(embedding=16)]


@pytest.mark.parametrize("make", CONDITIONERS)
@pytest.mark.parametrize("channels", [1, 2])
def test_routes_are_what_is_emitted(make, channels):
    conditioner = built(make(), channels)
    conditioning = conditioner(history(channels=channels), torch.tensor([3.0, 5.0]))
    assert conditioning.routes == conditioner.routes
    assert conditioning.concat.shape[2:] == (5, 6, 7)


def test_raw_has_the_latest_frames_in_order_of_time_and_then_their_masks():
    conditioner = built(RawConditioner(frames=3, embedding=16))
    visits = history()
    concat = conditioner(visits, torch.tensor([3.0, 9.0])).concat
    assert conditioner.routes == Routes(concat=6, embedding=16)
    assert torch.equal(concat[0, :3], visits.images[0, 0:3, 0])
    assert torch.equal(concat[1, :3], visits.images[1, 1:4, 0])
    assert (concat[:, 3:] == 1).all()


def test_raw_shows_background_and_a_zero_mask_where_there_is_no_image():
    visits = history()
    observed = visits.observed.clone()
    observed[0, 1] = False
    concat = built(RawConditioner(frames=4, embedding=16))(
        replace(visits, observed=observed), torch.tensor([2.0, 2.0])
    ).concat
    # Two visits precede the target, so the first two frames are padding; one visit of the first subject is missing.
    assert (concat[:, :2] == BACKGROUND).all()
    assert (concat[0, 3] == BACKGROUND).all()
    assert torch.equal(concat[1, 3], visits.images[1, 1, 0])
    assert concat[:, 4:].amax(dim=(2, 3, 4)).tolist() == [[0, 0, 1, 0], [0, 0, 1, 1]]
    assert torch.equal(concat[:, 4:].amax(dim=(2, 3, 4)), concat[:, 4:].amin(dim=(2, 3, 4)))


def test_raw_accepts_histories_shorter_than_its_frames():
    conditioner = built(RawConditioner(frames=4, embedding=16))
    short = conditioner(history(times=(1.0,)), torch.tensor([2.0, 2.0]))
    assert (short.concat[:, :3] == BACKGROUND).all()
    assert torch.isfinite(short.embedding).all()


def test_source_is_the_last_observed_visit_before_the_target():
    visits = history()
    observed = visits.observed.clone()
    observed[0, 2] = False
    conditioning = built(SourceConditioner(embedding=16))(replace(visits, observed=observed), torch.tensor([3.0, 3.0]))
    assert torch.equal(conditioning.concat[0], visits.images[0, 1])
    assert torch.equal(conditioning.concat[1], visits.images[1, 2])


def test_source_needs_an_observed_visit():
    with pytest.raises(ValueError, match="observed visit before"):
        built(SourceConditioner())(history(), torch.tensor([0.0, 3.0]))


@pytest.mark.parametrize("make", CONDITIONERS)
def test_the_embedding_depends_on_the_gap_divided_by_the_typical_gap(make):
    visits, target = history(), torch.tensor([5.0, 6.5])
    embedding = built(make())(visits, target).embedding
    later = built(make())(replace(visits, times=visits.times + 64), target + 64).embedding
    in_months = built(make(), time_scale=12.0)(replace(visits, times=visits.times * 12), target * 12).embedding
    torch.testing.assert_close(later, embedding)
    torch.testing.assert_close(in_months, embedding)
    assert not torch.allclose(built(make())(visits, target + 0.25).embedding, embedding, atol=1e-3)


@pytest.mark.parametrize("make", CONDITIONERS)
def test_target_and_unobserved_images_have_no_effect(make):
    conditioner, visits, target = built(make()), history(), torch.tensor([2.5, 4.0])
    before = visits.times < target[:, None]
    images = torch.where(before[:, :, None, None, None, None], visits.images, torch.rand_like(visits.images))
    times = torch.where(before, visits.times, visits.times + 1)
    expected, result = conditioner(visits, target), conditioner(replace(visits, images=images, times=times), target)
    assert torch.equal(result.concat, expected.concat)
    assert torch.equal(result.embedding, expected.embedding)


@pytest.mark.parametrize("make", CONDITIONERS)
def test_padding_changes_nothing(make):
    conditioner, target = built(make()), torch.tensor([5.0, 5.0])
    alone = [conditioner(part, target[:1]) for part in (history(batch=1), history(batch=1, times=(1.0, 2.0)))]
    both = VisitSequence.collate([history(batch=1), history(batch=1, times=(1.0, 2.0))])
    together = conditioner(replace(both, times=torch.where(both.valid, both.times, torch.nan)), target)
    for row, expected in enumerate(alone):
        assert torch.equal(together.concat[row], expected.concat[0])
        torch.testing.assert_close(together.embedding[row], expected.embedding[0])


@pytest.mark.parametrize("make", CONDITIONERS)
def test_gradients_reach_every_parameter(make):
    conditioner = built(make())
    conditioner(history(), torch.tensor([5.0, 6.0])).embedding.square().sum().backward()
    for name, parameter in conditioner.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("make", CONDITIONERS)
def test_half_precision_is_finite(make):
    with torch.autocast("cpu", torch.bfloat16):
        conditioning = built(make())(history(), torch.tensor([5.0, 6.0]))
    assert torch.isfinite(conditioning.concat).all()
    assert torch.isfinite(conditioning.embedding).all()


def test_sizes_that_are_too_small_are_refused():
    with pytest.raises(LongigenError, match="frames must be a whole number of at least 1"):
        RawConditioner(frames=0)
    with pytest.raises(LongigenError, match="embedding must be a whole number of at least 2"):
        SourceConditioner(embedding=0)


@pytest.mark.parametrize(("_", "label"), [case for case in cases("conditioner") if "composes" not in case[1]])
@pytest.mark.parametrize("name", ["raw", "sadm"])
def test_contracts_with_rates(name: str, _: str, label: str):
    run_check("conditioner", label, name, {"rates": 20.0})


@pytest.mark.parametrize("name", ["raw", "sadm"])
@pytest.mark.parametrize("rates", [-1.0, float("inf"), float("nan")])
def test_impossible_rates_are_refused(name: str, rates: float):
    with pytest.raises(LongigenError, match="rates"):
        registry.load("conditioner", name)(rates=rates)


def test_raw_rates_are_additional_channels():
    conditioner = built(RawConditioner(frames=2, embedding=16, rates=3.0), time_scale=0.5)
    visits = history(batch=1)
    concat = conditioner(visits, torch.tensor([5.0])).concat
    assert concat.shape[1] == conditioner.routes.concat == 6
    slope = (visits.images[:, 3] - visits.images[:, 2]) / (4.0 - 2.5)
    torch.testing.assert_close(concat[:, 1:2], 3.0 * 0.5 * slope)
    assert not concat[:, 3].any()  # the last visit has no rate


def test_raw_trend_of_linear_change_is_exact():
    conditioner = built(RawConditioner(frames=4, embedding=16, trend=2.0), time_scale=0.5)
    visits = history(batch=1)
    slope = torch.randn(visits.images.shape[2:])
    images = visits.images[:, :1] + visits.times.view(1, -1, 1, 1, 1, 1) * slope
    visits = replace(visits, images=images, observed=torch.tensor([[True, False, True, True]]))
    concat = conditioner(visits, torch.tensor([5.5])).concat
    assert concat.shape[1] == conditioner.routes.concat == 12
    torch.testing.assert_close(concat[:, 8:9], 2.0 * 0.5 * slope[None])


def test_raw_trend_is_the_least_squares_line_through_the_last_visit():
    conditioner = built(RawConditioner(frames=4, embedding=16, trend=1.0))
    visits = history(batch=1)
    last, earlier = visits.images[:, 3], visits.images[:, :3]
    time = visits.times.view(-1, 1, 1, 1, 1)[:3] - visits.times[0, 3]
    expected = (time * (earlier[0] - last)).sum(0) / time.square().sum()
    torch.testing.assert_close(conditioner(visits, torch.tensor([7.0])).concat[0, 8:9], expected)


def test_displacement_that_explains_a_change_of_a_ramp():
    ramp = (3.0 * torch.arange(6.0)).view(1, 1, 6, 1, 1) + (4.0 * torch.arange(5.0)).view(1, 1, 1, 5, 1)
    change = torch.full_like(ramp, 2.0)
    found = explaining_displacement(ramp, change)[0, :, 2, 2, 0]
    torch.testing.assert_close(found, 2.0 * torch.tensor([3.0, 4.0, 0.0]) / (25 + 4))
    assert not explaining_displacement(torch.zeros(1, 2, 4, 4, 4), torch.zeros(1, 2, 4, 4, 4)).any()
    assert explaining_displacement(torch.rand(1, 2, 4, 4, 4), torch.rand(1, 2, 4, 4, 4)).norm(dim=1).max() <= 0.5


def test_raw_trend_of_one_visit_is_zero():
    conditioner = built(RawConditioner(frames=4, embedding=16, trend=2.0))
    visits = history(batch=1)
    visits = replace(visits, observed=torch.tensor([[False, False, True, False]]))
    assert not conditioner(visits, torch.tensor([5.0])).concat[:, 8:].any()


@pytest.mark.parametrize(("_", "label"), [case for case in cases("conditioner") if "composes" not in case[1]])
def test_contracts_of_raw_with_a_trend(_: str, label: str):
    run_check("conditioner", label, "raw", {"trend": 8.0})


def test_raw_rates_if_none_of_the_latest_frames_was_observed():
    conditioner = built(RawConditioner(frames=2, embedding=16, rates=3.0))
    visits = history(batch=1)
    visits = replace(visits, observed=torch.tensor([[True, False, False, False]]))
    concat = conditioner(visits, torch.tensor([5.0])).concat
    assert not concat[:, [1, 3]].any()
