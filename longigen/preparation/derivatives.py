"""A prepared data set on disk: BIDS derivatives, with transforms, pictures and what was done to each visit."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import nibabel
import numpy as np

from longigen._version import __version__
from longigen.data.dataset import Subject, Visit
from longigen.data.volume import Volume, write_volume
from longigen.errors import LongigenError
from longigen.models.bids_description import (
    LINK,
    FolderKind,
    SourceFolder,
    describe_folder,
    write_participants,
    write_table,
)
from longigen.models.bids_names import (
    guessed_suffix,
    kept_entities,
    renamed,
    session_label,
    sidecar_of,
    subject_labels,
    suffix_of,
)
from longigen.models.visit_files import sidecar_path
from longigen.preparation.picture import write_picture
from longigen.preparation.raw import RawData
from longigen.preparation.rigid import to_itk
from longigen.preparation.settings import BRAIN, METHODS, PrepareSettings
from longigen.preparation.subject import PreparedSubject, PreparedVisit
from longigen.utils.files import atomic_folder, read_json, write_errors, write_json
from longigen.utils.time_units import time_text

SPACE = "space-midway"
SETTINGS = "preparation.json"
"""The file with the settings of a prepared folder."""
RECORD = "_preparation.json"
"""The end of the name of a subject's record, in its folder: the inputs that it was made from."""
IGNORED = (SETTINGS, f"sub-*/sub-*{RECORD}", "sub-*/figures", "sub-*/ses-*/anat/*_xfm.txt", "sourcedata")
"""What BIDS has no names for."""
README_TEXT = f"""\
# Prepared scans

longigen prepared the scans of each subject for the training of longitudinal models. The JSON file beside each image
says what was done to it, and `{SETTINGS}` with which settings.

- `{SPACE}` is a space midway between the visits of one subject, to which all of its visits were registered rigidly. It
  favours no visit (Reuter et al., NeuroImage 2012), and each subject has its own. Each image was interpolated once.
- `*_from-orig_to-midway_mode-image_xfm.txt` is the transform of a visit as ITK reads and applies it.
- `desc-brain_mask` or `desc-foreground_mask` in a subject's `anat` is the mask of all of its visits; voxels outside of
  it are 0.
- `sub-*/figures` has a picture of each subject's visits before and after.
- Times of the visits are in `sub-*/sub-*_sessions.tsv`, and their unit is in `sessions.json`.
- `.bidsignore` lists what BIDS has no names for.
"""
KIND = FolderKind("Scans, prepared by longigen", README_TEXT, IGNORED)


