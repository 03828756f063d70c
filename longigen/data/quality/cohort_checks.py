"""Checks over all subjects: implausible time units, gaps, ages and visit orders, and an oversized default grid."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from longigen.data.dataset import Subject, Visit
from longigen.data.issues import Finding
from longigen.data.quality.subject_checks import SubjectRecord, natural_sort_key
from longigen.data.volume import format_shape
from longigen.utils.time_units import SECONDS

UNITS_PER_YEAR = {unit: SECONDS["years"] / SECONDS[unit] for unit in ("years", "months", "weeks", "days")}
"""How many of each unit of ages and of follow-up make a year."""

MAX_AGE = 130
"""Years; a larger age, or span of times, is implausible."""

MAX_MEDIAN_GAP = 10
"""Years; a larger median gap between visits is implausible."""

AGE_TOLERANCE = 1.5
"""Years by which a change of age may differ from the change of time, since both may be rounded to whole years."""

GAP_RATIO = 25
"""A gap between visits is unusual if it is this many times as long or as short as the median."""

MIN_GAPS = 10
"""The number of gaps from which their median is meaningful."""

MAX_GRID_RATIO = 4
"""The default grid is oversized if it has more than this many times the voxels of a typical visit."""


def check_cohort(
    records: Sequence[SubjectRecord], unit: str, place: str, covariate_units: Mapping[str, str]
) -> Iterator[Finding]:
    """Yield findings on implausible times, ages, orders of visits, and the size of the default grid.

    Args:
        records: the records of all subjects.
        unit: the data set's time unit.
        place: name of the data set in messages.
        covariate_units: the units of covariates that are known, by name.
    """
    subjects = [record.subject for record in records]
    yield from _check_time_unit(subjects, unit, place)
    yield from _check_gaps(subjects, unit)
    yield from _check_ages(subjects, unit, place, covariate_units)
    yield from _check_visit_order(subjects, unit, place)
    yield from _check_grid_size(subjects)


def _check_time_unit(subjects: Sequence[Subject], unit: str, place: str) -> Iterator[Finding]:
    """Check that the range, the gaps and the rounding of times are plausible for the time unit."""
    times = np.array([time for subject in subjects for time in subject.times])
    if not times.size:
        return
    low, high = times.min(), times.max()
    fractions = float(np.mean(times != np.rint(times)))
    problem = None
    if unit in UNITS_PER_YEAR:
        gaps = _all_gaps(subjects)
        median_gap = float(np.median(gaps)) if gaps.size else 0.0
        if max(abs(low), high, high - low) > MAX_AGE * UNITS_PER_YEAR[unit]:
            problem = f"has times from {low:g} to {high:g} {unit}, more than a lifetime"
        elif median_gap > MAX_MEDIAN_GAP * UNITS_PER_YEAR[unit]:
            problem = f"has a median gap of {median_gap:g} {unit} between visits, longer than in any study"
        elif unit == "days" and low >= 1 and high <= 120 and fractions > 0.5:
            problem = f"has fractional times from {low:g} to {high:g} days, which look like ages in years"
    elif unit == "cycle" and (low < 0 or high > 1):
        problem = f"has times from {low:g} to {high:g}, where a cycle is from 0 to 1"
    elif unit in ("frames", "index") and fractions:
        problem = f"has times that are not whole numbers, where the time unit is {unit}"
    if problem is not None:
        yield Finding("time-unit", place, problem, "set the unit of its times, as time_unit", severity="warning")


def _all_gaps(subjects: Sequence[Subject]) -> np.ndarray:
    return np.array([gap for subject in subjects for gap in np.diff(subject.times)])


def _check_gaps(subjects: Sequence[Subject], unit: str) -> Iterator[Finding]:
    """Find gaps that are far from the median, which a wrong time causes."""
    gaps = _all_gaps(subjects)
    if gaps.size < MIN_GAPS:
        return
    median = float(np.median(gaps))
    for subject in subjects:
        unusual = [
            (later, later.time - earlier.time)
            for earlier, later in pairwise(subject.visits)
            if not median / GAP_RATIO <= later.time - earlier.time <= median * GAP_RATIO
        ]
        if unusual:
            visit, gap = unusual[0]
            problem = f"is {gap:.3g} {unit} after the visit before it, where the median gap is {median:.3g}"
            yield Finding("time-gap", visit.source, problem, "check the two times", subject.id, "warning")


def _check_ages(
    subjects: Sequence[Subject], unit: str, place: str, covariate_units: Mapping[str, str]
) -> Iterator[Finding]:
    """Check that ages are plausible, and that they increase with the times."""
    names = sorted({n for s in subjects for visit in s.visits for n in visit.covariates if _is_age(n)})
    for name in names:
        per_year = UNITS_PER_YEAR.get(covariate_units.get(name, "years"), 1.0)
        ages = [
            [(visit, visit.covariates[name] / per_year) for visit in subject.visits if name in visit.covariates]
            for subject in subjects
        ]
        values = [age for visits in ages for _, age in visits]
        if min(values) < 0 or max(values) > MAX_AGE:
            problem = f"has '{name}' from {min(values):g} to {max(values):g}, which cannot be years"
            advice = f"give ages in years, or their unit (in BIDS as Units of '{name}' in participants.json)"
            yield Finding("age-unit", place, problem, advice, severity="warning")
        elif unit in UNITS_PER_YEAR:
            for subject, visits in zip(subjects, ages, strict=True):
                yield from _check_ageing(subject, visits, name, unit)


def _is_age(name: str) -> bool:
    return "age" in re.split(r"[^a-z]+", name.lower())


def _check_ageing(subject: Subject, visits: Sequence[tuple[Visit, float]], name: str, unit: str) -> Iterator[Finding]:
    """Compare the change of a subject's age with the change of time; a constant age is taken as that at baseline."""
    if len({age for _, age in visits}) < 2:
        return
    first, first_age = visits[0]
    for visit, age in visits[1:]:
        elapsed = (visit.time - first.time) / UNITS_PER_YEAR[unit]
        if abs(age - first_age - elapsed) > AGE_TOLERANCE:
            problem = f"has '{name}' {age:g}, where the first visit, {elapsed:.3g} years before, has {first_age:g}"
            yield Finding("age-and-time", visit.source, problem, "check time and age", subject.id, "warning")
            return


