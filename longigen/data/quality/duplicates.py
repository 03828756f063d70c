"""Find duplicate subjects: one scan stored under two ids, even if it was rescaled, resampled, flipped or turned."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from longigen.data.issues import Finding
from longigen.data.quality.subject_checks import SubjectRecord

DUPLICATE_CORRELATION = 0.999
"""Thumbnails with a higher correlation are of the same scan. The first visits of different subjects reach 0.77 among
cropped hearts, and 0.99 among simulated brains deformed from one template; a scan stored with another data type,
resampled or clipped has 0.9993, and two sessions of a registered brain 0.9996."""

BLOCK_SIZE = 512
"""Number of thumbnails that are compared in one matrix product."""

ORIENTATIONS = tuple(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))
"""The 48 ways to flip and permute three axes."""


def find_duplicates(records: Sequence[SubjectRecord], parts: Mapping[str, str]) -> Iterator[Finding]:
    """Yield a finding for each subject that duplicates an earlier one.

    It is an error if the two are in different parts of the split, since training then sees a test subject, and a
    warning otherwise.

    Args:
        records: the records of all subjects.
        parts: the part of the split of each subject, by id; empty if there is no split.
    """
    pairs = {**_find_similar(records), **_find_identical(records)}
    originals: dict[int, list[int]] = {}
    for first, duplicate in sorted(pairs):
        originals.setdefault(duplicate, []).append(first)
    for duplicate, firsts in originals.items():
        subject = records[duplicate].subject
        across = [first for first in firsts if parts.get(records[first].subject.id) != parts.get(subject.id)]
        first = (across or firsts)[0]
        original = records[first].subject.id
        problem = pairs[first, duplicate].format(original)
        if across:
            problem += f", though the split puts it in {parts[subject.id]} and {original} in {parts[original]}"
        advice = "keep one of the two, or make them one subject"
        severity = "error" if across else "warning"
        yield Finding("duplicate-subject", subject.visits[0].source, problem, advice, subject.id, severity)


def _find_identical(records: Sequence[SubjectRecord]) -> dict[tuple[int, int], str]:
    """Return the pairs of subjects that have a visit with identical voxels, with a description."""
    first_with: dict[bytes, int] = {}
    pairs: dict[tuple[int, int], str] = {}
    for index, record in enumerate(records):
        for _, stats in record.readable:
            if stats.constant:
                continue
            first = first_with.setdefault(stats.digest, index)
            if first != index:
                pairs[first, index] = "has the same voxels as subject {}"
    return pairs


def _find_similar(records: Sequence[SubjectRecord]) -> dict[tuple[int, int], str]:
    """Return the pairs of subjects whose first visits look the same in any orientation, with a description.

    One thumbnail of each pair is turned to all 48 orientations. The comparisons are matrix products of bounded size.
    """
    thumbnails = [(index, record.thumbnail) for index, record in enumerate(records) if record.thumbnail is not None]
    if len(thumbnails) < 2:
        return {}
    indices = [index for index, _ in thumbnails]
    cubes = np.stack([thumbnail for _, thumbnail in thumbnails])
    pairs: dict[tuple[int, int], str] = {}
    for start in range(0, len(cubes), BLOCK_SIZE):
        block = cubes[start : start + BLOCK_SIZE]
        for axes, signs in ORIENTATIONS:
            turned = block.transpose(0, *(axis + 1 for axis in axes))[:, :: signs[0], :: signs[1], :: signs[2]]
            turned = turned.reshape(len(block), -1)
            is_identity = axes == (0, 1, 2) and signs == (1, 1, 1)
            for left in range(0, start + 1, BLOCK_SIZE):
                correlation = cubes[left : left + BLOCK_SIZE].reshape(-1, turned.shape[1]) @ turned.T
                for row, column in np.argwhere(correlation > DUPLICATE_CORRELATION):
                    if left + row < start + column:
                        pair = indices[left + row], indices[start + column]
                        turn = "" if is_identity else " after flipping or turning"
                        text = f"looks the same as subject {{}}{turn} (correlation {correlation[row, column]:.4f})"
                        pairs.setdefault(pair, text)
    return pairs