class PreparedFolder:
    """A folder of prepared subjects, which `longigen.train` and others read as a BIDS data set.

    Args:
        path: the folder.
        raw: the data that are prepared.
        settings: the settings of all subjects.

    Attributes:
        notes: which names were changed and what was guessed for them, in sentences.
    """

    def __init__(self, path: Path, raw: RawData, settings: PrepareSettings) -> None:
        self.path, self.raw, self.settings = path, raw, settings
        self._labels = subject_labels((subject.id, subject.visits[0].source) for subject in raw.subjects)
        self.notes = tuple(self._notes())

    def describe(self) -> None:
        """Write what describes the folder.

        Raises:
            LongigenError: if it is not a folder of prepared subjects with times in the same unit.
        """
        mask, bias = METHODS[self.settings.mask], {"n4": "N4", "none": "none"}[self.settings.bias]
        generator = {
            "Name": "longigen",
            "Version": __version__,
            "Description": "longigen prepare: rigid registration to a space midway between the visits of each subject; "
            f"masks: {mask}; correction of the bias field: {bias}",
        }
        source = SourceFolder.of(self.raw.subjects[0].visits[0])
        describe_folder(self.path, KIND, generator, self.raw.time_unit, self.raw.origin, source)
        write_json({"settings": self.settings.to_dict()}, self.path / SETTINGS)
        covariates = {name for subject in self.raw.subjects for visit in subject.visits for name in visit.covariates}
        columns = {
            "time": {"Description": "Time of the visit", "Units": self.raw.time_unit, "VisitTime": True},
            **{
                name: {"Units": unit}
                for name, unit in self.raw.covariate_units.items()
                if name in covariates - {"time"}
            },
        }
        write_json(columns, self.path / "sessions.json")
        if self.raw.regions:
            rows = [(str(label), name) for label, name in sorted(self.raw.regions.items())]
            write_table(self.path / "dseg.tsv", ("index", "name"), rows)

    def state(self, subject: Subject) -> Literal["new", "done", "changed"]:
        """Return whether a subject was prepared before, from the same images (done) or others (changed).

        Raises:
            LongigenError: if its folder is another subject's.
        """
        if not self._folder(subject).exists():
            return "new"
        record = self._record(subject)
        known = read_json(record) if record.is_file() else {}
        if known.get("subject") != subject.id:
            raise LongigenError(f"{self._folder(subject)} is of another subject; write to another folder.")
        return "done" if known.get("inputs") == _inputs(subject) else "changed"

    def write(self, prepared: PreparedSubject) -> None:
        """Write a subject: all of its files, or none.

        Raises:
            LongigenError: if a file cannot be written.
        """
        subject, folder = prepared.subject, self._folder(prepared.subject)
        with write_errors(folder):
            shutil.rmtree(folder, ignore_errors=True)  # of other images
        with atomic_folder(folder) as part:
            self._write_visits(prepared, part)
            if prepared.mask is not None:
                path = part / "anat" / f"{folder.name}_{SPACE}_{self._mask_name}.nii.gz"
                _write_labels(prepared.mask, path)
                kind = {"Type": "Brain"} if self.settings.mask in BRAIN else {}  # BIDS has no other type that fits
                content = {"SpatialReference": self._reference(subject), "outside": round(prepared.outside, 6)}
                write_json({**kind, **content}, sidecar_path(path))
            self._write_sessions(subject, part)
            write_picture(prepared, part / "figures" / f"{folder.name}_desc-preparation.png", self.raw.time_unit)
            record = {
                "subject": subject.id,
                **({"split": subject.part} if subject.part else {}),
                "inputs": _inputs(subject),
                "settings": self.settings.to_dict(),
                "correlation": prepared.correlation
                and dict(zip(("before", "after"), prepared.correlation, strict=True)),
                "cautions": list(prepared.cautions),
            }
            write_json(record, part / self._record(subject).name)

    def complete(self) -> None:
        """Write ``participants.tsv`` with all subjects that the folder holds."""
        records = {path.parent.name: read_json(path) for path in sorted(self.path.glob(f"sub-*/sub-*{RECORD}"))}
        ids = {label: record["subject"] for label, record in records.items()}
        parts = {label: record["split"] for label, record in records.items() if "split" in record}
        write_participants(self.path, ids, parts)

    @property
    def _mask_name(self) -> str:
        known = self.settings.mask in BRAIN
        return f"desc-{'brain' if known else 'foreground'}_mask"

    def _folder(self, subject: Subject) -> Path:
        return self.path / f"sub-{self._labels[subject.id]}"

    def _record(self, subject: Subject) -> Path:
        folder = self._folder(subject)
        return folder / f"{folder.name}{RECORD}"

    def _session(self, subject: Subject, time: float) -> str:
        return f"ses-{session_label(subject.visits, time, self.raw.time_unit)}"

    def _stem(self, subject: Subject, time: float) -> str:
        """Return the path of a visit's files in the subject's folder, up to what follows the given image's entities."""
        session = self._session(subject, time)
        kept = kept_entities(subject.visits[0].source)
        kept.pop("space", None)
        return f"{session}/anat/sub-{self._labels[subject.id]}_{session}{''.join(kept.values())}"

    def _image(self, subject: Subject, time: float) -> str:
        suffix, _ = suffix_of(subject.visits[0].source)
        return f"{self._stem(subject, time)}_{SPACE}_desc-preproc_{suffix}.nii.gz"

    def _reference(self, subject: Subject) -> str:
        """Return the URI of the image whose grid is that of the subject's space."""
        return f"bids::{self._folder(subject).name}/{self._image(subject, subject.visits[0].time)}"

    def _write_visits(self, prepared: PreparedSubject, part: Path) -> None:
        import SimpleITK as sitk

        subject = prepared.subject
        for visit in prepared.visits:
            time = visit.visit.time
            path = part / self._image(subject, time)
            text = f"longigen prepare: time {time_text(time)} {self.raw.time_unit}, midway"
            write_volume(visit.image, path, text)
            write_json(self._sidecar(prepared, visit), sidecar_path(path))
            stem = str(part / self._stem(subject, time))
            # As for antsApplyTransforms: from the points of the new image to those of the given one.
            transform = to_itk(np.linalg.inv(visit.transform))
            sitk.WriteTransform(transform, f"{stem}_from-orig_to-midway_mode-image_xfm.txt")
            if visit.labels is not None:
                labels = Path(f"{stem}_{SPACE}_dseg.nii.gz")
                _write_labels(visit.labels, labels)
                write_json({"SpatialReference": self._reference(subject)}, sidecar_path(labels))

    def _sidecar(self, prepared: PreparedSubject, visit: PreparedVisit) -> dict[str, Any]:
        import SimpleITK as sitk

        subject = prepared.subject
        stripped = self.settings.mask in BRAIN or sidecar_of(visit.visit.source).get("SkullStripped") is True
        content = {
            "Description": f"Image at {time_text(visit.visit.time)} {self.raw.time_unit}, registered to the space "
            "midway between the visits of the subject by longigen.",
            "SkullStripped": stripped,
            "SpatialReference": self._reference(subject),
            "subject": subject.id,
            "time": visit.visit.time,
            "time_unit": self.raw.time_unit,
            "source": Path(visit.visit.source).name,
            "transform": {
                "from_to": "from the given image to this one, in mm, axes right, anterior, superior",
                "matrix": visit.transform.tolist(),
                "shift_mm": round(visit.shift, 4),
                "angle_degrees": round(visit.angle, 4),
                "disagreement_mm": round(visit.disagreement, 4),
            },
            "interpolation": "cubic B-spline, once",
            "mask": METHODS[self.settings.mask],
            "bias_field": {"n4": "N4, each visit alone", "none": "not corrected"}[self.settings.bias],
            "spacing": list(self.settings.spacing),
            "versions": {"longigen": __version__, "SimpleITK": sitk.Version.VersionString()},
        }
        source = SourceFolder.of(visit.visit)
        if source is not None and source.link(self.path) and (inside := source.inside(visit.visit)):
            content["Sources"] = [f"bids:{LINK}:{inside}"]
        return content

    def _write_sessions(self, subject: Subject, part: Path) -> None:
        """Write the times and covariates of a subject's visits; text of covariates is as in the given tables."""
        names = sorted({name for visit in subject.visits for name in visit.covariates if name != "time"})
        rows = [
            (
                self._session(subject, visit.time),
                time_text(visit.time),
                *(_cell(visit, name, self.raw.levels) for name in names),
            )
            for visit in subject.visits
        ]
        name = f"{self._folder(subject).name}_sessions.tsv"
        write_table(part / name, ("session_id", "time", *names), rows)

    def _notes(self) -> list[str]:
        notes = []
        notes += [note] if (note := renamed(self._labels)) else []
        source = self.raw.subjects[0].visits[0].source
        suffix, guessed = suffix_of(source)
        if guessed:
            known = guessed_suffix(source) is not None
            why = f"as {Path(source).name} suggests" if known else "since BIDS needs a name of their contrast"
            notes.append(f"The images are named {suffix}, {why}.")
        if self.settings.mask not in BRAIN and "SkullStripped" not in sidecar_of(source):
            notes.append(
                "It is not recorded whether images are skull-stripped; SkullStripped in their sidecars is false."
            )
        if any("time" in visit.covariates for subject in self.raw.subjects for visit in subject.visits):
            notes.append("The covariate 'time' is left out, since the column of that name is the time of the visit.")
        return notes


