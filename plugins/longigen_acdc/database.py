"""The ACDC challenge's database as a data set, with one folder per patient."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from longigen import Assigned, BadData, Dataset, Finding, LongigenError, OnBad, Range, Subject, Visit, refuse
from longigen_acdc import sadm
from longigen_acdc.info import GROUPS, INFO
from longigen_acdc.series import Series

TRAINING, TESTING = "training", "testing"

TRAINED, PATIENTS, CRONOS_FOLDS = 100, 150, 5
"""The challenge's patients: 1 to 100 for training, then those for testing to 150; and the folds of the former."""

REGIONS = {1: "right ventricle", 2: "myocardium", 3: "left ventricle"}
"""The regions of the challenge's labels; the ventricles are their cavities."""


class ACDCDataset(Dataset):
    """Cardiac cine MRI of the ACDC challenge (Bernard et al., IEEE TMI 2018), from end diastole to end systole.

    Each patient is a folder ``patientNNN`` with ``patientNNN_4d.nii.gz`` (or ``.nii``) and ``Info.cfg``, whose ED and
    ES count frames from 1. The folders are directly in `path`, or in ``training`` and ``testing`` below it, as the
    challenge ships them. In the latter case its test patients are the test part of the split, and validation subjects
    are drawn at random from the others; otherwise all parts are drawn at random. `path` may also be the folder of one
    patient.

    The challenge's label maps of end diastole and end systole, ``patientNNN_frameXX_gt.nii.gz``, are the labels of
    these visits where they lie beside the image.

    Times are the phase from end diastole (0) to end systole (1), with the unit ``cycle``; the headers do not contain
    the duration of a frame. Covariates are height (cm), weight (kg) and group (`levels`), if ``Info.cfg`` has them.

    Args:
        path: the folder of the database.
        frames: number of equidistant times for ``nearest`` and ``linear``; ``none`` does not use it.
        resample: ``nearest`` selects the frame nearest to each time, once and at its own time, so that a series with
            fewer frames gives fewer visits; ``linear`` interpolates linearly between the frames before and after each
            time, which gives exactly `frames` visits; ``none`` selects every frame.
        protocol: ``sadm`` interpolates like SADM's published preprocessing, which leaks later frames
            (`longigen_acdc.sadm`); ``cronos`` also scales each visit by its own minimum and maximum, as SADM's code and
            CRONOS do, and refuses a patient whose ES stands before ED in the file, of whom they make an empty series.
        cronos_fold: the fold of CRONOS, whose patients are the validation part: patients 001 to 100 are permuted with
            seed 0, and the one at place i is in fold i mod 5. The others of them are the training part, and 101 to 150
            the test part, wherever their folders are. By default the split is as above.

    Raises:
        LongigenError: if these are combined with other values of `frames` and `resample` than their own.
    """

    time_unit = "cycle"

    def __init__(
        self,
        *,
        path: Path,
        frames: Annotated[int, Range(2, 1000)] = 12,
        resample: Literal["nearest", "linear", "none"] = "nearest",
        protocol: Literal["longigen", "sadm", "cronos"] = "longigen",
        cronos_fold: Annotated[int, Range(0, 4)] | None = None,
    ) -> None:
        super().__init__()
        if protocol != "longigen" and (frames, resample) != (sadm.FRAMES, "nearest"):
            raise LongigenError(
                f"acdc: protocol={protocol} makes {sadm.FRAMES} visits in its own way; leave frames and resample as "
                "they are, or set protocol=longigen."
            )
        self.path = Path(path)
        self.frames = frames
        self.resample = resample
        self.protocol = protocol
        self.cronos_fold = cronos_fold

    @classmethod
    def claims(cls, path: Path) -> bool:
        roots = (path, path / TRAINING, path / TESTING)
        return (path / INFO).is_file() or any(any(root.glob(f"patient*/{INFO}")) for root in roots)

    @property
    def cautions(self) -> Sequence[str]:
        if self.protocol != "longigen":
            return (sadm.LEAK, sadm.OWN_RANGE) if self.protocol == "cronos" else (sadm.LEAK,)
        if self.resample == "linear":
            return ("With resample=linear a visit interpolates between two frames, so it shows some of the later one.",)
        return ()

    @property
    def regions(self) -> Mapping[int, str]:
        return REGIONS

    @property
    def levels(self) -> Mapping[str, tuple[str, ...]]:
        """The labels of each categorical covariate, in the order of their codes 0, 1, …"""
        return {"group": GROUPS}

    def subjects(self, bad: OnBad = refuse) -> Sequence[Subject]:
        subjects: list[Subject] = []
        folders: dict[str, Path] = {}
        for folder, part in self._patients():
            if folder.name in folders:
                problem = f"has the same name as {folders[folder.name]}"
                bad(Finding("duplicate-subject", str(folder), problem, "remove or rename one of them", folder.name))
                continue
            folders[folder.name] = folder
            try:
                subjects.append(Subject(folder.name, self._visits(Series.of(folder)), part))
            except BadData as error:
                bad(error.finding)
        return tuple(subjects)

    def _patients(self) -> Iterator[tuple[Path, Assigned | None]]:
        """Yield each patient's folder and its part of the split."""
        for folder, part in self._folders():
            yield folder, part if self.cronos_fold is None else _cronos_part(folder, self.cronos_fold)

    def _folders(self) -> Iterator[tuple[Path, Assigned | None]]:
        """Yield each patient's folder and the part that the challenge gives it."""
        if not self.path.is_dir():
            raise LongigenError(f"{self.path} is not a folder; give the folder of the ACDC database.")
        if (self.path / INFO).is_file():
            yield self.path.absolute(), None
            return
        folders: list[tuple[Path, Assigned | None]] = [
            (folder, "test" if root == TESTING else None)
            for root in ("", TRAINING, TESTING)
            for folder in sorted((self.path / root).glob("patient*"))
            if folder.is_dir()
        ]
        if not folders:
            raise LongigenError(
                f"{self.path} has no folder patient*, neither directly nor in {TRAINING} or {TESTING}; give the folder "
                "of the ACDC database."
            )
        yield from folders

    def _visits(self, series: Series) -> tuple[Visit, ...]:
        if self.protocol == "cronos" and series.frames[-1] < series.frames[0]:
            problem = "has ES before ED in the file, of which CRONOS makes an empty series"
            advice = "leave the patient out with --skip-bad, or set protocol=sadm"
            raise BadData(Finding("empty-range", str(series.path), problem, advice, series.subject))
        if self.protocol != "longigen":
            return sadm.visits(series, own_range=self.protocol == "cronos")
        if self.resample == "linear":
            return series.linear(self.frames)
        return series.every() if self.resample == "none" else series.nearest(self.frames)


def _cronos_part(folder: Path, fold: int) -> Assigned:
    """Return the part of a patient in a fold of CRONOS, from the number in the folder's name.

    Its folds are of the arrays that SADM's code (``ACDC_prepare.py``) writes in this order.

    Raises:
        LongigenError: if the name has no number from 1 to 150.
    """
    digits = folder.name.removeprefix("patient")
    number = int(digits) if digits.isdecimal() else 0
    if not 1 <= number <= PATIENTS:
        raise LongigenError(
            f"acdc: cronos_fold is of the patients 001 to {PATIENTS} of the challenge, and {folder} is none of them; "
            "move the folder away, or leave cronos_fold out."
        )
    if number > TRAINED:
        return "test"
    # NumPy's old generator, since its permutation is a part of the published split.
    place = int(np.flatnonzero(np.random.RandomState(0).permutation(TRAINED) == number - 1)[0])
    return "validation" if place % CRONOS_FOLDS == fold else "train"
