"""Plausibility: whether the numbers of a data set can be true, and its grid is meant."""

import itertools
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from longigen.data.dataset import Subject, Visit
from longigen.data.grid import Grid
from longigen.data.issues import Finding
from longigen.data.quality.subject_checks import SubjectRecord, natural_sort_key

YEAR = {"years": 1.0, "months": 12.0, "weeks": 52.18, "days": 365.25}
"""How much of each unit is a year."""

LIFE = 130
"""Years that nobody has lived."""

FAR = 10
"""Years between visits, in the middle, that no study waits."""

ROUNDING = 1.5
"""Years by which an age may be off the time: both may be whole years."""

ODD_GAP = 25
"""A gap between visits that is this many times as long or as short as is usual."""

USUAL = 10
"""Gaps that must be known before one is called usual."""

SWOLLEN = 4
"""Times the voxels of a typical visit that the model's grid may have before the largest visit is blamed."""


def check_cohort(records: Sequence[SubjectRecord], unit: str, place: str) -> Iterator[Finding]:
    """Give what cannot be true of times, ages, the order of visits and the size of the grid.

    Args:
        records: of all subjects.
        unit: of times.
        place: what to call the data set in a message.
    """
    subjects = [record.subject for record in records]
    yield from _unit(subjects, unit, place)
    yield from _gaps(subjects, unit)
    yield from _ages(subjects, unit, place)
    yield from _order(subjects, unit, place)
    yield from _grid(subjects)


def _unit(subjects: Sequence[Subject], unit: str, place: str) -> Iterator[Finding]:
    """Doubt the unit of time."""
    times = np.array([time for subject in subjects for time in subject.times])
    if not times.size:
        return
    low, high = times.min(), times.max()
    fractions = float(np.mean(times != np.rint(times)))
    doubt = None
    if unit in YEAR:
        gaps = _all_gaps(subjects)
        middle = float(np.median(gaps)) if gaps.size else 0.0
        if max(abs(low), high, high - low) > LIFE * YEAR[unit]:
            doubt = f"has times from {low:g} to {high:g} {unit}, longer than a life"
        elif middle > FAR * YEAR[unit]:
            doubt = f"has {middle:g} {unit} between visits in the middle, longer than studies wait"
        elif unit == "days" and low >= 1 and high <= 120 and fractions > 0.5:
            doubt = f"has fractional times from {low:g} to {high:g} days, like ages in years"
    elif unit == "cycle" and (low < 0 or high > 1):
        doubt = f"has times from {low:g} to {high:g} where a cycle is from 0 to 1"
    elif unit in ("frames", "index") and fractions:
        doubt = f"has times that are no whole numbers where {unit} count"
    if doubt is not None:
        yield Finding("time-unit", place, doubt, "name the unit of its times, as time_unit", severity="warning")


def _all_gaps(subjects: Sequence[Subject]) -> np.ndarray:
    return np.array([gap for subject in subjects for gap in np.diff(subject.times)])


def _gaps(subjects: Sequence[Subject], unit: str) -> Iterator[Finding]:
    """Look for gaps far from what is usual, as a wrong time makes."""
    gaps = _all_gaps(subjects)
    if gaps.size < USUAL:
        return
    usual = float(np.median(gaps))
    for subject in subjects:
        odd = [
            (later, later.time - earlier.time)
            for earlier, later in pairwise(subject.visits)
            if not usual / ODD_GAP <= later.time - earlier.time <= usual * ODD_GAP
        ]
        if odd:
            visit, gap = odd[0]
            problem = f"comes {gap:.3g} {unit} after the visit before it, where {usual:.3g} is usual"
            yield Finding("time-gap", visit.source, problem, "check the two times", subject.id, "warning")