def known_settings(folder: Path) -> PrepareSettings | None:
    """Return the settings with which subjects of a folder were prepared before; None if it holds none.

    Raises:
        LongigenError: if they cannot be read.
    """
    path = folder / SETTINGS
    if not path.is_file() or not any(folder.glob(f"sub-*/sub-*{RECORD}")):
        return None
    content = read_json(path).get("settings")
    try:
        return PrepareSettings(content["mask"], content["bias"], tuple(content["spacing"]))  # type: ignore[index]
    except (TypeError, KeyError):
        raise LongigenError(f"{path} has no settings of 'longigen prepare'; write to another folder.") from None


def _inputs(subject: Subject) -> list[dict[str, Any]]:
    """Return what tells whether a subject's images and times are the same, without the names of folders."""
    return [
        {"time": visit.time, "identity": hashlib.sha256(visit.identity.encode()).hexdigest()[:32]}
        for visit in subject.visits
    ]


def _cell(visit: Visit, name: str, levels: Mapping[str, Sequence[str]]) -> str:
    """Return a covariate as text for a table."""
    if name not in visit.covariates:
        return "n/a"
    value = visit.covariates[name]
    return levels[name][int(value)] if name in levels else time_text(float(value))


def _write_labels(volume: Volume, path: Path) -> None:
    """Write a label map or a mask in the smallest type of whole numbers."""
    data = volume.data.astype(np.uint8 if volume.data.max() < 256 else np.int32)
    image = nibabel.Nifti1Image(data, volume.affine)
    image.set_sform(volume.affine, code=volume.form)
    image.set_qform(volume.affine, code=volume.form)
    image.header.set_xyzt_units("mm")
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(image, path)
