"""Data sets: subjects and their visits, read lazily."""

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from longigen.component import Component
from longigen.volume import Volume


@dataclass(frozen=True)
class Visit:
    """One visit.

    Attributes:
        time: in the data set's unit.
        load: reads the volume; it raises a `LongigenError` that names file and subject where it cannot.
        shape: (W, H, D) of the volume in RAS order, known without reading its voxels.
        source: what to call it in a message, such as the path of its file.
        covariates: numbers by name; a covariate that was not taken is absent.
    """

    time: float
    load: Callable[[], Volume]
    shape: tuple[int, int, int]
    source: str
    covariates: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """A subject and its visits, in order of time."""

    id: str
    visits: tuple[Visit, ...]

    @property
    def times(self) -> tuple[float, ...]:
        return tuple(visit.time for visit in self.visits)


class Dataset(Component, abc.ABC):
    """Subjects from one place.

    Contract:

    - `subjects()` is in a fixed order, has unique ids, and reads no voxels: a visit's volume is read by its `load`.
    - Visits of a subject have different times, ascending.
    - `time_unit` names the unit of times: ``years``, ``days``, ``cycle``, or the unit that the data set declares.
    - `simulated` is true where no scanner was involved; it is said wherever the data set is named.
    - A data set that reads files takes `path` among its parameters, and `claims` says whether a path is its own.
    """

    kind: ClassVar[str] = "dataset"
    time_unit: str = "years"
    simulated: ClassVar[bool] = False

    @abc.abstractmethod
    def subjects(self) -> Sequence[Subject]:
        """Return the subjects."""

    @classmethod
    def claims(cls, path: Path) -> bool:
        """Say whether this data set reads what lies at `path`, looking at names only."""
        return False
