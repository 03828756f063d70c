"""Tests of the split by subject."""

import json
import random
from collections.abc import Sequence

import pytest

from helpers.files import visit_of
from longigen import Assigned, LongigenError, Subject, Volume
from longigen.data.split import Split, SplitSettings, fingerprint
from longigen.errors import LongigenWarning


def unread() -> Volume:
    raise AssertionError("a split reads no volume")


def subject(name: str, times: Sequence[float] = (0.0, 1.0), part: Assigned | None = None) -> Subject:
    return Subject(name, tuple(visit_of(unread, time=time, source=name) for time in times), part)


def cohort(size: int) -> list[Subject]:
    return [subject(f"s{number}") for number in range(size)]


def ids(split: Split) -> dict[str, list[str]]:
    return {part: [s.id for s in split.part(part)] for part in ("train", "validation", "test")}


@pytest.mark.parametrize("size", [3, 4, 7, 48, 200])
@pytest.mark.parametrize("seed", [0, 1])
def test_parts_are_disjoint_and_complete(size: int, seed: int) -> None:
    subjects = cohort(size)
    split = Split.by_subject(subjects, SplitSettings(split_seed=seed))
    parts = [set(names) for names in ids(split).values()]
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts)) == size
    assert {s.id for s in split.part("all")} == {s.id for s in subjects}
    assert len(split.part("all")) == size
    assert all(any(s is t for t in subjects) for s in split.part("all"))  # whole subjects, with all their visits


@pytest.mark.parametrize(
    ("size", "validation", "test", "sizes"),
    [
        (100, 0.15, 0.2, (65, 15, 20)),
        (10, 0.0, 0.2, (8, 0, 2)),
        (10, 0.3, 0.0, (7, 3, 0)),
        (5, 0.0, 0.0, (5, 0, 0)),
        (1, 0.0, 0.0, (1, 0, 0)),
        (10, 0.01, 0.01, (8, 1, 1)),
        (2, 0.0, 0.1, (1, 0, 1)),
    ],
)
def test_sizes_of_parts(size: int, validation: float, test: float, sizes: tuple[int, ...]) -> None:
    split = Split.by_subject(cohort(size), SplitSettings(validation=validation, test=test))
    assert (len(split.train), len(split.validation), len(split.test)) == sizes


@pytest.mark.parametrize(
    ("validation", "test", "sizes"),
    [
        (10, 50, (90, 10, 50)),  # ACDC in one folder: 100 and 50 patients
        (0.1, 50, (85, 15, 50)),  # a fraction is of all subjects
        (0, 1, (149, 0, 1)),  # 1 is one subject
        (1, 0.2, (119, 1, 30)),
        (0, 149, (1, 0, 149)),
    ],
)
def test_parts_by_number(validation: float, test: float, sizes: tuple[int, ...]) -> None:
    settings = SplitSettings(validation=validation, test=test)
    split = Split.by_subject(cohort(150), settings)
    assert (len(split.train), len(split.validation), len(split.test)) == sizes
    recorded = SplitSettings(**json.loads(json.dumps(vars(settings))))  # as in a model's config.json
    assert ids(Split.by_subject(cohort(150), recorded)) == ids(split)
    assert len(Split.by_subject(cohort(150), SplitSettings(validation=10, folds=10)).validation) == 10


def test_a_number_and_the_same_fraction_are_the_same_split() -> None:
    """1,125 of 1,239 subjects for training, as Dao et al. have them."""
    number, fraction = (SplitSettings(validation=0, test=test) for test in (114, 0.092))
    splits = [ids(Split.by_subject(cohort(1239), settings)) for settings in (number, fraction)]
    assert splits[0] == splits[1]
    assert [len(names) for names in splits[0].values()] == [1125, 0, 114]


def test_split_depends_only_on_ids_and_seed() -> None:
    subjects, settings = cohort(40), SplitSettings()
    expected = ids(Split.by_subject(subjects, settings))
    assert ids(Split.by_subject(cohort(40), settings)) == expected
    shuffled = random.Random(0).sample(subjects, len(subjects))
    assert ids(Split.by_subject(shuffled, settings)) == expected
    assert ids(Split.by_subject([subject(s.id, (3.0, 4.0, 9.0)) for s in subjects], settings)) == expected
    assert ids(Split.by_subject(subjects, SplitSettings(split_seed=1))) != expected


def test_split_does_not_follow_the_order_of_ids() -> None:
    split = Split.by_subject(cohort(40), SplitSettings())
    numbers = sorted(int(name[1:]) for name in ids(split)["test"])
    assert numbers not in (list(range(8)), list(range(32, 40)))


def test_added_subjects_move_few_others() -> None:
    before = {s.id for s in Split.by_subject(cohort(100), SplitSettings()).test}
    after = {s.id for s in Split.by_subject(cohort(110), SplitSettings()).test}
    assert len(before - after) <= 5


def test_duplicate_subject_id_is_refused() -> None:
    with pytest.raises(LongigenError, match="The subject 's1' occurs twice"):
        Split.by_subject([*cohort(5), subject("s1", (7.0, 8.0))], SplitSettings())


