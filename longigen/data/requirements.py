"""What training requires of a data set: visits that can be used, two for each subject, and none twice.

Training refuses what these functions find, and `longigen doctor` reports it as an error: the two cannot disagree.
"""

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

    It is an error if the two are in different parts of the split, since training then sees a test subject.

    Args:
        subjects: the subjects.
        digests: of each subject, a hash of each visit's voxels; None for a visit that is not compared.
        parts: the part of the split of each subject, by id; empty if there is no split.
    """
    first_with: dict[str, int] = {}
    originals: dict[int, set[int]] = {}
    for number, hashes in enumerate(digests):
        for digest in filter(None, hashes):
            first = first_with.setdefault(digest, number)
            if first != number:
                originals.setdefault(number, set()).add(first)
    for number, firsts in originals.items():
        same = [(subjects[first], f"has the same voxels as subject {subjects[first].id}") for first in sorted(firsts)]
        finding, across = copy_of(subjects[number], same, parts)
        yield replace(finding, severity="error") if across else finding


def copy_of(
    subject: Subject, originals: Sequence[tuple[Subject, str]], parts: Mapping[str, str]
) -> tuple[Finding, bool]:
    """Return the warning that a subject is a copy of another, and whether the split puts the two in different parts.

    Args:
        subject: the subject.
        originals: the earlier subjects that it copies, and how it is like each, in words.
        parts: the part of the split of each subject, by id; empty if there is no split.
    """
    part = parts.get(subject.id)
    across = [(original, problem) for original, problem in originals if part and parts.get(original.id, part) != part]
    original, problem = (across or originals)[0]
    if across:
        problem += f", though the split puts it in {part} and {original.id} in {parts[original.id]}"
    advice = "keep one of the two, or make them one subject"
    source = subject.visits[0].source
    return Finding("duplicate-subject", source, problem, advice, subject.id, "warning"), bool(across)
