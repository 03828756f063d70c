"""Split a data set by subject into training, validation and test parts."""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from longigen.components.base import Settings
from longigen.components.ranges import Count, Range, Seed
from longigen.data.dataset import Assigned, Subject
from longigen.errors import LongigenError, LongigenWarning
from longigen.utils.randomness import derive_seed

Part = Literal["train", "validation", "test", "all"]

Share = Annotated[float, Range(0, below=1)] | Count
"""A part of the split: a fraction of the subjects below 1, or a number of subjects, so that 1 is one subject."""


@dataclass(frozen=True, kw_only=True)
class SplitSettings(Settings):
    """Settings of the split by subject.

    Args:
        validation: the validation part: a fraction of the subjects below 1, or a whole number of subjects. So 0.1 is a
            tenth of them, 1 is one subject, and 0 none.
        test: the same for the test part, which training never uses.
        split_seed: random seed; the same ids and seed give the same split, whatever the order of subjects.
        folds: number of folds of a cross-validation; 0 for none. Each subject is in the test part of exactly one fold;
            `test` is not used then, and `validation` is of the other subjects.
        fold: number of the fold whose subjects are the test part, from 0.

    Raises:
        LongigenError: for an invalid value (such as 1.0, which could mean one subject or all), or fractions that leave
            nothing to train on.
    """

    validation: Share = 0.15
    test: Share = 0.2
    split_seed: Seed = 0
    folds: Annotated[int, Range(0)] = 0
    fold: Annotated[int, Range(0)] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.folds == 1:
            raise LongigenError("split.folds = 1 leaves nothing to train on; set 2 or more, or 0 for no folds.")
        if self.fold >= max(self.folds, 1):
            last = f"the last fold is {self.folds - 1}" if self.folds else "there are no folds; set split.folds too"
            raise LongigenError(f"There is no split.fold = {self.fold}: {last}.")
        if self.folds:
            return  # the test part is a fold
        if isinstance(self.validation, float) and isinstance(self.test, float) and self.validation + self.test >= 1:
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
        part that has assigned subjects; if the settings ask for another number of them, a `LongigenWarning` says so.
        The fractions are of the subjects that are not assigned.

        With `folds`, all subjects are ranked by the seed, subject i is in fold i mod `folds`, and the data set's own
        parts are not used, of which a `LongigenWarning` tells.

        Raises:
            LongigenError: if an id occurs twice, the fractions leave no subject to train on, or a requested part would
                be empty.
        """
        ids = [subject.id for subject in subjects]
        if len(set(ids)) < len(ids):
            twice = next(name for name in ids if ids.count(name) > 1)
            raise LongigenError(f"The subject '{twice}' occurs twice in the data set; merge its visits or rename one.")
        if settings.folds:
            return cls._by_fold(subjects, settings)
        assigned = {part: tuple(s for s in subjects if s.part == part) for part in ("train", "validation", "test")}
        unassigned = [subject for subject in subjects if subject.part is None]
        ranked = _ranked(unassigned, settings.split_seed)
        asked: dict[str, float] = {"validation": settings.validation, "test": settings.test}
        for part, share in asked.items():
            if assigned[part] and isinstance(share, int) and share != len(assigned[part]):
                warnings.warn(
                    f"The data set assigns {len(assigned[part])} subjects to the {part} part, so split.{part} = "
                    f"{share} is not used.",
                    LongigenWarning,
                    stacklevel=2,
                )
        shares = {part: 0.0 if assigned[part] else share for part, share in asked.items()}
        needed = (not assigned["train"]) + sum(share > 0 for share in shares.values())
        if subjects and not unassigned and not assigned["train"]:
            raise LongigenError(
                "The split that the data set assigns has no training subjects; assign some subjects to 'train'."
            )
        if len(unassigned) < needed and (unassigned or not subjects):
            raise LongigenError(
                f"The data set has {len(unassigned)} subjects, too few for {needed} parts; add subjects, or set "
                "validation=0 and test=0."
            )
        test = _count(shares["test"], len(ranked))
        validation = test + _count(shares["validation"], len(ranked))
        parts = f"validation = {settings.validation} and test = {settings.test}"
        if validation >= len(ranked) and not assigned["train"]:
            raise LongigenError(f"{parts} of {len(ranked)} subjects leave none to train on; make them smaller.")
        if validation > len(ranked):
            raise LongigenError(
                f"{parts} ask for more than the {len(ranked)} subjects that the data set assigns to no part; make them "
                "smaller."
            )
        return cls(
            assigned["train"] + tuple(ranked[validation:]),
            assigned["validation"] + tuple(ranked[test:validation]),
            assigned["test"] + tuple(ranked[:test]),
        )

    @classmethod
    def _by_fold(cls, subjects: Sequence[Subject], settings: SplitSettings) -> "Split":
        if len(subjects) < settings.folds:
            raise LongigenError(
                f"The data set has {len(subjects)} subjects, too few for {settings.folds} folds; lower split.folds."
            )
        if any(subject.part is not None for subject in subjects):
            warnings.warn(
                "With split.folds the parts that the data set assigns its subjects to are not used: all subjects are "
                "dealt into the folds; split.folds=0 uses them.",
                LongigenWarning,
                stacklevel=3,
            )
        ranked = _ranked(subjects, settings.split_seed)
        test = ranked[settings.fold :: settings.folds]
        rest = [subject for place, subject in enumerate(ranked) if place % settings.folds != settings.fold]
        validation = _count(settings.validation, len(rest))
        if validation >= len(rest):
            raise LongigenError(
                f"validation = {settings.validation} of the {len(rest)} subjects outside of the fold leaves none to "
                "train on; make it smaller."
            )
        return cls(tuple(rest[validation:]), tuple(rest[:validation]), tuple(test))

    @classmethod
    def recorded(cls, subjects: Sequence[Subject], ids: Mapping[str, Sequence[str]]) -> "Split":
        """Return the split that `ids` records, of the subjects that there are; others are in no part."""
        known = {subject.id: subject for subject in subjects}
        parts = {part: tuple(known[name] for name in ids.get(part, ()) if name in known) for part in get_args(Assigned)}
        return cls(**parts)

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


def _ranked(subjects: Sequence[Subject], seed: int) -> list[Subject]:
    """Return the subjects in an order that depends only on their ids and the seed."""
    return sorted(subjects, key=lambda subject: derive_seed("split", seed, subject.id))


def _count(share: float, total: int) -> int:
    """Return how many of `total` subjects a part has; for a number of subjects, that number."""
    if isinstance(share, int):
        return share
    return max(1, round(share * total)) if share > 0 and total else 0
