"""Which subjects a model was trained on: hashes of their ids and voxels, and what they say of other subjects."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from longigen.data.cohort import Cohort
from longigen.data.dataset import Subject
from longigen.data.open_dataset import recorded_subjects
from longigen.data.preprocess import Prepared
from longigen.data.split import Split, SplitSettings, fingerprint
from longigen.errors import LongigenError
from longigen.utils.parallel import in_parallel

RECORDED = ("name", "parameters", "split", "fingerprint", "seen")
"""The keys of a model's section ``data`` that `TrainedOn` reads."""


def seen_hashes(subjects: Iterable[Prepared], salt: str) -> dict[str, str]:
    """Return hashes of the ids of subjects, and of the voxels of each of their visits, as a model records them.

    Those of visits are grouped by subject. Both are in the order of their values, so that nothing is known of who has
    which visits. A hash of voxels tells nothing to those who do not have the image. An id can be guessed from its hash,
    where ids are few, so a published model has the hashes of voxels alone.

    Args:
        subjects: the training and validation subjects, whose visits are read if the cache does not hold them.
        salt: text that is hashed too, so that hashes of two data sets cannot be compared.
    """
    prepared = list(subjects)
    ids = sorted(_hash(salt, each.subject.id) for each in prepared)
    visits = sorted(" ".join(sorted(_hash(salt, digest) for digest in each.digests)) for each in prepared)
    return {"ids": " ".join(ids), "visits": ", ".join(visits)}


@dataclass(frozen=True)
class TrainedOn:
    """What is known of a data set that a model, or one that it was initialised with, was trained on.

    Attributes:
        name: name of the data set.
        parameters: its parameters that are public.
        split: settings of the split.
        fingerprint: `longigen.data.split.fingerprint` of its subjects.
        ids: hashes of the training and validation subjects' ids; None if they are not recorded.
        visits: hashes of their visits' voxels, a set for each subject; None if they are not recorded.
        used: the ids of the training and validation subjects, if the run is at hand.
    """

    name: str
    parameters: Mapping[str, Any]
    split: Mapping[str, Any]
    fingerprint: str
    ids: frozenset[str] | None
    visits: Sequence[frozenset[str]] | None
    used: frozenset[str] | None = None

    @classmethod
    def of(cls, data: Mapping[str, Any], *, used: Iterable[str] | None = None) -> "Sequence[TrainedOn]":
        """Return what the section ``data`` of a model's configuration says: of its own data, then of earlier ones.

        Args:
            data: the section.
            used: the ids of the training and validation subjects, if the run is at hand.
        """
        earlier = data.get("earlier")
        found = [cls._of(data, used)]
        return [*found, *(cls._of(each, None) for each in (earlier if isinstance(earlier, list) else []))]

    @classmethod
    def _of(cls, data: Any, used: Iterable[str] | None) -> Self:
        known = _mapping(data)
        seen = _mapping(known.get("seen"))
        ids, visits = seen.get("ids"), seen.get("visits")
        return cls(
            str(known.get("name", "")),
            _mapping(known.get("parameters")),
            _mapping(known.get("split")),
            str(known.get("fingerprint", "")),
            frozenset(ids.split()) if isinstance(ids, str) else None,
            [frozenset(text.split()) for text in visits.split(",")] if isinstance(visits, str) else None,
            None if used is None else frozenset(used),
        )

    def unseen(self, subjects: Sequence[Prepared], cohort: Cohort) -> dict[str, bool | None]:
        """Return for each subject, by id, whether it was not used in training; None if that is not known.

        - More than half of its visits, or of those of a subject that was used, have the same voxels: it was used,
          whatever its id.
        - The ids and times of all subjects are those of the training data: the split tells.
        - The data are of the simulation that the training data are of: it tells which subjects are the same.
        - Ids and voxels are recorded: a subject was not used if neither its id nor one of its visits is known.
        - Else it is unknown.

        Args:
            subjects: the subjects.
            cohort: the data set that they are of.
        """
        test = self._test_ids(cohort) if self.fingerprint == fingerprint(cohort.subjects) else None
        simulated = self._simulated() if self.name == cohort.name else None
        identities = {visit.identity for subject in simulated or () for visit in subject.visits}

        def verdict(prepared: Prepared) -> bool | None:
            subject = prepared.subject
            shared = self._shared(prepared)
            if shared > 0.5:
                return False
            if test is not None:
                return subject.id in test
            if simulated is not None:
                same = any(visit.identity in identities for visit in subject.visits)
                return False if same else None if subject.id in {each.id for each in simulated} else True
            if self.ids is not None and self.visits is not None:
                return None if shared or _hash(self.fingerprint, subject.id) in self.ids else True
            return False if self.used is not None and subject.id in self.used else None

        return dict(zip((each.subject.id for each in subjects), in_parallel(verdict, subjects), strict=True))

    def _shared(self, prepared: Prepared) -> float:
        """Return the largest share of visits that one used subject has too, of those of the one with fewer visits."""
        if not self.visits:
            return 0.0
        own = {_hash(self.fingerprint, digest) for digest in prepared.digests}
        return max(len(own & other) / max(1, min(len(own), len(other))) for other in self.visits)

    def _test_ids(self, cohort: Cohort) -> set[str] | None:
        """Return the ids of the test part of the training data, given those data; None if it cannot be drawn again."""
        if self.used is not None:
            return {subject.id for subject in cohort.subjects} - self.used
        try:
            return {subject.id for subject in Split.by_subject(cohort.subjects, SplitSettings(**self.split)).test}
        except (LongigenError, TypeError):
            return None

    def _simulated(self) -> Sequence[Subject] | None:
        """Return the training and validation subjects, if the data set simulates them and still simulates the same."""
        subjects = recorded_subjects(self.name, self.parameters, self.fingerprint)
        try:
            split = Split.by_subject(subjects, SplitSettings(**self.split))
        except (LongigenError, TypeError):  # a split of another version
            return None
        return (split.train + split.validation) if subjects else None


def unseen(subjects: Sequence[Prepared], cohort: Cohort, trained_on: Sequence[TrainedOn]) -> dict[str, bool | None]:
    """Return for each subject, by id, whether no training used it; None if that is not known."""
    verdicts = [data.unseen(subjects, cohort) for data in trained_on]
    return {each.subject.id: all_of(found[each.subject.id] for found in verdicts) for each in subjects}


def all_of(verdicts: Iterable[bool | None]) -> bool | None:
    """Return False if one verdict is, else None if one is unknown, else True."""
    known = list(verdicts)
    return False if False in known else None if None in known else True


def _mapping(value: Any) -> Mapping[str, Any]:
    """Return a value of somebody else's file if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def _hash(salt: str, text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=6, salt=salt.encode()[:16]).hexdigest()
