"""Tests of VisitSequence: masks, selection, padding, collation, rates."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from longigen import BACKGROUND, Batch, Covariate, VisitSequence
from longigen.components.visit_sequence import pad_to

T, F = True, False


def sequence(
    times: list[list[float]], observed: list[list[bool]] | None = None, valid: list[list[bool]] | None = None
) -> VisitSequence:
    """Visits whose images (1, 2, 1, 1) hold their time, and a covariate that is ten times that."""
    clock = torch.tensor(times)
    valid_mask = torch.ones_like(clock, dtype=torch.bool) if valid is None else torch.tensor(valid)
    return VisitSequence(
        images=clock[:, :, None, None, None, None].expand(-1, -1, 1, 2, 1, 1).clone(),
        times=clock,
        observed=valid_mask if observed is None else torch.tensor(observed),
        valid=valid_mask,
        covariates={"age": Covariate(10 * clock, valid_mask)},
    )


def values(visits: VisitSequence) -> list[list[float]]:
    return visits.images[:, :, 0, 0, 0, 0].tolist()


def test_unobserved_image_is_background() -> None:
    visits = sequence([[0.1, 0.2, 0.3]], observed=[[T, F, T]])
    assert values(visits)[0] == pytest.approx([0.1, BACKGROUND, 0.3])
    assert (len(visits), visits.batch_size) == (3, 1)
    hidden = VisitSequence(
        torch.full((1, 1, 1, 2, 2, 2), torch.nan), torch.zeros(1, 1), torch.zeros(1, 1).bool(), torch.ones(1, 1).bool()
    )
    assert torch.equal(hidden.images, torch.full((1, 1, 1, 2, 2, 2), BACKGROUND))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("images", torch.zeros(1, 2, 3, 4, 5), r"images must be \(B, L, C, W, H, D\), got \(1, 2, 3, 4, 5\)"),
        ("times", torch.zeros(1, 3), r"times must be \(B, L\) = \(1, 2\), got \(1, 3\)"),
        ("times", torch.zeros(2), "times must be"),
        ("observed", torch.zeros(2, 2).bool(), "observed must be"),
        ("valid", torch.ones(1, 1).bool(), "valid must be"),
        ("valid", torch.tensor([[True, False]]), "an image is observed at a visit that is not valid"),
        ("covariates", {"age": Covariate(torch.zeros(1, 3), torch.ones(1, 2).bool())}, "covariate 'age' must have"),
        ("covariates", {"age": Covariate(torch.zeros(1, 2), torch.ones(1).bool())}, "covariate 'age' must have"),
    ],
)
def test_shapes_and_masks_must_agree(name: str, value: Any, message: str) -> None:
    parts: dict[str, Any] = {
        "images": torch.zeros(1, 2, 1, 2, 2, 2),
        "times": torch.zeros(1, 2),
        "observed": torch.ones(1, 2).bool(),
        "valid": torch.ones(1, 2).bool(),
    }
    assert len(VisitSequence(**parts)) == 2
    with pytest.raises(ValueError, match=message):
        VisitSequence(**{**parts, name: value})


def test_before_is_strict_and_excludes_padding() -> None:
    visits = sequence([[0, 1, 2], [0, 1, 0]], valid=[[T, T, T], [T, T, F]])
    assert visits.before(torch.tensor([2.0, 5.0])).tolist() == [[T, T, F], [T, T, F]]
    assert visits.before(torch.tensor([0.0, 0.5])).tolist() == [[F, F, F], [T, F, F]]


def test_last_observed_visit_before_a_time() -> None:
    visits = sequence(
        [[0, 1, 2, 3], [0.5, 1.5, 0, 0]],
        observed=[[T, T, F, T], [T, F, F, F]],
        valid=[[T, T, T, T], [T, T, F, F]],
    )
    image, time = visits.last(torch.tensor([3.0, 9.0]))
    assert time.tolist() == [1.0, 0.5]
    assert image.shape == (2, 1, 2, 1, 1)
    assert image[:, 0, 0, 0, 0].tolist() == [1.0, 0.5]
    assert visits.last(torch.tensor([3.5, 1.0]))[1].tolist() == [3.0, 0.5]
    with pytest.raises(ValueError, match="every subject needs an observed visit before"):
        visits.last(torch.tensor([3.0, 0.5]))


def test_latest_visits() -> None:
    visits = sequence([[0, 1, 2, 3], [5, 6, 7, 0]], valid=[[T, T, T, T], [T, T, T, F]])
    before = torch.tensor([2.5, 99.0])
    two = visits.latest(2, before)
    assert two.times.tolist() == [[1, 2], [6, 7]]
    assert values(two) == [[1, 2], [6, 7]]
    assert two.valid.all()
    assert two.observed.all()
    assert two.covariates["age"].values.tolist() == [[10, 20], [60, 70]]
    one = visits.latest(1, torch.tensor([1.0, 7.0]))
    assert one.times.tolist() == [[0], [6]]


@pytest.mark.parametrize("number", [3, 4, 6])
def test_latest_visits_are_padded_in_front(number: int) -> None:
    visits = sequence([[0, 1, 2, 3], [5, 6, 7, 8]], observed=[[T, F, T, T], [T, T, T, T]])
    latest = visits.latest(number, torch.tensor([2.0, 9.0]))
    assert len(latest) == number
    first, second = min(number, 2), min(number, 4)
    assert latest.valid.tolist() == [[F] * (number - first) + [T] * first, [F] * (number - second) + [T] * second]
    assert latest.times[0, -2:].tolist() == [0, 1]
    assert latest.observed[0, -2:].tolist() == [T, F]
    assert values(latest)[0] == [BACKGROUND] * (number - 2) + [0, BACKGROUND]  # the visits at 2 and 3 are excluded
    assert values(latest)[1][-second:] == [5, 6, 7, 8][-second:]
    assert all(len(part[0]) == number for part in latest.covariates["age"])


def test_bases_are_the_last_observed_visits_as_channels() -> None:
    visits = sequence([[0, 1, 2, 3], [5, 6, 7, 8]], observed=[[T, F, T, T], [T, F, F, T]])
    images, time = visits.bases(2, torch.tensor([2.5, 7.5]))
    assert images[:, :, 0, 0, 0].tolist() == [[0, 2], [5, 5]]  # where there is one, it fills up
    assert time.tolist() == [2, 5]
    assert torch.equal(visits.bases(1, torch.tensor([2.5, 7.5]))[0], visits.last(torch.tensor([2.5, 7.5]))[0])


def test_selecting_visits_of_each_subject() -> None:
    visits = sequence([[0, 1, 2], [5, 6, 7]], observed=[[T, T, F], [T, T, T]])
    chosen = visits.select(torch.tensor([[2, 0], [1, 1]]))
    assert chosen.times.tolist() == [[2, 0], [6, 6]]
    assert chosen.observed.tolist() == [[F, T], [T, T]]
    assert values(chosen) == [[BACKGROUND, 0], [6, 6]]
    assert chosen.covariates["age"].values.tolist() == [[20, 0], [60, 60]]


def test_padding_in_front() -> None:
    padded = sequence([[4, 5]]).pad_front(2)
    assert padded.valid.tolist() == padded.observed.tolist() == [[F, F, T, T]]
    assert values(padded) == [[BACKGROUND, BACKGROUND, 4, 5]]
    assert padded.times[0, 2:].tolist() == [4, 5]
    assert padded.covariates["age"].present.tolist() == [[F, F, T, T]]


def test_collating_different_lengths_and_covariates() -> None:
    long, short = sequence([[0, 1, 2]], observed=[[T, F, T]]), sequence([[5]])
    other = VisitSequence(
        short.images, short.times, short.observed, short.valid, {"sex": Covariate(*[short.valid] * 2)}
    )
    batch = VisitSequence.collate([long, short, other])
    assert (batch.batch_size, len(batch)) == (3, 3)
    assert batch.valid.tolist() == [[T, T, T], [T, F, F], [T, F, F]]
    assert batch.observed.tolist() == [[T, F, T], [T, F, F], [T, F, F]]
    assert values(batch) == [[0, BACKGROUND, 2], [5, BACKGROUND, BACKGROUND], [5, BACKGROUND, BACKGROUND]]
    age, sex = batch.covariates["age"], batch.covariates["sex"]
    assert age.present.tolist() == [[T, T, T], [T, F, F], [F, F, F]]
    assert age.values[0].tolist() == [0, 10, 20]
    assert sex.present.tolist() == [[F, F, F], [F, F, F], [T, F, F]]
    alone = VisitSequence.collate([long])
    assert torch.equal(alone.images, long.images)


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
            ],
        ),
    ],
)
def test_to_moves_every_tensor(device: str) -> None:
    visits = sequence([[0, 1]], observed=[[T, F]])
    moved = visits.to(device)
    age = moved.covariates["age"]
    parts = [moved.images, moved.times, moved.observed, moved.valid, age.values, age.present]
    assert {part.device.type for part in parts} == {device}
    back = moved.to("cpu")
    assert torch.equal(back.images, visits.images)
    assert torch.equal(back.covariates["age"].values, visits.covariates["age"].values)


def test_rates_are_the_slope_of_linear_change() -> None:
    visits = sequence(
        [[0.0, 0.1, 0.4, 0.8], [0.2, 0.3, 0.9, 0.0]],
        observed=[[T, F, T, T], [T, T, T, F]],
        valid=[[T, T, T, T], [T, T, T, F]],
    )
    rates = visits.rates(torch.tensor([0.6, 1.0]))[:, :, 0, 0, 0, 0]
    # The images hold their time, so the slope is 1; it is 0 for the last visit before the time and for a missing one.
    torch.testing.assert_close(rates, torch.tensor([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 0.0, 0.0]]))
    assert not visits.rates(torch.tensor([0.0, 1.0]))[0].any()  # no observed visit before


def test_smaller_volumes_repeat_their_last_voxels_in_a_batch() -> None:
    def pair(*size: int, length: int) -> Batch:
        images = torch.rand(1, length, 1, *size)
        known = torch.ones(1, length, dtype=torch.bool)
        observed = known.clone()
        observed[0, 1] = False
        times = torch.arange(length)[None].float()
        return Batch(VisitSequence(images, times, observed, known), images[:, 0], torch.tensor([9.0]))

    flat, deep = pair(4, 3, 2, length=2), pair(3, 5, 4, length=3)
    batch = Batch.collate([flat, deep])
    assert batch.target.shape == (2, 1, 4, 5, 4)
    assert batch.history.images.shape == (2, 3, 1, 4, 5, 4)
    assert torch.equal(batch.target[0, :, :4, :3, :2], flat.target[0])
    assert torch.equal(batch.target[0, :, :, :3, 2:], flat.target[0, :, :, :, 1:].expand(-1, -1, -1, 2))
    assert torch.equal(batch.target[0, :, :, 3:, :2], flat.target[0, :, :, 2:].expand(-1, -1, 2, -1))
    assert torch.equal(batch.target[1, :, 3], deep.target[1 - 1, :, 2])
    assert torch.equal(batch.history.images[:, 0], batch.target)
    assert (batch.history.images[:, 1] == -1).all()  # not observed
    assert torch.equal(pad_to(flat.target, (4, 3, 2)), flat.target)


# Channels


def two_channels() -> VisitSequence:
    """Visits at 0, 1 and 3 whose channels hold time and ten times the time; the last lacks the second channel."""
    times = torch.tensor([[0.0, 1.0, 3.0]])
    images = torch.stack([times, 10 * times], dim=2)[:, :, :, None, None, None].expand(-1, -1, -1, 2, 1, 1)
    known = torch.ones(1, 3, dtype=torch.bool)
    has = torch.tensor([[[T, T], [T, T], [T, F]]])
    return VisitSequence(images, times, known, known, observed_channels=has)


def test_a_missing_channel_is_background_and_its_last_image_is_of_an_earlier_visit() -> None:
    visits, later = two_channels(), torch.tensor([4.0])
    assert visits.images[0, :, :, 0, 0, 0].tolist() == [[0, 0], [1, 10], [3, BACKGROUND]]
    image, time = visits.last(before=later)
    assert (image[0, :, 0, 0, 0].tolist(), time.tolist()) == ([3, 10], [3])
    bases, _ = visits.bases(2, before=later)
    assert bases[0, :, 0, 0, 0].tolist() == [1, 10, 3, 10]
    # Per unit of time 1 and 10: of the second channel to the visit at 1, which is the last that has it.
    rates = visits.rates(before=later)[0, :, :, 0, 0, 0].tolist()
    assert rates == [[1, 10], [1, 0], [0, 0]]
    none = replace(visits, observed_channels=torch.tensor([[[T, F]] * 3]))
    assert none.last(before=later)[0][0, :, 0, 0, 0].tolist() == [3, BACKGROUND]
    assert none.rates(before=later)[0, :, 1].eq(0).all()
    channels = none.channels_before(later)
    assert channels is not None
    assert channels.tolist() == [[T, F]]


def test_masks_of_channels_follow_their_visits() -> None:
    visits = two_channels()
    assert visits.select(torch.tensor([[2, 0]])).channel_mask.tolist() == [[[T, F], [T, T]]]
    assert visits.hide(torch.tensor([0])).channel_mask.tolist() == [[[F, F], [T, T], [T, F]]]
    slots, index = visits.with_slots(torch.tensor([[2.0]]), torch.tensor([[True]]))
    assert (slots.channel_mask[0, 2].tolist(), index.tolist()) == ([F, F], [[2]])
    whole = replace(visits, observed_channels=None)
    assert whole.channel_mask.shape == (1, 3, 1)
    both = VisitSequence.collate([whole, visits.select(torch.tensor([[1, 2]]))])
    assert both.channel_mask.tolist() == [[[T, T]] * 3, [[T, T], [T, F], [F, F]]]
    assert visits.with_images(torch.zeros(1, 3, 5, 1, 1, 1)).observed_channels is None
    with pytest.raises(ValueError, match=r"observed_channels must be \(B, L, C\) = \(1, 3, 2\), got \(1, 3, 1\)"):
        replace(visits, observed_channels=visits.channel_mask[:, :, :1])
    batch = Batch(visits, torch.zeros(1, 2, 2, 1, 1), torch.tensor([4.0]))
    lacking = replace(batch, target_channels=torch.tensor([[F, T]]))
    joined = Batch.collate([batch, lacking]).target_channels
    assert joined is not None
    assert joined.tolist() == [[T, T], [F, T]]
