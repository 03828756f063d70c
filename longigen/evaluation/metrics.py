"""Choose the metrics of an evaluation."""

import warnings
from collections.abc import Sequence

from longigen.components.base import parameters
from longigen.components.changes import parse_change
from longigen.components.metric import Metric
from longigen.errors import LongigenError, LongigenWarning, did_you_mean
from longigen.registry.registry import registry


def load_metrics(chosen: Sequence[str] | None = None, *, samples: int = 1) -> dict[str, Metric]:
    """Make metrics by name, by default all installed ones that belong to the default table.

    Args:
        chosen: names, or ``name:key=value,key=value`` with parameters.
        samples: of each visit; metrics of an ensemble need two.

    Raises:
        LongigenError: if one that was asked for is unknown, does not load, or needs several samples where there is one.
            One that was not asked for and does not load is left out, with a `LongigenWarning`.
    """
    if chosen:
        return {text.partition(":")[0]: _metric(text, samples) for text in chosen}
    made = {}
    for name in registry.entries("metric"):
        try:
            cls = registry.load("metric", name)
        except LongigenError as error:
            warnings.warn(f"Left out: {error}", LongigenWarning, stacklevel=2)
            continue
        if cls.default and (samples > 1 or not cls.ensemble):
            made[name] = registry.make("metric", name)
    return made


def _metric(text: str, samples: int) -> Metric:
    name, _, rest = text.partition(":")
    known = registry.entries("metric")
    if name not in known:
        raise LongigenError(f"There is no metric '{name}'.{did_you_mean(name, known)} Installed: {', '.join(known)}.")
    cls = registry.load("metric", name)
    if cls.ensemble and samples < 2:
        raise LongigenError(
            f"The metric '{name}' scores several samples of each visit, and there is one; give --samples 2 or more "
            "to 'longigen evaluate', or leave it out."
        )
    allowed = parameters(cls)
    changes = [parse_change(change, {"metric": allowed}) for change in rest.split(",") if change]
    return registry.make("metric", name, {key: value for _, key, value in changes})
