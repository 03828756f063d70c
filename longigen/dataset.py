"""Data sets: subjects and their visits, read lazily."""

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

from nibabel.spatialimages import SpatialImage

from longigen.component import Component
from longigen.finding import OnBad, refuse
from longigen.volume import Volume, canonical_shape, canonical_spacing, file_identity, open_image, read_volume
from longigen.volume import spatial_shape as shape_of

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
    """

    id: str
    visits: tuple[Visit, ...]
    part: Assigned | None = None

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
    - `time_unit` names the unit of times, one of `longigen.units.TIME_UNITS`, and is known once the data set is made.
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

    @property
    def cautions(self) -> Sequence[str]:
        return ()

    @classmethod
    def claims(cls, path: Path) -> bool:
        """Say whether this data set reads what lies at `path`, looking at names only.

        Two data sets must not claim one path: `--data NAME:PATH` is needed then.
        """
        return False
