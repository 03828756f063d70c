"""The longitudinal model: its training loss and its generation."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from longigen import (
    Batch,
    Conditioner,
    Conditioning,
    Denoiser,
    LongigenError,
    LongitudinalModel,
    Routes,
    VisitSequence,
)
from longigen.data.statistics import Statistics
from longigen.models.settings import ModelSettings
from longigen.testing.case import after, history
from longigen_baselines import SourceConditioner
from longigen_continuous import ContinuousSampler
from longigen_sadm import SADMConditioner
from longigen_unet3d import UNet3D

SIZE = (8, 9, 7)


class Spy(Conditioner):
    """Records its arguments; emits the last observed visit before the target."""

    def build(self, *, channels: int, stem_features: int, time_scale: float, covariates: tuple[str, ...]) -> None:
        self.routes = Routes(concat=channels)
        self.seen: list[tuple[VisitSequence, Tensor]] = []

    def forward(self, history: VisitSequence, target_time: Tensor) -> Conditioning:
        self.seen.append((history, target_time))
        return Conditioning(concat=history.last(target_time)[0])


class Zero(Denoiser):
    """Predicts zero."""

    def build(self, *, channels: int, routes: Routes) -> None:
        self.routes = routes
        self.weight = nn.Parameter(torch.zeros(()))
        self.calls = 0

    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        assert conditioning.routes == self.routes
        self.calls += 1
        return self.weight * z_t


def zero_model(**settings: object) -> LongitudinalModel:
    return LongitudinalModel(
        Spy(),
        Zero(),
        ContinuousSampler(prediction="x", steps=3),
        settings=ModelSettings(**settings),  # type: ignore[arg-type]
        statistics=Statistics(residual_std=0.1),
    ).eval()


def small_model(**settings: object) -> LongitudinalModel:
    torch.manual_seed(0)
    return LongitudinalModel(
        SADMConditioner(dim=16, heads=2, depth=1),
        UNet3D(width=8, multipliers=(1, 2), blocks=1, heads=2),
        ContinuousSampler(prediction="x", steps=3),
        settings=ModelSettings(**settings),  # type: ignore[arg-type]
        statistics=Statistics(residual_std=0.3),
    ).eval()


def test_a_network_that_outputs_zero_is_copy_last() -> None:
    visits = history(SIZE)
    for guidance in (0.0, 0.5):
        image = zero_model().generate(visits, after(visits)[:, None], guidance=guidance)
        assert torch.equal(image[:, 0], visits.last(after(visits))[0])


def test_the_shipped_network_starts_as_copy_last() -> None:
    visits = history(SIZE)
    image = small_model().generate(visits, after(visits)[:, None])
    assert torch.equal(image[:, 0], visits.last(after(visits))[0])


def test_residual_loss_by_hand() -> None:
    """With output zero and x-prediction the loss is the mean square of (target - last) / std."""
    visits = history(SIZE)
    target = torch.rand(2, 1, *SIZE) * 2 - 1
    loss = zero_model()(Batch(visits, target, after(visits)), torch.Generator().manual_seed(0))["denoising"]
    expected = ((target - visits.last(after(visits))[0]) / 0.1).square().mean(dim=(1, 2, 3, 4))
    torch.testing.assert_close(loss, expected)
    image = zero_model(target="image")(Batch(visits, target, after(visits)), torch.Generator().manual_seed(0))
    torch.testing.assert_close(image["denoising"], target.square().mean(dim=(1, 2, 3, 4)))


class Appended(Zero):
    """Predicts the last channel of `concat`."""

    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        assert conditioning.routes == self.routes
        assert conditioning.concat is not None
        return conditioning.concat[:, -1:] + self.weight * z_t


def test_the_last_visit_can_be_an_input_where_the_image_is_the_target() -> None:
    """It is there when all conditioning is dropped, so the loss is the mean square of target - last."""
    visits = history(SIZE)
    target = torch.rand(2, 1, *SIZE) * 2 - 1
    settings = ModelSettings(target="image", append_last=True, p_uncond=1.0)
    model = LongitudinalModel(Spy(), Appended(), ContinuousSampler(prediction="x", steps=3), settings=settings)
    loss = model(Batch(visits, target, after(visits)), torch.Generator().manual_seed(0))["denoising"]
    last = visits.last(after(visits))[0]
    torch.testing.assert_close(loss, (target - last).square().mean(dim=(1, 2, 3, 4)))


def test_residual_loss_over_the_gaps_own_deviation_by_hand() -> None:
    """With s = 0.1, p = 0.2 and a gap of Δ typical gaps, residuals are divided by sqrt(0.01 + 0.04 Δ²)."""
    visits = history(SIZE)
    target, times = torch.rand(2, 1, *SIZE) * 2 - 1, after(visits) + torch.tensor([0.0, 3.0])
    model = LongitudinalModel(
        Spy(),
        Zero(),
        ContinuousSampler(prediction="x", steps=3),
        settings=ModelSettings(residual_scale="gap"),
        statistics=Statistics(residual_noise_std=0.1, residual_std_per_gap=0.2, time_scale=1.5),
    )
    loss = model(Batch(visits, target, times), torch.Generator().manual_seed(0))["denoising"]
    last, time = visits.last(times)
    square = (target - last).square().mean(dim=(1, 2, 3, 4))
    torch.testing.assert_close(loss, square / (0.01 + 0.04 * ((times - time) / 1.5) ** 2))
    assert torch.equal(model.eval().generate(visits, times[:, None])[:, 0], last)


def test_conditions_are_dropped_with_p_uncond() -> None:
    """The conditioning is ∅ for a fraction p_uncond of samples; the base of the residual is never dropped."""
    seen: list[Tensor] = []

    class Listener(Zero):
        def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
            assert conditioning.concat is not None
            seen.append(conditioning.concat)
            return super().forward(z_t, log_snr, conditioning)

    model = LongitudinalModel(
        Spy(), Listener(), ContinuousSampler(prediction="x"), settings=ModelSettings(p_uncond=0.25)
    )
    visits = history((4, 4, 4), lengths=(2,) * 64)
    for seed in range(10):
        model(Batch(visits, visits.images[:, 0], after(visits)), torch.Generator().manual_seed(seed))
    concat = torch.cat(seen)
    dropped = (concat[:, 0] == 0).flatten(1).all(dim=1).float().mean().item()
    assert dropped == pytest.approx(0.25, abs=0.06)
    assert (concat[:, 1].flatten(1).abs().amax(dim=1) > 0).all()


def test_generation_is_autoregressive_and_conditions_once_per_visit() -> None:
    model = zero_model()
    conditioner, denoiser = model.conditioner, model.denoiser
    assert isinstance(conditioner, Spy)
    assert isinstance(denoiser, Zero)
    visits = history(SIZE, lengths=(2, 2))
    last = after(visits, 0.0)
    times = torch.stack([last + 2, last + 1], dim=1)  # not in order of time
    model.generate(visits, times)
    assert len(conditioner.seen) == 2
    assert denoiser.calls == 6
    (first, t1), (second, t2) = conditioner.seen
    assert torch.equal(t1, last + 1)
    assert torch.equal(t2, last + 2)
    assert first.observed.sum(dim=1).tolist() == [2, 2]
    assert second.observed.sum(dim=1).tolist() == [3, 3]
    assert not ((first.times == t1[:, None]) & first.valid).any(), "the target's own slot is shown"


def test_direct_generation_sees_the_given_visits_alone() -> None:
    model = zero_model(order="direct")
    assert isinstance(model.conditioner, Spy)
    visits = history(SIZE, lengths=(4, 2))
    observed = visits.observed.clone()
    observed[0, 2] = False
    visits = replace(visits, observed=observed)
    last = after(visits, 0.0)
    times = torch.stack([last + 2, last + 1], dim=1)  # not in order of time
    times[0, 1] = visits.times[0, 2]  # that of the missing visit
    model.generate(visits, times)
    (first, t1), (second, t2) = model.conditioner.seen
    assert torch.equal(t1, times[:, 1])
    assert torch.equal(t2, times[:, 0])
    assert first.valid.sum(dim=1).tolist() == [3, 2]  # the missing visit is the target
    assert second.valid.sum(dim=1).tolist() == [4, 2]  # it is a slot, and is not generated first
    assert first.observed.sum(dim=1).tolist() == second.observed.sum(dim=1).tolist() == [3, 2]
    model.conditioner.seen.clear()
    model.generate(visits, times, order="autoregressive")
    assert model.conditioner.seen[1][0].observed.sum(dim=1).tolist() == [4, 3]
    with pytest.raises(LongigenError, match="order must be one of 'direct', 'autoregressive' or None, got 'both'"):
        model.generate(visits, times, order="both")  # type: ignore[arg-type]


def test_directly_generated_state_does_not_depend_on_the_other_times() -> None:
    model = randomise(small_model())
    visits = history(SIZE, lengths=(3, 2))
    end = after(visits, 4.0)[:, None]
    last = visits.times.amax(dim=1, keepdim=True)
    alone = {order: model.generate(visits, end, order=order) for order in ("direct", "autoregressive")}  # type: ignore[arg-type]
    for number in (2, 5):
        steps = torch.arange(1, number + 1)[None] / number
        times = last + (end - last) * steps
        direct = model.generate(visits, times, order="direct")
        torch.testing.assert_close(direct[:, -1], alone["direct"][:, 0], rtol=0, atol=1e-5)
        assert not torch.allclose(model.generate(visits, times)[:, -1], alone["autoregressive"][:, 0], atol=1e-3)


def test_noise_of_a_sample_is_shared_by_its_times_in_the_order_direct() -> None:
    """A network that passes its noise on gives one image at all times of a sample, and another one in another."""
    model = zero_model(order="direct", target="image")
    model.denoiser.get_parameter("weight").data.fill_(0.5)
    visits = history(SIZE)
    times = torch.stack([after(visits, 1.0), after(visits, 2.0)], dim=1)
    images = model.generate(visits, times)
    assert torch.equal(images[:, 0], images[:, 1])
    assert not torch.equal(images, model.generate(visits, times, sample=1))
    assert not torch.equal(images[0], images[1])
    chained = model.generate(visits, times, order="autoregressive")
    assert not torch.equal(chained[:, 0], chained[:, 1])


def test_missing_visits_before_the_target_are_generated_too() -> None:
    model = zero_model()
    visits = history(SIZE, lengths=(4,))
    visits = replace(visits, observed=torch.tensor([[True, False, True, False]]))
    model.generate(visits, visits.times[:, 3:])
    assert isinstance(model.conditioner, Spy)
    assert [time.item() for _, time in model.conditioner.seen] == [visits.times[0, 1].item(), visits.times[0, 3].item()]


def test_subjects_may_have_different_numbers_of_targets() -> None:
    model = zero_model()
    visits = history(SIZE, lengths=(3, 1))
    times = torch.stack([after(visits, 1.0), after(visits, 2.0)], dim=1)
    valid = torch.tensor([[True, True], [True, False]])
    images = model.generate(visits, times, target_valid=valid)
    assert (images[1, 1] == -1).all()
    assert torch.equal(images[1, 0], visits.images[1, 0])


def randomise(model: LongitudinalModel) -> LongitudinalModel:
    """Add noise to all weights of a model, whose zero-initialised output would otherwise be zero."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return model


