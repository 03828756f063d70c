"""Write generated visits as NIfTI files in the subject's own space, with JSON sidecars of their provenance."""

import glob
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nibabel.affines import voxel_sizes

from longigen.data.volume import Volume, read_volume, write_volume
from longigen.errors import LongigenError
from longigen.models.predict import Generated
from longigen.models.settings import Order
from longigen.models.tasks import Scenario
from longigen.utils.files import read_json, write_errors, write_json
from longigen.utils.moments import Moments
from longigen.utils.precision import ComputingType
from longigen.utils.time_units import time_text

FILE_ENDS = ("_sample-*", "_mean.*", "_std.*")
"""How the names of a visit's files go on after `GenerationRecord.stem`."""


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

    def stem(self, subject: str, time: float) -> str:
        """Return the common start of the names of all files of one visit."""
        scenario = f"_setting-{self.scenario}" if self.scenario else ""
        return f"{subject}_time-{time_text(time)}{scenario}"

    def sidecar(self, generated: Generated, time: float, volume: Volume) -> dict[str, Any]:
        """Return the content of the JSON sidecar of one visit, without the fields of a single sample.

        ``grid`` says where the model worked: the range of the file's voxels along each axis, the first and one past the
        last, the size of the model's own voxels in mm in RAS order, and the share of the foreground inside.

        Args:
            generated: one sample of a subject's visits.
            time: time of the visit, in the subject's unit.
            volume: the volume that is written.
        """
        prepared = generated.prepared
        subject, placement = prepared.subject, prepared.placement
        converted = self.model_time_unit != self.time_unit

        def given(index: int) -> dict[str, Any]:
            return {"time": subject.times[index], "source": Path(subject.visits[index].source).name}

        content = {
            "synthetic": True,
            "simulated_history": self.simulated,
            "subject": subject.id,
            "time": time,
            "time_unit": self.time_unit,
            "model_time": prepared.model_time(time) if converted else None,
            "model_time_unit": self.model_time_unit if converted else None,
            "history": [given(i) for i in generated.task.given if subject.times[i] < time or not self.causal],
            "detail": self.detail,
            "grid": {
                "voxels": [list(ends) for ends in placement.box_in(volume)],
                "spacing": [round(size, 4) for size in voxel_sizes(placement.affine).tolist()],
                "foreground_inside": round(1 - prepared.outside, 4),
            },
            "reference": given(generated.given_before(generated.times.index(time))) if self.detail else None,
            "order": self.order,
            "generated_before": [t for t in generated.times if t < time and self.order == "autoregressive"],
            "setting": self.scenario,
            "seed": self.seed,
            "sampler": self.sampler,
            "steps": self.steps,
            "guidance": self.guidance,
            "guidance_interval": self.guidance_interval,
            "precision": self.precision,
            "model": dict(self.model),
        }
        return {key: value for key, value in content.items() if value is not None}


def make_way(record: GenerationRecord, folder: Path, visits: Iterable[tuple[str, float]], *, overwrite: bool) -> None:
    """Check that no visit that is going to be written has files in a folder, or delete those files.

    All files of a visit are deleted together, so that the samples of one generation never stand beside another's.

    Args:
        record: provenance of the visits that are going to be written.
        folder: the folder to write to.
        visits: the subject's id and the time of each visit.
        overwrite: delete the files instead of refusing.

    Raises:
        LongigenError: naming a file of such a visit, and the seed that it was generated with.
    """
    for subject, time in visits:
        start = glob.escape(record.stem(subject, time))
        files = sorted(file for end in FILE_ENDS for file in (folder / subject).glob(f"{start}{end}"))
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


def write_visits(generated: Generated, folder: Path, record: GenerationRecord, *, sample: int) -> list[Path]:
    """Write each generated visit as NIfTI, in the subject's own space, with a JSON sidecar; see `Generated.volume`.

    Args:
        generated: one sample of a subject's visits.
        folder: the folder to write to; the files go into a subfolder named after the subject.
        record: provenance of the visits.
        sample: index of the sample.

    Returns:
        The paths of the NIfTI files, in order of time.
    """
    subject, paths = generated.prepared.subject.id, []
    for index, time in enumerate(generated.times):
        path = folder / subject / f"{record.stem(subject, time)}_sample-{sample}.nii.gz"
        description = f"synthetic: longigen, time {time_text(time)} {record.time_unit}, sample {sample}"
        volume = generated.volume(index, detail=record.detail)
        write_volume(volume, path, description)
        write_json({**record.sidecar(generated, time, volume), "sample": sample}, sidecar_path(path))
        paths.append(path)
    return paths


def write_mean_and_std(generated: Generated, samples: Sequence[Sequence[Path]], record: GenerationRecord) -> float:
    """Write the voxelwise mean and standard deviation of the samples of each visit, beside the samples.

    Each sample is a whole trajectory, whose later visits are generated from its earlier ones, so the standard deviation
    of a later visit includes that of the earlier ones. The samples are read from their files, one volume at a time, so
    the statistics are in the subject's own space and intensities.

    Args:
        generated: any one of the samples.
        samples: for each of K ≥ 2 samples, the paths that `write_visits` returned.
        record: provenance of the visits.

    Returns:
        The largest standard deviation of all voxels.
    """
    subject, max_std = generated.prepared.subject.id, 0.0
    for time, *files in zip(generated.times, *samples, strict=True):
        moments = Moments()
        for file in files:
            moments.add(read_volume(file, subject).data)
        first = read_volume(files[0], subject)
        max_std = max(max_std, float(moments.std.max()))
        for name, data, statistic in (
            ("mean", moments.mean, "mean of the samples"),
            ("std", moments.std, "standard deviation of the samples, divisor samples - 1"),
        ):
            path = files[0].with_name(f"{record.stem(subject, time)}_{name}.nii.gz")
            description = (
                f"synthetic: longigen, time {time_text(time)} {record.time_unit}, {name} of {len(files)} samples"
            )
            write_volume(replace(first, data=data), path, description)
            content = {"statistic": statistic, "samples": len(files), "sample_files": [file.name for file in files]}
            write_json({**record.sidecar(generated, time, first), **content}, sidecar_path(path))
    return max_std


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
