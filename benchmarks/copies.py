"""What metrics give for copies of the last visit: ``python benchmarks/copies.py acdc:PATH --subjects 20``.

Of each subject's first and last visit, the mean over subjects of each metric for a copy of the first, for copies
blurred by a Gaussian, for the mean of both visits (half of the change is right), for the true visit with noise of 2.5 %
of the intensity range, and for the true visit. What a blurred copy gains, a forecast gains by blur. ``laplacian
voxelwise`` is what `laplacian-error` is not: the mean difference of the Laplacians over the mean size of the true one.
``--tiny`` takes three simulated hearts.
"""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor

from longigen.data.grid import Grid
from longigen.data.open_dataset import open_dataset
from longigen.data.preprocess import Preprocess
from longigen.evaluation.comparison import Comparison
from longigen.evaluation.metrics import load_metrics
from longigen.evaluation.result_table import ResultTable
from longigen.models.predict import Generated
from longigen.models.tasks import Task
from longigen.utils.intervals import Summary
from longigen_metrics.sharpness import laplacian

METRICS = (
    "psnr",
    "ssim-foreground",
    "change-correlation",
    "change-correlation:coefficient=spearman",
    "delta-rmae",
    "change-auroc",
    "sharpness",
    "laplacian-error",
    "perceptual",
)
NOISE = 0.05
"""In model intensities, whose range is 2."""

Metric = Callable[[Tensor, Tensor, Tensor, Tensor], float]


def voxelwise(generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
    """Return the mean difference of the Laplacians over the mean size of the true one, inside the foreground."""
    made, aim = (laplacian(volume)[:, foreground] for volume in (generated, true))
    return float((made - aim).abs().sum() / aim.abs().sum())


def images(compared: Comparison) -> dict[str, Tensor]:
    """Return what is scored of a subject, by name."""
    noise = torch.randn(compared.true.shape, generator=torch.Generator().manual_seed(0))
    return {
        "copy": compared.previous,
        "blurred .5": compared.blurred(0.5),
        "blurred 1": compared.blurred(1.0),
        "half": (compared.previous + compared.true) / 2,
        "true + noise": compared.true + NOISE * noise,
        "true": compared.true,
    }


def main() -> None:
    """Print a line for each metric."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default="sim-heart", help="a data set or a path")
    parser.add_argument("--subjects", type=int, default=20, help="number of subjects")
    parser.add_argument("--tiny", action="store_true", help="three simulated hearts")
    options = parser.parse_args()
    name, dataset = open_dataset("sim-heart" if options.tiny else options.data)
    metrics: dict[str, Metric] = {**load_metrics(METRICS), "laplacian voxelwise": voxelwise}
    pipeline = Preprocess(Grid((8, 8, 8), None, "image", "resize"))  # the grid of a model, and there is none
    values: dict[str, dict[str, list[float]]] = {}
    subjects = dataset.subjects()[: 3 if options.tiny else options.subjects]
    for prepared in map(pipeline.subject, subjects):
        last = len(prepared.subject.visits) - 1
        task = Task((0,), (last,))
        unchanged = Generated(prepared, task, (prepared.subject.times[last],), prepared.visit(0)[None])
        compared = Comparison.of([unchanged], 0, "subject")
        for of, image in images(compared).items():
            for label, metric in metrics.items():
                found = metric(image, compared.true, compared.previous, compared.foreground)
                values.setdefault(label, {}).setdefault(of, []).append(found)
    columns = ["metric", *next(iter(values.values()))]
    lines = [[label, *(f"{Summary.of(cell).mean:.3f}" for cell in cells.values())] for label, cells in values.items()]
    print(ResultTable(columns, lines, title=f"{name}: {len(subjects)} subjects, first to last visit").text())


if __name__ == "__main__":
    main()
