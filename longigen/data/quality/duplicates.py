"""Resemblance: subjects that are one and the same scan."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from longigen.data.issues import Finding
from longigen.data.quality.subject_checks import SubjectRecord

SAME = 0.999
"""Thumbnails that correlate more than this are of one person. The first visits of different subjects reach 0.77 among
cropped hearts, and 0.99 among simulated brains that are one template deformed; a scan stored in another type, resampled
or clipped keeps 0.9993, and two sessions of a registered brain 0.9996."""

BLOCK = 512

ORIENTATIONS = tuple(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))
"""The 48 ways to flip and permute three axes."""


def find_duplicates(records: Sequence[SubjectRecord], parts: Mapping[str, str]) -> Iterator[Finding]:
    """Give each subject that is stored a second time, under another id.

    It is an error where the two are in different parts of the split: training then sees what it is tested on.

    Args:
        records: of all subjects.
        parts: of the split that a subject falls into, by id; empty where there is no split.
    """
    pairs = {**_resembling(records), **_identical(records)}
    second: dict[int, list[int]] = {}
    for first, other in sorted(pairs):
        second.setdefault(other, []).append(first)
    for other, firsts in second.items():
        subject = records[other].subject
        apart = [first for first in firsts if parts.get(records[first].subject.id) != parts.get(subject.id)]
        first = (apart or firsts)[0]
        original = records[first].subject.id
        problem = pairs[first, other].format(original)
        if apart:
            problem += f", though the split puts it in {parts[subject.id]} and {original} in {parts[original]}"
        advice = "keep one of the two, or make them one subject"
        severity = "error" if apart else "warning"
        yield Finding("duplicate-subject", subject.visits[0].source, problem, advice, subject.id, severity)


def _identical(records: Sequence[SubjectRecord]) -> dict[tuple[int, int], str]:
    """Return the pairs of subjects that share a visit, voxel by voxel."""
    seen: dict[bytes, int] = {}
    found: dict[tuple[int, int], str] = {}
    for index, record in enumerate(records):
        for _, vitals in record.read:
            if vitals.constant:
                continue
            first = seen.setdefault(vitals.digest, index)
            if first != index:
                found[first, index] = "holds the same voxels as subject {}"
    return found


def _resembling(records: Sequence[SubjectRecord]) -> dict[tuple[int, int], str]:
    """Return the pairs of subjects whose first visits look the same, also flipped or turned.

    Turning one of the two stands for turning the other, so all pairs are compared in all 48 ways, as products of
    matrices of a bounded size.
    """
    drawn = [(index, record.thumbnail) for index, record in enumerate(records) if record.thumbnail is not None]
    if len(drawn) < 2:
        return {}
    indices = [index for index, _ in drawn]
    cubes = np.stack([picture for _, picture in drawn])
    found: dict[tuple[int, int], str] = {}
    for start in range(0, len(cubes), BLOCK):
        block = cubes[start : start + BLOCK]
        for axes, signs in ORIENTATIONS:
            turned = block.transpose(0, *(axis + 1 for axis in axes))[:, :: signs[0], :: signs[1], :: signs[2]]
            turned = turned.reshape(len(block), -1)
            own = axes == (0, 1, 2) and signs == (1, 1, 1)
            for left in range(0, start + 1, BLOCK):
                likeness = cubes[left : left + BLOCK].reshape(-1, turned.shape[1]) @ turned.T
                for row, column in np.argwhere(likeness > SAME):
                    if left + row < start + column:
                        pair = indices[left + row], indices[start + column]
                        turn = "" if own else ", once flipped or turned"
                        text = f"looks the same as subject {{}}{turn} (correlation {likeness[row, column]:.4f})"
                        found.setdefault(pair, text)
    return found
