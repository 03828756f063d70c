"""A folder of 4D NIfTI series: a subject each, and a visit per frame."""

from collections import Counter
from collections.abc import Sequence
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
    refuse,
)
from longigen import time_unit as checked_unit
from longigen_nifti4d.naming import find, is_nifti, subject_id
from longigen_nifti4d.timing import Timing


class NIfTI4DDataset(Dataset):
    """4D NIfTI series, one per subject, in a folder; or one such file. A visit is a frame.

    A subject is called what the wildcards of `pattern` stand for: ``*_ED_ES.nii.gz`` calls ``SC-HF-I-01_ED_ES.nii.gz``
    the subject ``SC-HF-I-01``. Without wildcards, and where `path` is a file, it is the name without its extension.

    Times come from a JSON sidecar of the same name beside the series, if that has ``times`` with a ``time_unit``, or
    BIDS's ``VolumeTiming`` or ``FrameTimesStart`` (seconds, one per frame) or ``RepetitionTime`` (seconds). Otherwise
    they come from the header, whose steps of seconds, milliseconds or microseconds become seconds. A header with no
    step, or with a step of 1 in no unit, as programs write that know none, tells no time: frames are counted.

    Args:
        path: of the folder, or of one series.
        pattern: of the files in the folder, as of `Path.glob`; ``**/`` looks into the folders below.
        time_unit: of the times; by default what all the files tell, so that headers are read when the data set is
            made. ``frames`` and ``index`` count 0, 1, 2, …, and ``cycle`` goes in equal steps from 0 at the first frame
            to 1 at the last, as in the data set ``acdc``, unless a sidecar has times in that very unit. With any other
            unit a step in no unit is taken to be in it, even one of 1; times that a file tells in another unit, or not
            at all, are a finding.

    Raises:
        LongigenError: if there is nothing to read, no such unit, or the files tell different units or a step in none.
    """

    def __init__(self, *, path: Path, pattern: str = "*.nii*", time_unit: str | None = None) -> None:
        super().__init__()
        self.path = Path(path)
        self.pattern = pattern
        self.time_unit = self._told_unit() if time_unit is None else checked_unit(time_unit, "nifti4d")

    @classmethod
    def claims(cls, path: Path) -> bool:
        if not path.is_dir():
            return is_nifti(path)
        bids = (path / "dataset_description.json").exists() or any(child.is_dir() for child in path.glob("sub-*"))
        acdc = (path / "Info.cfg").exists()
        return not bids and not acdc and any(map(is_nifti, path.iterdir()))

    @property
    def cautions(self) -> Sequence[str]:
        told = []
        if self.config["time_unit"] is None and self.time_unit == "frames":
            told.append("No file tells the time between its frames, so times count frames: a model learns no speed.")
        endings = Counter(name.rpartition("_")[2] for name, _ in self._series())
        if 1 < len(endings) < 5 and min(endings.values()) > 1:
            kinds = " and ".join(f"{number} in _{ending}" for ending, number in endings.items())
            told.append(f"Files end in several ways, {kinds}: if some are masks, set pattern=, such as *_NAME.nii.gz.")
        return told

    def subjects(self, bad: OnBad = refuse) -> Sequence[Subject]:
        found: list[Subject] = []
        seen: dict[str, Path] = {}
        for name, path in self._series():
            if name in seen:
                advice = "rename one of them, or set a pattern that finds only one"
                bad(Finding("duplicate-subject", str(path), f"is called as {seen[name]} is", advice, name))
                continue
            seen[name] = path
            try:
                found.append(self._subject(name, path))
            except BadData as error:
                bad(error.finding)
        return tuple(found)

    def _subject(self, name: str, path: Path) -> Subject:
        image = _open(path, name)
        times = Timing.of(image, path, name).within(self.time_unit)
        visits = (
            Visit.of_file(path, subject=name, time=time, frame=frame, image=image) for frame, time in enumerate(times)
        )
        return Subject(name, tuple(visits))

    def _series(self) -> list[tuple[str, Path]]:
        """Return each subject's id and file."""
        if self.path.is_dir():
            found = find(self.path, self.pattern)
            return [(subject_id(path, self.path, self.pattern), path) for path in found]
        if not (is_nifti(self.path) and self.path.exists()):
            raise LongigenError(f"{self.path} is neither a folder nor a .nii or .nii.gz file; give the path of one.")
        return [(subject_id(self.path, self.path.parent, self.path.name), self.path)]

    def _told_unit(self) -> str:
        """Return the unit that all files agree on. What `subjects` leaves out has no say."""
        units: dict[str, Path] = {}
        for name, path in self._series():
            try:
                timing = Timing.of(_open(path, name), path, name)
            except BadData:
                continue
            unit = timing.told_unit
            if unit is None:
                raise LongigenError(
                    f"{timing.source} has frames {timing.times[1]:g} apart and does not tell in what unit; say it with "
                    "--set time_unit=, such as time_unit=seconds."
                )
            units.setdefault(unit, timing.source)
            if len(units) > 1:
                (one, first), (other, second) = units.items()
                raise LongigenError(
                    f"{first} tells its times in {one} and {second} in {other}; say which it shall be with "
                    "--set time_unit=, such as time_unit=frames, or set a pattern that finds only one kind."
                )
        return next(iter(units), "frames")


def _open(path: Path, subject: str) -> SpatialImage:
    """Open a series of at least two frames.

    Raises:
        BadData: as `open_image`, and if it is anything else.
    """
    image = open_image(path, subject)
    if len(image.shape) != 4:
        problem = f"is {len(image.shape)}D, where a 4D series is needed"
        raise BadData(Finding("dimensions", str(path), problem, "remove it, or set a pattern without it", subject))
    if image.shape[3] < 2:
        problem = "has only one frame, where a series needs two"
        raise BadData(Finding("one-frame", str(path), problem, "remove it, or set a pattern without it", subject))
    return image