def test_noise_depends_on_seed_subject_time_and_sample_alone() -> None:
    model = randomise(small_model())
    visits = history(SIZE, lengths=(3, 2))
    times = torch.stack([after(visits, 1.0), after(visits, 2.0)], dim=1)
    both = model.generate(visits, times, subjects=["a", "b"], seed=1)
    order = torch.tensor([1, 0])
    swapped = VisitSequence(*(getattr(visits, name)[order] for name in ("images", "times", "observed", "valid")))
    other = model.generate(swapped, times[order], subjects=["b", "a"], seed=1)
    torch.testing.assert_close(both[order], other, rtol=1e-4, atol=1e-5)
    alone = VisitSequence(*(getattr(visits, name)[:1] for name in ("images", "times", "observed", "valid")))
    torch.testing.assert_close(model.generate(alone, times[:1], subjects=["a"], seed=1), both[:1], rtol=1e-4, atol=1e-5)
    assert torch.equal(model.generate(visits, times, subjects=["a", "b"], seed=1), both)
    assert not torch.equal(model.generate(visits, times, subjects=["a", "b"], seed=2), both)
    assert not torch.equal(model.generate(visits, times, subjects=["a", "b"], seed=1, sample=1), both)
    assert not torch.equal(model.generate(visits, times, subjects=["a", "c"], seed=1), both)


