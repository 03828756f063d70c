"""The tasks of the three scenarios, for many numbers of visits."""

import math
from collections import Counter

import pytest

from longigen.models.tasks import SCENARIOS, Scenario, Task, last_only, tasks

LENGTHS = range(2, 13)


@pytest.mark.parametrize("visits", LENGTHS)
def test_single_gives_the_first_visit_and_targets_all_others(visits: int) -> None:
    assert tasks(visits, "single", subject="s") == [Task((0,), tuple(range(1, visits)))]


@pytest.mark.parametrize("visits", LENGTHS)
def test_full_targets_each_visit_given_all_before_it(visits: int) -> None:
    assert tasks(visits, "full", subject="s") == [Task(tuple(range(n)), (n,)) for n in range(1, visits)]


@pytest.mark.parametrize("visits", LENGTHS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_missing_gives_the_first_and_targets_half_of_those_between_and_the_last(visits: int, seed: int) -> None:
    (task,) = tasks(visits, "missing", subject="s", seed=seed)
    assert sorted(task.given + task.targets) == list(range(visits))
    assert task.given == tuple(sorted(task.given))
    assert task.targets == tuple(sorted(task.targets))
    assert task.given[0] == 0
    assert task.targets[-1] == visits - 1
    assert len(task.targets) - 1 == math.ceil((visits - 2) / 2)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_targets_are_not_given_and_follow_a_given_visit(scenario: Scenario) -> None:
    for visits in LENGTHS:
        for task in tasks(visits, scenario, subject="s"):
            assert not set(task.given) & set(task.targets)
            assert min(task.given) < min(task.targets)


def test_the_missing_visits_depend_on_seed_and_subject() -> None:
    def missing(subject: str, seed: int) -> tuple[int, ...]:
        return tasks(12, "missing", subject=subject, seed=seed)[0].targets

    assert missing("a", 0) == missing("a", 0)
    assert len({missing("a", seed) for seed in range(20)}) > 10
    assert len({missing(f"s{n}", 0) for n in range(20)}) > 10


def test_all_visits_between_are_missing_equally_often() -> None:
    counts = Counter(index for n in range(1000) for index in tasks(6, "missing", subject=f"s{n}")[0].targets)
    assert counts.pop(5) == 1000
    assert set(counts) == {1, 2, 3, 4}
    assert all(abs(count - 500) < 70 for count in counts.values())  # 4.4 standard deviations


def test_all_scenarios_are_equal_for_two_visits() -> None:
    assert {tuple(tasks(2, scenario, subject="s")) for scenario in SCENARIOS} == {(Task((0,), (1,)),)}


@pytest.mark.parametrize("visits", LENGTHS)
def test_the_last_visit_is_a_target_once_in_every_scenario(visits: int) -> None:
    for scenario in SCENARIOS:
        (task,) = last_only(tasks(visits, scenario, subject="s"), visits)
        assert task.targets[-1] == visits - 1
    assert last_only(tasks(visits, "full", subject="s"), visits) == [Task(tuple(range(visits - 1)), (visits - 1,))]
