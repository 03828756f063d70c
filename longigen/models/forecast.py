"""Forecasts: the visits that a model generates for one subject, in the subject's own space."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from longigen._version import __version__
from longigen.data.dataset import Subject
from longigen.data.preprocess import Prepared, Preprocess
from longigen.data.volume import Volume
from longigen.errors import LongigenError, LongigenWarning
from longigen.hub.model_config import COMPONENTS
from longigen.models.predict import Generated, GenerationSettings, generation_metadata, predict_batch, target_times
from longigen.models.pretrained import describe
from longigen.models.tasks import Task
from longigen.models.visit_files import GenerationRecord, spread_caution, write_mean_and_std, write_visits
from longigen.utils.moments import Moments
from longigen.utils.progress import Progress, silent

if TYPE_CHECKING:
    import nibabel
    from matplotlib.figure import Figure

    from longigen.models.longitudinal import LongitudinalModel


LOST = 0.01
"""A larger share of a subject outside of the model's grid is said."""

Times = float | str | Sequence[float | str]
"""Times to generate, in the model's unit; ``"+1"`` is one unit after the last visit."""


@dataclass(frozen=True, eq=False)
class ForecastVisit:
    """One generated visit.

    Attributes:
        time: in the model's time unit.
        samples: K volumes (W, H, D), float32, on the grid, affine and intensity scale of the subject's first visit.
    """

    time: float
    samples: tuple[Volume, ...]

    @cached_property
    def mean(self) -> Volume:
        """The mean of the samples, voxel by voxel."""
        return Volume(self._moments.mean, self.samples[0].affine)

    @cached_property
    def std(self) -> Volume | None:
        """The standard deviation of the samples (divisor K - 1), voxel by voxel; None of a single sample."""
        return Volume(self._moments.std, self.samples[0].affine) if len(self.samples) > 1 else None

    @cached_property
    def _moments(self) -> Moments:
        moments = Moments()
        for volume in self.samples:
            moments.add(volume.data)
        return moments

    def __repr__(self) -> str:
        """Return one line: time, number of samples, shape."""
        shape = " × ".join(map(str, self.samples[0].data.shape))
        return f"ForecastVisit(time={self.time:g}, {len(self.samples)} samples of {shape})"


class Forecast:
    """The visits that a model generated for one subject; see `LongitudinalModel.forecast`.

    Every volume is on the grid, affine and intensity scale of the subject's first visit.
    """

    def __init__(self, samples: Sequence[Generated], record: GenerationRecord) -> None:
        self._samples = tuple(samples)
        self._record = record

    @property
    def subject(self) -> Subject:
        """The subject, with the visits that were given."""
        return self._prepared.subject

    @property
    def times(self) -> tuple[float, ...]:
        """The times of the generated visits, ascending, in `time_unit`."""
        return self._samples[0].times

    @property
    def time_unit(self) -> str:
        """The unit of all times."""
        return self._record.time_unit

    @cached_property
    def visits(self) -> tuple[ForecastVisit, ...]:
        """The generated visits, in order of time."""
        return tuple(
            ForecastVisit(time, tuple(self._prepared.restore(sample.images[index]) for sample in self._samples))
            for index, time in enumerate(self.times)
        )

    @property
    def mean(self) -> tuple[Volume, ...]:
        """The mean of the samples of each visit, voxel by voxel."""
        return tuple(visit.mean for visit in self.visits)

    @property
    def std(self) -> tuple[Volume, ...] | None:
        """The standard deviation of the samples of each visit, voxel by voxel; None where there is one sample.

        It is an uncertainty only if the sampler draws: one network evaluation per visit gives about the mean.
        """
        found = [visit.std for visit in self.visits]
        return None if len(self._samples) < 2 else tuple(std for std in found if std is not None)

    def to_nibabel(self, sample: int | None = None) -> "list[nibabel.Nifti1Image]":
        """Return each visit as a NIfTI image.

        Args:
            sample: which sample, from 0; their mean by default.

        Raises:
            LongigenError: if there is no such sample.
        """
        if sample is not None and not 0 <= sample < len(self._samples):
            raise LongigenError(f"There is no sample {sample}; the forecast has {len(self._samples)}, from 0.")
        return [(visit.mean if sample is None else visit.samples[sample]).image for visit in self.visits]

    def save(self, folder: Path | str) -> list[Path]:
        """Write each sample of each visit as NIfTI with a JSON sidecar; of several samples their mean and std too.

        Args:
            folder: gets a folder for the subject.

        Returns:
            The NIfTI files of the samples.

        Raises:
            LongigenError: if a file cannot be written.
        """
        paths = [
            write_visits(generated, Path(folder), self._record, sample=number)
            for number, generated in enumerate(self._samples)
        ]
        if len(paths) > 1:
            write_mean_and_std(self._samples[0], paths, self._record)
        return [path for each in paths for path in each]

    def plot(self) -> "Figure":
        """Draw the given visits and the mean of each generated one, over its change and its standard deviation.

        Shown is the model's grid, in the slice across its shortest axis on which most changes.
        """
        from longigen.models.figures import forecast_figure

        subject, given = self.subject, self._samples[0].task.given
        images = np.stack([sample.images.numpy() for sample in self._samples])  # (K, T, C, W, H, D)
        return forecast_figure(
            [(subject.times[index], self._prepared.visit(index)) for index in given],
            list(zip(self.times, images.mean(axis=0), strict=True)),
            images.std(axis=0, ddof=1) if len(images) > 1 else None,
            title=f"{subject.id} ({self.time_unit})",
        )

    @property
    def _prepared(self) -> Prepared:
        return self._samples[0].prepared

    def __repr__(self) -> str:
        """Return one line: the subject, the times, the number of samples."""
        times = ", ".join(f"{time:g}" for time in self.times)
        return f"Forecast({self.subject.id}, at {times} {self.time_unit}, {len(self._samples)} samples)"