def _check_visit_order(subjects: Sequence[Subject], unit: str, place: str) -> Iterator[Finding]:
    """Compare the order of times with the order of the numbers in the visits' names.

    In some data sets the names have no order; they are used only if they agree with the times for most pairs of visits.
    """
    ordered = [(subject, visits) for subject in subjects if len(visits := _sorted_by_name(subject, unit)) > 1]
    pairs = [a.time < b.time for _, visits in ordered for a, b in itertools.combinations(visits, 2)]
    agreement = float(np.mean(pairs)) if pairs else 0.5
    if agreement < 0.1:
        problem = f"has visits whose times decrease while the numbers in their names increase ({len(ordered)} subjects)"
        yield Finding("visit-order", place, problem, "check the sign of the times", severity="warning")
    elif agreement > 0.75:
        for subject, visits in ordered:
            for earlier, later in pairwise(visits):
                if earlier.time > later.time:
                    problem = f"has time {later.time:g}, where the visit before it by name has {earlier.time:g}"
                    advice = "check the times of both"
                    yield Finding("visit-order", later.source, problem, advice, subject.id, "warning")
                    break


def _sorted_by_name(subject: Subject, unit: str) -> list[Visit]:
    """Return visits sorted by the numbers in their names; none if the names differ in more than whole numbers.

    The visits of a cycle are rotated to start with the earliest time, since it may begin at any frame.
    """
    names = [visit.source for visit in subject.visits]
    if len({re.sub(r"\d+", "#", name) for name in names}) > 1 or any(re.search(r"\d\.\d", Path(n).name) for n in names):
        return []
    visits = sorted(subject.visits, key=lambda visit: natural_sort_key(visit.source))
    start = visits.index(min(visits, key=lambda visit: visit.time)) if unit == "cycle" else 0
    return visits[start:] + visits[:start]


def _check_grid_size(subjects: Sequence[Subject]) -> Iterator[Finding]:
    """Find the visit that makes the default grid, which contains every visit, much larger than a typical visit."""
    visits = [(visit, subject) for subject in subjects for visit in subject.visits]
    if not visits:
        return
    typical = float(np.median([np.prod(visit.shape) for visit, _ in visits]))
    grid = [max(sizes) for sizes in zip(*(visit.shape for visit, _ in visits), strict=True)]  # as `Grid.default`
    if np.prod(grid) > MAX_GRID_RATIO * typical:
        excess = [max(np.divide(visit.shape, np.median([v.shape for v, _ in visits], axis=0))) for visit, _ in visits]
        visit, subject = visits[int(np.argmax(excess))]
        problem = (
            f"has {format_shape(visit.shape)} voxels, so the default grid is {format_shape(grid)}, "
            f"{np.prod(grid) / typical:.1f} times as large as a typical visit"
        )
        advice = "remove it, or set preprocess.shape"
        yield Finding("swollen-grid", visit.source, problem, advice, subject.id, "warning")