@pytest.mark.parametrize(
    ("size", "validation", "test", "message"),
    [
        (10, -0.1, 0.2, "validation must be a number of at least 0 and below 1"),
        (10, 0.2, -0.1, "test must be a number of at least 0 and below 1"),
        (10, 0.5, 0.5, "leave nothing to train on"),
        (10, 0.9, 0.4, "leave nothing to train on"),
        (2, 0.15, 0.2, "has 2 subjects, too few for 3 parts"),
        (0, 0.0, 0.0, "has 0 subjects, too few for 1 parts"),
        (1, 0.0, 0.2, "has 1 subjects, too few for 2 parts"),
        (3, 0.5, 0.45, r"validation = 0\.5 and test = 0\.45 of 3 subjects leave none to train on"),
        (10, 0.48, 0.5, "of 10 subjects leave none to train on"),
        (40, 0, 50, r"validation = 0\.0 and test = 50 of 40 subjects leave none to train on; make them smaller"),
        (10, 1, 0.9, r"validation = 1 and test = 0\.9 of 10 subjects leave none"),
        (10, 0.1, 1.0, r"test must be a number of at least 0 and below 1 or a whole number of at least 1, got 1\.0"),
        (10, 0.1, 2.5, r"test must be .*, got 2\.5"),
        (10, -1, 0.2, "validation must be .*, got -1"),
    ],
)
def test_impossible_split_is_refused(size: int, validation: float, test: float, message: str) -> None:
    with pytest.raises(LongigenError, match=message):
        Split.by_subject(cohort(size), SplitSettings(validation=validation, test=test))


def test_data_set_can_assign_parts() -> None:
    settings = SplitSettings()
    own = [subject("x", part="test"), subject("y", part="test")]
    split = Split.by_subject([*cohort(20), *own], settings)
    assert {s.id for s in split.test} == {"x", "y"}  # no other subjects are added to an assigned part
    assert (len(split.train), len(split.validation)) == (17, 3)
    every = [*own, subject("v", part="validation"), subject("t", part="train")]
    assert ids(Split.by_subject(every, settings)) == {"train": ["t"], "validation": ["v"], "test": ["x", "y"]}
    with pytest.raises(LongigenError, match="has no training subjects"):
        Split.by_subject(own, settings)
    assert {s.id for s in Split.by_subject([*cohort(20), *own], SplitSettings(test=2)).test} == {"x", "y"}
    with pytest.warns(LongigenWarning, match=r"assigns 2 subjects to the test part, so split\.test = 5 is not used"):
        assert len(Split.by_subject([*cohort(20), *own], SplitSettings(test=5)).test) == 2
    with pytest.raises(LongigenError, match=r"ask for more than the 2 subjects that the data set assigns to no part"):
        Split.by_subject([*cohort(2), *own, subject("t", part="train")], SplitSettings(validation=3))


def test_every_valid_split_has_the_requested_parts() -> None:
    fractions = [0, 0.1, 0.25, 0.4, 0.49, 0.5, 0.8]
    valid = refused = 0
    for size in range(1, 12):
        for validation in fractions:
            for test in fractions:
                try:
                    split = Split.by_subject(cohort(size), SplitSettings(validation=validation, test=test))
                except LongigenError:
                    refused += 1
                    continue
                valid += 1
                assert split.train
                assert bool(split.validation) == (validation > 0)
                assert bool(split.test) == (test > 0)
    assert valid > refused > 0


def test_fingerprint_depends_on_ids_and_times() -> None:
    subjects = cohort(5)
    expected = fingerprint(subjects)
    assert fingerprint(subjects[::-1]) == expected
    assert all(s.id not in expected for s in subjects)
    others = [subjects[:-1], [*subjects[:-1], subject("x")], [*subjects[:-1], subject("s4", (0.0, 1.5))]]
    assert len({expected, *map(fingerprint, others)}) == 4


@pytest.mark.parametrize(("size", "folds"), [(55, 5), (7, 3), (10, 10)])
def test_each_subject_is_in_the_test_part_of_one_fold(size: int, folds: int) -> None:
    subjects = cohort(size)
    splits = [Split.by_subject(subjects, SplitSettings(folds=folds, fold=fold)) for fold in range(folds)]
    tested = [s.id for split in splits for s in split.test]
    assert sorted(tested) == sorted(s.id for s in subjects)
    for split in splits:
        assert size // folds <= len(split.test) <= -(-size // folds)
        assert len(split.validation) == max(1, round(0.15 * (size - len(split.test))))
        parts = [set(names) for names in ids(split).values()]
        assert sum(map(len, parts)) == len(set.union(*parts)) == size
    shuffled = random.Random(0).sample(subjects, size)
    assert ids(Split.by_subject(shuffled, SplitSettings(folds=folds))) == ids(splits[0])
    whole = SplitSettings(folds=folds, validation=0.0)
    assert not Split.by_subject(subjects, whole).validation


def test_folds_deal_all_subjects_and_say_so() -> None:
    own = [*cohort(6), subject("x", part="test"), subject("y", part="train")]
    with pytest.warns(LongigenWarning, match="parts that the data set assigns its subjects to are not used"):
        splits = [Split.by_subject(own, SplitSettings(folds=2, fold=fold)) for fold in (0, 1)]
    assert {s.id for split in splits for s in split.test} == {s.id for s in own}


@pytest.mark.parametrize(
    ("settings", "size", "message"),
    [
        ({"folds": 1}, 9, "split.folds = 1 leaves nothing to train on"),
        ({"folds": 5, "fold": 5}, 9, "There is no split.fold = 5: the last fold is 4"),
        ({"fold": 1}, 9, "There is no split.fold = 1: there are no folds"),
        ({"folds": 5}, 4, "has 4 subjects, too few for 5 folds"),
        ({"folds": 2, "validation": 0.9}, 4, "validation = 0.9 of the 2 subjects outside of the fold leaves none"),
    ],
)
def test_folds_that_cannot_be(settings: dict[str, float], size: int, message: str) -> None:
    with pytest.raises(LongigenError, match=message):
        Split.by_subject(cohort(size), SplitSettings(**settings))  # type: ignore[arg-type]
