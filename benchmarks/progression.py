"""Test whether generated brains change at the subject's own rate: ``python benchmarks/progression.py RUN [RUN ...]``.

For runs on `sim-brain`, whose true ventricle volumes are known. The last visit of each test subject is generated from
the first visit (`single`), from the first two (`two`), from a random part (`missing`, if it has at least two visits)
and from all earlier visits (`full`). The change of the volume of CSF in the ventricles since the last given visit is
measured in the generated image and compared with the true change.

The measurement uses the true segmentation of the first visit only. Within one voxel of the ventricles, intensity is
modelled as a linear function of the fraction of CSF, fitted in the first visit, so that a change of intensity gives a
change of volume. The same measurement of the true images ("true images") shows its own accuracy.

Prints the correlation over subjects, with its 95 % interval (Fisher's), of the change and of the rate, that is the
change divided by the years and by the volume at the last given visit, so that long gaps and large ventricles do not
raise it. With several runs (seeds) the measured changes of each subject are averaged first. ``--json FILE`` writes the
numbers.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import binary_dilation
from scipy.stats import pearsonr
from torch import Tensor

from longigen import LongigenError
from longigen.data.preprocess import Prepared
from longigen.generation.session import GenerationSession
from longigen.models.predict import Generated, GenerationSettings
from longigen.models.tasks import Task, last_only

SETTINGS = ("single", "two", "missing", "full")
KINDS = ("change", "rate")


@dataclass(frozen=True)
class Change:
    """The change of a subject's ventricle volume between the last given visit and the last visit.

    Attributes:
        subject: id of the subject.
        years: time between the two visits.
        before: true volume at the last given visit, in mm³.
        true: true change in mm³.
        in_true: change measured in the true image, in mm³.
        in_generated: change measured in the generated image, in mm³.
    """

    subject: str
    years: float
    before: float
    true: float
    in_true: float
    in_generated: float

    def value(self, name: str, kind: str) -> float:
        """Return one of the three changes, or with the kind ``rate`` its fraction of the volume per year."""
        change = getattr(self, name)
        return change if kind == "change" else change / self.before / self.years


class VentricleMeasurement:
    """Measures changes of the volume of one subject's ventricles in its images.

    Args:
        prepared: the subject.
        fractions: true fraction of CSF in each voxel of the first visit (W, H, D).
        voxel: volume of a voxel in mm³.
    """

    def __init__(self, prepared: Prepared, fractions: np.ndarray, voxel: float) -> None:
        first = prepared.visit(0)[0].numpy()
        if first.shape != fractions.shape:
            raise LongigenError(
                f"The model's grid {first.shape} is not the grid {fractions.shape} of sim-brain, on which the "
                "ventricles are known; use a run whose preprocessing does not change the grid."
            )
        self.inside = binary_dilation(fractions > 0.02, np.ones((3, 3, 3)))
        slope, _ = np.polyfit(fractions[self.inside], first[self.inside], 1)
        self.scale = voxel / slope

    def change(self, before: Tensor, after: Tensor) -> float:
        """Return the change of volume in mm³ between two images (C, W, H, D)."""
        difference = (after - before)[0].numpy()[self.inside]
        return float(difference.astype(np.float64).sum() * self.scale)


def tasks_of(session: GenerationSession, scenario: str) -> list[tuple[Prepared, Task]]:
    """Return the tasks of all subjects in a scenario, which may also be ``two``: the first two visits are given."""
    if scenario == "two":
        return [
            (prepared, Task((0, 1), tuple(range(2, len(prepared.subject.visits))))) for prepared in session.subjects
        ]
    tasks = session.tasks(scenario, seed=0, select=last_only)  # pyright: ignore[reportArgumentType]
    return [(prepared, task) for prepared, task in tasks if scenario == "single" or len(task.given) > 1]


def measure(session: GenerationSession, generated: Generated) -> Change:
    """Measure the change of the ventricles in the last visit of a task."""
    data: Any = session.cohort.dataset
    subject, last = generated.prepared.subject, len(generated.images) - 1
    visit = generated.task.targets[last]
    base = generated.given_before(last)
    measurement = VentricleMeasurement(generated.prepared, data.ventricles(subject.id, 0), data.spacing**3)
    before = generated.prepared.visit(base)
    volume = data.csf_volume(subject.id, base)
    return Change(
        subject.id,
        subject.times[visit] - subject.times[base],
        volume,
        data.csf_volume(subject.id, visit) - volume,
        measurement.change(before, generated.prepared.visit(visit)),
        measurement.change(before, generated.images[last]),
    )


def correlation(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """Return the correlation over subjects with Fisher's 95 % interval; NaN if `y` is constant."""
    if not np.ptp(y):
        return dict.fromkeys(("value", "low", "high"), float("nan"))
    result: Any = pearsonr(x, y)
    low, high = result.confidence_interval()
    return {"value": float(result.statistic), "low": float(low), "high": float(high)}


