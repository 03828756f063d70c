"""Data sets: subjects and their visits, read lazily."""

import abc
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

from nibabel.spatialimages import SpatialImage

from longigen.components.base import Component
from longigen.data.issues import OnBad, refuse
from longigen.data.volume import Volume, canonical_shape, canonical_spacing, file_identity, open_image, read_volume
from longigen.data.volume import spatial_shape as shape_of
from longigen.errors import LongigenError, did_you_mean
from longigen.utils.time_units import time_unit as known_unit

Assigned = Literal["train", "validation", "test"]
"""A part of the split that a data set assigns a subject to."""

PARTS: dict[str, Assigned] = {"train": "train", "validation": "validation", "test": "test"}
PARTS |= {"training": "train", "val": "validation", "testing": "test"}
"""How data sets write it."""


@dataclass(frozen=True)
class Visit:
    """One visit.

    Attributes:
        time: in the data set's unit.
        load: reads the volume; it raises a `BadData` that names file and subject where it cannot. It can be pickled.
        shape: (W, H, D) of the volume in RAS order, known without reading its voxels.
        spacing: of the voxels in mm, in RAS order, known without reading them.
        source: what to call it in a message, such as the path of its file.
        identity: changes whenever what `load` returns would: of a file its path, size and time of change, and what of
            it is read and how. The cache knows a visit by it.
        covariates: numbers by name; a covariate that was not taken is absent.
    """

    time: float
    load: Callable[[], Volume]
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    source: str
    identity: str
    covariates: Mapping[str, float] = field(default_factory=dict)

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
    ) -> "Visit":
        """Return the visit that a 3D image is, or a frame (from 0) of a 4D one; only its header is read.

        Args:
            path: of the image.
            subject: whose it is, for messages.
            time: in the data set's unit.
            frame: of a 4D image, from 0.
            covariates: numbers by name.
            image: what `open_image` returned for the path, where it is at hand.

        Raises:
            BadData: as `open_image` and `spatial_shape`.
        """
        image = open_image(path, subject) if image is None else image
        shape = shape_of(image, path, subject, frame)
        assert image.affine is not None
        return cls(
            time=time,
            load=partial(read_volume, path, subject, frame),
            shape=canonical_shape(image.affine, shape),
            spacing=canonical_spacing(image.affine),
            source=str(path) if frame is None else f"{path}, frame {frame}",
            identity=file_identity(path) if frame is None else f"{file_identity(path)} frame {frame}",
            covariates=covariates or {},
        )


@dataclass(frozen=True)
class Subject:
    """A subject and its visits, in order of time.

    Attributes:
        id: unique in the data set, and fit for a file's name.
        visits: at least one.
        part: of the split, where the data set says so itself (a column ``split``); None leaves it to chance.
        time_unit: of the visits' times, where the subject is of no data set.
    """

    id: str
    visits: tuple[Visit, ...]
    part: Assigned | None = None
    time_unit: str | None = None

    def __post_init__(self) -> None:
        if self.time_unit is not None:
            known_unit(self.time_unit)

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
        """Return a subject of 3D image files, one per visit; only their headers are read.

        Args:
            paths: of NIfTI files, registered to each other.
            times: of the visits, one per path, different from each other, in any order.
            time_unit: of the times: years, months, weeks, days, hours, seconds, cycle, frames or index.
            covariates: by name a number for all visits, or one per visit.
            id: names the subject in messages and file names; by default the first file's name.

        Raises:
            LongigenError: if numbers do not match, two times are equal, or a file cannot be used.
        """
        given_paths = [paths] if isinstance(paths, str | Path) else list(paths)
        for path in given_paths:
            if not isinstance(path, str | Path):
                raise LongigenError(f"A visit is the path of its file, got {type(path).__name__}; save it first.")
        files = [Path(path).expanduser() for path in given_paths]
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
                    f"The covariate '{name}' must be a number, got {given!r}; code categories as numbers."
                )
            if len(values[name]) != len(files):
                raise LongigenError(f"The covariate '{name}' has {len(values[name])} values for {len(files)} visits.")
        name = id or re.sub(r"[^\w.-]", "-", files[0].name.partition(".")[0]) or "subject"
        visits = [
            Visit.of_file(
                path,
                subject=name,
                time=float(times[place]),
                covariates={key: float(each[place]) for key, each in values.items()},
            )
            for place, path in enumerate(files)
        ]
        return cls(name, tuple(sorted(visits, key=lambda visit: visit.time)), time_unit=time_unit)

    def __repr__(self) -> str:
        """Return one line: id and times."""
        times = ", ".join(f"{time:g}" for time in self.times)
        return f"Subject({self.id}, visits at {times}{f' {self.time_unit}' if self.time_unit else ''})"

    @property
    def times(self) -> tuple[float, ...]:
        return tuple(visit.time for visit in self.visits)


class Dataset(Component, abc.ABC):
    """Subjects from one place.

    Contract:

    - `subjects()` is in a fixed order, has unique ids, and reads no voxels: a visit's volume is read by its `load`.
    - What is wrong with one visit or subject goes to `bad` as a `Finding`; if that returns, the visit or subject is
      left out and the rest is given. What is wrong with all of it (no such folder, no such column) is a
      `LongigenError`. Reported again at every call, in the same order.
    - Visits of a subject have different times, ascending.
    - `time_unit` names the unit of times, one of `longigen.TIME_UNITS`, and is known once the data set is made.
    - `simulated` is true where no scanner was involved; it is said wherever the data set is named.
    - `cautions` says what a user should know about the data as they are configured, a sentence each; it is shown
      wherever they are used.
    - A data set that reads files takes `path` among its parameters, and `claims` says whether a path is its own.
    """

    kind: ClassVar[str] = "dataset"
    time_unit: str = "years"
    simulated: ClassVar[bool] = False

    @abc.abstractmethod
    def subjects(self, bad: OnBad = refuse) -> Sequence[Subject]:
        """Return the subjects.

        Args:
            bad: is told of each visit or subject that cannot be used; by default it raises.

        Raises:
            LongigenError: if there is nothing to read.
        """

    def subject(self, id: str) -> Subject:  # noqa: A002
        """Return one subject, which says the unit of its times.

        Raises:
            LongigenError: if there is none of that id.
        """
        known = {subject.id: subject for subject in self.subjects()}
        if id not in known:
            raise LongigenError(
                f"There is no subject '{id}'.{did_you_mean(id, known)} The ids are such as '{next(iter(known), '')}'."
            )
        return replace(known[id], time_unit=self.time_unit)

    @property
    def cautions(self) -> Sequence[str]:
        return ()

    @classmethod
    def claims(cls, path: Path) -> bool:
        """Say whether this data set reads what lies at `path`, looking at names only.

        Two data sets must not claim one path: `--data NAME:PATH` is needed then.
        """
        return False
