"""`Dataset`, `Subject` and `Visit`: the base class of data sets, and subjects whose volumes are read lazily."""

import abc
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from nibabel.spatialimages import SpatialImage

from longigen.components.base import Component
from longigen.data.header import contradictions
from longigen.data.issues import BadData, Finding, OnBad, refuse, warn_of
from longigen.data.volume import (
    Volume,
    affine_problem,
    canonical_shape,
    canonical_spacing,
    image_affine,
    image_identity,
    open_image,
    read_volume,
    spatial_shape,
)
from longigen.errors import LongigenError, did_you_mean
from longigen.utils.files import reason, user_path
from longigen.utils.time_units import time_unit as check_time_unit

Assigned = Literal["train", "validation", "test"]
"""The part of the split to which a data set assigns a subject."""

PARTS: dict[str, Assigned] = {"train": "train", "validation": "validation", "test": "test"}
PARTS |= {"training": "train", "val": "validation", "testing": "test"}
"""The part of the split by its name in data sets' files."""


@dataclass(frozen=True)
class Visit:
    """One visit: its time, a function that loads the volume, and its covariates.

    Attributes:
        time: in the data set's unit.
        load: reads the volume; raises a `BadData` that names file and subject if it cannot. It can be pickled.
        shape: (W, H, D) of the volume in RAS order, known from the header.
        spacing: size of the voxels in mm, in RAS order, known from the header.
        source: name of the visit in messages, such as the path of its file.
        identity: the cache's key of the visit. It must change whenever the result of `load` would: for a file it has
            the path, size and modification time (of both files of a pair), and the frame that is read.
        covariates: numbers by name; a missing covariate is absent.
        cautions: what the visit's files state in two ways or not at all, and what is used; shown as warnings.
        labels: reads the visit's true label map, in the space of the volume on any grid: whole numbers, of which
            `Dataset.regions` has the names, and 0 elsewhere. It can be pickled. None if the visit has none.
    """

    time: float
    load: Callable[[], Volume]
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    source: str
    identity: str
    covariates: Mapping[str, float] = field(default_factory=dict)
    cautions: tuple[Finding, ...] = ()
    labels: Callable[[], Volume] | None = None

    @classmethod
    def of_file(
        cls,
        path: Path,
        *,
        subject: str,
        time: float,
        frame: int | None = None,
        covariates: Mapping[str, float] | None = None,
        image: SpatialImage | None = None,
        labels: Callable[[], Volume] | None = None,
    ) -> "Visit":
        """Create a visit from a 3D image file, or from one frame of a 4D image; only the header is read.

        Args:
            path: path of the image.
            subject: id of the subject, for messages.
            time: in the data set's unit.
            frame: index of the frame of a 4D image, from 0.
            covariates: numbers by name.
            image: the result of `open_image` for the path, if it was opened already.
            labels: reads the true label map, see `Visit`.

        Raises:
            BadData: as `open_image` and `spatial_shape`.
        """
        image = open_image(path, subject) if image is None else image
        shape = spatial_shape(image, path, subject, frame)
        affine = image_affine(image)
        return cls(
            time=time,
            load=partial(read_volume, path, subject, frame),
            shape=canonical_shape(affine, shape),
            spacing=canonical_spacing(affine),
            source=str(path) if frame is None else f"{path}, frame {frame}",
            identity=image_identity(image, path) if frame is None else f"{image_identity(image, path)} frame {frame}",
            covariates=covariates or {},
            cautions=contradictions(image, path, subject),
            labels=labels,
        )

    def read(self, subject: str) -> Volume:
        """Load the volume, and check it: a reader may be anyone's.

        Args:
            subject: id of the subject, for messages.

        Raises:
            BadData: if `load` raises any exception, or what it returns is no 3D volume of finite numbers with an affine
                that a grid can be placed by.
        """
        return _checked(self.load, self.source, subject)

    def read_labels(self, subject: str) -> Volume | None:
        """Load the true label map, and check it as `read` does; None if the visit has none.

        Args:
            subject: id of the subject, for messages.

        Raises:
            BadData: as `read`; also if a voxel is not a whole number of at least 0.
        """
        if self.labels is None:
            return None
        source = f"The label map of {self.source}"
        volume = _checked(self.labels, source, subject)
        if (volume.data < 0).any() or not np.array_equal(volume.data, np.rint(volume.data)):
            problem, advice = "has voxels that are no labels (0, 1, 2, …)", "give a label map, not an image"
            raise BadData(Finding("no-labels", source, problem, advice, subject))
        return volume