@pytest.mark.parametrize("times", [(738010.1, 738010.4), (20200102.0, 20200104.0)])
def test_late_times_have_noise_of_their_own(times: tuple[float, float]) -> None:
    """The conditioner reads no times, so only the noise can make a difference."""
    model = LongitudinalModel(SourceConditioner(), UNet3D(width=8, multipliers=(1,)), ContinuousSampler(steps=2)).eval()
    model, visits = randomise(model), history(SIZE)
    one, two = (model.generate(visits, torch.full((visits.batch_size, 1), time), seed=1) for time in times)
    assert not torch.equal(one, two)


def test_another_sampler_does_not_change_the_prediction_type() -> None:
    """A network that predicts x = 0 is copy-last under any sampler."""
    visits = history(SIZE)
    other = ContinuousSampler(prediction="epsilon", steps=2, v=1.0)
    image = zero_model().generate(visits, after(visits)[:, None], sampler=other)
    assert torch.equal(image[:, 0], visits.last(after(visits))[0])


def test_results_are_in_range() -> None:
    visits = history(SIZE)
    for target in ("image", "residual"):
        image = randomise(small_model(target=target)).generate(visits, after(visits)[:, None], guidance=2.0)
        assert image.abs().max() <= 1 + 1e-6


def test_targets_must_not_be_observed_nor_come_first() -> None:
    visits = history(SIZE)
    with pytest.raises(ValueError, match="that of an observed visit"):
        zero_model().generate(visits, visits.times[:, :1])
    with pytest.raises(ValueError, match="observed visit before"):
        zero_model().generate(visits, visits.times[:, :1] - 1)


