"""A folder of 4D NIfTI series as a data set, with one subject per series and one visit per frame."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from nibabel.spatialimages import SpatialImage

from longigen import (
    BadData,
    Dataset,
    Finding,
    LongigenError,
    OnBad,
    Subject,
    Visit,
    open_image,
    parse_regions,
    read_volume,
    refuse,
)
from longigen import time_unit as checked_unit
from longigen_nifti4d.naming import find, is_nifti, subject_id
from longigen_nifti4d.timing import Timing

ADVICE = "remove it, set a pattern without it, or list single images in a table (data set csv)"


class NIfTI4DDataset(Dataset):
    """4D NIfTI series in a folder, one per subject, or a single such file; a visit is a frame.

    The id of a subject is the part of the file name that matches the wildcards of `pattern`: with ``*_ED_ES.nii.gz``
    the subject of ``SC-HF-I-01_ED_ES.nii.gz`` is ``SC-HF-I-01``. Without wildcards, or if `path` is a file, it is the
    file name without its extension.

    Times are read from a JSON sidecar with the same name, if it has ``times`` with a ``time_unit``, or BIDS's
    ``VolumeTiming`` or ``FrameTimesStart`` (seconds, one per frame). Otherwise they are read from the header, where a
    time step in seconds, milliseconds or microseconds is converted to seconds. A ``RepetitionTime`` (seconds) in the
    sidecar serves where the header has no step, or a step of 1 or without a unit; otherwise the header's is used, since
    the repetition time of a gradient echo is not that of its frames, and a difference is said. A header without a step,
    or with a step of 1 without a unit, as written by programs that do not know it, has no times; then frames are
    counted.

    Args:
        path: the folder, or the file of one series.
        pattern: pattern of the file names in the folder, as in `Path.glob`; ``**/`` searches subfolders too.
        time_unit: unit of the times; by default the unit that all files have, for which headers are read when the data
            set is opened. ``frames`` and ``index`` count 0, 1, 2, …; ``cycle`` goes in equal steps from 0 at the first
            frame to 1 at the last, as in the data set ``acdc``, unless a sidecar has times in that unit. Any other unit
            also applies to a step without a unit, even a step of 1; a file with another unit or without times cannot be
            used then.
        labels: pattern of the names of the label maps, such as ``*_LV.nii.gz``: 4D series with the frames of the
            images, of which the wildcards match the subjects' ids. A subject without such a file has no labels.
        regions: the regions of the label maps, each as ``NAME=LABELS``: ``left ventricle=1``.

    Raises:
        LongigenError: if there is no file, the unit is unknown, the files have different units or a step without one,
            or only one of `labels` and `regions` is given.
    """

    def __init__(
        self,
        *,
        path: Path,
        pattern: str = "*.nii*",
        time_unit: str | None = None,
        labels: str | None = None,
        regions: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.path = Path(path)
        self.pattern = pattern
        self._regions = parse_regions(regions, "nifti4d: regions")
        if (labels is None) == bool(regions):
            problem = "which label maps the regions are in" if regions else "which regions the labels stand for"
            raise LongigenError(
                f"nifti4d: it is not known {problem}; set both labels= and regions=, such as labels=*_LV.nii.gz and "
                "'regions=left ventricle=1'."
            )
        self.labels = labels
        self.time_unit = self._common_unit() if time_unit is None else checked_unit(time_unit, "nifti4d")

    @classmethod
    def claims(cls, path: Path) -> bool:
        if not path.is_dir():
            return is_nifti(path)
        bids = (path / "dataset_description.json").exists() or any(child.is_dir() for child in path.glob("sub-*"))
        acdc = (path / "Info.cfg").exists()
        return not bids and not acdc and any(map(is_nifti, path.iterdir()))

    @property
    def cautions(self) -> Sequence[str]:
        cautions = []
        if self.config["time_unit"] is None and self.time_unit == "frames":
            cautions.append("No file has the time between its frames, so times count frames: a model learns no speed.")
        endings = Counter(name.rpartition("_")[2] for name, _ in self._series())
        if 1 < len(endings) < 5 and min(endings.values()) > 1:
            kinds = " and ".join(f"{number} in _{ending}" for ending, number in endings.items())
            cautions.append(
                f"File names end in different ways, {kinds}; if some files are masks, set pattern=, such as "
                "*_NAME.nii.gz."
            )
        return cautions

    @property
    def regions(self) -> Mapping[int, str]:
        return self._regions

    def subjects(self, bad: OnBad = refuse) -> Sequence[Subject]:
        subjects: list[Subject] = []
        masks = self._label_maps()
        paths: dict[str, Path] = {}
        for name, path in self._series():
            if name in paths:
                advice = "rename one of them, or set a pattern that matches only one"
                bad(Finding("duplicate-subject", str(path), f"has the same subject id as {paths[name]}", advice, name))
                continue
            paths[name] = path
            try:
                subjects.append(self._subject(name, path, masks.get(name)))
            except BadData as error:
                bad(error.finding)
        return tuple(subjects)

    def _label_maps(self) -> dict[str, Path]:
        """Return the file of the label maps of each subject that has one."""
        if self.labels is None:
            return {}
        folder = self.path if self.path.is_dir() else self.path.parent
        return {subject_id(path, folder, self.labels): path for path in find(folder, self.labels)}

    def _subject(self, name: str, path: Path, labels: Path | None) -> Subject:
        image = _open(path, name)
        timing = Timing.of(image, path, name)
        first, *others = (
            Visit.of_file(
                path,
                subject=name,
                time=time,
                frame=frame,
                image=image,
                labels=labels and partial(read_volume, labels, name, frame),
            )
            for frame, time in enumerate(timing.within(self.time_unit))
        )
        return Subject(name, (replace(first, cautions=(*first.cautions, *timing.cautions)), *others))

    def _series(self) -> list[tuple[str, Path]]:
        """Return each subject's id and file."""
        if self.path.is_dir():
            return [(subject_id(path, self.path, self.pattern), path) for path in find(self.path, self.pattern)]
        if not (is_nifti(self.path) and self.path.exists()):
            raise LongigenError(f"{self.path} is neither a folder nor a .nii or .nii.gz file; give the path of one.")
        return [(subject_id(self.path, self.path.parent, self.path.name), self.path)]

    def _common_unit(self) -> str:
        """Return the unit that all usable files have."""
        units: dict[str, Path] = {}
        for name, path in self._series():
            try:
                timing = Timing.of(_open(path, name), path, name)
            except BadData:
                continue
            unit = timing.default_unit
            if unit is None:
                raise LongigenError(
                    f"{timing.source} has frames {timing.times[1]:g} apart but no unit; give it with --set time_unit=, "
                    "such as time_unit=seconds."
                )
            units.setdefault(unit, timing.source)
            if len(units) > 1:
                (one, first), (other, second) = units.items()
                raise LongigenError(
                    f"{first} has times in {one} and {second} in {other}; choose the unit with --set time_unit=, such "
                    "as time_unit=frames, or set a pattern that matches only one kind of file."
                )
        return next(iter(units), "frames")


def _open(path: Path, subject: str) -> SpatialImage:
    """Open a series of at least two frames.

    Raises:
        BadData: if it cannot be opened, is not 4D, or has a single frame.
    """
    image = open_image(path, subject)
    if len(image.shape) != 4:
        problem = f"is {len(image.shape)}D, where a 4D series is needed"
        raise BadData(Finding("dimensions", str(path), problem, ADVICE, subject))
    if image.shape[3] < 2:
        problem = "has only one frame, where a series needs at least two"
        raise BadData(Finding("one-frame", str(path), problem, ADVICE, subject))
    return image
