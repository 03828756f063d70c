"""Tests of training pairs (SADM, Algorithm 1)."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from helpers.files import visit_of
from longigen import BACKGROUND, Batch, Subject, Volume
from longigen.data.grid import Grid
from longigen.data.preprocess import Prepared, Preprocess
from longigen.data.training_pairs import TrainingPairs, make_sequence

SHAPE = (2, 2, 2)


def prepared(name: str, visits: int, covariates: Mapping[int, Mapping[str, float]] | None = None) -> Prepared:
    """A subject whose visit k has time 1.5 k and, after the first, the intensity k per cent of the range, but for 1e-4.

    A visit of one intensity alone is no scan and refused.
    """

    def load(index: int) -> Volume:
        data = np.linspace(index, index + 1e-4 if index else 100, 8).reshape(SHAPE)
        return Volume(data.astype(np.float32), np.eye(4))

    visits = tuple(
        visit_of(lambda k=k: load(k), time=1.5 * k, shape=SHAPE, covariates=(covariates or {}).get(k, {}))
        for k in range(visits)
    )
    return Preprocess(Grid(SHAPE, None), upper=100.0).subject(Subject(name, visits))


def pairs(
    *subjects: Prepared, length: int = 400, seed: int = 0, causal: bool, covariates: tuple[str, ...] = ()
) -> TrainingPairs:
    return TrainingPairs(subjects, length=length, seed=seed, causal=causal, covariates=covariates)


def places(batch: Batch) -> tuple[list[int], int]:
    """Return the indices of the history's visits and of the target, computed from their times."""
    return [round(time / 1.5) for time in batch.history.times[0].tolist()], round(batch.target_time.item() / 1.5)


def same(a: Batch, b: Batch) -> bool:
    return (
        torch.equal(a.history.images, b.history.images)
        and torch.equal(a.history.observed, b.history.observed)
        and torch.equal(a.history.times, b.history.times)
        and torch.equal(a.target, b.target)
    )


@pytest.mark.parametrize("causal", [True, False])
def test_history_and_target_of_a_pair(causal: bool) -> None:
    visits = 6
    drawn = pairs(prepared("s", visits), length=200, causal=causal)
    targets = Counter()
    for number in range(len(drawn)):
        batch = drawn[number]
        history, target = places(batch)
        targets[target] += 1
        assert 1 <= target < visits
        assert history == [k for k in range(visits) if (k < target if causal else k != target)]
        assert batch.history.valid.all()
        assert batch.history.observed[0, 0]
        for k, seen, image in zip(history, batch.history.observed[0], batch.history.images[0], strict=True):
            if not seen:
                assert torch.equal(image, torch.full((1, *SHAPE), BACKGROUND))
            elif k > 0:
                torch.testing.assert_close(image, torch.full((1, *SHAPE), 2 * k / 100 - 1))
        assert batch.target.shape == (1, 1, *SHAPE)
        torch.testing.assert_close(batch.target, torch.full((1, 1, *SHAPE), 2 * target / 100 - 1))
    assert set(targets) == {1, 2, 3, 4, 5}
    assert all(abs(count - 40) < 24 for count in targets.values())  # 4.2 standard deviations of a uniform draw


def test_number_of_missing_visits_is_uniform() -> None:
    drawn = pairs(prepared("s", 5), length=1000, causal=False)
    counts, which = Counter(), Counter()
    for number in range(len(drawn)):
        batch = drawn[number]
        missing = [k for k, seen in zip(places(batch)[0], batch.history.observed[0], strict=True) if not seen]
        counts[len(missing)] += 1
        which.update(missing)
    assert set(counts) == {0, 1, 2, 3}
    assert all(abs(count - 250) < 60 for count in counts.values())  # 4.4 standard deviations
    assert set(which) == {1, 2, 3, 4}
    assert max(which.values()) < 1.3 * min(which.values())


def test_missing_visits_are_slots_absent_or_a_mixture() -> None:
    """The three kinds are drawn with equal probability, without changing targets and which visits are missing."""
    subject, length, kinds = prepared("s", 8), 500, Counter()
    drawn = {
        name: TrainingPairs([subject], length=length, seed=0, causal=False, missing=name)
        for name in ("slots", "absent", "mixed")
    }
    gaps = Counter()
    for number in range(length):
        slots, absent, mixed = (drawn[name][number] for name in ("slots", "absent", "mixed"))
        assert torch.equal(slots.target_time, mixed.target_time)
        given = slots.history.times[slots.history.observed]
        for other in (absent, mixed):
            assert torch.equal(other.history.times[other.history.observed], given)
            assert torch.equal(
                other.history.images[other.history.observed], slots.history.images[slots.history.observed]
            )
        assert absent.history.observed.all()
        assert len(slots.history) == 7
        hidden = 7 - len(given)
        before = given[given < slots.target_time]
        gaps[round((slots.target_time - before.max()).item() / 1.5)] += 1
        if hidden > 1:
            kept = int((~mixed.history.observed).sum())
            kinds["slots" if kept == hidden else "absent" if kept == 0 else "mixture"] += 1
    assert set(gaps) == set(range(1, 8))
    # Of h hidden visits the mixture keeps all or none with probability 2 / 2^h; h is uniform from 2 to 6.
    same = sum(0.5 ** (h - 1) for h in range(2, 7)) / 5
    expected = {"slots": (1 + same / 2) / 3, "absent": (1 + same / 2) / 3, "mixture": (1 - same) / 3}
    for kind, share in expected.items():
        assert kinds[kind] / kinds.total() == pytest.approx(share, abs=0.075)


