"""The layout of BIDS derivatives: a visit is a session, and the folder is a data set that describes itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from longigen.data.dataset import Subject
from longigen.errors import LongigenError
from longigen.models.bids_description import LINK, SourceFolder, describe, is_public_reference, write_tables
from longigen.models.bids_names import (
    KEPT,
    guessed_suffix,
    kept_entities,
    renamed,
    session_label,
    sidecar_of,
    subject_labels,
    suffix_of,
)
from longigen.models.layout import Layout
from longigen.models.visit_files import GenerationRecord, Statistic
from longigen.models.visit_index import write_index
from longigen.utils.files import read_json
from longigen.utils.time_units import time_text

FIELDS = ("Description", "SkullStripped", "SpatialReference", "Sources")
"""The fields that BIDS has for the sidecar of a volume; what they say follows from the others and from the input."""


class _Image(NamedTuple):
    """What the name of a subject's first visit says of all its images: entities before and after ``run``, suffix."""

    kept: Mapping[str, str]
    space: str
    suffix: str
    guessed: bool

    @property
    def entities(self) -> str:
        """The entities before ``run``, as they stand in a name."""
        return "".join(self.kept[key] for key in KEPT if key in self.kept)


def _described(subject: Subject) -> _Image:
    """Return what the name of a subject's first image says, or else the name of the channel that it is of."""
    source = subject.visits[0].source
    kept = kept_entities(source)
    space = kept.pop("space", "")
    return _Image(kept, space, *suffix_of(source, subject.channel))


def _with_channels(subject: Subject) -> list[Subject]:
    """Return each channel that a subject has, as a subject; itself if it has one image per visit."""
    if not subject.channels:
        return [subject]
    return [each for name in subject.channels if (each := subject.of_channel(name)).visits]


