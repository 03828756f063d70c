"""Checks of true label maps: unreadable ones, other grids than the images', empty regions, subjects without any."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from longigen.data.issues import Finding
from longigen.data.quality.subject_checks import SubjectRecord, and_more


def check_labels(records: Sequence[SubjectRecord], regions: Mapping[int, str], place: str) -> Iterator[Finding]:
    """Yield findings on the label maps of all subjects; none if the data set has no label maps.

    A label map is not needed for training, so all are warnings. A problem of several visits of a subject is one
    finding; a region that no label map has is one finding of the data set.

    Args:
        records: the records of all subjects.
        regions: the name of the region that each label stands for.
        place: name of the data set in messages.
    """
    labelled = [record for record in records if any(record.labels)]
    usable = [stats for record in labelled for stats in record.labels if stats is not None and stats.problem is None]
    absent = set.intersection(*({*stats.empty} for stats in usable)) if usable else set[str]()
    for record in labelled:
        yield from _check_subject(record, absent)
    if absent:
        problem = f"has no label map with a voxel of {', '.join(sorted(absent))}"
        yield Finding("empty-region", place, problem, "check the numbers of its labels", severity="warning")
    without = [record.subject.id for record in records if not any(record.labels)]
    if labelled and without:
        others = f" and {len(without) - 1} more" if without[1:] else ""
        problem = f"has label maps of {len(labelled)} of {len(records)} subjects, and none of {without[0]}{others}"
        advice = "add them, or regions of these subjects are not scored against true labels"
        yield Finding("labels-missing", place, problem, advice, severity="warning")


def _check_subject(record: SubjectRecord, absent: set[str]) -> Iterator[Finding]:
    """Yield the problems of a subject's label maps, apart from regions that are empty in all of the data set."""
    known = [stats for stats in record.labels if stats is not None]
    bad = [stats.problem for stats in known if stats.problem is not None]
    if bad:
        yield replace(bad[0], problem=bad[0].problem + and_more(len(bad) - 1), subject=record.subject.id)
    elsewhere = [(stats.source, stats.grid) for stats in known if stats.grid is not None]
    if elsewhere:
        source, problem = elsewhere[0]
        advice = "check that it is of this image; each voxel gets the label of the nearest one"
        problem += and_more(len(elsewhere) - 1)
        yield Finding("label-grid", source, problem, advice, record.subject.id, "warning")
    empty = [
        (stats.source, names) for stats in known if (names := [name for name in stats.empty if name not in absent])
    ]
    if empty:
        source, names = empty[0]
        problem = f"has no voxel of {', '.join(names)}{and_more(len(empty) - 1)}"
        advice = "check whether the region is outside of the image, or was not marked"
        yield Finding("empty-region", source, problem, advice, record.subject.id, "warning")
