"""What training requires of a data set: visits that can be used, two for each subject, and none twice.

Training refuses what these functions find, and `longigen doctor` reports it as an error: the two cannot disagree.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from longigen.data.cache import VisitCache
from longigen.data.dataset import Subject
from longigen.data.issues import BadData, Finding
from longigen.data.preprocess import Prepared, Preprocess
from longigen.data.training_pairs import LARGEST, same_to_model
from longigen.utils.time_units import time_text


def check_visits(
    subject: Subject, pipeline: Preprocess, cache: VisitCache | None = None
) -> Iterator[tuple[Prepared, int, Finding | None]]:
    """Read and preprocess each visit of a subject, and yield why it cannot be used, or None.

    A subject is placed on the model's grid by its first visit, here by the first one that can be used.

    Yields:
        The subject from that visit on, the index of the visit in it, and the finding.
    """
    start, placed = 0, False
    prepared = pipeline.subject(subject, cache)
    for place in range(len(subject.visits)):
        if not placed:
            start, prepared = place, pipeline.subject(replace(subject, visits=subject.visits[place:]), cache)
        try:
            prepared.visit(place - start)
        except BadData as error:
            yield prepared, place - start, error.finding
        else:
            placed = True
            yield prepared, place - start, None


def check_subject(subject: Subject) -> Iterator[Finding]:
    """Yield what a model cannot use of a subject, given the visits that can be read: their number, times, covariates.

    Nothing is read.
    """

    def finding(kind: str, source: str, problem: str, advice: str) -> Finding:
        return Finding(kind, source, problem, advice, subject.id)

    if len(subject.visits) == 1:
        problem = "has only one visit that can be used, where at least two are needed"
        yield finding("single-visit", subject.visits[0].source, problem, "add visits, or leave the subject out")
    for visit in subject.visits:
        if abs(visit.time) > LARGEST:
            problem = f"has time {time_text(visit.time)}, and a model reads times of at most {LARGEST:g}"
            yield finding("time-too-large", visit.source, problem, "correct it")
            return
        for name, value in visit.covariates.items():
            if abs(value) > LARGEST:
                problem = f"has '{name}' {value:g}, and a model reads covariates of at most {LARGEST:g}"
                yield finding("covariate-too-large", visit.source, problem, "correct it, or leave the cell empty")
                return
    same = same_to_model(subject.times)
    if same is not None:
        times = " and ".join(map(time_text, same))
        yield finding(
            "times-too-close",
            next(visit.source for visit in subject.visits if visit.time == same[1]),
            f"has a time that is one to a model with another, {times}, since it reads times in single precision",
            "count them from a later origin, such as the first visit",
        )


def check_copied_visits(subject: Subject, digests: Sequence[str | None]) -> Iterator[tuple[int, Finding]]:
    """Yield the index of each visit whose voxels are those of an earlier one of the subject, with a finding.

    Args:
        subject: the subject.
        digests: a hash of each visit's voxels (`voxel_digest`); None for a visit that is not compared.
    """
    first_with: dict[str, int] = {}
    for index, digest in enumerate(digests):
        if digest is None:
            continue
        earlier = first_with.setdefault(digest, index)
        if earlier != index:
            problem = f"has the same voxels as the visit at time {time_text(subject.visits[earlier].time)}"
            source = subject.visits[index].source
            yield index, Finding("identical-visits", source, problem, "give each visit its own scan", subject.id)


def check_copied_subjects(
    subjects: Sequence[Subject], digests: Sequence[Sequence[str | None]], parts: Mapping[str, str]
) -> Iterator[Finding]:
    """Yield a finding for each subject that has the voxels of an earlier one in a visit.

    It is an error if more than half of their visits are the same, and the split puts the two in different parts, since
    training then sees a test subject. So many make them one subject for `longigen.data.seen` too.

    Args:
        subjects: the subjects.
        digests: of each subject, a hash of each visit's voxels; None for a visit that is not compared.
        parts: the part of the split of each subject, by id; empty if there is no split.
    """
    first_with: dict[str, int] = {}
    scans = [{digest for digest in hashes if digest is not None} for hashes in digests]
    for number, own in enumerate(scans):
        shared = Counter(first_with.setdefault(digest, number) for digest in sorted(own))
        del shared[number]
        same = [
            (subjects[first], f"has the same voxels as subject {subjects[first].id}")
            for first, visits in shared.items()
            if 2 * visits > min(len(own), len(scans[first]))
        ]
        leaks = [(original, text) for original, text in same if across(subjects[number], original, parts)]
        if leaks:
            yield replace(copy_of(subjects[number], leaks, parts), severity="error")
        elif shared:
            some = [(subjects[first], f"has a scan of subject {subjects[first].id}") for first in shared]
            yield copy_of(subjects[number], same or some, parts)


def across(one: Subject, other: Subject, parts: Mapping[str, str]) -> bool:
    """Return whether two subjects are in different parts of the split; not if one is in none."""
    found = {parts.get(one.id), parts.get(other.id)}
    return None not in found and len(found) == 2


def copy_of(subject: Subject, originals: Sequence[tuple[Subject, str]], parts: Mapping[str, str]) -> Finding:
    """Return the warning that a subject is a copy of another: of one in another part of the split, if there is one.

    Args:
        subject: the subject.
        originals: the earlier subjects that it copies, and how it is like each, in words.
        parts: the part of the split of each subject, by id; empty if there is no split.
    """
    original, problem = next((each for each in originals if across(subject, each[0], parts)), originals[0])
    if across(subject, original, parts):
        problem += f", though the split puts it in {parts[subject.id]} and {original.id} in {parts[original.id]}"
    advice = "keep one of the two, or make them one subject"
    return Finding("duplicate-subject", subject.visits[0].source, problem, advice, subject.id, "warning")
