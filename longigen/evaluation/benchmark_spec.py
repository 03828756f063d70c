"""Benchmark tables: the methods to compare, as a ``registry.yaml`` lists them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from longigen.errors import LongigenError, did_you_mean
from longigen.hub.metrics_file import COPIES, COPY_LAST
from longigen.hub.model_config import CODEC, COMPONENTS
from longigen.registry.catalog import Catalog
from longigen.training.recipe import Recipe

KEYS = ("summary", "paper", "recipe", "metrics", "rows")
ROW_KEYS = ("recipe", "recipes", "components", "changes")


@dataclass(frozen=True)
class BenchmarkRow:
    """A row of a benchmark table, that is a method: a recipe with changed components and hyperparameters.

    Attributes:
        name: name of the method.
        recipe: name of the recipe.
        components: names of components to use instead of the recipe's, by section.
        changes: changes ``section.key=value`` of the recipe.
    """

    name: str
    recipe: str
    components: Mapping[str, str]
    changes: Sequence[str]

    @property
    def folder(self) -> str:
        """The name of the row's folder: its name in lower case, with hyphens."""
        return re.sub(r"[^a-z0-9+]+", "-", self.name.lower()).strip("-")

    def resolve(self, *, data: str | None, changes: Sequence[str], forced: Sequence[str]) -> tuple[Recipe, list[str]]:
        """Return the row's recipe, and the changes of hyperparameters that it does not have.

        Args:
            data: a data set's name or a path; by default the recipe's data set.
            changes: the user's changes for all rows; a hyperparameter that this row does not have is left out.
            forced: changes that must apply to every row.
        """
        unchanged = Recipe.resolve(self.recipe, components=self.components, data=data, changes=self.changes)
        unused = [change for change in changes if not _applies(change, unchanged)]
        applied = [*self.changes, *(change for change in changes if change not in unused), *forced]
        return Recipe.resolve(self.recipe, components=self.components, data=data, changes=applied), unused


@dataclass(frozen=True)
class BenchmarkSpec:
    """A benchmark table: methods to train on one split with equal budgets. Copy-last and blurred copies are
    added as the first rows.

    Attributes:
        name: name of the table.
        summary: one line of description.
        paper: the paper with a similar table.
        metrics: names of the metrics; if empty, those of the default table.
        rows: the rows, one per method.
        unavailable: for each row that cannot be had with the chosen recipe, the reason.
    """

    name: str
    summary: str
    paper: str
    metrics: tuple[str, ...]
    rows: tuple[BenchmarkRow, ...]
    unavailable: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, *, recipe: str | None = None) -> "BenchmarkSpec":
        """Return a table of the catalog.

        Args:
            name: name of the table.
            recipe: name of a recipe to use instead of the table's own, which changes the size and the data of all rows
                and the method of none: it must have the components of the table's recipe, and a row with its own recipe
                lists under ``recipes`` which one belongs to it. The other rows are `unavailable`.

        Raises:
            LongigenError: if there is no such table or recipe, its entry in the ``registry.yaml`` is invalid, or no row
                can be had with the recipe.
        """
        catalog = Catalog()
        content = catalog.table(name).content
        owner = f"The table '{name}'"
        _require_known(content, KEYS, owner)
        entries = content.get("rows")
        if not isinstance(entries, Mapping) or not entries:
            raise LongigenError(f"{owner} has no rows; list them by name under 'rows' in its registry.yaml.")
        default = content.get("recipe")
        rows = [_row(str(key), value or {}, default, owner) for key, value in entries.items()]
        taken = any(row.name in COPIES for row in rows)
        if taken or len({row.folder for row in rows} | {COPY_LAST, ""}) < len(rows) + 2:
            raise LongigenError(
                f"{owner} has two rows with the same folder name, or one called {' or '.join(COPIES)}; rename one of "
                "them."
            )
        metrics = content.get("metrics") or []
        if not isinstance(metrics, list):
            raise LongigenError(f"{owner} must hold a list 'metrics', got {metrics!r}.")
        summary, paper = (str(content.get(key, "")) for key in ("summary", "paper"))
        unavailable = {}
        if recipe is not None:
            found = [_with_recipe(row, entries[row.name] or {}, default, recipe, owner, catalog) for row in rows]
            rows = [row for row in found if isinstance(row, BenchmarkRow)]
            unavailable = dict(reason for reason in found if not isinstance(reason, BenchmarkRow))
            if not rows:
                raise LongigenError(f"{next(iter(unavailable.values()))}.")
        return cls(name, summary, paper, tuple(map(str, metrics)), tuple(rows), unavailable)

    def only(self, names: Sequence[str]) -> tuple[BenchmarkRow, ...]:
        """Return the rows with these names, or all rows if there are no names.

        Raises:
            LongigenError: if no row has one of the names, or it cannot be had with the chosen recipe.
        """
        known = [row.name for row in self.rows]
        for name in names:
            if name in self.unavailable:
                raise LongigenError(f"{self.unavailable[name]}; leave it out.")
            if name not in known:
                raise LongigenError(
                    f"The table '{self.name}' has no row '{name}'.{did_you_mean(name, known)} "
                    f"Its rows: {', '.join(known)}."
                )
        return tuple(row for row in self.rows if not names or row.name in names)


