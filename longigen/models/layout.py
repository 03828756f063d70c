"""The layout of a folder of generated visits: where each file is, and what describes them all."""

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from longigen.data.dataset import Subject
from longigen.models.visit_files import GenerationRecord, Statistic

LayoutName = Literal["bids", "flat"]


class Layout(abc.ABC):
    """Where the files of generated visits are in a folder.

    A subject is named by its `Subject`, a visit by its subject and time, and a volume of a visit by the index of its
    sample, from 0, or as the mean or standard deviation of all samples. Of a visit with several images, a volume, an
    animation and a series are of one channel, and the subject that names them is `Subject.of_channel`.

    Args:
        folder: the folder to write to.
        record: provenance of the visits that are written now.
        subjects: all subjects of the data set, also those of which nothing is written now, so that the names that one
            process gives do not depend on what the others do.
        origin: the name of the data set that the subjects are from.

    Attributes:
        notes: how names were changed and what was guessed, one sentence each.
    """

    is_data_set: ClassVar[bool]
    """Whether the folder describes itself, so that also a single forecast writes its tables."""

    def __init__(self, folder: Path, record: GenerationRecord, subjects: Sequence[Subject], origin: str) -> None:
        self.folder = folder
        self.record = record
        self.origin = origin
        self.notes: Sequence[str] = ()

    @abc.abstractmethod
    def subject_folder(self, subject: Subject) -> Path:
        """Return the folder of all files of a subject."""

    @abc.abstractmethod
    def volume(self, subject: Subject, time: float, kind: int | Statistic, samples: int) -> Path:
        """Return the path of a volume of a visit, one of so many samples; its sidecar has the same stem."""

    @abc.abstractmethod
    def files(self, subject: Subject, time: float) -> list[Path]:
        """Return the files of a visit that exist: volumes, sidecars and explanations, of any number of samples."""

    @abc.abstractmethod
    def explanation(self, volume: Path) -> Path:
        """Return the path of a volume's explanation; its sidecar and its picture have the same stem."""

    @abc.abstractmethod
    def animation(self, subject: Subject, setting: str, ending: str) -> Path:
        """Return the path of an animation (``gif``, ``mp4``) of a subject's visits.

        Args:
            subject: whose visits it shows.
            setting: the setting they were generated in, empty if the user chose the visits.
            ending: the end of its name.
        """

    @abc.abstractmethod
    def series(self, subject: Subject, setting: str, sample: int) -> Path:
        """Return the path of the 4D series of a subject's visits in one setting."""

    def fields(self, subject: Subject, content: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the layout adds to the sidecar of a subject's volume that has this content."""
        return {}

    def prepare(self) -> None:  # noqa: B027 (a layout needs no check)
        """Check that the folder can hold the visits, before the first is generated; one process calls it.

        Raises:
            LongigenError: if it holds what does not go with them.
        """

    @abc.abstractmethod
    def complete(self) -> None:
        """Write what lists all visits in the folder, when the last is written; one process calls it.

        Raises:
            LongigenError: if it cannot be written.
        """

    def volumes(self, subject: Subject, time: float) -> list[Path]:
        """Return the volumes of a visit that exist, without explanations, of any number of samples."""
        found = self.files(subject, time)
        return [path for path in found if path.name.endswith(".nii.gz") and not path.name.endswith("_explain.nii.gz")]
