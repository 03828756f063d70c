"""Cross-validate the recipe `heart` on ACDC, in the patients' own space: ``python benchmarks/heart.py --acdc PATH``.

Each patient is in the test part of one of five folds, so it is scored once, by a model that never saw it. The folds
start from ``heart-sunnybrook`` and are trained if their run folders do not exist yet (``--only K`` trains and scores
one, so that several processes share the work). Written to ``docs/results/acdc-heart``: the table of all patients in the
three settings, with draws; how much the blood pools shrink from end diastole to end systole beside the truth; whether
each patient's own amount of change shows; and pictures of the best, the median and the worst patient from one frame, at
their own resolution.
"""

import argparse
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.ndimage import binary_dilation, gaussian_filter
from torch import Tensor

from longigen import api
from longigen.errors import LongigenWarning
from longigen.evaluation.comparison import Comparison
from longigen.evaluation.evaluate import SUMMARY, read_scores
from longigen.evaluation.scoring import summarise
from longigen.evaluation.tables import evaluation_table
from longigen.generation.session import GenerationSession
from longigen.models.predict import GenerationSettings
from longigen.models.tasks import Scenario, last_only
from longigen.registry.registry import registry
from longigen.utils.intervals import Summary

SIZE = "large"
CHANGES = ("denoiser.similarity=4", "denoiser.amount=3", "denoiser.dropout=0.2")
"""The recipe's own values, which those of ``heart-sunnybrook``, trained earlier, would replace."""
FOLDS = 5
SAMPLES = 8
RESULTS = Path(__file__).parents[1] / "docs" / "results" / "acdc-heart"
SCENARIOS: tuple[Scenario, ...] = ("single", "missing", "full")
MOVING = 0.25
"""The moving heart: where the smoothed true change is at least this share of its maximum, dilated by three voxels."""


def train(fold: int, work: Path, acdc: Path, extra: Sequence[str], init: str | None) -> Path:
    """Train the model of a fold if it is not there yet; return the folder of its run."""
    folder = work / f"fold-{fold}"
    if not (folder / "model" / "config.json").exists():
        changes = ["data.frames=6", f"split.folds={FOLDS}", f"split.fold={fold}", "split.validation=0.05"]
        changes += [*CHANGES, *extra]
        api.train(f"acdc:{acdc}", "heart", size=SIZE, changes=changes, init=init, out=folder, progress=False)
    return folder


def contraction(visit: np.ndarray, comparison: Comparison) -> float:
    """Return by how much the area of the blood pools is smaller than in the last given visit, from 0 to 1.

    Blood is what is brighter, within the moving heart, than the midpoint between the means of its two classes in the
    last given visit (Ridler and Calvard 1978).
    """
    previous, true = comparison.previous[0].numpy(), comparison.true[0].numpy()
    change = gaussian_filter(np.abs(true - previous), (2, 2, 0))
    heart = binary_dilation(change > MOVING * change.max(), iterations=3)
    values = previous[heart]
    threshold = values.mean()
    for _ in range(20):
        threshold = (values[values > threshold].mean() + values[values <= threshold].mean()) / 2
    return 1 - float((visit[heart] > threshold).sum() / (values > threshold).sum())


def generated(folder: Path, scenario: Scenario, samples: int) -> list[tuple[str, Comparison]]:
    """Return the last visit of each test subject, as generated in a scenario: its id, and the volumes to compare."""
    session = GenerationSession.open(str(folder))
    tasks = session.tasks(scenario, seed=0, select=last_only)
    drawn = session.generate(tasks, GenerationSettings(), samples=samples, batch_size=1)
    return [
        (items[0].prepared.subject.id, Comparison.of(items, len(items[0].times) - 1, "subject"))
        for items in zip(*[drawn] * samples, strict=True)
    ]


def predictors(pairs: Sequence[Comparison]) -> str:
    """Return a line on how well the samples' spread tells where the error of their mean is."""
    found = []
    for pair in pairs:
        inside, mean = pair.foreground, pair.generated.mean(dim=0)
        error, change = (mean - pair.true).abs()[:, inside], (mean - pair.previous).abs()[:, inside]
        spread = pair.generated.std(dim=0)[:, inside]
        found.append([np.corrcoef(map_.flatten(), error.flatten())[0, 1] for map_ in (spread, change)])
    spread, change = np.mean(found, axis=0)
    return (
        f"correlation over voxels with |error| of the mean of {SAMPLES}: their standard deviation {spread:.2f}, "
        f"|mean - last| {change:.2f}"
    )


def contractions(pairs: Sequence[Comparison]) -> str:
    """Return a line on how much the hearts contract, generated and true."""
    generated = np.array([contraction(pair.generated[0, 0].numpy(), pair) for pair in pairs])
    true = np.array([contraction(pair.true[0].numpy(), pair) for pair in pairs])
    summary = Summary.of(list(generated))
    return (
        f"contraction of the blood pools from one frame: {summary.mean:.3f} [{summary.low:.3f}, {summary.high:.3f}], "
        f"true {true.mean():.3f}; correlation {np.corrcoef(generated, true)[0, 1]:.2f}, N = {len(pairs)}"
    )


def amount(volume: Tensor, pair: Comparison) -> float:
    """Return how much a volume (C, W, H, D) differs from the last given visit: root mean square in the foreground."""
    return float((volume - pair.previous)[:, pair.foreground].square().mean().sqrt())


