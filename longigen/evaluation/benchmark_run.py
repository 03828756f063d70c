"""One training of a benchmark: a row of the table, a seed, and the run that they become."""

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
"""The sections of a recipe that all rows must have in common."""
BUDGET = ("steps", "batch_size", "gradient_accumulation", "mixed_precision", "skip_bad")
"""Of the section ``training``, what all rows must have in common."""


@dataclass(frozen=True)
class BenchmarkRun:
    """A row, to be trained with one seed: its recipe, and the run that it becomes."""

    row: BenchmarkRow
    seed: int
    recipe: Recipe
    output: Run

    @property
    def name(self) -> str:
        return f"{self.row.name}, seed {self.seed}"

    @property
    def cost(self) -> dict[str, Any]:
        """What training and generation have cost so far."""
        path = self.output.folder / COST
        return read_json(path) if path.exists() else {}

    def spend(self, **cost: Any) -> None:
        """Note a cost."""
        write_json({**self.cost, **cost}, self.output.folder / COST)

    @property
    def started(self) -> bool:
        return (self.output.folder / RUN_FILE).exists()

    @property
    def finished(self) -> bool:
        """Whether the model was exported after the last step."""
        files = all((self.output.model / name).exists() for name in (CONFIG, WEIGHTS))
        return self.started and files and bool(self.cost.get("finished"))


def begun_steps(output: Run) -> int | None:
    """Return for how many steps a run was begun, or None where there is none."""
    return int(output.read()["recipe"]["training"]["steps"]) if (output.folder / RUN_FILE).exists() else None


def require_shared(first: BenchmarkRun, run: BenchmarkRun, budget: Sequence[str] = BUDGET) -> None:
    """Refuse rows that could not be compared; `budget` names what they must share of the section ``training``.

    Raises:
        LongigenError: naming what differs.
    """
    for section in (*SHARED, "training"):
        one, two = ({"name": each.recipe.names.get(section), **each.recipe.configs[section]} for each in (first, run))
        keys = budget if section == "training" else {**one, **two}
        for key in keys:
            if one.get(key) != two.get(key):
                raise LongigenError(
                    f"The rows '{first.row.name}' and '{run.row.name}' differ in {section}.{key} ({one.get(key)} and "
                    f"{two.get(key)}), so their numbers cannot stand in one table; set it for both with --set."
                )


def require_unchanged(run: BenchmarkRun) -> None:
    """Refuse a run that was made with another recipe than the row's.

    Raises:
        LongigenError: naming what differs.
    """
    if not run.started:
        return
    recorded, asked = Recipe.from_dict(run.output.read()["recipe"]).to_dict(), run.recipe.to_dict()
    for section, config in asked.items():
        for key in {**config, **recorded[section]}:
            old, new = recorded[section].get(key), config.get(key)
            if old != new:
                raise LongigenError(
                    f"{run.output.folder} was trained with {section}.{key} = {old} and now {new} is asked for; ask for "
                    "the same, or give another --out (nothing was changed)."
                )