def _row(name: str, content: Any, default: Any, owner: str) -> BenchmarkRow:
    owner = f"{owner}, row '{name}',"
    if not isinstance(content, Mapping):
        raise LongigenError(f"{owner} must hold keys such as 'components', got {content!r}.")
    _require_known(content, ROW_KEYS, owner)
    components, changes = content.get("components") or {}, content.get("changes") or []
    if not isinstance(components, Mapping) or not isinstance(changes, list):
        raise LongigenError(f"{owner} must hold a mapping 'components' and a list 'changes'.")
    if not isinstance(content.get("recipes") or {}, Mapping):
        raise LongigenError(f"{owner} must hold a mapping 'recipes' from recipes of the table to its own.")
    _require_known(components, (*COMPONENTS, CODEC), owner)
    chosen = content.get("recipe") or default
    if not chosen:
        raise LongigenError(f"{owner} names no recipe; add the key 'recipe'.")
    return BenchmarkRow(
        name, str(chosen), {key: str(value) for key, value in components.items()}, [str(c) for c in changes]
    )


def _with_recipe(
    row: BenchmarkRow, content: Mapping[str, Any], default: Any, recipe: str, owner: str, catalog: Catalog
) -> BenchmarkRow | tuple[str, str]:
    """Return a row at the size and with the data of another recipe of the table, or its name and why there is none."""
    own: Mapping[str, Any] = {default: row.recipe, row.recipe: row.recipe, **(content.get("recipes") or {})}
    if recipe in own:
        return replace(row, recipe=str(own[recipe]))
    if not content.get("recipe"):
        if _components(recipe, catalog) == (needed := _components(row.recipe, catalog)):
            return replace(row, recipe=recipe)
        takes = f"a recipe with the components {', '.join(needed.values())}"
    else:
        catalog.recipe(recipe)  # a misspelt name has an error of its own
        takes = " or ".join(str(name) for name in own if name not in (None, row.recipe))
    return row.name, (
        f"{owner}, row '{row.name}', cannot be had with --recipe {recipe}, which has no size of its method; it takes "
        f"{takes}, and --data for other data"
    )


def _components(recipe: str, catalog: Catalog) -> dict[str, str]:
    """Return the names of a recipe's components, by section."""
    content = catalog.recipe(recipe).content
    return {section: str((content.get(section) or {}).get("name", "")) for section in COMPONENTS}


def _require_known(content: Mapping[str, Any], keys: Sequence[str], owner: str) -> None:
    for key in content:
        if key not in keys:
            raise LongigenError(
                f"{owner} has an unknown key '{key}'.{did_you_mean(str(key), keys)} Keys: {', '.join(keys)}."
            )


def _applies(change: str, recipe: Recipe) -> bool:
    """Return whether a recipe has the hyperparameter of a change ``section.key=value`` or ``key=value``."""
    section, dot, key = change.partition("=")[0].strip().rpartition(".")
    owners = [section] if dot else list(recipe.configs)
    return any(key in recipe.configs.get(owner, {}) for owner in owners)
