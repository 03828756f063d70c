"""Trajectories: the visits of a subject in a folder of generated visits, with the given and the true ones beside them.

The folder holds the generated visits alone. The given and the true ones are those of a data set, if it is known.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from longigen.data.dataset import Subject
from longigen.data.grid import on_grid_of
from longigen.data.issues import BadData
from longigen.data.volume import Volume, read_volume, voxel_digest
from longigen.errors import LongigenError
from longigen.models.visit_files import STATISTICS, sidecar_path
from longigen.models.visit_index import CHANNEL, COLUMNS, INDEX
from longigen.utils.files import read_json, reason

FOREGROUND = 0.05
"""The part of the range from black to white above which a voxel is foreground, in pictures."""


@dataclass(frozen=True, eq=False)
class GeneratedVisit:
    """A generated visit: its first sample, and beside it the true one and the last given one, where they are known.

    `std` is the standard deviation of several samples. All volumes have the grid of the trajectory.
    """

    time: float
    generated: Volume
    true: Volume | None = None
    previous: tuple[float, Volume] | None = None
    std: Volume | None = None

    @cached_property
    def error(self) -> np.ndarray | None:
        """The true minus the generated visit (W, H, D); None if the true one is not known."""
        return None if self.true is None else self.true.data - self.generated.data

    @cached_property
    def true_change(self) -> np.ndarray | None:
        """The true minus the last given visit (W, H, D); None if one of them is not known."""
        return None if self.true is None or self.previous is None else self.true.data - self.previous[1].data

    @cached_property
    def change(self) -> np.ndarray | None:
        """The generated minus the last given visit (W, H, D); None if that is not known."""
        return None if self.previous is None else self.generated.data - self.previous[1].data

    @property
    def shown_change(self) -> np.ndarray | None:
        """What places and scales a picture (W, H, D): the true change, else the generated one, else the error."""
        known = (change for change in (self.true_change, self.change, self.error) if change is not None)
        return next(known, None)


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The visits of one subject in one setting, on one grid with axes in RAS order.

    Attributes:
        subject: id of the subject.
        setting: which visits were given: single, missing or full; empty if the user chose them.
        time_unit: unit of the times.
        given: times and volumes of the given visits, in order of time; none if they are not known.
        visits: the generated visits, in order of time.
        notes: what is not known, one sentence each.
        channel: which of several channels of the visits it shows; empty for visits of one image.
    """

    subject: str
    setting: str
    time_unit: str
    given: Sequence[tuple[float, Volume]]
    visits: Sequence[GeneratedVisit]
    notes: Sequence[str] = ()
    channel: str = ""

    @property
    def name(self) -> str:
        """The subject, and the channel if there are several."""
        return f"{self.subject} {self.channel}".rstrip()

    @property
    def volumes(self) -> list[Volume]:
        """The given, generated and true volumes, which share one range of intensities."""
        true = [visit.true for visit in self.visits if visit.true is not None]
        return [*(volume for _, volume in self.given), *(visit.generated for visit in self.visits), *true]

    @property
    def affine(self) -> np.ndarray:
        """The affine (4, 4) of the grid."""
        return self.visits[0].generated.affine

    @cached_property
    def mean_error(self) -> float | None:
        """The mean absolute difference of the last generated from the true visit, of the foreground, over its range.

        None if the true visit is not known.
        """
        last = self.visits[-1]
        if last.error is None or last.true is None:
            return None
        low, high = float(last.true.data.min()), float(np.percentile(last.true.data, 99.8))
        inside = last.true.data > low + FOREGROUND * (high - low)
        return float(np.abs(last.error[inside]).mean() / (high - low)) if inside.any() else 0.0