def as_subject(given: Subject | Sequence[Path | str], times: Sequence[float] | None, unit: str) -> Subject:
    """Return a subject, made of paths where it is none yet.

    Raises:
        LongigenError: if paths come without times or a subject with them, or the subject's time unit is another one.
    """
    if isinstance(given, Subject):
        if times is not None:
            raise LongigenError("A Subject has its times already; leave times out, and say what to generate with at.")
        if not given.visits:
            raise LongigenError(f"Subject {given.id} has no visits; it needs at least one.")
        if given.time_unit is None:
            warnings.warn(
                f"Subject {given.id} does not say the unit of its times; they are taken to be in {unit}, the model's.",
                LongigenWarning,
                stacklevel=4,
            )
        if given.time_unit not in (None, unit):
            raise LongigenError(
                f"The times of subject {given.id} are in {given.time_unit} and the model's in {unit}; convert them."
            )
        return given
    if times is None:
        raise LongigenError(f"Files have no times; give times=[…], one for each file, in {unit}.")
    return Subject.from_files(given, times, time_unit=unit)


def future_times(subject: Subject, at: Times, unit: str) -> list[float]:
    """Return the times of a forecast, ascending.

    Raises:
        LongigenError: if there is none, or one is not after the subject's last visit.
    """
    times = _times(subject, at, unit)
    last = subject.times[-1]
    if times[0] <= last:
        raise LongigenError(
            f"Time {times[0]:g} is not after the last visit of subject {subject.id} ({last:g} {unit}); use impute for "
            "times between visits."
        )
    return times


def missing_times(subject: Subject, at: Times, unit: str) -> list[float]:
    """Return the times of missing visits, ascending.

    Raises:
        LongigenError: if there is none, or one is not between the subject's first visit and its last.
    """
    times = _times(subject, at, unit)
    last = subject.times[-1]
    if times[-1] >= last:
        raise LongigenError(
            f"Time {times[-1]:g} is not before the last visit of subject {subject.id} ({last:g} {unit}); use forecast "
            "for times after it."
        )
    return times


def _times(subject: Subject, at: Times, unit: str) -> list[float]:
    wanted = list(at) if isinstance(at, Sequence) and not isinstance(at, str) else [at]
    if not wanted or at is None:
        raise LongigenError('There is no time to generate; give at least one, such as at=2.5 or at="+1".')
    return target_times(subject, range(len(subject.visits)), wanted, unit)


def generate_forecast(
    model: "LongitudinalModel",
    subject: Subject,
    times: Sequence[float],
    settings: GenerationSettings,
    *,
    samples: int,
    progress: Progress = silent,
) -> Forecast:
    """Generate the visits of one subject at some times, from all visits that it has.

    Args:
        model: in ``eval()`` mode.
        subject: its visits are given.
        times: ascending, in the model's time unit; none of a given visit.
        settings: how to generate.
        samples: K ≥ 1, how often; each is a whole trajectory.
        progress: shows the network evaluations.
    """
    prepared = Preprocess.from_config(model.provenance.preprocess).subject(subject)
    for caution in _cautions(model, prepared, times):
        warnings.warn(caution, LongigenWarning, stacklevel=4)
    task = Task(tuple(range(len(subject.visits))), ())
    drawn = []
    with progress("generating") as update:
        for sample in range(samples):
            drawn += predict_batch(
                model,
                [(prepared, task)],
                settings=replace(settings, sample=sample),
                times=[list(times)],
                callback=lambda done, total, sample=sample: update(sample * total + done, samples * total),
            )
    record = GenerationRecord(
        time_unit=model.statistics.time_unit,
        simulated=None,
        causal=model.conditioner.causal,
        scenario=None,
        model=_provenance(model),
        **generation_metadata(model, settings),
    )
    forecast = Forecast(drawn, record)
    widest = max((float(std.data.max()) for std in forecast.std or ()), default=0.0)
    caution = spread_caution(samples, record.steps, widest)
    if caution is not None:
        warnings.warn(caution, LongigenWarning, stacklevel=4)
    return forecast


def _cautions(model: "LongitudinalModel", prepared: Prepared, times: Sequence[float]) -> Iterator[str]:
    """Say in what a subject and the times asked for differ from what the model was trained on."""
    subject, unit = prepared.subject, model.statistics.time_unit
    unknown = sorted({name for visit in subject.visits for name in visit.covariates} - {*model.statistics.covariates})
    if unknown:
        known = ", ".join(model.statistics.covariates) or "none"
        yield f"The model does not use the covariates {', '.join(unknown)} of subject {subject.id}; it knows: {known}."
    _, longest = model.provenance.data.get("intervals", (0.0, math.inf))
    ahead = times[-1] - subject.times[0]
    if ahead > 1.5 * longest:
        yield (
            f"Time {times[-1]:g} is {ahead:g} {unit} after the first visit of subject {subject.id}, and the model was "
            f"trained on at most {longest:g}; do not expect it to be right."
        )
    lost = prepared.lost_share()
    if lost > LOST:
        yield (
            f"{lost:.0%} of subject {subject.id} lies outside the model's grid of "
            f"{' × '.join(map(str, prepared.pipeline.grid.shape))} voxels and is background in what is generated; "
            "resample the scans to the voxels of the training data."
        )


def _provenance(model: "LongitudinalModel") -> Mapping[str, Any]:
    parts = {kind: describe(getattr(model, kind))["name"] for kind in COMPONENTS}
    return {"longigen": __version__, **parts, "weights_sha256": model.weights_sha256}
