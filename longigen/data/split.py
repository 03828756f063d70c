"""Split a data set by subject into training, validation and test parts."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from longigen.components.base import Settings
from longigen.components.ranges import Range, Seed
from longigen.data.dataset import Assigned, Subject
from longigen.errors import LongigenError
from longigen.utils.randomness import derive_seed

Part = Literal["train", "validation", "test", "all"]

Share = Annotated[float, Range(0, below=1)]


@dataclass(frozen=True, kw_only=True)
class SplitSettings(Settings):
    """Settings of the split by subject.

    Args:
        validation: fraction of the subjects in the validation part.
        test: fraction of the subjects in the test part, which training never uses.
        split_seed: random seed; the same ids and seed give the same split, whatever the order of subjects.

    Raises:
        LongigenError: for an invalid value, or fractions that leave nothing to train on.
    """

    validation: Share = 0.15
    test: Share = 0.2
    split_seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.validation + self.test >= 1:
            raise LongigenError(
                f"split.validation = {self.validation} and split.test = {self.test} leave nothing to train on; make "
                "them smaller."
            )


@dataclass(frozen=True)
class Split:
    """A split of subjects into three disjoint parts."""

    train: tuple[Subject, ...]
    validation: tuple[Subject, ...]
    test: tuple[Subject, ...]

    @classmethod
    def by_subject(cls, subjects: Sequence[Subject], settings: SplitSettings) -> "Split":
        """Split by subject, never by visit.

        A subject that the data set assigns to a part (`Subject.part`) is put there. No other subjects are added to a
        part that has assigned subjects; the fractions are of the subjects that are not assigned.

        Raises:
            LongigenError: if an id occurs twice, the fractions leave no subject to train on, or a requested part would
                be empty.
        """
        ids = [subject.id for subject in subjects]
        if len(set(ids)) < len(ids):
            twice = next(name for name in ids if ids.count(name) > 1)
            raise LongigenError(f"The subject '{twice}' occurs twice in the data set; merge its visits or rename one.")
        assigned = {part: tuple(s for s in subjects if s.part == part) for part in ("train", "validation", "test")}
        unassigned = [subject for subject in subjects if subject.part is None]
        ranked = sorted(unassigned, key=lambda subject: derive_seed("split", settings.split_seed, subject.id))
        fractions = {part: 0.0 if assigned[part] else getattr(settings, part) for part in ("validation", "test")}
        needed = (not assigned["train"]) + sum(fraction > 0 for fraction in fractions.values())
        if subjects and not unassigned and not assigned["train"]:
            raise LongigenError(
                "The split that the data set assigns has no training subjects; assign some subjects to 'train'."
            )
        if len(unassigned) < needed and (unassigned or not subjects):
            raise LongigenError(
                f"The data set has {len(unassigned)} subjects, too few for {needed} parts; add subjects, or set "
                "validation=0 and test=0."
            )
        test = _count(fractions["test"], len(ranked))
        validation = test + _count(fractions["validation"], len(ranked))
        if validation >= len(ranked) and not assigned["train"]:
            raise LongigenError(
                f"validation = {settings.validation} and test = {settings.test} of {len(ranked)} subjects leave none "
                "to train on; make them smaller."
            )
        return cls(
            assigned["train"] + tuple(ranked[validation:]),
            assigned["validation"] + tuple(ranked[test:validation]),
            assigned["test"] + tuple(ranked[:test]),
        )

    @property
    def ids(self) -> dict[str, list[str]]:
        """The subjects' ids by part of the split, as a run records them."""
        return {part: [subject.id for subject in self.part(part)] for part in get_args(Assigned)}

    def part(self, name: Part) -> tuple[Subject, ...]:
        """Return one part, or all subjects."""
        return self.train + self.validation + self.test if name == "all" else getattr(self, name)


def fingerprint(subjects: Sequence[Subject]) -> str:
    """Return a hash of the ids and times of a data set, which identifies the data without revealing an id."""
    text = "\n".join(f"{subject.id}\t{subject.times}" for subject in sorted(subjects, key=lambda s: s.id))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _count(fraction: float, total: int) -> int:
    return max(1, round(fraction * total)) if fraction > 0 and total else 0
