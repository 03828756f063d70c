"""Generated visits as files: NIfTI in the subject's own space, and a JSON sidecar with their provenance."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longigen.data.volume import Volume, read_volume, write_volume
from longigen.models.predict import Generated
from longigen.models.tasks import Scenario
from longigen.utils.files import write_json
from longigen.utils.moments import Moments


@dataclass(frozen=True, kw_only=True)
class GenerationRecord:
    """How visits were generated, as it is written beside each of them.

    Attributes:
        time_unit: of all times.
        simulated: whether the given visits are simulated; None where that is not known.
        causal: whether only visits before the target were used.
        scenario: which visits were given; None where the user chose them one by one.
        seed: of the sampling noise.
        steps: network evaluations per visit.
        guidance: weight of classifier-free guidance.
        model: the components' names, the version of longigen and the SHA-256 of the weights.
    """

    time_unit: str
    simulated: bool | None
    causal: bool
    scenario: Scenario | None
    seed: int
    steps: int
    guidance: float
    model: Mapping[str, Any]

    def stem(self, subject: str, time: float) -> str:
        """Return how the names of all files of one visit begin."""
        scenario = f"_setting-{self.scenario}" if self.scenario else ""
        return f"{subject}_time-{time:g}{scenario}"

    def sidecar(self, generated: Generated, time: float) -> dict[str, Any]:
        """Return the content of the JSON sidecar of one visit, without what concerns a single sample."""
        subject = generated.prepared.subject
        content = {
            "synthetic": True,
            "simulated_history": self.simulated,
            "subject": subject.id,
            "time": time,
            "time_unit": self.time_unit,
            "history": [
                {"time": subject.times[i], "source": Path(subject.visits[i].source).name}
                for i in generated.task.given
                if subject.times[i] < time or not self.causal
            ],
            "generated_before": [earlier for earlier in generated.times if earlier < time],
            "setting": self.scenario,
            "seed": self.seed,
            "steps": self.steps,
            "guidance": self.guidance,
            "model": dict(self.model),
        }
        return {key: value for key, value in content.items() if value is not None}


def write_visits(generated: Generated, folder: Path, record: GenerationRecord, *, sample: int) -> list[Path]:
    """Write each generated visit as NIfTI, in the subject's own space, with a JSON sidecar.

    Args:
        generated: one sample of a subject's visits.
        folder: gets a folder for the subject.
        record: how they were generated.
        sample: the number of the sample.

    Returns:
        The paths of the NIfTI files, in order of time.
    """
    subject, paths = generated.prepared.subject.id, []
    for time, image in zip(generated.times, generated.images, strict=True):
        path = folder / subject / f"{record.stem(subject, time)}_sample-{sample}.nii.gz"
        description = f"synthetic: longigen, time {time:g} {record.time_unit}, sample {sample}"
        write_volume(generated.prepared.restore(image), path, description)
        write_json({**record.sidecar(generated, time), "sample": sample}, sidecar_path(path))
        paths.append(path)
    return paths


def write_mean_and_std(generated: Generated, samples: Sequence[Sequence[Path]], record: GenerationRecord) -> float:
    """Write the mean and the standard deviation of the samples of each visit, voxel by voxel, beside the samples.

    Each sample is a whole trajectory, its later visits made from its own earlier ones, so a later visit's standard
    deviation includes that of the visits before. The files are read again, one volume at a time: the standard deviation
    is that of the files, in the subject's own space and intensities.

    Args:
        generated: any one of the samples.
        samples: for each of K ≥ 2 samples, the paths that `write_visits` returned.
        record: how they were generated.

    Returns:
        The largest standard deviation of all voxels.
    """
    subject, widest = generated.prepared.subject.id, 0.0
    for time, *files in zip(generated.times, *samples, strict=True):
        moments, affine = Moments(), None
        for file in files:
            volume = read_volume(file, subject)
            moments.add(volume.data)
            affine = volume.affine if affine is None else affine
        if affine is None:
            raise ValueError("there are no samples")
        widest = max(widest, float(moments.std.max()))
        for name, data, statistic in (
            ("mean", moments.mean, "mean of the samples"),
            ("std", moments.std, "standard deviation of the samples, divisor samples - 1"),
        ):
            path = files[0].with_name(f"{record.stem(subject, time)}_{name}.nii.gz")
            description = f"synthetic: longigen, time {time:g} {record.time_unit}, {name} of {len(files)} samples"
            write_volume(Volume(data, affine), path, description)
            content = {"statistic": statistic, "samples": len(files), "sample_files": [file.name for file in files]}
            write_json({**record.sidecar(generated, time), **content}, sidecar_path(path))
    return widest


def sidecar_path(image: Path) -> Path:
    """Return the path of the JSON sidecar of a NIfTI file."""
    return image.with_name(f"{image.name.removesuffix('.nii.gz')}.json")


def spread_caution(samples: int, steps: int, widest: float = math.inf) -> str | None:
    """Return a sentence if the standard deviation of samples must not be read as uncertainty, or None.

    Args:
        samples: of each visit.
        steps: network evaluations per visit.
        widest: the largest standard deviation of all voxels.
    """
    if samples < 2:
        return None
    if widest == 0:
        return (
            f"Caution: the {samples} samples of each visit are identical, since nothing in this model is drawn at "
            "random; a standard deviation of 0 does not mean that it is certain."
        )
    if steps == 1:
        return (
            "Caution: one network evaluation per visit gives about the mean of what may come and not a draw, so the "
            f"standard deviation of the {samples} samples is no uncertainty; take more evaluations with --steps."
        )
    return None
