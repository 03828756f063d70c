"""Pictures of generated visits in three planes, beside the true visit and copy-last, for the other scripts here."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from longigen.evaluation.comparison import Comparison, Space
from longigen.generation.planes import SIDE, Cut, Window, column, difference_colours, grey, side_by_side, stacked
from longigen.generation.session import GenerationSession
from longigen.generation.strip import difference_limit
from longigen.models.predict import GenerationSettings
from longigen.models.tasks import Scenario, last_only

PANELS = 8
"""The largest number of panels beside each other."""


def last_visit(run: Path, scenario: Scenario, *, space: Space = "subject") -> tuple[str, Comparison]:
    """Return the first test subject's id, and its last visit as the run generates it."""
    session = GenerationSession.open(str(run))
    tasks = session.tasks(scenario, seed=0, select=last_only)[:1]
    (item,) = session.generate(tasks, GenerationSettings())
    return item.prepared.subject.id, Comparison.of([item], len(item.times) - 1, space)


def write_planes(pairs: Mapping[str, Comparison], path: Path, *, title: str, side: int = SIDE) -> None:
    """Write a PNG of one visit: the true one, copy-last and each method in three planes, its error below.

    The planes cut where the true visit differs most from the last given one. All images have one grey scale and all
    errors (true - generated) one colour scale, from blue over black to red.

    Args:
        pairs: the visit as each method generates it, by the method's name; on one grid.
        path: of the PNG.
        title: what is written above.
        side: the longest side of a plane, in pixels.
    """
    first = next(iter(pairs.values()))
    images = {"true": first.true, "copy-last": first.previous}
    images |= {method: pair.generated[0] for method, pair in pairs.items()}
    true, window = first.true[0].numpy(), Window(-1.0, 1.0)
    change = true - first.previous[0].numpy()
    cut = Cut.through(np.abs(change))
    limit = difference_limit(change, cut, window)
    panels = []
    for name, image in images.items():
        data = image[0].numpy()
        drawn = [grey(data, window), *([difference_colours(true - data, limit)] if name != "true" else [])]
        parts = [column(colours, cut, first.affine, side=side) for colours in drawn]
        panels.append((name, stacked(parts, gap=8)))
    rows = [panels[start : start + PANELS] for start in range(0, len(panels), PANELS)]
    sheet = stacked([side_by_side([panel for _, panel in row], [name for name, _ in row]) for row in rows], gap=10)
    side_by_side([sheet], [f"{title}; errors: true - generated, blue -{limit:.2f} to red {limit:.2f}"]).save(path)
