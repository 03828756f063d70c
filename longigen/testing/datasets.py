"""The checks of data sets."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

from longigen.testing.case import Case, keeps_its_configuration

LOADED = 3


def has_subjects(case: Case) -> None:
    """Check ids, times and their order, twice."""
    dataset = case.make()
    subjects = dataset.subjects()
    assert subjects, "there are no subjects"
    ids = [subject.id for subject in subjects]
    assert len(set(ids)) == len(ids), "a subject's id occurs twice"
    assert all(name and "/" not in name for name in ids), "an id is empty or holds a slash"
    assert [subject.id for subject in case.make().subjects()] == ids, "the order is not fixed"
    for subject in subjects:
        assert subject.visits, f"{subject.id} has no visits"
        assert all(a < b for a, b in pairwise(subject.times)), f"times of {subject.id} do not ascend"
        assert np.isfinite(subject.times).all(), f"a time of {subject.id} is not finite"
    assert dataset.time_unit, "time_unit is empty"


def loads_volumes(case: Case) -> None:
    """Check the first subjects' volumes against what is said of them."""
    for subject in case.make().subjects()[:LOADED]:
        for visit in subject.visits:
            volume = visit.load()
            assert volume.data.ndim == 3, f"{visit.source} is {volume.data.ndim}D"
            assert np.isfinite(volume.data).all(), f"{visit.source} is not finite"
            assert volume.affine.shape == (4, 4), f"{visit.source} has no 4 × 4 affine"
            assert sorted(visit.shape) == sorted(volume.data.shape), (
                f"{visit.source} was said to be {visit.shape} and is {volume.data.shape}"
            )


def loads_the_same_again(case: Case) -> None:
    """Check that a visit is the same each time."""
    first, second = (case.make().subjects()[0].visits[-1].load() for _ in range(2))
    assert np.array_equal(first.data, second.data), "two loads differ"


def claims_by_name(case: Case) -> None:
    """Check that `claims` answers for a path that does not exist."""
    assert type(case.make()).claims(Path("no-such-place.unknown")) is False, "claims what it cannot know"


CHECKS: dict[str, Callable[[Case], None]] = {
    "can be made again from its configuration": keeps_its_configuration,
    "has subjects with ascending times": has_subjects,
    "loads volumes as it describes them": loads_volumes,
    "loads the same again": loads_the_same_again,
    "claims paths by name": claims_by_name,
}