def _checked(load: Callable[[], Volume], source: str, subject: str) -> Volume:
    """Return the volume that a reader loads, or raise the `BadData` of `Visit.read`."""

    def bad(kind: str, problem: str, advice: str) -> BadData:
        return BadData(Finding(kind, source, problem, advice, subject))

    try:  # only the reader's code runs inside, so an exception in longigen itself keeps its traceback
        volume = load()
    except BadData:
        raise
    except Exception as error:
        problem = f"cannot be read ({type(error).__name__}: {reason(error)})"
        raise bad("unreadable", problem, "replace or remove it, or correct its reader") from error
    if not isinstance(volume, Volume) or volume.data.ndim != 3 or not volume.data.size or volume.affine.shape != (4, 4):
        raise bad("unreadable", "is not loaded as a 3D volume with an affine", "correct its reader")
    if not np.isfinite(volume.data).all():
        raise bad("not-finite", "has NaN or infinite voxels", "replace them, or remove the visit")
    if problem := affine_problem(volume.affine):
        raise bad("bad-affine", problem, "correct it")
    return volume


@dataclass(frozen=True)
class Subject:
    """A subject and its visits, in order of time.

    Attributes:
        id: unique in the data set, and valid as a file name.
        visits: at least one.
        part: part of the split, if the data set assigns it (a column ``split``); None assigns it at random.
        time_unit: unit of the visits' times, for a subject that is not of a data set.
        simulated: whether the images are simulated; None if that is not known, as of files.
    """

    id: str
    visits: tuple[Visit, ...]
    part: Assigned | None = None
    time_unit: str | None = None
    simulated: bool | None = None

    def __post_init__(self) -> None:
        if self.time_unit is not None:
            check_time_unit(self.time_unit)

    @classmethod
    def from_files(
        cls,
        paths: Sequence[Path | str],
        times: Sequence[float],
        *,
        time_unit: str = "years",
        covariates: Mapping[str, float | Sequence[float]] | None = None,
        id: str | None = None,  # noqa: A002
    ) -> "Subject":
        """Create a subject from 3D image files, one per visit; only their headers are read.

        Args:
            paths: NIfTI files, registered to each other.
            times: times of the visits, one per path, all different, in any order.
            time_unit: unit of the times: years, months, weeks, days, hours, minutes, seconds, milliseconds,
                cycle, frames or index.
            covariates: for each name, a number for all visits or one number per visit.
            id: name of the subject in messages and file names; by default the first file's name.

        Raises:
            LongigenError: if the numbers of paths, times and covariates do not match, two times are equal, or a file
                cannot be used.
        """
        given_paths = [paths] if isinstance(paths, str | Path) else list(paths)
        for path in given_paths:
            if not isinstance(path, str | Path):
                raise LongigenError(
                    f"A visit must be the path of a NIfTI file, got {type(path).__name__}; save it to a file first."
                )
        files = [user_path(path) for path in given_paths]
        times = [times] if isinstance(times, int | float) else list(times)
        if not files or len(files) != len(times):
            raise LongigenError(f"There are {len(files)} files and {len(times)} times; give one time for each file.")
        if not all(isinstance(time, int | float) and math.isfinite(time) for time in times):
            raise LongigenError(f"Every time must be a number in {time_unit}, got {list(times)}.")
        if len(set(times)) < len(times):
            raise LongigenError(f"Two visits have the same time ({', '.join(f'{time:g}' for time in times)}).")
        values: dict[str, Sequence[float]] = {}
        for name, given in (covariates or {}).items():
            values[name] = [given] * len(files) if isinstance(given, int | float) else list(given)
            if not all(isinstance(value, int | float) for value in values[name]):
                raise LongigenError(
                    f"The covariate '{name}' must be a number, got {given!r}; encode categories as numbers."
                )
            if len(values[name]) != len(files):
                raise LongigenError(f"The covariate '{name}' has {len(values[name])} values for {len(files)} visits.")
        name = id or re.sub(r"[^\w.-]", "-", files[0].name.partition(".")[0]) or "subject"
        visits = [
            Visit.of_file(
                path,
                subject=name,
                time=float(times[index]),
                covariates={key: float(numbers[index]) for key, numbers in values.items()},
            )
            for index, path in enumerate(files)
        ]
        warn_of(caution for visit in visits for caution in visit.cautions)
        return cls(name, tuple(sorted(visits, key=lambda visit: visit.time)), time_unit=time_unit)

    def __repr__(self) -> str:
        """Return one line: id and times."""
        times = ", ".join(f"{time:g}" for time in self.times)
        return f"Subject({self.id}, visits at {times}{f' {self.time_unit}' if self.time_unit else ''})"

    @property
    def times(self) -> tuple[float, ...]:
        return tuple(visit.time for visit in self.visits)


