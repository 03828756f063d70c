"""The checks of data sets."""

import pickle
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from longigen.data.issues import Finding
from longigen.data.volume import canonical_shape, canonical_spacing
from longigen.testing.assertions import keeps_its_configuration
from longigen.testing.case import Case
from longigen.testing.randomness import assert_draws_nothing_global
from longigen.utils.time_units import TIME_UNITS

LOADED = 3


def has_subjects(case: Case) -> None:
    """Check ids, times and their order, twice."""
    subjects = case.make().subjects()
    assert isinstance(subjects, Sequence), f"subjects() returns a {type(subjects).__name__}, not a sequence"
    assert subjects, "there are no subjects"
    ids = [subject.id for subject in subjects]
    assert len(set(ids)) == len(ids), "a subject's id occurs twice"
    assert all(name and "/" not in name for name in ids), "an id is empty or holds a slash"
    assert [subject.id for subject in case.make().subjects()] == ids, "the order of the subjects is not fixed"
    for subject in subjects:
        assert subject.visits, f"{subject.id} has no visits"
        assert all(a < b for a, b in pairwise(subject.times)), f"times of {subject.id} do not ascend"
        assert np.isfinite(subject.times).all(), f"a time of {subject.id} is not finite"


def loads_volumes(case: Case) -> None:
    """Check the first subjects' volumes, those of each channel too, against what is said of them."""
    for subject in case.make().subjects()[:LOADED]:
        for visit in (image for each in subject.visits for image in (each, *each.channels.values()) if image):
            volume = visit.load()
            assert volume.data.ndim == 3, f"{visit.source} is {volume.data.ndim}D"
            assert np.isfinite(volume.data).all(), f"{visit.source} is not finite"
            assert volume.affine.shape == (4, 4), f"{visit.source} has no 4 × 4 affine"
            shape, spacing = canonical_shape(volume.affine, volume.data.shape), canonical_spacing(volume.affine)
            assert visit.shape == shape, f"{visit.source} was said to be {visit.shape} in RAS order and is {shape}"
            assert np.allclose(visit.spacing, spacing, rtol=1e-3), (
                f"{visit.source} was said to have voxels of {visit.spacing} mm and has {spacing}"
            )


def labels_regions(case: Case) -> None:
    """Check that the label maps of the first subjects' visits have labels that `regions` names."""
    dataset = case.make()
    for subject in dataset.subjects()[:LOADED]:
        for visit in subject.visits:
            labels = visit.read_labels(subject.id)
            if labels is None:
                continue
            unknown = set(np.unique(labels.data).astype(int).tolist()) - {0, *dataset.regions}
            assert not unknown, f"the label map of {visit.source} has {sorted(unknown)}, which `regions` does not name"


def loads_the_same_again(case: Case) -> None:
    """Check that a visit is the same each time."""
    first, second = (case.make().subjects()[0].visits[-1].load() for _ in range(2))
    assert np.array_equal(first.data, second.data, equal_nan=True), "two loads differ"


def draws_nothing_global(case: Case) -> None:
    """Check that it leaves the global random generators alone: made, listed and loaded."""

    def answer() -> list[Tensor]:
        subjects = case.make(seed=None).subjects()
        times = [time for subject in subjects for time in subject.times]
        return [torch.tensor(times), torch.tensor(np.asarray(subjects[0].visits[-1].load().data, dtype=np.float64))]

    assert_draws_nothing_global(answer)


def knows_visits_apart(case: Case) -> None:
    """Check that each visit has an identity of its own, the same each time: the cache goes by it."""
    first, again = ([visit.identity for s in case.make().subjects() for visit in s.visits] for _ in range(2))
    assert len(set(first)) == len(first), "two visits have one identity"
    assert first == again, "an identity changes though nothing else does"


def goes_to_other_processes(case: Case) -> None:
    """Check that subjects can be pickled, as workers that load data need it."""
    subject = case.make().subjects()[0]
    try:
        copy = pickle.loads(pickle.dumps(subject))
    except Exception as error:
        raise AssertionError(f"a subject cannot be pickled ({error})") from error
    one, two = (each.visits[0].load().data for each in (subject, copy))
    assert np.array_equal(one, two, equal_nan=True), "a visit differs once it was pickled"


def tells_what_is_bad(case: Case) -> None:
    """Check that `subjects` takes a `bad`, and tells it of findings."""
    findings: list[Finding] = []
    case.make().subjects(findings.append)
    assert all(isinstance(finding, Finding) for finding in findings), "bad is told of something else than a Finding"


def has_a_unit(case: Case) -> None:
    """Check that the times are in a known unit."""
    unit = case.make().time_unit
    assert unit in TIME_UNITS, f"time_unit is {unit!r}, none of {', '.join(TIME_UNITS)}"


def claims_by_name(case: Case) -> None:
    """Check that `claims` answers for a path that does not exist."""
    path = Path("no-such-place.unknown")
    try:
        claimed = type(case.make()).claims(path)
    except OSError as error:
        raise AssertionError(f"claims opens what lies at the path ({error}); it may look at names only") from error
    assert claimed is False, f"claims({path}) is {claimed}: it claims what it cannot know"


CHECKS: dict[str, Callable[[Case], None]] = {
    "can be made again from its configuration": keeps_its_configuration,
    "has subjects with ascending times": has_subjects,
    "loads volumes as it describes them": loads_volumes,
    "loads the same again": loads_the_same_again,
    "labels regions that it names": labels_regions,
    "leaves global random generators alone": draws_nothing_global,
    "has times in a known unit": has_a_unit,
    "knows its visits apart": knows_visits_apart,
    "has visits that go to other processes": goes_to_other_processes,
    "tells what is bad": tells_what_is_bad,
    "claims paths by name": claims_by_name,
}
"""By what a data set is to do; see `Dataset`."""
