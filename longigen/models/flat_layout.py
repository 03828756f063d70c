"""The flat layout: a folder for each subject, whose files are named by time, setting and sample."""

import glob
from pathlib import Path

from longigen.data.dataset import Subject
from longigen.models.layout import Layout
from longigen.models.visit_files import Statistic
from longigen.models.visit_index import write_index
from longigen.utils.time_units import time_text

ENDS = ("_channel-*", "_sample-*", "_mean.*", "_std.*")
"""How the names of a visit's files go on after the time and the setting."""


class FlatLayout(Layout):
    """``SUBJECT/SUBJECT_time-TIME[_setting-SETTING][_channel-NAME]_sample-NUMBER.nii.gz``, or ``_mean``, ``_std``."""

    is_data_set = False

    def subject_folder(self, subject: Subject) -> Path:
        return self.folder / subject.id

    def volume(self, subject: Subject, time: float, kind: int | Statistic, samples: int) -> Path:
        end = f"sample-{kind}" if isinstance(kind, int) else kind
        return self.subject_folder(subject) / f"{self._stem(subject, time)}{_channel(subject)}_{end}.nii.gz"

    def files(self, subject: Subject, time: float) -> list[Path]:
        start = glob.escape(self._stem(subject, time))
        return sorted(file for end in ENDS for file in self.subject_folder(subject).glob(f"{start}{end}"))

    def explanation(self, volume: Path) -> Path:
        return volume.with_name(f"{volume.name.removesuffix('.nii.gz')}_explain.nii.gz")

    def animation(self, subject: Subject, setting: str, ending: str) -> Path:
        return self.subject_folder(subject) / f"{subject.id}{_of(setting)}{_channel(subject)}.{ending}"

    def series(self, subject: Subject, setting: str, sample: int) -> Path:
        stem = f"{subject.id}{_of(setting)}{_channel(subject)}"
        return self.subject_folder(subject) / f"{stem}_sample-{sample}_4d.nii.gz"

    def complete(self) -> None:
        write_index(self.folder)

    def _stem(self, subject: Subject, time: float) -> str:
        """Return the common start of the names of all files of one visit."""
        return f"{subject.id}_time-{time_text(time)}{_of(self.record.scenario or '')}"


def _of(setting: str) -> str:
    return f"_setting-{setting}" if setting else ""


def _channel(subject: Subject) -> str:
    return f"_channel-{subject.channel}" if subject.channel else ""
