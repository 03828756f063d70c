"""Forecasts: the visits that a model generates for one subject, in the subject's own image space."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from longigen._version import __version__
from longigen.data.cache import VisitCache
from longigen.data.dataset import Subject
from longigen.data.preprocess import Prepared
from longigen.data.volume import Volume
from longigen.errors import LongigenError, LongigenWarning, did_you_mean
from longigen.models.batch_size import Size
from longigen.models.cautions import box_cautions, data_cautions, require_channels, subject_cautions
from longigen.models.layout import LayoutName
from longigen.models.open_layout import open_layout
from longigen.models.predict import Generated, GenerationSettings, generation_metadata, predict_samples, target_times
from longigen.models.pretrained import described_parts
from longigen.models.tasks import Task
from longigen.models.visit_files import GenerationRecord, make_way, spread_caution, write_sample, write_statistics
from longigen.utils.moments import Moments
from longigen.utils.optional import optional_import
from longigen.utils.progress import Progress, silent
from longigen.utils.time_units import conversion_text, time_factor, time_text

if TYPE_CHECKING:
    import nibabel
    from matplotlib.figure import Figure

    from longigen.models.longitudinal import LongitudinalModel


Times = float | str | Sequence[float | str]
"""Times to generate, in the subject's unit; ``"+1"`` is one unit after the last visit."""

Images = Sequence[Path | str] | Mapping[str, Sequence[Path | str | None]]
"""The paths of a subject's images, or those of each channel by its name; see `Subject.from_files`."""


