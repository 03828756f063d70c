"""`Dataset`, `Subject` and `Visit`: the base class of data sets, and subjects whose volumes are read lazily."""

import abc
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, Self

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
    format_shape,
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

CHANNEL = re.compile("[0-9A-Za-z]+")
"""The names that a channel may have, since they stand in names of files and of metrics."""


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
        channels: of a visit with several images, such as T1w and FLAIR, each as a visit of its own, by name and in the
            order of a model's channels; None for one that is missing. The other attributes are then of all of them, see
            `of_channels`. Empty for a visit of one image.
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
    channels: Mapping[str, "Visit | None"] = field(default_factory=dict)

    @classmethod
    def of_channels(cls, images: Mapping[str, "Visit | None"], *, subject: str) -> "Visit":
        """Create a visit of several images from a visit for each.

        Time, covariates, grid, source and what `load` reads are those of the first image that there is. The label map
        is the first that an image has, of all of them; identity and cautions are of all. An image on another grid than
        the first gets a caution.

        Args:
            images: the images by name, in the order of the channels; None for one that is missing.
            subject: id of the subject, for messages.

        Raises:
            ValueError: if there is no image.
        """
        present = {name: image for name, image in images.items() if image is not None}
        if not present:
            raise ValueError("a visit needs at least one image")
        first_name, first = next(iter(present.items()))
        cautions = [caution for image in present.values() for caution in image.cautions]
        for name, image in present.items():
            if image.shape != first.shape or not np.allclose(image.spacing, first.spacing, rtol=1e-3):
                grids = [f"{format_shape(v.shape)} voxels of {_millimetres(v.spacing)} mm" for v in (image, first)]
                problem = f"has {grids[0]} where the {first_name} of the visit has {grids[1]}"
                advice = f"a model sees the {name} resampled to one grid with the {first_name}, by their affines"
                cautions.append(Finding("channel-grid", image.source, problem, advice, subject, "warning"))
        identities = (f"{name}: {'none' if image is None else image.identity}" for name, image in images.items())
        labels = next((image.labels for image in present.values() if image.labels is not None), None)
        channels = {name: image and replace(image, labels=labels) for name, image in images.items()}
        return replace(
            first, identity="; ".join(identities), cautions=tuple(cautions), labels=labels, channels=channels
        )

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


def _as_path(path: object, *, missing: bool) -> Path | None:
    """Return a user's path; None for a missing one, where one may be missing.

    Raises:
        LongigenError: if it is something else.
    """
    if path is None and missing:
        return None
    if not isinstance(path, str | Path):
        raise LongigenError(
            f"A visit must be the path of a NIfTI file, got {type(path).__name__}; save it to a file first."
        )
    return user_path(path)


