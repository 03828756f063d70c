"""Find duplicate subjects: one scan stored under two ids, even if it was rescaled, resampled, flipped or turned."""

import itertools
from collections.abc import Iterator, Mapping, Sequence, Set

import numpy as np

from longigen.data.dataset import Subject
from longigen.data.issues import Finding
from longigen.data.quality.subject_checks import SubjectRecord
from longigen.data.requirements import copy_of

DUPLICATE_CORRELATION = 0.999
"""Thumbnails with a higher correlation are of the same scan. The first visits of different subjects reach 0.77 among
cropped hearts, and 0.99 among simulated brains deformed from one template; a scan stored with another data type,
resampled or clipped has 0.9993, and two sessions of a registered brain 0.9996."""

BLOCK_SIZE = 512
"""Number of thumbnails that are compared in one matrix product."""

ORIENTATIONS = tuple(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))
"""The 48 ways to flip and permute three axes."""


def find_duplicates(records: Sequence[SubjectRecord], parts: Mapping[str, str], known: Set[str]) -> Iterator[Finding]:
    """Yield a warning for each subject that looks the same as an earlier one.

    Args:
        records: the records of all subjects.
        parts: the part of the split of each subject, by id; empty if there is no split.
        known: ids of the subjects that are known to be copies.
    """
    originals: dict[int, list[tuple[Subject, str]]] = {}
    for (first, duplicate), text in sorted(_find_similar(records).items()):
        original = records[first].subject
        originals.setdefault(duplicate, []).append((original, text.format(original.id)))
    for duplicate, likenesses in originals.items():
        if records[duplicate].subject.id not in known:
            yield copy_of(records[duplicate].subject, likenesses, parts)


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
