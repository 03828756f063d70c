"""Train and score the recipes `heart` and `brain` on simulated data: ``python benchmarks/recipes.py [heart] [brain]``.

Runs are written to ``--work`` (finished ones are reused) and the tables to ``docs/results/sim-heart-heart`` and
``docs/results/sim-brain-brain``: one sample, and eight, of the last visit in the three settings, in the subjects' own
space. For brains also whether the change is each subject's own, by the true volumes of the ventricles
(``progression.py``), and the correlation of the generated with the true change in each voxel from two visits.
"""

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path

from heart import SAMPLES, generated, predictors
from progression import changes_of, correlations, table, tasks_of

from longigen import api
from longigen.errors import LongigenWarning
from longigen.evaluation.comparison import Comparison
from longigen.generation.session import GenerationSession
from longigen.models.predict import GenerationSettings
from longigen.registry.registry import registry
from longigen.utils.intervals import Summary

RESULTS = Path(__file__).parents[1] / "docs" / "results"
DATA = {"heart": ("sim-heart", ()), "brain": ("sim-brain", ("data.spacing=2", "data.subject_count=80"))}


def run(recipe: str, work: Path, extra: Sequence[str]) -> Path:
    """Train a recipe if it is not trained yet; return the folder of its run."""
    data, changes = DATA[recipe]
    folder = work / f"{data}-{recipe}"
    if not (folder / "model" / "config.json").exists():
        api.train(data, recipe, changes=[*changes, *extra], out=folder, progress=False)
    return folder


def change_from_two(folder: Path) -> str:
    """Return a line on the correlation over voxels of generated and true change, from the first two visits."""
    session = GenerationSession.open(str(folder))
    metric, values = registry.make("metric", "change-correlation", {}), []
    for item in session.generate(tasks_of(session, "two"), GenerationSettings(), batch_size=1):
        pair = Comparison.of([item], len(item.times) - 1, "subject")
        values.append(metric(pair.generated[0], pair.true, pair.previous, pair.foreground))
    summary = Summary.of(values)
    return (
        "correlation over voxels of the generated with the true change, last visit from the first two: "
        f"{summary.mean:.3f} [{summary.low:.3f}, {summary.high:.3f}], N = {len(values)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "recipes", nargs="*", default=list(DATA), metavar="RECIPE", help="heart or brain; both by default"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/recipes"), help="folder of the runs")
    parser.add_argument("--set", action="append", default=[], help="change of the recipe, as KEY=VALUE")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", LongigenWarning)
    for recipe in arguments.recipes:
        folder = run(recipe, arguments.work, arguments.set)
        parts = []
        for samples in (1, SAMPLES):
            evaluation = api.evaluate(folder, samples=samples, progress=False)
            evaluation.save(folder / f"evaluation-{samples}")
            parts.append(evaluation.table())
        parts.append(predictors([pair for _, pair in generated(folder, "single", SAMPLES)]))
        if recipe == "brain":
            parts.append(change_from_two(folder))
            volumes = table(correlations(changes_of([str(folder)])))
            parts.append(f"correlation with the true change of the ventricles' volume [95 % interval]\n\n{volumes}")
        text = "\n\n".join(parts)
        print(text, flush=True)
        out = RESULTS / folder.name
        out.mkdir(parents=True, exist_ok=True)
        command = " ".join(["python benchmarks/recipes.py", recipe, *(f"--set {change}" for change in arguments.set)])
        (out / "table.txt").write_text(f"$ {command}\n\n{text}\n", "utf-8")


if __name__ == "__main__":
    main()
