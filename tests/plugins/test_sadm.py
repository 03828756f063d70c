"""The SADM conditioner: spatial alignment, visit times, missing visits, causality, rates of change."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from longigen import LongigenError, Routes, VisitSequence
from longigen_sadm import SADMConditioner
from longigen_sadm.positions import TimeEncoding, sinusoids, space_encoding
from longigen_sadm.spatial import Upsample
from longigen_sadm.temporal import Merge, visibility

TIMES = (0.0, 1.0, 2.5, 4.0)


def history(
    *,
    times: tuple[float, ...] = TIMES,
    batch: int = 2,
    channels: int = 1,
    size: tuple[int, int, int] = (8, 12, 8),
    seed: int = 0,
) -> VisitSequence:
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, len(times))
    return VisitSequence(
        images=torch.rand(*shape, channels, *size, generator=generator) * 2 - 1,
        times=torch.tensor(times).expand(shape),
        observed=torch.ones(shape, dtype=torch.bool),
        valid=torch.ones(shape, dtype=torch.bool),
    )


def built(*, channels: int = 1, time_scale: float = 1.0, **config) -> SADMConditioner:
    torch.manual_seed(0)
    conditioner = SADMConditioner(**{"patch": (2, 2, 2), "dim": 24, "heads": 2, "features": 4} | config)
    conditioner.build(channels=channels, stem_features=0, time_scale=time_scale, covariates=())
    return conditioner.eval()


@torch.no_grad()
def emitted(conditioner: SADMConditioner, visits: VisitSequence, *target: float) -> Tensor:
    return conditioner(visits, torch.tensor(target).expand(visits.batch_size)).concat


def without(visits: VisitSequence, index: int) -> VisitSequence:
    """Return the visits with one of them missing: its time is known, but not its image."""
    observed = visits.observed.clone()
    observed[:, index] = False
    return replace(visits, observed=observed)


def with_image(visits: VisitSequence, index: int) -> VisitSequence:
    images = visits.images.clone()
    images[:, index] = torch.rand_like(images[:, index])
    return replace(visits, images=images)


def with_time(visits: VisitSequence, index: int, time: float) -> VisitSequence:
    times = visits.times.clone()
    times[:, index] = time
    return replace(visits, times=times)


# Spatial alignment: c is aligned with the anatomy that it was computed from.


@pytest.mark.parametrize("corner", [(0, 0, 0), (8, 16, 12), (28, 4, 20), (12, 28, 28)])
@pytest.mark.parametrize(("config", "reach", "contrast"), [({}, 4, 30.0), ({"skip": False, "depth": 1}, 8, 10.0)])
def test_a_changed_patch_changes_c_only_there(corner, config, reach, contrast):
    # `reach`: c changes within the finest token of the decoder, which is a patch with skips, else a merged token.
    conditioner = built(patch=(4, 4, 4), dim=48, **config)
    visits = history(size=(32, 32, 32), batch=1)
    images = visits.images.clone()
    x, y, z = corner
    images[0, -1, 0, x : x + 4, y : y + 4, z : z + 4] += 1.0
    moved = emitted(conditioner, replace(visits, images=images), 5.0) - emitted(conditioner, visits, 5.0)
    moved = moved.abs().mean(dim=1)[0]
    distance = torch.stack(
        torch.meshgrid(
            *[(torch.arange(32) - start).clamp(max=0).abs() + (torch.arange(32) - start - 3).clamp(min=0)
              for start in corner],
            indexing="ij",
        )
    ).amax(dim=0)  # fmt: skip
    assert distance.flatten()[moved.argmax()] < reach
    assert moved[distance == 0].mean() > contrast * moved[distance >= 16].mean()


@pytest.mark.parametrize("skip", [True, False])
def test_initial_output_shows_no_patch_grid(skip):
    # For a constant image, c varies only with the positional encoding, which is smooth. Steps across the borders of
    # patches must not be larger than inside them, as they would be if every token printed the same random pattern.
    conditioner = built(patch=(4, 4, 4), dim=48, skip=skip)
    flat = replace(history(size=(32, 32, 32), batch=1), images=torch.zeros(1, 4, 1, 32, 32, 32))
    for axis in (2, 3, 4):
        step = emitted(conditioner, flat, 5.0).diff(dim=axis).abs().movedim(axis, 0).flatten(1).mean(dim=1)
        phase = torch.stack([step[offset:28:4].mean() for offset in range(4)])
        assert phase.max() < 1.5 * phase.min()


def test_merging_and_upsampling_preserve_positions():
    # One token that differs is followed through merging and upsampling, on a grid with odd axes.
    torch.manual_seed(0)
    merge, up = Merge(6, 0.0), Upsample(6, 3, (2, 2, 2))
    torch.nn.init.normal_(up.sharp.weight)
    tokens = torch.randn(1, 5, 4, 1, 1, 6)
    changed = tokens.clone()
    changed[0, 4, 1, 0] += 1.0
    with torch.no_grad():
        moved = (merge(changed) - merge(tokens))[0, ..., 0, :].abs().sum(dim=-1)
        assert moved.shape == (3, 2, 1)
        assert moved.nonzero().tolist() == [[2, 0, 0]]
        up.smooth.weight.zero_()
        fine = (up(merge(changed)[..., 0, :]) - up(merge(tokens)[..., 0, :]))[0].abs().sum(dim=0)
    assert fine.shape == (6, 4, 2)
    assert {tuple(place) for place in fine.nonzero().tolist()} == {
        (x, y, z) for x in (4, 5) for y in (0, 1) for z in (0, 1)
    }


def test_smooth_upsampling_is_centred_on_the_tokens():
    up = Upsample(1, 1, (4, 2, 1))
    torch.nn.init.ones_(up.smooth.weight)
    torch.nn.init.zeros_(up.smooth.bias)
    ramp = torch.arange(4.0).view(1, 4, 1, 1, 1).expand(1, 4, 2, 3, 1)
    with torch.no_grad():
        fine = up(ramp)[0, 0]
    # Token i is centred on voxel 4i + 1.5, and a ramp is interpolated exactly between the outermost centres.
    expected = ((torch.arange(16.0) - 1.5) / 4).clamp(0, 3)
    torch.testing.assert_close(fine, expected.view(16, 1, 1).expand(16, 4, 3))


@pytest.mark.parametrize("size", [(1, 1, 1), (5, 12, 7), (9, 3, 10)])
@pytest.mark.parametrize("patch", [(2, 2, 2), (4, 4, 1)])
@pytest.mark.parametrize("channels", [1, 2])
def test_any_size_and_channels(size, patch, channels):
    conditioner = built(channels=channels, patch=patch, depth=3)
    c = emitted(conditioner, history(size=size, channels=channels), 5.0)
    assert c.shape == (2, 4, *size)
    assert conditioner.routes == Routes(concat=4)
    assert torch.isfinite(c).all()


# Time: real visit times and the time of the target.


def test_sinusoids_follow_their_definition():
    x = torch.tensor([0.0, 1.5, -3.0])
    encoding = sinusoids(x, 5, (2.0, 8.0))
    for column, wavelength in enumerate((2.0, 8.0)):
        torch.testing.assert_close(encoding[:, column], torch.sin(2 * torch.pi * x / wavelength))
        torch.testing.assert_close(encoding[:, 2 + column], torch.cos(2 * torch.pi * x / wavelength))
    assert (encoding[:, 4] == 0).all()


def test_every_position_and_time_has_a_distinct_nonzero_encoding():
    places = space_encoding((9, 6, 11), 24, 1, torch.zeros(())).flatten(0, 2)
    torch.manual_seed(0)
    times = TimeEncoding(24)(torch.tensor([-3.0, -0.1, 0.0, 0.1, 0.35, 1.0, 7.0, 20.0])).detach()
    for encoding in (places, times):
        assert encoding.norm(dim=1).min() > 0.05
        assert torch.pdist(encoding).min() > 1e-3


def test_levels_share_one_coordinate_system():
    fine, coarse = (space_encoding((n, n, n), 24, 8 // n, torch.zeros(())) for n in (8, 4))
    between = (fine[0::2] + fine[1::2])[:, ::2, ::2] / 2
    # A merged token lies midway between its two tokens, where the longest wavelength is almost linear.
    torch.testing.assert_close(between[..., 3], coarse[..., 3], atol=1e-4, rtol=1e-2)


def test_the_targets_time_and_the_visits_times_matter():
    conditioner, visits = built(), history()
    c = emitted(conditioner, visits, 5.0)
    for other in (
        emitted(conditioner, visits, 6.0),
        emitted(conditioner, with_time(visits, 1, 1.5), 5.0),
        emitted(conditioner, with_time(visits, 0, -2.0), 5.0),
    ):
        assert (other - c).abs().mean() > 1e-3 * c.std()


def test_output_depends_on_gaps_divided_by_the_typical_gap():
    visits = history()
    c = emitted(built(), visits, 5.0)
    torch.testing.assert_close(emitted(built(), replace(visits, times=visits.times + 64), 69.0), c)
    torch.testing.assert_close(
        emitted(built(time_scale=12.0), replace(visits, times=visits.times * 12), 60.0), c, atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("missing", ["zero", "mask"])
def test_a_missing_visit_still_has_a_time(missing):
    conditioner, visits = built(missing=missing), without(history(), 1)
    c = emitted(conditioner, visits, 5.0)
    assert (emitted(conditioner, with_time(visits, 1, 2.0), 5.0) - c).abs().mean() > 1e-4 * c.std()


def test_a_missing_visit_is_a_zero_tensor():
    visits = history()
    images = visits.images.clone()
    images[:, 1] = 0
    conditioner = built()
    torch.testing.assert_close(
        emitted(conditioner, without(visits, 1), 5.0), emitted(conditioner, replace(visits, images=images), 5.0)
    )


def test_a_masked_visit_is_the_learned_token():
    conditioner, visits = built(missing="mask"), without(history(), 1)
    c = emitted(conditioner, visits, 5.0)
    with torch.no_grad():
        conditioner.mask_token.add_(torch.randn(24))
    assert not torch.allclose(emitted(conditioner, visits, 5.0), c, atol=1e-3)


# Causality: what the output must not depend on.


def test_visibility():
    times = torch.tensor([[0.0, 1.0, 3.0, 0.0]])
    valid = torch.tensor([[True, True, True, False]])

    def rows(**options):
        return visibility(times, valid, torch.tensor([2.0]), **options)[0].int().tolist()

    assert rows(bidirectional=False) == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [1, 1, 0, 0, 1],
    ]
    assert rows(bidirectional=True) == [
        [1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 1, 0, 1],
    ]


@pytest.mark.parametrize("target", [2.0, 2.5])
def test_a_causal_conditioner_ignores_visits_at_or_after_the_target(target):
    conditioner, visits = built(), history()
    assert conditioner.causal
    c = emitted(conditioner, visits, target)
    assert torch.equal(emitted(conditioner, with_image(with_image(visits, 2), 3), target), c)
    assert torch.equal(emitted(conditioner, without(visits, 3), target), c)
    assert torch.equal(emitted(conditioner, with_time(visits, 3, 9.0), target), c)
    assert not torch.equal(emitted(conditioner, with_image(visits, 1), target), c)


def test_a_bidirectional_conditioner_uses_both_sides_but_not_the_target():
    conditioner, visits = built(bidirectional=True), history()
    assert not conditioner.causal
    c = emitted(conditioner, visits, 2.5)
    assert torch.equal(emitted(conditioner, with_image(visits, 2), 2.5), c)
    for index in (1, 3):
        moved = emitted(conditioner, with_image(visits, index), 2.5) - c
        assert moved.abs().mean() > 1e-2 * c.std()


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("missing", ["zero", "mask"])
def test_images_that_are_not_observed_and_visits_that_are_not_valid_change_nothing(bidirectional, missing):
    conditioner = built(bidirectional=bidirectional, missing=missing)
    visits = without(history(), 1)
    valid = visits.valid.clone()
    valid[:, 3] = False
    visits = replace(without(visits, 3), valid=valid)
    c = emitted(conditioner, visits, 5.0)
    # In place, which the sequence does not check.
    visits.images[:, [1, 3]] = 0.7
    assert torch.equal(emitted(conditioner, visits, 5.0), c)
    assert torch.equal(emitted(conditioner, with_time(visits, 3, torch.nan), 5.0), c)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_batch_of_different_lengths_equals_its_rows_separately(bidirectional):
    conditioner = built(bidirectional=bidirectional)
    rows = [
        history(batch=1, seed=1),
        history(batch=1, times=(1.0,), seed=2),
        without(history(batch=1, times=(0.5, 2.0, 6.0), seed=3), 1),
    ]
    target = torch.tensor([5.0, 3.0, 4.0])
    with torch.no_grad():
        together = conditioner(VisitSequence.collate(rows), target).concat
        for row, (visits, time) in enumerate(zip(rows, target, strict=True)):
            alone = conditioner(visits, time[None]).concat
            padded = conditioner(visits.pad_front(3), time[None]).concat
            torch.testing.assert_close(together[row], alone[0], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(padded, alone, atol=1e-5, rtol=1e-4)


def test_a_target_before_every_visit_is_still_finite():
    assert torch.isfinite(emitted(built(), history(), -1.0)).all()


# Gradients, precision and training.


@pytest.mark.parametrize("missing", ["zero", "mask"])
@pytest.mark.parametrize("skip", [True, False])
def test_gradients_reach_every_parameter(missing, skip):
    conditioner = built(missing=missing, skip=skip).train()
    conditioner(without(history(), 1), torch.tensor([5.0, 6.0])).concat.square().sum().backward()
    for name, parameter in conditioner.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_half_precision_is_finite_and_close():
    conditioner, visits = built(), without(history(times=(0.0, 1.0, 2.0)), 1)
    c = emitted(conditioner, visits, 5.0)
    with torch.autocast("cpu", torch.bfloat16):
        half = conditioner(visits, torch.tensor([5.0, 6.0])).concat
    half.square().sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in conditioner.parameters())
    assert (half[0].float() - c[0]).abs().mean() < 0.1 * c[0].std()


def test_attention_is_fused():
    conditioner = built()
    assert all(layer.block.attn.fused_attn for layer in [*conditioner.temporal, *conditioner.spatial])


def test_it_learns_how_much_a_gap_changes():
    # Intensity rises by 0.4 per unit of time: the target needs the last visit's image, its time and the target's.
    torch.manual_seed(0)
    conditioner = built(depth=1, patch=(4, 4, 4), dim=32).train()
    out = torch.nn.Conv3d(4, 1, 1)
    optimizer = torch.optim.Adam([*conditioner.parameters(), *out.parameters()], lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(120):
        times = torch.rand(32, 3, generator=generator).add(0.3).cumsum(dim=1)
        levels = torch.rand(32, 1, generator=generator) - 1 + 0.4 * (times - times[:, :1])
        images = levels[:, :, None, None, None, None].expand(-1, -1, 1, 4, 4, 4)
        observed = torch.ones(32, 2, dtype=torch.bool)
        prediction = out(
            conditioner(VisitSequence(images[:, :2], times[:, :2], observed, observed), times[:, 2]).concat
        )
        loss = (prediction - images[:, 2]).square().mean()
        losses.append((loss.item(), (images[:, 1] - images[:, 2]).square().mean().item()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    ours, copy_last = torch.tensor(losses[-20:]).mean(dim=0)
    assert ours < 0.3 * copy_last


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"dim": 10, "heads": 4}, "multiple of heads"),
        ({"patch": (4, 4, 0)}, "at least 1"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(config, message):
    with pytest.raises(LongigenError, match=message):
        SADMConditioner(**config)


# Rates of change, averaged over visits by attention.


def test_averaged_rates_are_weighted_by_attention_to_visits_with_a_rate():
    conditioner = built(rates=10.0, time_scale=0.5, heads=3)
    assert conditioner.routes == Routes(concat=4 + 3)
    visits, speed = history(), torch.rand(8, 12, 8, generator=torch.Generator().manual_seed(1))
    visits = replace(visits, images=-1 + speed * visits.times[:, :, None, None, None, None] / 4)
    visits = without(visits, 1)
    averaged = emitted(conditioner, visits, 5.0)[:, 4:]
    target = torch.tensor([5.0, 5.0])
    visible = visibility(visits.times, visits.valid, target, bidirectional=False)
    tokens = conditioner._tokens(visits, target, conditioner._rates(visits, target))
    weights = conditioner.temporal[0].target_weights(tokens, visible)
    assert weights.shape == (2, 3, 4, 4, 6, 4)
    # Visit 1 is missing and visit 3 is the last, so neither has a rate. In the middle of a patch its own weights apply.
    attended = weights[:, :, [0, 2]].sum(dim=2)
    smooth = torch.nn.functional.interpolate(attended, scale_factor=2, mode="trilinear")
    torch.testing.assert_close(averaged, 10 * 0.5 * speed / 4 * smooth)
    full = conditioner.temporal[0].weights(tokens, visible)[..., -1, :-1]
    torch.testing.assert_close(weights.mean(dim=1).movedim(1, -1), full)


def test_one_visit_has_no_rate():
    conditioner = built(rates=10.0)
    assert not emitted(conditioner, history(times=(0.0,)), 1.0)[:, 4:].any()


@torch.no_grad()
def test_the_gap_to_the_last_observed_visit_is_embedded():
    """Visits before the last one, missing ones, and a common shift of times make no difference; the gap does."""
    conditioner = built(gap=10, time_scale=0.5)
    assert conditioner.routes == Routes(concat=4, embedding=10)

    def embedding(visits: VisitSequence, target: float) -> Tensor:
        return conditioner(visits, torch.full((visits.batch_size,), target)).embedding

    expected = conditioner.embed_gap(torch.tensor([2.0, 2.0]))
    torch.testing.assert_close(embedding(history(times=(0.0, 1.0, 2.0)), 3.0), expected)
    torch.testing.assert_close(embedding(history(times=(8.0,)), 9.0), expected)
    torch.testing.assert_close(embedding(without(history(times=(0.0, 2.0, 2.5)), 2), 3.0), expected)
    assert not torch.allclose(embedding(history(times=(0.0, 2.0, 2.5)), 3.0), expected)
    assert built().routes == Routes(concat=4)
