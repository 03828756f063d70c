"""Does each generated brain change at its subject's own rate: ``python benchmarks/progression.py RUN [RUN ...]``.

For runs on `sim-brain`, which knows the volume of everyone's ventricles. For each test subject the last visit is
generated from the first visit alone (`single`), from the first two (`two`), from a random part (`missing`, where that
is two visits or more) and from all earlier ones (`full`). The change of the CSF in the ventricles since the last given
visit is measured in the generated volume and compared with the simulation's truth.

The measurement knows no truth but where the ventricles are at the first visit: within a voxel of them, intensity is
taken as a line in the share of CSF, fitted in the first visit, and a change of intensity as a change of that share.
Applied to the true images it shows what the measurement itself can do ("true images").

Prints the correlation over subjects with its 95 % bootstrap interval, of the change and of the rate: the change over
the years between and over the volume at the last given visit, so that neither long gaps nor large ventricles help.
With several runs (seeds) the measured changes of a subject are averaged first. ``--json FILE`` keeps the numbers.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import binary_dilation
from torch import Tensor

from longigen import LongigenError
from longigen.data.preprocess import Prepared
from longigen.generation.session import GenerationSession
from longigen.models.predict import Generated, GenerationSettings
from longigen.models.tasks import Task, last_only

SETTINGS = ("single", "two", "missing", "full")
BOOTSTRAPS = 2000
KINDS = ("change", "rate")


@dataclass(frozen=True)
class Change:
    """The change of the ventricles between two visits, in mm³: as simulated, in the true image and in the generated."""

    subject: str
    years: float
    before: float
    true: float
    seen: float
    made: float

    def value(self, name: str, kind: str) -> float:
        change = getattr(self, name)
        return change if kind == "change" else change / self.before / self.years


class Meter:
    """Measures the CSF of one subject's ventricles in images (C, W, H, D) of it."""

    def __init__(self, prepared: Prepared, shares: np.ndarray, voxel: float) -> None:
        first = prepared.visit(0)[0].numpy()
        if first.shape != shares.shape:
            raise LongigenError(
                f"The model's grid {first.shape} is not that of sim-brain {shares.shape}, where the ventricles are "
                "known; use a run whose preprocessing keeps the grid."
            )
        self.inside = binary_dilation(shares > 0.02, np.ones((3, 3, 3)))
        slope, _ = np.polyfit(shares[self.inside], first[self.inside], 1)
        self.scale = voxel / slope

    def change(self, before: Tensor, after: Tensor) -> float:
        """Return the change of volume in mm³."""
        difference = (after - before)[0].numpy()[self.inside]
        return float(difference.astype(np.float64).sum() * self.scale)


def tasks_of(session: GenerationSession, scenario: str) -> list[tuple[Prepared, Task]]:
    if scenario == "two":
        return [
            (prepared, Task((0, 1), tuple(range(2, len(prepared.subject.visits))))) for prepared in session.subjects
        ]
    found = session.tasks(scenario, seed=0, select=last_only)  # pyright: ignore[reportArgumentType]
    return [(prepared, task) for prepared, task in found if scenario == "single" or len(task.given) > 1]


def measured(session: GenerationSession, generated: Generated) -> Change:
    data: Any = session.cohort.dataset
    subject, last = generated.prepared.subject, len(generated.images) - 1
    visit = generated.task.targets[last]
    base = generated.given_before(last)
    meter = Meter(generated.prepared, data.ventricles(subject.id, 0), data.spacing**3)
    before = generated.prepared.visit(base)
    volume = data.csf_volume(subject.id, base)
    return Change(
        subject.id,
        subject.times[visit] - subject.times[base],
        volume,
        data.csf_volume(subject.id, visit) - volume,
        meter.change(before, generated.prepared.visit(visit)),
        meter.change(before, generated.images[last]),
    )


def correlation(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """Return the correlation over subjects with its 95 % bootstrap interval; NaN where nothing changes."""
    if not np.ptp(y):
        return dict.fromkeys(("value", "low", "high"), float("nan"))
    pairs = np.array([x, y])
    rng = np.random.default_rng(0)
    draws = (rng.integers(0, pairs.shape[1], pairs.shape[1]) for _ in range(BOOTSTRAPS))
    found = [np.corrcoef(pairs[:, draw])[0, 1] for draw in draws]
    low, high = np.percentile(found, (2.5, 97.5))
    return {"value": float(np.corrcoef(pairs)[0, 1]), "low": float(low), "high": float(high)}


def of_runs(runs: Sequence[str]) -> dict[str, list[Change]]:
    """Return the changes of every setting, averaged over runs."""
    found: dict[str, dict[str, list[Change]]] = {name: defaultdict(list) for name in SETTINGS}
    for run in runs:
        session = GenerationSession.open(run)
        if not hasattr(session.cohort.dataset, "ventricles"):
            raise LongigenError(f"{run} was trained on '{session.cohort.name}', whose ventricles are not known.")
        session.model.eval()
        for setting in SETTINGS:
            for generated in session.generate(tasks_of(session, setting), GenerationSettings()):
                change = measured(session, generated)
                found[setting][change.subject].append(change)
    return {
        setting: [
            Change(**{**vars(own[0]), "made": float(np.mean([change.made for change in own]))})
            for own in subjects.values()
        ]
        for setting, subjects in found.items()
    }


def correlations(changes: Mapping[str, Sequence[Change]]) -> dict[str, Any]:
    return {
        setting: {
            "subjects": len(own),
            **{
                f"{kind}, {name}": correlation(
                    [change.value("true", kind) for change in own], [change.value(source, kind) for change in own]
                )
                for kind in KINDS
                for name, source in (("generated", "made"), ("true images", "seen"))
            },
            "slope": float(np.polyfit([c.true for c in own], [c.made for c in own], 1)[0]),
        }
        for setting, own in changes.items()
    }


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    columns = [name for name in next(iter(found.values())) if name not in ("subjects", "slope")]
    lines = [f"{'given':<9} {'subjects':>8}" + "".join(f"{column:>24}" for column in columns) + f"{'slope':>8}"]
    for setting, own in found.items():
        cells = "".join(f"{'{value:.2f} [{low:.2f}, {high:.2f}]'.format(**own[column]):>24}" for column in columns)
        lines.append(f"{setting:<9} {own['subjects']:>8}{cells}{own['slope']:>8.2f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--json", type=Path, help="write the numbers, and those of each subject")
    arguments = parser.parse_args()
    changes = of_runs(arguments.runs)
    found = correlations(changes)
    print("correlation with the true change of the ventricles' volume since the last given visit [95 % interval]\n")
    print(table(found))
    print("\nslope: of generated on true change; below 1 the generated change is the smaller")
    if arguments.json:
        content = {"correlations": found, "changes": {key: [vars(c) for c in own] for key, own in changes.items()}}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except LongigenError as error:
        raise SystemExit(str(error)) from None