def amounts(found: Mapping[Scenario, Sequence[tuple[str, Comparison]]], draws: Sequence[Comparison]) -> str:
    """Return lines on whether each patient's own amount of change shows, and on the one that changes least."""
    lines = ["amount of change (root mean square since the last given frame), correlation with the true one:"]
    for scenario, pairs in found.items():
        made = [amount(pair.generated[0], pair) for _, pair in pairs]
        true = [amount(pair.true, pair) for _, pair in pairs]
        lines.append(
            f"  {scenario}: {np.corrcoef(made, true)[0, 1]:.2f}, mean {np.mean(made):.3f}, true {np.mean(true):.3f}"
        )
    inside = 0
    for pair in draws:
        drawn = [amount(volume, pair) for volume in pair.generated]
        inside += min(drawn) <= amount(pair.true, pair) <= max(drawn)
    lines.append(
        f"  single: the true amount is within the range of {SAMPLES} draws for {inside} of {len(draws)} patients "
        f"({(SAMPLES - 1) / (SAMPLES + 1):.2f} if draws are calibrated)"
    )
    still = min(found["single"], key=lambda item: amount(item[1].true, item[1]))[0]
    for scenario, pairs in found.items():
        pair = dict(pairs)[still]
        made, true = amount(pair.generated[0], pair), amount(pair.true, pair)
        error = float((pair.generated[0] - pair.true)[:, pair.foreground].square().mean().sqrt())
        lines.append(
            f"  {still}, which changes least, {scenario}: generated {made:.3f}, true {true:.3f}, error {error:.3f}"
        )
    return "\n".join(lines)


def draw(chosen: Sequence[tuple[str, Comparison]], path: Path) -> None:
    """Draw end diastole, generated and true end systole and both errors, at the patients' own voxels."""
    titles = ("given: end diastole", "generated", "true: end systole", "copy-last - true", "generated - true")
    figure = Figure(figsize=(11, 2.5 * len(chosen)), layout="constrained")
    axes = figure.subplots(len(chosen), len(titles), squeeze=False)
    for line, (label, pair) in zip(axes, chosen, strict=True):
        generated, true, previous = (v[0].numpy() for v in (pair.generated[0], pair.true, pair.previous))
        cut = int(np.square(true - previous).sum(axis=(0, 1)).argmax())
        images = [previous, generated, true, previous - true, generated - true]
        for place, (axis, image) in enumerate(zip(line, images, strict=True)):
            grey = place < 3
            limits = (-1, 1) if grey else (-0.8, 0.8)
            picture = np.rot90(image[..., cut])
            axis.imshow(picture, cmap="gray" if grey else "RdBu_r", vmin=limits[0], vmax=limits[1])
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(label, fontsize=8)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--acdc", type=Path, required=True, help="folder of the patients")
    parser.add_argument("--work", type=Path, default=Path("runs/acdc-heart"), help="folder of the runs")
    parser.add_argument("--only", type=int, help="train and score this fold only")
    parser.add_argument("--init", default="heart-sunnybrook", help="model that each fold starts from; '' for none")
    parser.add_argument("--set", action="append", default=[], help="change of the recipe, as KEY=VALUE")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", LongigenWarning)
    folds = range(FOLDS) if arguments.only is None else [arguments.only]
    for fold in folds:
        folder = train(fold, arguments.work, arguments.acdc, arguments.set, arguments.init or None)
        for samples in (1, SAMPLES):
            scored = folder / f"evaluation-{samples}"
            if not (scored / SUMMARY).exists():
                evaluation = api.evaluate(folder, samples=samples, progress=False)
                evaluation.save(scored)
                print(evaluation.table(), flush=True)
    folders = [arguments.work / f"fold-{fold}" for fold in folds]
    found = {
        scenario: [pair for folder in folders for pair in generated(folder, scenario, 1)] for scenario in SCENARIOS
    }
    pairs = found["single"]
    draws = [pair for folder in folders for _, pair in generated(folder, "single", SAMPLES)]
    lines = "\n".join([contractions([pair for _, pair in pairs]), predictors(draws), amounts(found, draws)])
    print(lines)
    if arguments.only is not None:
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    tables = []
    for samples, name in ((1, "the central forecast"), (SAMPLES, f"the first of {SAMPLES} draws, and their mean")):
        scores = [score for folder in folders for score in read_scores(folder / f"evaluation-{samples}")]
        metrics = {metric: registry.make("metric", metric, {}) for metric in scores[0].values}
        title = f"ACDC, {len(pairs)} patients in {FOLDS} folds, end systole, in the patients' own space: {name}"
        tables.append(evaluation_table(summarise(scores, metrics), metrics, title, samples).text())
    (RESULTS / "table.txt").write_text("\n\n".join([*tables, lines]) + "\n", "utf-8")
    ranked = sorted(pairs, key=lambda pair: float((pair[1].generated[0] - pair[1].true).square().mean()))
    chosen = [("best", ranked[0]), ("median", ranked[len(ranked) // 2]), ("worst", ranked[-1])]
    draw([(f"{name}: {subject}", pair) for name, (subject, pair) in chosen], RESULTS / "pictures.png")


if __name__ == "__main__":
    main()