class BIDSLayout(Layout):
    """``sub-SUBJECT/ses-VISIT/anat/sub-SUBJECT_ses-VISIT_desc-synthetic_T1w.nii.gz``.

    - The labels of subjects, and of the visits that the subject has, are those of the input if its names are of BIDS
      (``sub-``, ``ses-``). Else an id keeps its letters and digits, and a visit is named by its time: ``3p5years``.
    - The suffix and the entities ``acq``, ``ce``, ``rec`` and ``space`` are those of the subject's first visit. Without
      a suffix of BIDS it is what a word of its name stands for, or else T1w.
    - Of several channels, each has the suffix of its files, or that of its name (``flair``). Channels that would have
      the same one, such as ``t1`` and ``t1ce``, get their names as ``acq``.
    - Several samples are numbered, ``run-1`` the first; ``desc-mean`` and ``desc-std`` are of all samples.
    - BIDS has no names for explanations, animations and 4D series; they are in folders of their own, ``explain``,
      ``figures`` and ``cine``, which ``.bidsignore`` lists.
    """

    is_data_set = True

    def __init__(self, folder: Path, record: GenerationRecord, subjects: Sequence[Subject], origin: str) -> None:
        super().__init__(folder, record, subjects, origin)
        self._labels = subject_labels((subject.id, subject.visits[0].source) for subject in subjects)
        self._subjects: Mapping[str, Subject] = {subject.id: subject for subject in subjects}
        self._images: dict[tuple[str, str], _Image] = {}
        self._own: set[str] = set()
        self._first = subjects[0]
        self.notes = tuple(self._notes())

    def subject_folder(self, subject: Subject) -> Path:
        return self.folder / f"sub-{self._labels[subject.id]}"

    def volume(self, subject: Subject, time: float, kind: int | Statistic, samples: int) -> Path:
        image = self._image(subject)
        run = f"_run-{kind + 1}" if isinstance(kind, int) and samples > 1 else ""
        description = "synthetic" if isinstance(kind, int) else kind
        name = f"{self._stem(subject, time)}{image.entities}{run}{image.space}_desc-{description}_{image.suffix}.nii.gz"
        return self._session_folder(subject, time) / "anat" / name

    def files(self, subject: Subject, time: float) -> list[Path]:
        self._require_own(subject)
        return sorted(self._session_folder(subject, time).glob(f"*/{self._stem(subject, time)}_*"))

    def explanation(self, volume: Path) -> Path:
        return volume.parents[1] / "explain" / f"{volume.name.removesuffix('.nii.gz')}_explain.nii.gz"

    def animation(self, subject: Subject, setting: str, ending: str) -> Path:
        return self._beside(subject, "figures", setting, f"desc-synthetic.{ending}")

    def series(self, subject: Subject, setting: str, sample: int) -> Path:
        return self._beside(subject, "cine", setting, f"run-{sample + 1}_desc-synthetic_cine.nii.gz")

    def fields(self, subject: Subject, content: Mapping[str, Any]) -> dict[str, Any]:
        given = {visit["time"] for visit in content["history"]}
        what = "Synthetic image" if "sample" in content else f"The {content['statistic']}"
        described = {
            "Description": (
                f"{what}, generated by longigen at {time_text(content['time'])} {content['time_unit']} from "
                f"{len(given)} given visit{'s' * (len(given) != 1)}."
            ),
            "SkullStripped": bool(self._skull_stripped(subject)),
        }
        reference = sidecar_of(subject.visits[0].source).get("SpatialReference")
        if self._image(subject).space and is_public_reference(reference):
            described["SpatialReference"] = reference
        source = SourceFolder.of(subject.visits[0])
        if source is not None and source.link(self.folder):
            paths = [source.inside(visit) for visit in subject.visits if visit.time in given]
            described["Sources"] = [f"bids:{LINK}:{path}" for path in paths if path]
        return described

    def prepare(self) -> None:
        describe(self.folder, self.record, self.origin, SourceFolder.of(self._first.visits[0]))

    def complete(self) -> None:
        write_tables(self.folder, write_index(self.folder))

    def _notes(self) -> list[str]:
        """Return in sentences which names were changed, and what of the images was guessed."""
        notes = [note] if (note := renamed(self._labels)) else []
        for first in _with_channels(self._first):
            image = self._image(first)
            if image.guessed:
                source = first.channel or Path(first.visits[0].source).name
                why = (
                    f"as {source} suggests"
                    if guessed_suffix(source)
                    else "though their contrast is not known, since BIDS needs a name for it"
                )
                what = f"{first.channel} images" if first.channel else "images"
                notes.append(
                    f"The {what} are named {image.suffix}, {why}; --layout flat (layout='flat') names no contrast."
                )
        if self._skull_stripped(self._first) is None:
            notes.append(
                "It is not recorded whether images are skull-stripped; SkullStripped, which BIDS requires, is false."
            )
        return notes

    def _require_own(self, subject: Subject) -> None:
        """Check once that a subject's folder is not of another one, of another data set, whose id has the same label.

        Raises:
            LongigenError: if it is.
        """
        if subject.id in self._own:
            return
        sidecar = next(self.subject_folder(subject).glob("ses-*/anat/*.json"), None)
        owner = subject.id if sidecar is None else read_json(sidecar).get("subject")
        if owner != subject.id:
            raise LongigenError(
                f"{self.subject_folder(subject)} is of the subject '{owner}', which has the same label in BIDS as "
                f"'{subject.id}'; write to another folder."
            )
        self._own.add(subject.id)

    def _stem(self, subject: Subject, time: float) -> str:
        """Return the start of the names of all files of a visit, ``sub-…_ses-…``."""
        return f"sub-{self._labels[subject.id]}_ses-{self._session(subject, time)}"

    def _session_folder(self, subject: Subject, time: float) -> Path:
        return self.subject_folder(subject) / f"ses-{self._session(subject, time)}"

    def _session(self, subject: Subject, time: float) -> str:
        visits = self._subjects.get(subject.id, subject).visits  # of all channels
        return session_label(visits, time, self.record.time_unit)

    def _image(self, subject: Subject) -> _Image:
        if (subject.id, subject.channel) not in self._images:
            whole = self._subjects.get(subject.id, subject)
            images = {each.channel: _described(each) for each in _with_channels(whole)}
            names = [(*image.kept.values(), image.space, image.suffix) for image in images.values()]
            for (channel, image), name in zip(images.items(), names, strict=True):
                distinct = (
                    image if names.count(name) == 1 else image._replace(kept={**image.kept, "acq": f"_acq-{channel}"})
                )
                self._images[subject.id, channel] = distinct
            self._images[subject.id, ""] = self._images[subject.id, next(iter(images))]
        return self._images[subject.id, subject.channel]

    def _beside(self, subject: Subject, kind: str, setting: str, end: str) -> Path:
        """Return the path of a file of all visits of a subject, for which BIDS has no name."""
        which = f"_setting-{setting}" if setting else ""
        which += f"_channel-{subject.channel}" if subject.channel else ""
        return self.subject_folder(subject) / kind / f"sub-{self._labels[subject.id]}{which}_{end}"

    def _skull_stripped(self, subject: Subject) -> bool | None:
        """Return whether the subject's images are skull-stripped, as the sidecar of the first says; None without."""
        stated = sidecar_of(subject.visits[0].source).get("SkullStripped")
        return stated if isinstance(stated, bool) else None