def _ages(subjects: Sequence[Subject], unit: str, place: str) -> Iterator[Finding]:
    """Compare ages with lives, and with times."""
    names = sorted({n for s in subjects for visit in s.visits for n in visit.covariates if _is_age(n)})
    for name in names:
        ages = [
            [(visit, visit.covariates[name]) for visit in subject.visits if name in visit.covariates]
            for subject in subjects
        ]
        values = [age for visits in ages for _, age in visits]
        if min(values) < 0 or max(values) > LIFE:
            problem = f"has '{name}' from {min(values):g} to {max(values):g}, so not in years"
            yield Finding("age-unit", place, problem, "give ages in years", severity="warning")
        elif unit in YEAR:
            for subject, visits in zip(subjects, ages, strict=True):
                yield from _ageing(subject, visits, name, unit)


def _is_age(name: str) -> bool:
    return "age" in re.split(r"[^a-z]+", name.lower())


def _ageing(subject: Subject, visits: Sequence[tuple[Visit, float]], name: str, unit: str) -> Iterator[Finding]:
    """Compare how much older a subject got with how much time went by; an age that never changes is the first's."""
    if len({age for _, age in visits}) < 2:
        return
    first, at_first = visits[0]
    for visit, age in visits[1:]:
        gone = (visit.time - first.time) / YEAR[unit]
        if abs(age - at_first - gone) > ROUNDING:
            problem = f"has '{name}' {age:g}, where the first visit, {gone:.3g} years before, has {at_first:g}"
            yield Finding("age-and-time", visit.source, problem, "check time and age", subject.id, "warning")
            return


def _order(subjects: Sequence[Subject], unit: str, place: str) -> Iterator[Finding]:
    """Compare the order of times with that of the numbers in the visits' names.

    In some data sets names tell no order. They do where most pairs of visits agree with it.
    """
    told = [(subject, visits) for subject in subjects if len(visits := _by_name(subject, unit)) > 1]
    pairs = [a.time < b.time for _, visits in told for a, b in itertools.combinations(visits, 2)]
    agreement = float(np.mean(pairs)) if pairs else 0.5
    if agreement < 0.1:
        problem = f"has visits whose names count up while times go down ({len(told)} subjects)"
        yield Finding("visit-order", place, problem, "check the sign of the times", severity="warning")
    elif agreement > 0.75:
        for subject, visits in told:
            for earlier, later in pairwise(visits):
                if earlier.time > later.time:
                    problem = (
                        f"is at time {later.time:g}, before the visit whose name precedes its own, at {earlier.time:g}"
                    )
                    advice = "check the times of both"
                    yield Finding("visit-order", later.source, problem, advice, subject.id, "warning")
                    break


def _by_name(subject: Subject, unit: str) -> list[Visit]:
    """Return visits in the order of the numbers in their names; none where names differ in more than whole numbers.

    A cycle may begin at any of its frames.
    """
    names = [visit.source for visit in subject.visits]
    if len({re.sub(r"\d+", "#", name) for name in names}) > 1 or any(re.search(r"\d\.\d", Path(n).name) for n in names):
        return []
    visits = sorted(subject.visits, key=lambda visit: natural_sort_key(visit.source))
    start = visits.index(min(visits, key=lambda visit: visit.time)) if unit == "cycle" else 0
    return visits[start:] + visits[:start]


def _grid(subjects: Sequence[Subject]) -> Iterator[Finding]:
    """Name the visit that swells the grid: the default grid holds every visit."""
    visits = [(visit, subject) for subject in subjects for visit in subject.visits]
    if not visits:
        return
    typical = float(np.median([np.prod(visit.shape) for visit, _ in visits]))
    grid = Grid.default(subjects).shape
    if np.prod(grid) > SWOLLEN * typical:
        excess = [max(np.divide(visit.shape, np.median([v.shape for v, _ in visits], axis=0))) for visit, _ in visits]
        visit, subject = visits[int(np.argmax(excess))]
        problem = (
            f"is {' × '.join(map(str, visit.shape))} voxels, which makes the default grid "
            f"{' × '.join(map(str, grid))}, {np.prod(grid) / typical:.1f} times as large as a typical visit"
        )
        advice = "remove it, or set preprocess.shape"
        yield Finding("swollen-grid", visit.source, problem, advice, subject.id, "warning")