def _millimetres(spacing: Sequence[float]) -> str:
    return " × ".join(f"{step:.3g}" for step in spacing)


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
        channel: which channel of a subject this is; empty for a whole subject. See `of_channel`.
    """

    id: str
    visits: tuple[Visit, ...]
    part: Assigned | None = None
    time_unit: str | None = None
    simulated: bool | None = None
    channel: str = ""

    def __post_init__(self) -> None:
        names = [tuple(visit.channels) for visit in self.visits]
        if len(set(names)) > 1:
            raise ValueError(f"the visits of subject {self.id} have different channels: {names}")
        bad = next((name for name in self.channels if not CHANNEL.fullmatch(name)), None)
        if bad is not None or len(self.channels) == 1:
            raise LongigenError(
                f"The channel '{bad}' of subject {self.id} cannot be a part of files' names; name it by letters and "
                "digits."
                if bad is not None
                else f"Subject {self.id} has one channel alone, '{self.channels[0]}'; give its images without a name."
            )
        if self.time_unit is not None:
            check_time_unit(self.time_unit)

    @classmethod
    def from_files(
        cls,
        paths: Sequence[Path | str] | Mapping[str, Sequence[Path | str | None]],
        times: Sequence[float],
        *,
        time_unit: str = "years",
        covariates: Mapping[str, float | Sequence[float]] | None = None,
        id: str | None = None,  # noqa: A002
    ) -> "Subject":
        """Create a subject from 3D image files, one per visit; only their headers are read.

        Args:
            paths: NIfTI files, registered to each other; for visits of several images, such files by the name of the
                channel, ``{"T1w": […], "FLAIR": […]}``, None for an image that is missing.
            times: times of the visits, one per path, all different, in any order.
            time_unit: unit of the times: years, months, weeks, days, hours, minutes, seconds, milliseconds,
                cycle, frames or index.
            covariates: for each name, a number for all visits or one number per visit.
            id: name of the subject in messages and file names; by default the first file's name.

        Raises:
            LongigenError: if the numbers of paths, times and covariates do not match, two times are equal, or a file
                cannot be used.
        """
        by_channel = paths if isinstance(paths, Mapping) else {"": paths}
        files: dict[str, list[Path | None]] = {
            name: [_as_path(path, missing=name != "") for path in ([of] if isinstance(of, str | Path) else of)]
            for name, of in by_channel.items()
        }
        times = [times] if isinstance(times, int | float) else list(times)
        for name, of in files.items() or [("", [])]:
            if not of or len(of) != len(times):
                which = f" of {name}" if name else ""
                raise LongigenError(
                    f"There are {len(of)} files{which} and {len(times)} times; give one time for each file."
                )
        if empty := [time for index, time in enumerate(times) if all(of[index] is None for of in files.values())]:
            raise LongigenError(f"The visit at time {empty[0]} has no image; leave it out.")
        if not all(isinstance(time, int | float) and math.isfinite(time) for time in times):
            raise LongigenError(f"Every time must be a number in {time_unit}, got {list(times)}.")
        if len(set(times)) < len(times):
            raise LongigenError(f"Two visits have the same time ({', '.join(f'{time:g}' for time in times)}).")
        values: dict[str, Sequence[float]] = {}
        for name, given in (covariates or {}).items():
            values[name] = [given] * len(times) if isinstance(given, int | float) else list(given)
            if not all(isinstance(value, int | float) for value in values[name]):
                raise LongigenError(
                    f"The covariate '{name}' must be a number, got {given!r}; encode categories as numbers."
                )
            if len(values[name]) != len(times):
                raise LongigenError(f"The covariate '{name}' has {len(values[name])} values for {len(times)} visits.")
        first = next(path for of in files.values() for path in of if path is not None)
        name = id or re.sub(r"[^\w.-]", "-", first.name.partition(".")[0]) or "subject"

        def visit(path: Path | None, index: int) -> Visit | None:
            covariates = {key: float(numbers[index]) for key, numbers in values.items()}
            time = float(times[index])
            return path and Visit.of_file(path, subject=name, time=time, covariates=covariates)

        by_visit = [{channel: visit(of[index], index) for channel, of in files.items()} for index in range(len(times))]
        visits = [
            Visit.of_channels(images, subject=name) if len(images) > 1 else next(v for v in images.values() if v)
            for images in by_visit
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

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the channels of each visit, in order; none for visits of one image."""
        return tuple(self.visits[0].channels) if self.visits else ()

    def of_channel(self, name: str) -> Self:
        """Return the subject with the images of one channel alone, and only the visits that have it; perhaps none."""
        images = (visit.channels[name] for visit in self.visits)
        return replace(self, visits=tuple(image for image in images if image is not None), channel=name)


class Dataset(Component, abc.ABC):
    """A source of subjects with their visits: reads a folder or a manifest, or simulates images.

    Contract:

    - `subjects()` has a fixed order and unique ids, and reads no voxels: a visit's volume is read by its `load`.
    - A problem of one visit or subject is passed to `bad` as a `Finding`; if `bad` returns, the visit or subject is
      left out. A problem of the whole data set (no such folder, no such column) is a `LongigenError`. Problems are
      reported at every call, in the same order.
    - The visits of a subject have different times, ascending.
    - Where visits have several images, all visits of all subjects name the same `Visit.channels` in the same order. A
      visit that lacks some of them has None for these; a visit without any is left out.
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
