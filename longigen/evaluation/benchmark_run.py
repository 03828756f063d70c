"""One run of a benchmark: a row of the table trained with one seed on one split, and what it cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from longigen.errors import LongigenError
from longigen.evaluation.benchmark_spec import BenchmarkRow
from longigen.hub.manifest import CONFIG, RUN_FILE, WEIGHTS
from longigen.training.recipe import Recipe
from longigen.training.run import Run
from longigen.utils.files import read_json, write_json

COST = "cost.json"
SHARED = ("data", "preprocess", "split")
"""The sections of a recipe that must be equal in all rows."""
BUDGET = ("steps", "batch_size", "gradient_accumulation", "mixed_precision", "skip_bad")
"""The keys of the section ``training`` that must be equal in all rows."""


@dataclass(frozen=True)
class BenchmarkRun:
    """A row of the table to be trained with one seed, on one split.

    Attributes:
        row: the row of the table.
        seed: random seed of training and generation.
        fold: number of the fold whose subjects are the test part, from 0; None without a cross-validation.
        recipe: the row's recipe, with the seed and the fold.
        output: the run to write.
    """

    row: BenchmarkRow
    seed: int
    fold: int | None
    recipe: Recipe
    output: Run

    @property
    def name(self) -> str:
        """The row's name, the fold and the seed, for messages."""
        fold = "" if self.fold is None else f", fold {self.fold}"
        return f"{self.row.name}{fold}, seed {self.seed}"

    @property
    def cost(self) -> dict[str, Any]:
        """The costs recorded so far in ``cost.json``."""
        path = self.output.folder / COST
        return read_json(path) if path.exists() else {}

    def record_cost(self, **cost: Any) -> None:
        """Add costs to ``cost.json``, or replace those of the same names."""
        write_json({**self.cost, **cost}, self.output.folder / COST)

    @property
    def started(self) -> bool:
        """Whether the run's folder holds a run."""
        return (self.output.folder / RUN_FILE).exists()

    @property
    def finished(self) -> bool:
        """Whether the model was exported after the last step."""
        files = all((self.output.model / name).exists() for name in (CONFIG, WEIGHTS))
        return self.started and files and bool(self.cost.get("finished"))


def steps_of_started(output: Run) -> int | None:
    """Return the number of training steps of a run that was started before, or None if there is no run."""
    return int(output.read()["recipe"]["training"]["steps"]) if (output.folder / RUN_FILE).exists() else None


def require_shared(first: BenchmarkRun, run: BenchmarkRun, budget: Sequence[str] = BUDGET) -> None:
    """Check that two runs have equal data, preprocessing, split and budget, so that they can be compared.

    Args:
        first: the first run of the benchmark.
        run: another run.
        budget: the keys of the section ``training`` that must be equal.

    Raises:
        LongigenError: naming the key that differs.
    """
    for section in (*SHARED, "training"):
        one, two = ({"name": item.recipe.names.get(section), **item.recipe.configs[section]} for item in (first, run))
        keys = budget if section == "training" else {**one, **two}
        for key in keys:
            if one.get(key) != two.get(key):
                raise LongigenError(
                    f"The rows '{first.row.name}' and '{run.row.name}' differ in {section}.{key} ({one.get(key)} and "
                    f"{two.get(key)}), so they cannot be compared in one table; set it for both with --set."
                )


def require_unchanged(run: BenchmarkRun) -> None:
    """Check that a run that was started before has the recipe of its row.

    Raises:
        LongigenError: naming the key that differs.
    """
    if not run.started:
        return
    recorded, current = Recipe.from_dict(run.output.read()["recipe"]).to_dict(), run.recipe.to_dict()
    for section, config in current.items():
        for key in {**config, **recorded[section]}:
            old, new = recorded[section].get(key), config.get(key)
            if old != new:
                raise LongigenError(
                    f"{run.output.folder} was trained with {section}.{key} = {old}, which is now {new}; use the same "
                    "value, or give another --out (nothing was changed)."
                )