def changes_of(runs: Sequence[str]) -> dict[str, list[Change]]:
    """Return the change of each subject in every setting, measured changes averaged over the runs."""
    changes: dict[str, dict[str, list[Change]]] = {name: defaultdict(list) for name in SETTINGS}
    for run in runs:
        session = GenerationSession.open(run)
        if not hasattr(session.cohort.dataset, "ventricles"):
            raise LongigenError(
                f"{run} was trained on '{session.cohort.name}', whose true ventricle volumes are unknown; use a run on "
                "sim-brain."
            )
        for setting in SETTINGS:
            for generated in session.generate(tasks_of(session, setting), GenerationSettings()):
                change = measure(session, generated)
                changes[setting][change.subject].append(change)
    return {
        setting: [
            replace(of_runs[0], in_generated=float(np.mean([change.in_generated for change in of_runs])))
            for of_runs in subjects.values()
        ]
        for setting, subjects in changes.items()
    }


def correlations(changes: Mapping[str, Sequence[Change]]) -> dict[str, Any]:
    """Return, for each setting, the correlations of measured and true changes and rates, and the slope of changes."""
    return {
        setting: {
            "subjects": len(subjects),
            **{
                f"{kind}, {name}": correlation(
                    [change.value("true", kind) for change in subjects],
                    [change.value(source, kind) for change in subjects],
                )
                for kind in KINDS
                for name, source in (("generated", "in_generated"), ("true images", "in_true"))
            },
            "slope": float(np.polyfit([c.true for c in subjects], [c.in_generated for c in subjects], 1)[0]),
        }
        for setting, subjects in changes.items()
    }


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the correlations of each setting as a text table."""
    columns = [name for name in next(iter(results.values())) if name not in ("subjects", "slope")]
    lines = [f"{'given':<9} {'subjects':>8}" + "".join(f"{column:>24}" for column in columns) + f"{'slope':>8}"]
    for setting, row in results.items():
        cells = "".join(f"{'{value:.2f} [{low:.2f}, {high:.2f}]'.format(**row[column]):>24}" for column in columns)
        lines.append(f"{setting:<9} {row['subjects']:>8}{cells}{row['slope']:>8.2f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of runs on sim-brain, one per seed")
    parser.add_argument("--json", type=Path, help="file to write the correlations and the changes of each subject to")
    arguments = parser.parse_args()
    changes = changes_of(arguments.runs)
    results = correlations(changes)
    print("correlation with the true change of the ventricles' volume since the last given visit [95 % interval]\n")
    print(table(results))
    print("\nslope: regression of the generated on the true change; below 1 the generated change is smaller")
    if arguments.json:
        by_setting = {setting: [vars(change) for change in subjects] for setting, subjects in changes.items()}
        content = {"correlations": results, "changes": by_setting}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except LongigenError as error:
        raise SystemExit(str(error)) from None
