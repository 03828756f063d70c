"""Regions in copies of the first visit, against the true label maps of the last: ``python benchmarks/regions.py DATA``.

What a model must beat: the mean over subjects of each metric of regions for a copy of the first visit, by its true
label map, or by a segmenter's (``--segmenter``), beside which stands the segmenter's own error in the true last visit.
The error of a copy's ejection fraction is the ejection fraction itself. ``--set`` changes parameters of the data set.
``--tiny`` takes three simulated hearts. For a model, see ``longigen evaluate --segmenter``.
"""

import argparse

from longigen.components.metric import RegionMetric
from longigen.data.grid import Grid
from longigen.data.open_dataset import open_dataset
from longigen.data.preprocess import Preprocess
from longigen.evaluation.regions import Regions
from longigen.evaluation.scoring import Score, score
from longigen.evaluation.tables import render
from longigen.models.open_segmenter import open_segmenter
from longigen.models.predict import Generated
from longigen.models.tasks import Task
from longigen.utils.intervals import INTERVAL, Summary


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default="sim-heart")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--segmenter")
    parser.add_argument("--subjects", type=int)
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    changes = [*given.set, *(["subject_count=3", "shape=24,24,6", "frames=2"] if given.tiny else [])]
    name, dataset = open_dataset(given.data, changes)
    subjects = dataset.subjects()[: given.subjects]
    regions = Regions.of(dataset, subjects, open_segmenter(given.segmenter) if given.segmenter else None, {})
    metrics = {name: each for name, each in regions.metrics({}).items() if isinstance(each, RegionMetric)}
    scores: list[Score] = []
    for subject in subjects:
        prepared = Preprocess(Grid.default([subject], None)).subject(subject)
        last = len(subject.visits) - 1
        copied = Generated(prepared, Task((0,), (last,)), (subject.times[-1],), prepared.visit(0)[None])
        scores += score([copied], "single", metrics, targets="last", space="subject", regions=regions)
    methods = [
        method
        for method in dict.fromkeys(each.method for each in scores)
        if method != "model" and (given.segmenter or method == "copy-last")
    ]
    lines = [
        [
            f"{label} {metric.arrow()}",
            *(
                Summary.of([each.values[label] for each in scores if each.method == method]).cell()
                for method in methods
            ),
        ]
        for label, metric in metrics.items()
    ]
    notes = [f"means over {len({each.subject for each in scores})} subjects [{INTERVAL}]"]
    print(render(["metric", *methods], lines, title=f"{name}: from the first visit to the last", notes=notes))


if __name__ == "__main__":
    main()