class Dataset(Component, abc.ABC):
    """A source of subjects with their visits: reads a folder or a manifest, or simulates images.

    Contract:

    - `subjects()` has a fixed order and unique ids, and reads no voxels: a visit's volume is read by its `load`.
    - A problem of one visit or subject is passed to `bad` as a `Finding`; if `bad` returns, the visit or subject is
      left out. A problem of the whole data set (no such folder, no such column) is a `LongigenError`. Problems are
      reported at every call, in the same order.
    - The visits of a subject have different times, ascending.
    - `time_unit` is the unit of times, one of `longigen.TIME_UNITS`, and is set by the constructor.
    - `simulated` is true if the images are not from a scanner; outputs that name the data set say so.
    - `cautions` are sentences on what a user should know about the data as configured; they are shown as warnings.
    - A data set that reads files has a parameter `path`, and `claims` returns whether it can read a path.
    - `regions` names the labels of visits that have a label map (`Visit.labels`), in the field's words: ``left
      ventricle``, ``right ventricle``, ``myocardium``, ``ventricles``. Several labels may be of one region.
    """

    kind: ClassVar[str] = "dataset"
    time_unit: str = "years"
    simulated: ClassVar[bool] = False

    @abc.abstractmethod
    def subjects(self, bad: OnBad = refuse) -> Sequence[Subject]:
        """Return the subjects.

        Args:
            bad: called with a `Finding` for each visit or subject that cannot be used; by default it raises it.

        Raises:
            LongigenError: if the data set cannot be read.
        """

    def subject(self, id: str) -> Subject:  # noqa: A002
        """Return the subject with an id, with the data set's time unit.

        Raises:
            LongigenError: if there is no such subject.
        """
        known = {subject.id: subject for subject in self.subjects()}
        if id not in known:
            raise LongigenError(
                f"There is no subject '{id}'.{did_you_mean(id, known)} Ids look like '{next(iter(known), '')}'."
            )
        return replace(known[id], time_unit=self.time_unit, simulated=self.simulated)

    @property
    def cautions(self) -> Sequence[str]:
        return ()

    @property
    def regions(self) -> Mapping[int, str]:
        """The name of the region that each label stands for; empty if no visit has labels."""
        return {}

    @property
    def levels(self) -> Mapping[str, tuple[str, ...]]:
        """The labels of each covariate that is text in the files, in the order of their codes 0, 1, …"""
        return {}

    @property
    def covariate_units(self) -> Mapping[str, str]:
        """The units of covariates by name, as far as the files state them: ``{"age": "months"}``."""
        return {}

    @classmethod
    def claims(cls, path: Path) -> bool:
        """Return whether this data set can read `path`, judged by the names of files only.

        If several data sets claim a path, the user must choose one with `--data NAME:PATH`.
        """
        return False