@dataclass(frozen=True, eq=False)
class TrajectoryFiles:
    """The files of one subject's generated visits in one setting, as the index of their folder lists them.

    Of several channels, they are of one, `channel`.
    """

    folder: Path
    subject: str
    setting: str
    time_unit: str
    rows: Sequence[Mapping[str, str]] = field(repr=False)
    channel: str = ""

    def of(self, subject: Subject) -> Subject:
        """Return the subject with the images of this channel alone, if it has several."""
        return subject.of_channel(self.channel) if self.channel in subject.channels else subject

    @property
    def times(self) -> list[float]:
        """The times of the generated visits, ascending."""
        return sorted({float(row["time"]) for row in self.rows})

    @property
    def samples(self) -> int:
        """The number of samples of each visit."""
        return len({row["sample"] for row in self.rows if row["sample"] not in STATISTICS})

    @cached_property
    def sidecar(self) -> Mapping[str, Any]:
        """The provenance of the last visit, from its sidecar."""
        return read_json(sidecar_path(self._path(self.times[-1], self._first_sample)))

    def ending(self, visits: int, given: int) -> "TrajectoryFiles":
        """Return the last generated visits alone, each with the last ones that were given for it."""
        kept = self.times[-visits:]
        rows = [row for row in self.rows if float(row["time"]) in kept]
        return replace(self, rows=[{**row, "given": " ".join(row["given"].split()[-given:])} for row in rows])

    def read(self, subject: Subject | None) -> Trajectory:
        """Read the visits, and those that the subject has.

        Args:
            subject: the subject in its data set; None if that is not known.

        Raises:
            LongigenError: if a volume cannot be read, or its sidecar is damaged.
        """
        times, grid = self.times, self._read(self._path(self.times[-1], self._first_sample))
        own, notes = self._own(None if subject is None else self.of(subject))
        low = min((float(volume.data.min()) for volume in own.values()), default=float(grid.data.min()))

        def placed(volume: Volume, fill: float) -> Volume:
            return on_grid_of(volume, grid, fill)

        known = {time: placed(volume, low) for time, volume in own.items()}
        given = [time for time in self._given(self.rows) if time in known]
        visits = []
        for time in times:
            std = self._path(time, "std")
            before = [t for t in self._given(row for row in self.rows if float(row["time"]) == time) if t in known]
            last = max((t for t in before if t < time), default=None)
            visits.append(
                GeneratedVisit(
                    time,
                    placed(self._read(self._path(time, self._first_sample)), low),
                    known.get(time),
                    None if last is None else (last, known[last]),
                    placed(self._read(std), 0.0) if std.exists() else None,
                )
            )
        return Trajectory(
            self.subject,
            self.setting,
            self.time_unit,
            [(time, known[time]) for time in given],
            visits,
            notes,
            self.channel,
        )

    def volume(self, row: Mapping[str, str]) -> Volume:
        """Read the volume of one row.

        Raises:
            LongigenError: if it cannot be read.
        """
        return self._read(self.folder / row["path"])

    def _own(self, subject: Subject | None) -> tuple[dict[float, Volume], list[str]]:
        """Return the subject's own given and true visits by time, and what is not known, in sentences."""
        if subject is None:
            return {}, []
        given, targets = self._given(self.rows), set(self.times)
        try:
            own = {v.time: v.read(subject.id) for v in subject.visits if v.time in targets or v.time in given}
        except BadData as error:
            return {}, [f"The given and true visits of {self.subject} cannot be read: {error}"]
        if not set(given) <= set(own):
            found = ", ".join(f"{time:g}" for time in subject.times)
            return {}, [
                f"The given and true visits of {self.subject} are left out: the data have no visits of it at the times "
                f"of those that were given ({', '.join(f'{time:g}' for time in given)} {self.time_unit}), but at "
                f"{found}; give the data as they were read for generating (--set time_unit)."
            ]
        recorded = (self.sidecar.get(name) or [] for name in HISTORY)
        digests = {visit["time"]: known for visit, known in zip(*recorded, strict=False)}
        if any(voxel_digest(own[time]).hex() != known for time, known in digests.items() if time in own):
            return {}, [
                f"The given and true visits of {self.subject} are left out: those of the data are other images than "
                "the ones that were given."
            ]
        return own, []

    @staticmethod
    def _given(rows: Iterator[Mapping[str, str]] | Sequence[Mapping[str, str]]) -> list[float]:
        return sorted({float(time) for row in rows for time in row["given"].split()})

    @property
    def _first_sample(self) -> str:
        return min((row["sample"] for row in self.rows if row["sample"] not in STATISTICS), key=int)

    def _path(self, time: float, sample: str) -> Path:
        found = (row["path"] for row in self.rows if float(row["time"]) == time and row["sample"] == sample)
        return self.folder / next(found, f"{self.subject}/no-{sample}")

    def _read(self, path: Path) -> Volume:
        try:
            return read_volume(path, self.subject)
        except BadData as error:
            raise LongigenError(str(error)) from error


HISTORY = ("history", "given_voxels")
"""The fields of a sidecar with the given visits and a hash of the voxels of each."""


def is_generated(folder: Path) -> bool:
    """Return whether `generate` wrote a folder."""
    return (folder / INDEX).is_file()


def find_trajectories(folder: Path) -> list[TrajectoryFiles]:
    """Return the trajectories in a folder that `generate` wrote, in order of subject and setting; no volume is read.

    Raises:
        LongigenError: if its index is missing or damaged, or lists no volume.
    """
    path = folder / INDEX
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        groups: dict[tuple[str, str, str], list[dict[str, str]]] = {}
        for row in rows:
            _ = [float(text) for text in (row["time"], *row["given"].split())]
            if row["sample"] not in STATISTICS:
                int(row["sample"])
            if not (folder / row["path"]).resolve().is_relative_to(folder.resolve()):
                raise LongigenError(  # else the page of somebody's folder would show files of this machine
                    f"{path} lists {row['path']}, which is outside of its folder; restore it with 'longigen generate'."
                )
            groups.setdefault((row["subject"], row["setting"], row.get(CHANNEL, "")), []).append(row)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, csv.Error) as error:
        problem = reason(error) if isinstance(error, OSError | csv.Error) else f"it needs {', '.join(COLUMNS)}"
        raise LongigenError(
            f"{path} cannot be read ({problem}); it is written by 'longigen generate', which restores it if run again."
        ) from error
    found = [
        TrajectoryFiles(folder, subject, setting, group[0]["time_unit"], group, channel)
        for (subject, setting, channel), group in groups.items()
        if any(row["sample"] not in STATISTICS for row in group)
    ]
    if not found:
        raise LongigenError(f"{path} lists no volume; generate some with 'longigen generate'.")
    return found
