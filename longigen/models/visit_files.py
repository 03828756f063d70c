"""Write generated visits as NIfTI files in the subject's own space, with JSON sidecars of their provenance."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from nibabel.affines import voxel_sizes

from longigen.data.dataset import Subject
from longigen.data.volume import Volume, read_volume, write_volume
from longigen.errors import LongigenError
from longigen.hub.manifest import checksum
from longigen.models.channels import ChannelTask
from longigen.models.predict import Generated
from longigen.models.settings import Order
from longigen.models.tasks import Scenario
from longigen.utils.files import read_json, write_errors, write_json
from longigen.utils.moments import Moments
from longigen.utils.precision import ComputingType
from longigen.utils.time_units import time_text

if TYPE_CHECKING:
    from longigen.models.layout import Layout

Statistic = Literal["mean", "std"]

FILE = "file"
"""The field of a sidecar with the size in bytes and the SHA-256 of its volume."""
STATISTICS: Mapping[Statistic, str] = {
    "mean": "mean of the samples",
    "std": "standard deviation of the samples, divisor samples - 1",
}
"""The statistics of the samples, and what the sidecar of each says that it is."""


@dataclass(frozen=True, kw_only=True)
class GenerationRecord:
    """Provenance of generated visits, written into the JSON sidecar of each.

    Attributes:
        time_unit: unit of all times, the subjects' own.
        model_time_unit: unit of times inside the model.
        simulated: whether the given visits are simulated; None if unknown.
        causal: whether only visits before the target were used.
        scenario: which visits were given; None if the user chose them.
        seed: random seed of the sampling noise.
        sampler: name of the sampler that generated them; None for the one of training.
        steps: network evaluations per visit.
        guidance: weight of classifier-free guidance.
        guidance_interval: the lowest and the highest λ with guidance; None for all.
        order: ``direct`` if each visit was generated from the given ones alone, or ``autoregressive``.
        precision: the type that the networks computed in.
        model: the components' names, the version of longigen and the SHA-256 of the weights.
        detail: whether the volumes are the last given visits' own voxels, moved and changed, or the bare images.
        sampler_config: the sampler's configuration, where a cohort is generated.
    """

    time_unit: str
    model_time_unit: str
    simulated: bool | None
    causal: bool
    scenario: Scenario | None
    seed: int
    sampler: str | None
    steps: int
    guidance: float
    guidance_interval: list[float] | None
    order: Order
    precision: ComputingType
    model: Mapping[str, Any]
    detail: bool = True
    sampler_config: Mapping[str, Any] | None = None

    def sidecar(self, generated: Generated, time: float, volume: Volume, samples: int = 1) -> dict[str, Any]:
        """Return the content of the JSON sidecar of one visit, without the fields of a single file.

        It is `provenance`, and in ``grid`` the range of the file's voxels where the model worked, along each axis, the
        first and one past the last.

        Args:
            generated: one sample of a subject's visits.
            time: time of the visit, in the subject's unit.
            volume: the volume that is written.
            samples: number of samples of the visit.
        """
        content = self.provenance(generated.channel, generated.times, time, samples)
        voxels = [list(ends) for ends in generated.prepared.placement.box_in(volume)]
        return content | {"grid": {"voxels": voxels, **content["grid"]}}

    def provenance(self, part: ChannelTask, times: Sequence[float], time: float, samples: int) -> dict[str, Any]:
        """Return what the JSON sidecar of one visit says, which is known before the visit is generated.

        ``grid`` has the shape of the model's grid, the size of its voxels in mm in RAS order, and the share of the
        foreground inside; ``given_voxels`` has a hash of the voxels of each visit in ``history``. Of one of several
        channels, ``history`` has the images of this channel, and ``other_channels`` those of the others.

        Args:
            part: the channel of the subject, and which visits are given.
            times: times of all visits that are generated with this one, in the subject's unit.
            time: time of the visit, in the subject's unit.
            samples: number of samples of the visit.
        """
        prepared, task = part.prepared, part.task
        subject, placement = prepared.subject, prepared.placement

        def used(given: Sequence[int], of: Subject) -> list[int]:
            return [index for index in given if of.times[index] < time or not self.causal]

        history = used(task.given, subject)
        converted = self.model_time_unit != self.time_unit

        def given(index: int) -> dict[str, Any]:
            return {"time": subject.times[index], "source": Path(subject.visits[index].source).name}

        content = {
            "synthetic": True,
            "simulated_history": self.simulated,
            "subject": subject.id,
            "time": time,
            "time_unit": self.time_unit,
            "channel": part.name or None,
            "model_time": prepared.model_time(time) if converted else None,
            "model_time_unit": self.model_time_unit if converted else None,
            "history": [given(index) for index in history],
            "given_voxels": [prepared.digest(index) for index in history],
            "other_channels": self._other_channels(part, used(part.given, part.whole.subject)),
            "detail": self.detail,
            "grid": {
                "shape": list(placement.shape),
                "spacing": [round(size, 4) for size in voxel_sizes(placement.affine).tolist()],
                "foreground_inside": round(1 - prepared.outside, 4),
            },
            "reference": given(task.given_before(time, subject.times)) if self.detail else None,
            "order": self.order,
            "generated_before": [t for t in times if t < time and self.order == "autoregressive"],
            "setting": self.scenario,
            "samples": samples,
            "seed": self.seed,
            "sampler": self.sampler,
            "sampler_config": None if self.sampler_config is None else dict(self.sampler_config),
            "steps": self.steps,
            "guidance": self.guidance,
            "guidance_interval": self.guidance_interval,
            "precision": self.precision,
            "model": dict(self.model),
        }
        return {key: value for key, value in content.items() if value is not None}

    @staticmethod
    def _other_channels(part: ChannelTask, given: Sequence[int]) -> list[dict[str, Any]] | None:
        """Return the images of the other channels at the given visits, with a hash of each; None without others."""
        if not part.name:
            return None
        times = [part.whole.subject.times[index] for index in given]
        return [
            {
                "channel": other.subject.channel,
                "time": visit.time,
                "source": Path(visit.source).name,
                "voxels": other.digest(index),
            }
            for other in part.whole.channels
            if other is not part.prepared
            for index, visit in enumerate(other.subject.visits)
            if visit.time in times
        ]


def make_way(layout: "Layout", visits: Iterable[tuple[Subject, float]], *, overwrite: bool) -> None:
    """Check that no visit that is going to be written has files in a folder, or delete those files.

    All files of a visit are deleted together, so that the samples of one generation never stand beside another's.

    Args:
        layout: the layout of the folder to write to.
        visits: the subject and the time of each visit.
        overwrite: delete the files instead of refusing.

    Raises:
        LongigenError: naming a file of such a visit, and the seed that it was generated with.
    """
    for subject, time in visits:
        files = layout.files(subject, time)
        if files and not overwrite:
            sidecar = next((file for file in files if file.suffix == ".json"), None)
            seed = read_json(sidecar).get("seed") if sidecar else None
            made = "" if seed is None else f", generated with seed {seed}"
            raise LongigenError(
                f"{files[0]} is there already{made}; write to another folder, or replace all files of the visits with "
                "--overwrite (overwrite=True)."
            )
        for path in files:
            with write_errors(path):
                path.unlink()


def write_sample(generated: Generated, layout: "Layout", *, sample: int, samples: int) -> list[list[Path]]:
    """Write one sample of a subject's visits, each channel in files of its own; see `write_visits`.

    Returns:
        The paths of the NIfTI files of each channel, in order of time.
    """
    return [write_visits(part, layout, sample=sample, samples=samples) for part in generated.by_channel()]


def write_statistics(generated: Generated, samples: Sequence[Sequence[Sequence[Path]]], layout: "Layout") -> float:
    """Write the mean and the standard deviation of the samples of each visit and channel; see `write_mean_and_std`.

    Args:
        generated: any one of the samples.
        samples: for each of K ≥ 2 samples, what `write_sample` returned.
        layout: the layout of the folder to write to, with the provenance of the visits.

    Returns:
        The largest standard deviation of all voxels.
    """
    parts = zip(generated.by_channel(), zip(*samples, strict=True), strict=True)
    return max(write_mean_and_std(part, files, layout) for part, files in parts)


def write_visits(generated: Generated, layout: "Layout", *, sample: int, samples: int) -> list[Path]:
    """Write each generated visit as NIfTI, in the subject's own space, with a JSON sidecar; see `Generated.volume`.

    Args:
        generated: one sample of a subject's visits, of one channel.
        layout: the layout of the folder to write to, with the provenance of the visits.
        sample: index of the sample.
        samples: number of samples of each visit.

    Returns:
        The paths of the NIfTI files, in order of time.
    """
    record, paths = layout.record, []
    for index, time in enumerate(generated.times):
        path = layout.volume(generated.prepared.subject, time, sample, samples)
        description = f"synthetic: longigen, time {time_text(time)} {record.time_unit}, sample {sample}"
        volume = generated.volume(index, detail=record.detail)
        write_volume(volume, path, description)
        content = {**record.sidecar(generated, time, volume, samples), "sample": sample, FILE: _described(path)}
        write_json(content | layout.fields(generated.prepared.subject, content), sidecar_path(path))
        paths.append(path)
    return paths


def write_mean_and_std(generated: Generated, samples: Sequence[Sequence[Path]], layout: "Layout") -> float:
    """Write the voxelwise mean and standard deviation of the samples of each visit, beside the samples.

    Each sample is a whole trajectory, whose later visits are generated from its earlier ones, so the standard deviation
    of a later visit includes that of the earlier ones. The samples are read from their files, one volume at a time, so
    the statistics are in the subject's own space and intensities.

    Args:
        generated: any one of the samples.
        samples: for each of K ≥ 2 samples, the paths that `write_visits` returned.
        layout: the layout of the folder to write to, with the provenance of the visits.

    Returns:
        The largest standard deviation of all voxels.
    """
    subject, record, max_std = generated.prepared.subject, layout.record, 0.0
    for time, *files in zip(generated.times, *samples, strict=True):
        moments = Moments()
        for file in files:
            moments.add(read_volume(file, subject.id).data)
        first = read_volume(files[0], subject.id)
        max_std = max(max_std, float(moments.std.max()))
        statistics: dict[Statistic, np.ndarray] = {"mean": moments.mean, "std": moments.std}
        for name, data in statistics.items():
            path = layout.volume(subject, time, name, len(files))
            description = (
                f"synthetic: longigen, time {time_text(time)} {record.time_unit}, {name} of {len(files)} samples"
            )
            write_volume(replace(first, data=data), path, description)
            content = {
                **record.sidecar(generated, time, first, len(files)),
                "statistic": STATISTICS[name],
                "sample_files": [file.name for file in files],
                FILE: _described(path),
            }
            write_json(content | layout.fields(generated.prepared.subject, content), sidecar_path(path))
    return max_std


def _described(path: Path) -> dict[str, Any]:
    """Return the size of a file and its checksum, by which it is known later whether it is whole."""
    return {"bytes": path.stat().st_size, "sha256": checksum(path)}


def sidecar_path(image: Path) -> Path:
    """Return the path of the JSON sidecar of a NIfTI file."""
    return image.with_name(f"{image.name.removesuffix('.nii.gz')}.json")


def spread_caution(samples: int, steps: int, max_std: float = math.inf, *, central: bool = False) -> str | None:
    """Return a warning if the standard deviation of the samples does not measure uncertainty, else None.

    Args:
        samples: number of samples of each visit.
        steps: network evaluations per visit.
        max_std: the largest standard deviation of all voxels.
        central: `Sampler.central`: whether one network evaluation from noise is a draw, and from zeros the middle.
    """
    if samples < 2:
        return None
    if max_std == 0:
        return (
            f"Caution: the {samples} samples of each visit are identical, because this model is deterministic; a "
            "standard deviation of 0 does not mean that the forecast is certain."
        )
    if steps == 1 and not central:
        return (
            "Caution: with one network evaluation per visit a sample is close to the mean of the distribution, so the "
            f"standard deviation of the {samples} samples does not measure uncertainty; raise --steps."
        )
    return None
