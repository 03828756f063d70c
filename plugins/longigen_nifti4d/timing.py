"""Times of the frames of a 4D series, from its JSON sidecar or its NIfTI header."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self

import nibabel
from nibabel.spatialimages import SpatialImage

from longigen import COUNT_UNITS, BadData, Finding, LongigenError, read_sidecar, time_unit
from longigen_nifti4d.naming import stem_of

SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}

STEP_TOLERANCE = 0.01
"""A header's step and a sidecar's that differ by a larger share contradict each other."""


@dataclass(frozen=True)
class Timing:
    """The times of the frames of a series, as read from its files.

    Attributes:
        times: the time of each frame, ascending.
        unit: unit of the times; ``frames`` if the files have no time step, None if they have a step without a unit.
        source: the file that the times were read from.
        subject: id of the subject.
        cautions: a warning if header and sidecar state different steps between the frames.
    """

    times: tuple[float, ...]
    unit: str | None
    source: Path
    subject: str
    cautions: tuple[Finding, ...] = ()

    @classmethod
    def of(cls, image: SpatialImage, path: Path, subject: str) -> Self:
        """Return the timing of a 4D image.

        Raises:
            BadData: if its sidecar or its header is invalid.
        """
        sidecar = path.with_name(f"{stem_of(path.name)}.json")
        stated = _Sidecar(sidecar, subject)
        timing = stated.timing(image.shape[3])
        if timing is not None:
            return cls(*timing, sidecar, subject)
        repetition = stated.repetition_time()
        if repetition is None:
            return cls(*_of_header(image, path, subject), path, subject)
        return cls._of_repetition(repetition, image, path, sidecar, subject)

    @classmethod
    def _of_repetition(cls, repetition: float, image: SpatialImage, path: Path, sidecar: Path, subject: str) -> Self:
        """Return the timing of an image whose sidecar has a ``RepetitionTime``, in seconds.

        In a gradient echo that is the time between two excitations, so the step of the header is used where the two
        differ; unless it is 1, the default of many programs, or has no unit.
        """
        count, (step, seconds) = image.shape[3], _header_step(image)
        candidates = [step * factor for factor in ([seconds] if seconds else SECONDS.values())]
        if not step or any(math.isclose(repetition, each, rel_tol=STEP_TOLERANCE) for each in candidates):
            return cls(tuple(k * repetition for k in range(count)), "seconds", sidecar, subject)
        trusted = seconds is not None and step != 1
        used, why = (
            ("the header's is used", "RepetitionTime may be the time between two excitations")
            if trusted and seconds
            else ("RepetitionTime is used", "the header's has no unit" if step != 1 else "1 is the default of programs")
        )
        by_header = f"{step * seconds:g} s" if seconds else f"{step:g}, without a unit,"
        caution = Finding(
            "two-time-steps",
            str(path),
            f"has frames {by_header} apart by its header and {repetition:g} s by RepetitionTime in {sidecar.name}; "
            f"{used}, since {why}",
            'correct one of them, or write {"times": [...], "time_unit": "seconds"} into the sidecar',
            subject,
            "warning",
        )
        chosen = step * seconds if trusted and seconds else repetition
        times = tuple(k * chosen for k in range(count))
        return cls(times, "seconds", path if trusted else sidecar, subject, (caution,))

    @property
    def default_unit(self) -> str | None:
        """The unit if the user gives none: a step of 1 without a unit, a default of many programs, means ``frames``."""
        return "frames" if self.unit is None and self.times[1] == 1 else self.unit

    def within(self, unit: str) -> tuple[float, ...]:
        """Return the times in `unit`; see `NIfTI4DDataset` for the conversions.

        Raises:
            BadData: if these times cannot be converted to that unit.
        """
        count = len(self.times)
        if self.unit == unit:
            return self.times
        if unit in COUNT_UNITS:
            return tuple(map(float, range(count)))
        if unit == "cycle":
            return tuple(k / (count - 1) for k in range(count))
        if self.unit is None:
            return self.times
        if self.unit in COUNT_UNITS:
            problem, kind = f"has no time between its frames, but time_unit is {unit}", "no-timing"
        else:
            problem, kind = f"has times in {self.unit}, but time_unit is {unit}", "unit-conflict"
        advice = 'write a sidecar {"times": [...], "time_unit": "' + unit + '"} beside the series'
        raise BadData(Finding(kind, str(self.source), problem, advice, self.subject))


def _header_step(image: SpatialImage) -> tuple[float, float | None]:
    """Return the step between frames of a header, 0 if it has none, and how many seconds its unit has, if it is known.

    The decimal text of the float32 is the number that was meant: 0.035, not 0.03500000015.
    """
    header = image.header
    if not isinstance(header, nibabel.Nifti1Header):
        return 0.0, None
    try:
        unit = str(header.get_xyzt_units()[1])
    except KeyError:  # a code that the standard does not have
        unit = "unknown"
    step = float(str(header["pixdim"][4]))
    return (step if math.isfinite(step) and step > 0 else 0.0), SECONDS.get(unit)


def _of_header(image: SpatialImage, path: Path, subject: str) -> tuple[tuple[float, ...], str | None]:
    """Return the times and their unit from ``pixdim[4]`` and ``xyzt_units`` of the header."""
    header = image.header
    if not isinstance(header, nibabel.Nifti1Header):
        problem = f"has a header of type {type(header).__name__}, which has no times"
        raise BadData(Finding("bad-timing", str(path), problem, "convert it to NIfTI, or write a sidecar", subject))
    try:
        unit = str(header.get_xyzt_units()[1])
    except KeyError:  # a code that the standard does not have
        unit = "unknown"
    # The decimal text of the float32 is the number that was meant: 0.035, not 0.03500000015.
    step = float(str(header["pixdim"][4]))
    if unit not in (*SECONDS, "unknown") or not math.isfinite(step) or step < 0:
        problem = f"has frames {step:g} {unit} apart, which is not a valid time"
        raise BadData(Finding("bad-timing", str(path), problem, "correct its header, or write a sidecar", subject))
    count = image.shape[3]
    if step == 0:
        return tuple(map(float, range(count))), "frames"
    return tuple(k * step * SECONDS.get(unit, 1.0) for k in range(count)), "seconds" if unit in SECONDS else None


@dataclass(frozen=True)
class _Sidecar:
    """The JSON sidecar of a series."""

    path: Path
    subject: str

    def timing(self, count: int) -> tuple[tuple[float, ...], str] | None:
        """Return the times of `count` frames and their unit, or None if the sidecar does not list them.

        Raises:
            BadData: if it cannot be read, or its times are invalid.
        """
        content = read_sidecar(self.path, self.subject)
        if "times" in content:
            try:
                unit = time_unit(str(content.get("time_unit")), str(self.path))
            except LongigenError as error:
                self._refuse(f"has no valid time_unit ({error})", "write the unit of its times as 'time_unit'")
            return self._times(content, "times", count), unit
        for key in ("VolumeTiming", "FrameTimesStart"):
            if key in content:
                return self._times(content, key, count), "seconds"
        return None

    def repetition_time(self) -> float | None:
        """Return the ``RepetitionTime`` in seconds, or None if the sidecar has none.

        Raises:
            BadData: if it cannot be read, or is not a positive number.
        """
        content = read_sidecar(self.path, self.subject)
        if "RepetitionTime" not in content:
            return None
        step = content["RepetitionTime"]
        if not _is_number(step) or step <= 0:
            self._refuse(f"has RepetitionTime: {step!r}, which is not a positive number", "write it in seconds")
        return float(step)

    def _times(self, content: Mapping[str, Any], key: str, count: int) -> tuple[float, ...]:
        times = content[key]
        if not isinstance(times, list) or not all(map(_is_number, times)):
            self._refuse(f"has {key} that is not a list of finite numbers", "write one number per frame")
        if len(times) != count:
            self._refuse(f"has {len(times)} {key} for {count} frames", "write one number per frame", "wrong-count")
        self._check_order(times, key)
        return tuple(map(float, times))

    def _check_order(self, times: Sequence[float], key: str) -> None:
        for frame in range(1, len(times)):
            if times[frame] <= times[frame - 1]:
                problem = f"has {key} {times[frame - 1]:g} and then {times[frame]:g} at frame {frame}"
                self._refuse(problem, "write the times of the frames in ascending order", "duplicate-time")

    def _refuse(self, problem: str, advice: str, kind: str = "bad-sidecar") -> NoReturn:
        raise BadData(Finding(kind, str(self.path), problem, advice, self.subject)) from None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