def test_slots_are_the_default_and_their_draws_do_not_change() -> None:
    """The pairs of earlier versions: times of history and target, and which visits are observed."""
    drawn = pairs(prepared("s", 6), prepared("t", 4), length=6, seed=3, causal=False)
    found = [
        ("".join("01"[seen] for seen in drawn[k].history.observed[0].tolist()), places(drawn[k])[1]) for k in range(6)
    ]
    assert found == [("10000", 3), ("111", 1), ("111", 1), ("11111", 5), ("111", 1), ("11101", 2)]


def test_the_last_visit_and_histories_of_one_visit_have_their_shares() -> None:
    subject, length = prepared("s", 6), 500
    pairs_of = TrainingPairs([subject], length=length, seed=0, causal=True, last=0.4, single=0.3)
    drawn = [places(pairs_of[number]) for number in range(length)]
    targets = Counter(target for _, target in drawn)
    assert targets[5] / length == pytest.approx(0.4 + 0.6 / 5, abs=0.07)
    assert targets[2] / length == pytest.approx(0.6 / 5, abs=0.05)
    # With slots, a later target's history is the first visit alone only by this setting.
    alone = [history == [0] for history, target in drawn if target > 1]
    assert sum(alone) / len(alone) == pytest.approx(0.3, abs=0.07)


def test_subject_with_two_visits() -> None:
    for causal in (True, False):
        batch = pairs(prepared("s", 2), causal=causal)[7]
        assert places(batch) == ([0], 1)
        assert batch.history.observed.all()


def test_pair_depends_only_on_seed_and_number() -> None:
    subjects = [prepared("a", 4), prepared("b", 6), prepared("c", 5)]
    first, again = pairs(*subjects, causal=False), pairs(*subjects, length=1000, causal=False)
    numbers = list(range(40))
    later = {number: again[number] for number in reversed(numbers)}
    assert all(same(first[number], later[number]) for number in numbers)
    other = pairs(*subjects, causal=False, seed=1)
    assert sum(same(first[number], other[number]) for number in numbers) < 10


def test_each_epoch_is_another_permutation() -> None:
    subjects = [prepared(str(visits), visits) for visits in range(2, 9)]
    drawn = pairs(*subjects, length=70, causal=False)
    lengths = [len(drawn[number].history) + 1 for number in range(len(drawn))]  # identifies the subject
    passes = [tuple(lengths[start : start + 7]) for start in range(0, 70, 7)]
    assert all(sorted(order) == list(range(2, 9)) for order in passes)
    assert len(set(passes)) > 5


def test_covariates_and_their_masks() -> None:
    subject = prepared("s", 3, {0: {"age": 60.0, "sex": 1.0}, 1: {"age": 61.5}})
    history = make_sequence(subject, [0, 1, 2], {1}, ("age", "dose"))
    assert set(history.covariates) == {"age", "dose"}
    assert history.covariates["age"].values.tolist() == [[60.0, 61.5, 0.0]]
    assert history.covariates["age"].present.tolist() == [
        [True, True, False]
    ]  # also of a missing visit, which lacks only its image
    assert history.covariates["dose"].present.tolist() == [[False, False, False]]
    drawn = pairs(subject, causal=True, covariates=("age",))[0]
    assert set(drawn.history.covariates) == {"age"}


def test_pairs_of_different_lengths_are_collated() -> None:
    drawn = pairs(prepared("a", 3), prepared("b", 6), length=2, causal=False)
    batch = Batch.collate([drawn[0], drawn[1]])
    assert len(batch.history) == 5
    assert sorted(batch.history.valid.sum(dim=1).tolist()) == [2, 5]
    assert batch.target.shape == (2, 1, *SHAPE)
    assert batch.target_time.shape == (2,)
    assert batch.target_time[1] == drawn[1].target_time[0]


def test_no_subjects_is_refused() -> None:
    with pytest.raises(ValueError, match="there are no subjects"):
        pairs(causal=True)