def test_targets_are_merged_in_order_of_time() -> None:
    visits = history((2, 2, 2), lengths=(3, 1))
    times = torch.stack([visits.times[:, 0] + 0.1, after(visits, 3.0)], dim=1)
    merged, slots = visits.with_slots(times, torch.ones(2, 2, dtype=torch.bool))
    assert torch.equal(torch.gather(merged.times, 1, slots), times)
    for row in range(2):
        known = merged.times[row][merged.valid[row]]
        assert (known.diff() > 0).all()


def test_the_conditioner_is_built_with_the_denoisers_stem_features() -> None:
    received: list[int] = []

    class Recording(SourceConditioner):
        def build(self, *, channels: int, stem_features: int, time_scale: float, covariates: tuple[str, ...]) -> None:
            received.append(stem_features)
            super().build(channels=channels, stem_features=stem_features, time_scale=time_scale, covariates=covariates)

    denoiser = UNet3D(width=16)
    LongitudinalModel(Recording(), denoiser, ContinuousSampler())
    assert received == [denoiser.stem_features] == [2]


@pytest.mark.parametrize("target", ["image", "residual"])
def test_keep_background_keeps_the_background(target: str) -> None:
    visits = history(SIZE)
    images = visits.images.clamp(min=-0.9)
    images[..., :3] = -1.0
    visits = replace(visits, images=images)
    times = after(visits)[:, None]
    settings = {"target": target, "guidance": 0.0}
    model = small_model(**settings, keep_background=True)
    # A network whose output is not zero anywhere.
    for parameter in model.denoiser.parameters():
        nn.init.normal_(parameter, std=0.2)
    kept = model.generate(visits, times, steps=1)
    assert (kept[..., :3] == -1).all()
    model.settings = ModelSettings(**settings)  # type: ignore[arg-type]
    free = model.generate(visits, times, steps=1)
    assert (free[..., :3] > -1).any()
    assert torch.equal(kept[..., 3:], free[..., 3:])


