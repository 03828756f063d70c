"""The database of the ACDC challenge: a folder per patient."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from longigen import BadData, Dataset, Finding, LongigenError, OnBad, Range, Subject, Visit, refuse
from longigen_acdc import sadm
from longigen_acdc.info import GROUPS, INFO
from longigen_acdc.series import Series

TRAINING, TESTING = "training", "testing"


class ACDCDataset(Dataset):
    """The folders of the ACDC challenge (Bernard et al., IEEE TMI 2018), frames from end diastole to end systole.

    Each patient is a folder ``patientNNN`` with ``patientNNN_4d.nii.gz`` (or ``.nii``) and ``Info.cfg``, whose ED and
    ES count frames from 1. The folders lie directly in `path`, or in ``training`` and ``testing`` below it as the
    challenge ships them. Its test patients are then the split's test part, and which of the others validate is left to
    chance; with ``training`` or ``testing`` itself as `path`, everything is. `path` may also be one patient's folder.

    Times are fractions of the way from end diastole (0) to end systole (1), though their unit is called ``cycle``: no
    header says how long a frame takes, and hearts are compared by phase. Covariates are height (cm), weight (kg) and
    group (`levels`), each absent where ``Info.cfg`` does not have it.

    Args:
        path: of the database.
        frames: the number of equidistant times at which ``nearest`` and ``linear`` look; ``none`` does not use it.
        resample: ``nearest`` takes the frame nearest to each time, once and at its own time, so that a series with
            fewer frames gives fewer visits; ``linear`` makes exactly `frames` visits, each a blend of the frame before
            it and the one after it; ``none`` takes every frame.
        protocol: ``sadm`` interpolates as SADM's published preprocessing does, which leaks (`longigen_acdc.sadm`).

    Raises:
        LongigenError: for another choice beside ``sadm`` than its own.
    """

    time_unit = "cycle"

    def __init__(
        self,
        *,
        path: Path,
        frames: Annotated[int, Range(2, 1000)] = 12,
        resample: Literal["nearest", "linear", "none"] = "nearest",
        protocol: Literal["longigen", "sadm"] = "longigen",
    ) -> None:
        super().__init__()
        if protocol == "sadm" and (frames, resample) != (sadm.FRAMES, "nearest"):
            raise LongigenError(
                f"acdc: protocol=sadm makes {sadm.FRAMES} visits in its own way; leave frames and resample as they "
                "are, or set protocol=longigen."
            )
        self.path = Path(path)
        self.frames = frames
        self.resample = resample
        self.protocol = protocol

    @classmethod
    def claims(cls, path: Path) -> bool:
        roots = (path, path / TRAINING, path / TESTING)
        return (path / INFO).is_file() or any(any(root.glob(f"patient*/{INFO}")) for root in roots)

    @property
    def cautions(self) -> Sequence[str]:
        if self.protocol == "sadm":
            return (sadm.CAUTION,)
        if self.resample == "linear":
            return (
                "With resample=linear a visit between two frames is a blend of both, so it shows what comes later.",
            )
        return ()

    @property
    def levels(self) -> Mapping[str, tuple[str, ...]]:
        """The labels of each covariate that is text, in the order of their codes: 0, 1, …"""
        return {"group": GROUPS}

    def subjects(self, bad: OnBad = refuse) -> Sequence[Subject]:
        found: list[Subject] = []
        seen: dict[str, Path] = {}
        for folder, part in self._patients():
            if folder.name in seen:
                problem = f"has the name of {seen[folder.name]}"
                bad(Finding("duplicate-subject", str(folder), problem, "remove or rename one of them", folder.name))
                continue
            seen[folder.name] = folder
            try:
                found.append(Subject(folder.name, self._visits(Series.of(folder)), part))
            except BadData as error:
                bad(error.finding)
        return tuple(found)

    def _patients(self) -> Iterator[tuple[Path, Literal["test"] | None]]:
        """Give each patient's folder, and its part of the split."""
        if not self.path.is_dir():
            raise LongigenError(f"{self.path} is not a folder; give that of the ACDC database.")
        if (self.path / INFO).is_file():
            yield self.path.absolute(), None
            return
        folders: list[tuple[Path, Literal["test"] | None]] = [
            (folder, "test" if root == TESTING else None)
            for root in ("", TRAINING, TESTING)
            for folder in sorted((self.path / root).glob("patient*"))
            if folder.is_dir()
        ]
        if not folders:
            raise LongigenError(
                f"{self.path} has no folder patient*, nor has {TRAINING} or {TESTING} in it; give the ACDC database's."
            )
        yield from folders

    def _visits(self, series: Series) -> tuple[Visit, ...]:
        if self.protocol == "sadm":
            return sadm.visits(series)
        if self.resample == "linear":
            return series.linear(self.frames)
        return series.every() if self.resample == "none" else series.nearest(self.frames)
