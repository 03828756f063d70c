"""The three settings, over many numbers of visits."""

import math
from collections import Counter

import pytest

from longigen.models.tasks import SCENARIOS, Scenario, Task, last_only, tasks

LENGTHS = range(2, 13)


@pytest.mark.parametrize("visits", LENGTHS)
def test_single_gives_the_first_visit_and_asks_for_all_others(visits: int) -> None:
    assert tasks(visits, "single", subject="s") == [Task((0,), tuple(range(1, visits)))]


@pytest.mark.parametrize("visits", LENGTHS)
def test_full_asks_for_each_visit_from_all_before_it(visits: int) -> None:
    asked = tasks(visits, "full", subject="s")
    assert asked == [Task(tuple(range(n)), (n,)) for n in range(1, visits)]


@pytest.mark.parametrize("visits", LENGTHS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_missing_keeps_the_first_and_asks_for_half_of_those_between_and_the_last(visits: int, seed: int) -> None:
    (task,) = tasks(visits, "missing", subject="s", seed=seed)
    assert sorted(task.given + task.targets) == list(range(visits))
    assert task.given == tuple(sorted(task.given))
    assert task.targets == tuple(sorted(task.targets))
    assert task.given[0] == 0
    assert task.targets[-1] == visits - 1
    assert len(task.targets) - 1 == math.ceil((visits - 2) / 2)


@pytest.mark.parametrize("setting", SCENARIOS)
def test_no_visit_is_given_and_asked_for_and_something_earlier_is_given(setting: Scenario) -> None:
    for visits in LENGTHS:
        for task in tasks(visits, setting, subject="s"):
            assert not set(task.given) & set(task.targets)
            assert min(task.given) < min(task.targets)


def test_the_missing_visits_are_of_seed_and_subject() -> None:
    def missing(subject: str, seed: int) -> tuple[int, ...]:
        return tasks(12, "missing", subject=subject, seed=seed)[0].targets

    assert missing("a", 0) == missing("a", 0)
    assert len({missing("a", seed) for seed in range(20)}) > 10
    assert len({missing(f"s{n}", 0) for n in range(20)}) > 10


def test_every_visit_between_is_missing_as_often() -> None:
    counts = Counter(index for n in range(1000) for index in tasks(6, "missing", subject=f"s{n}")[0].targets)
    assert counts.pop(5) == 1000
    assert set(counts) == {1, 2, 3, 4}
    assert all(abs(count - 500) < 70 for count in counts.values())  # 4.4 standard deviations


def test_with_two_visits_all_settings_are_one() -> None:
    assert {tuple(tasks(2, setting, subject="s")) for setting in SCENARIOS} == {(Task((0,), (1,)),)}


@pytest.mark.parametrize("visits", LENGTHS)
def test_the_last_visit_is_asked_for_once_in_every_setting(visits: int) -> None:
    for setting in SCENARIOS:
        (task,) = last_only(tasks(visits, setting, subject="s"), visits)
        assert task.targets[-1] == visits - 1
    assert last_only(tasks(visits, "full", subject="s"), visits) == [Task(tuple(range(visits - 1)), (visits - 1,))]