# Channels


def two_channels(**settings: object) -> LongitudinalModel:
    """Return a model that predicts no change of two channels whose residuals have other scales."""
    statistics = Statistics(
        channels=2, channel_stds=(0.5, 2.0), channel_noise_stds=(0.3, 0.0), channel_stds_per_gap=(0.4, 1.0)
    )
    sampler = ContinuousSampler(prediction="x", steps=3)
    chosen = ModelSettings(guidance=0.0, **settings)  # type: ignore[arg-type]
    return LongitudinalModel(Spy(), Zero(), sampler, settings=chosen, statistics=statistics)


def test_a_channel_that_the_target_or_all_given_visits_lack_does_not_count() -> None:
    visits, model = history(SIZE, lengths=(3, 3), channels=2), two_channels(p_uncond=0.0)
    base, _ = visits.last(after(visits))
    change = torch.tensor([0.5, 2.0]).view(2, 1, 1, 1)
    batch = Batch(visits, base + change, after(visits))  # one standard deviation of each channel
    whole = model(batch, torch.Generator().manual_seed(0))["denoising"]
    lacking = torch.tensor([[True, False], [True, True]])
    noise = torch.where(lacking[:, :, None, None, None], batch.target, torch.rand(batch.target.shape))
    for target in (batch.target, noise):
        partial = replace(batch, target=target, target_channels=lacking)
        losses = model(partial, torch.Generator().manual_seed(0))["denoising"]
        torch.testing.assert_close(losses, whole * torch.tensor([0.5, 1.0]))  # half of the voxels count
    never = torch.ones(2, 3, 2, dtype=torch.bool)
    never[0, :, 1] = False
    ungiven = replace(batch, history=replace(visits, observed_channels=never))
    losses = model(ungiven, torch.Generator().manual_seed(0))["denoising"]
    torch.testing.assert_close(losses, whole * torch.tensor([0.5, 1.0]))


def test_residuals_of_channels_have_their_own_scales() -> None:
    gap = torch.tensor([1.0, 2.0])
    scale = two_channels()._residual_scale(gap)
    assert isinstance(scale, Tensor)
    assert scale.flatten().tolist() == [0.5, 2.0]
    scale = two_channels(residual_scale="gap")._residual_scale(gap)
    assert isinstance(scale, Tensor)
    torch.testing.assert_close(scale[:, :, 0, 0, 0], torch.tensor([[0.5, 1.0], [(0.09 + 0.64) ** 0.5, 2.0]]))
    with pytest.raises(LongigenError, match="count 3; correct one of the two"):
        Statistics(channels=3, channel_names=("T1w", "FLAIR"))


def test_what_was_never_given_is_not_generated() -> None:
    visits = history(SIZE, lengths=(2, 2), channels=2)
    has = torch.tensor([[[True, True], [True, False]], [[True, False], [True, False]]])
    given, model = replace(visits, observed_channels=has), two_channels()
    times = after(visits)[:, None] + torch.tensor([0.0, 1.0])
    made = model.generate(given, times)
    last, _ = given.last(after(visits))
    for visit in made.unbind(dim=1):  # no change: of each channel its own last image
        torch.testing.assert_close(visit[:, 0], last[:, 0])
        torch.testing.assert_close(visit[0, 1], visits.images[0, 0, 1])
        assert visit[1, 1].eq(-1).all()