@dataclass(frozen=True, eq=False)
class ForecastVisit:
    """One generated visit.

    Attributes:
        time: time of the visit, in the subject's time unit.
        samples: K volumes (W, H, D), float32, with the grid, affine and intensities of the last given visit before it
            (of the subject's first visit without `detail`).
    """

    time: float
    samples: tuple[Volume, ...]

    @cached_property
    def mean(self) -> Volume:
        """The voxelwise mean of the samples."""
        return replace(self.samples[0], data=self._moments.mean)

    @cached_property
    def std(self) -> Volume | None:
        """The voxelwise standard deviation of the samples (divisor K - 1); None if there is one sample."""
        return replace(self.samples[0], data=self._moments.std) if len(self.samples) > 1 else None

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

    Every volume has the grid, affine and intensities of the last given visit before it, whose own voxels are kept where
    the model neither moves nor changes them. Without `detail` it is the model's image, interpolated to the grid of the
    subject's first visit.

    Of a subject with several images per visit, such as T1w and FLAIR, `channel` gives the forecast of each. All are
    written by `save`.
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

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the channels that were generated, of a subject with several images per visit; else none.

        A channel that none of the given visits has is not generated.
        """
        return tuple(part.channel.name for part in self._samples[0].by_channel() if part.channel.name)

    def channel(self, name: str) -> "Forecast":
        """Return the forecast of one channel.

        Raises:
            LongigenError: if there is no such channel.
        """
        if name not in self.channels:
            raise LongigenError(
                f"This forecast has no channel '{name}'.{did_you_mean(name, self.channels)} Channels: "
                f"{', '.join(self.channels) or 'none, since visits have one image'}."
            )
        parts = (part for sample in self._samples for part in sample.by_channel())
        return Forecast([part for part in parts if part.channel.name == name], self._record)

    def _require_one(self) -> None:
        """Raise a `LongigenError` if there are several channels, for what shows or returns volumes of one."""
        if self._samples[0].prepared.subject.channels:
            raise LongigenError(
                f"This forecast has the channels {', '.join(self.channels)}; choose one, such as "
                f"forecast.channel('{self.channels[0]}')."
            )

    @cached_property
    def visits(self) -> tuple[ForecastVisit, ...]:
        """The generated visits, in order of time.

        Raises:
            LongigenError: if there are several channels; see `channel`.
        """
        self._require_one()
        return tuple(
            ForecastVisit(time, tuple(sample.volume(index, detail=self._record.detail) for sample in self._samples))
            for index, time in enumerate(self.times)
        )

    @property
    def mean(self) -> tuple[Volume, ...]:
        """The voxelwise mean of the samples of each visit."""
        return tuple(visit.mean for visit in self.visits)

    @property
    def std(self) -> tuple[Volume, ...] | None:
        """The voxelwise standard deviation of the samples of each visit; None if there is one sample.

        It measures uncertainty only with several network evaluations per visit: a single one predicts about the mean.
        """
        stds = [visit.std for visit in self.visits]
        return None if len(self._samples) < 2 else tuple(std for std in stds if std is not None)

    def to_nibabel(self, sample: int | None = None) -> "list[nibabel.Nifti1Image]":
        """Return each visit as a NIfTI image.

        Args:
            sample: index of the sample, from 0; by default the mean of all samples.

        Raises:
            LongigenError: if there is no such sample.
        """
        if sample is not None and not 0 <= sample < len(self._samples):
            raise LongigenError(
                f"There is no sample {sample}; the forecast has {len(self._samples)}, numbered from 0; choose one of "
                "them."
            )
        return [(visit.mean if sample is None else visit.samples[sample]).image for visit in self.visits]

    def save(self, folder: Path | str, *, layout: LayoutName | None = None, overwrite: bool = False) -> list[Path]:
        """Write each sample of each visit as NIfTI with a JSON sidecar; with several samples, their mean and std too.

        Args:
            folder: the folder to write to; the files go into a subfolder named after the subject.
            layout: how the folder is laid out: ``bids``, as BIDS derivatives, or ``flat``; by default that of the
                visits that it holds already, or else ``bids``.
            overwrite: replace files of the same visits that are there already, instead of refusing.

        Returns:
            The paths of the samples' NIfTI files.

        Raises:
            LongigenError: if a file cannot be written, or a visit has files in the folder already.
        """
        part = self._samples[0].part
        subject = self.subject if part is None else part.whole.subject  # by which channels have distinct names
        chosen = open_layout(layout, Path(folder), self._record, [subject], "files")
        make_way(chosen, [(subject, time) for time in self.times], overwrite=overwrite)
        chosen.prepare()
        for note in chosen.notes:
            warnings.warn(note, LongigenWarning, stacklevel=2)
        paths = [
            write_sample(generated, chosen, sample=number, samples=len(self._samples))
            for number, generated in enumerate(self._samples)
        ]
        if len(paths) > 1:
            write_statistics(self._samples[0], paths, chosen)
        if chosen.is_data_set:  # a flat folder has an index only if `generate` wrote it
            chosen.complete()
        return [path for of_sample in paths for files in of_sample for path in files]

    def plot(self) -> "Figure":
        """Draw the given visits and the mean of each generated one, with its change and standard deviation below.

        The images are on the model's grid, in the slice across its shortest axis with the largest change.
        """
        from longigen.models.figures import forecast_figure

        self._require_one()
        subject, given = self.subject, self._samples[0].task.given
        images = np.stack([sample.images.numpy() for sample in self._samples])  # (K, T, C, W, H, D)
        return forecast_figure(
            [(subject.times[index], self._prepared.visit(index)) for index in given],
            list(zip(self.times, images.mean(axis=0), strict=True)),
            images.std(axis=0, ddof=1) if len(images) > 1 else None,
            title=f"{subject.id}{subject.channel and f' {subject.channel}'} ({self.time_unit})",
        )

    def view(self) -> Any:
        """Show the given visits and the mean of each generated one in a notebook, in NiiVue; needs ipyniivue.

        The last generated visit is shown in three planes; the others are in the widget's list, with opacity 0.

        Returns:
            The widget, an ``ipyniivue.NiiVue``. Its `volumes` are in order of time.

        Raises:
            LongigenError: if ipyniivue is not installed.
        """
        self._require_one()
        niivue = optional_import("ipyniivue", "Forecast.view (longigen[view])")
        given = self._samples[0].task.given
        images = [(self.subject.times[index], "given", self._prepared.own(index).image) for index in given]
        images += [(time, "generated", image) for time, image in zip(self.times, self.to_nibabel(), strict=True)]
        widget = niivue.NiiVue()
        widget.load_volumes(
            [
                {
                    "name": f"{kind}-{time_text(time)}.nii",
                    "data": image.to_bytes(),
                    "opacity": float(number == len(images)),
                }
                for number, (time, kind, image) in enumerate(sorted(images, key=lambda item: item[0]), 1)
            ]
        )
        return widget

    @property
    def _prepared(self) -> Prepared:
        return self._samples[0].prepared

    def __repr__(self) -> str:
        """Return one line: the subject, the times, the number of samples."""
        times = ", ".join(map(time_text, self.times))
        return f"Forecast({self.subject.id}, at {times} {self.time_unit}, {len(self._samples)} samples)"


def as_subject(given: Subject | Images, times: Sequence[float] | None, unit: str) -> Subject:
    """Return the subject with its time unit, created from the paths of its images if those are given instead.

    Args:
        given: a `Subject`, or the paths of its images, by channel where visits have several.
        times: times of the images, required for paths and not allowed for a `Subject`.
        unit: the model's time unit.

    Raises:
        LongigenError: if times are missing for paths or given for a subject, or its time unit cannot be converted.
    """
    if isinstance(given, Subject):
        if times is not None:
            raise LongigenError("A Subject has its own times; leave times out, and give the times to generate as at.")
        if not given.visits:
            raise LongigenError(f"Subject {given.id} has no visits; it needs at least one.")
        if given.time_unit is None:
            warnings.warn(
                f"Subject {given.id} has no time unit; its times are assumed to be in {unit}, the unit of the model.",
                LongigenWarning,
                stacklevel=4,
            )
        if given.time_unit not in (None, unit):
            if time_factor(given.time_unit, unit) is None:
                raise LongigenError(
                    f"The times of subject {given.id} are in {given.time_unit} and those of the model in {unit}, which "
                    f"cannot be converted to each other; give the subject's times in {unit}."
                )
            warnings.warn(
                f"The times of subject {given.id} are in {given.time_unit} and are converted to the model's {unit}, "
                f"where {conversion_text(given.time_unit, unit)}; times to generate are in {given.time_unit}.",
                LongigenWarning,
                stacklevel=4,
            )
        return given if given.time_unit else replace(given, time_unit=unit)
    if times is None:
        raise LongigenError(f"The times of the images are missing; give times=[…], one per image, in {unit}.")
    return Subject.from_files(given, times, time_unit=unit)


def future_times(subject: Subject, at: Times) -> list[float]:
    """Return the times of a forecast, ascending.

    Raises:
        LongigenError: if there are no times, or one is not after the subject's last visit.
    """
    times = _times(subject, at)
    last = subject.times[-1]
    if times[0] <= last:
        raise LongigenError(
            f"Time {time_text(times[0])} is not after the last visit of subject {subject.id} ({time_text(last)} "
            f"{subject.time_unit}); use impute for times between visits."
        )
    return times


def missing_times(subject: Subject, at: Times) -> list[float]:
    """Return the times of missing visits, ascending.

    Raises:
        LongigenError: if there are no times, or one is not between the subject's first and last visit.
    """
    times = _times(subject, at)
    last = subject.times[-1]
    if times[-1] >= last:
        raise LongigenError(
            f"Time {time_text(times[-1])} is not before the last visit of subject {subject.id} ({time_text(last)} "
            f"{subject.time_unit}); use forecast for times after it."
        )
    return times


def _times(subject: Subject, at: Times) -> list[float]:
    requested = list(at) if isinstance(at, Sequence) and not isinstance(at, str) else [at]
    if not requested or at is None:
        raise LongigenError('There is no time to generate; give at least one, such as at=2.5 or at="+1".')
    return target_times(subject, range(len(subject.visits)), requested, str(subject.time_unit))


def generate_forecast(
    model: "LongitudinalModel",
    subject: Subject,
    times: Sequence[float],
    settings: GenerationSettings,
    *,
    samples: int,
    batch_size: Size = 4,
    detail: bool = True,
    shape: tuple[int, int, int] | None = None,
    progress: Progress = silent,
) -> Forecast:
    """Generate visits of one subject at the given times, from all visits that it has.

    Args:
        model: the model, in ``eval()`` mode.
        subject: the subject with its time unit, all of whose visits are given to the model.
        times: times to generate, ascending, in the subject's time unit; none is the time of a given visit.
        settings: sampler, network evaluations, guidance weight and seed.
        samples: K ≥ 1, the number of samples; each is a whole trajectory.
        batch_size: number of samples generated in one batch; see `longigen.models.batch_size`.
        detail: keep the last given visits' own voxels; see `Generated.volume`.
        shape: (W, H, D) of the grid instead of the model's own; 0 for as many voxels as the subject has.
        progress: progress bar of the network evaluations.

    Raises:
        LongigenError: if too much of the subject lies outside of the model's grid, and no `shape` is given.
    """
    unit = model.statistics.time_unit
    own_unit = subject.time_unit or unit
    require_channels(model, subject.channels)
    pipeline = model.provenance.pipeline(None if shape is None else {"shape": shape})
    prepared = pipeline.subject(subject, VisitCache.default(), time_factor=time_factor(own_unit, unit) or 1.0)
    unknown = sorted({name for visit in subject.visits for name in visit.covariates} - {*model.statistics.covariates})
    if unknown:
        known = ", ".join(model.statistics.covariates) or "none"
        text = f"The model does not use the covariates {', '.join(unknown)} of subject {subject.id}; it uses: {known}."
        warnings.warn(text, LongigenWarning, stacklevel=4)
    task = Task(tuple(range(len(subject.visits))), ())
    metadata = generation_metadata(model, settings)
    direct = metadata["order"] == "direct"
    for text in (
        *data_cautions(model, [prepared], simulated=subject.simulated),
        *box_cautions(model, [prepared], shape_chosen=shape is not None),
        *(text for _, text in subject_cautions(model, prepared, task.given, times, direct=direct)),
    ):
        warnings.warn(text, LongigenWarning, stacklevel=4)
    with progress("generating") as update:
        generated = list(
            predict_samples(
                model,
                [(prepared, task)],
                settings,
                samples=samples,
                times=[list(times)],
                batch_size=batch_size,
                callback=update,
            )
        )
    record = GenerationRecord(
        time_unit=own_unit,
        model_time_unit=unit,
        simulated=subject.simulated,
        causal=model.conditioner.causal,
        scenario=None,
        model=_provenance(model),
        detail=detail,
        **metadata,
    )
    forecast = Forecast(generated, record)
    parts = [forecast.channel(name) for name in forecast.channels] or [forecast]
    widest = max((float(std.data.max()) for part in parts for std in part.std or ()), default=0.0)
    left_out = [name for name in subject.channels if name not in forecast.channels]
    if left_out:
        text = f"No given visit of subject {subject.id} has {' or '.join(left_out)}, so none is generated."
        warnings.warn(text, LongigenWarning, stacklevel=4)
    central = settings.sampler_of(model).central
    caution = spread_caution(samples, record.steps, widest, central=central)
    if caution is not None:
        warnings.warn(caution, LongigenWarning, stacklevel=4)
    return forecast


def _provenance(model: "LongitudinalModel") -> Mapping[str, Any]:
    parts = {kind: described["name"] for kind, described in described_parts(model).items()}
    return {"longigen": __version__, **parts, "weights_sha256": model.weights_sha256}
