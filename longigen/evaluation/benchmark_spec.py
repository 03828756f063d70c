"""Tables: which methods stand beside each other, as a ``registry.yaml`` says it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from longigen.errors import LongigenError, did_you_mean
from longigen.hub.metrics_file import COPY_LAST
from longigen.hub.model_config import COMPONENTS
from longigen.registry.catalog import Catalog
from longigen.training.recipe import Recipe

KEYS = ("summary", "paper", "recipe", "metrics", "rows")
ROW_KEYS = ("recipe", "components", "changes")


@dataclass(frozen=True)
class BenchmarkRow:
    """A method: a recipe with other components and hyperparameters."""

    name: str
    recipe: str
    components: Mapping[str, str]
    changes: Sequence[str]

    @property
    def folder(self) -> str:
        """The row's name as that of a folder."""
        return re.sub(r"[^a-z0-9+]+", "-", self.name.lower()).strip("-")

    def resolve(self, *, data: str | None, changes: Sequence[str], forced: Sequence[str]) -> tuple[Recipe, list[str]]:
        """Return the row's recipe, and those of `changes` that it has no use for.

        Args:
            data: what to train on; the recipe's own data set by default.
            changes: the user's, for all rows: ``key=value`` of a component that this row has not is left out.
            forced: changes that every row must have.
        """
        bare = Recipe.resolve(self.recipe, components=self.components, data=data, changes=self.changes)
        useless = [change for change in changes if not _concerns(change, bare)]
        wanted = [*self.changes, *(change for change in changes if change not in useless), *forced]
        return Recipe.resolve(self.recipe, components=self.components, data=data, changes=wanted), useless


@dataclass(frozen=True)
class BenchmarkSpec:
    """A table: its rows, all on one split and with one budget. Copy-last is always its first row, and not listed.

    Attributes:
        name: of the table.
        summary: one line.
        paper: where a table like it was printed.
        metrics: names of the metrics to print; those of the default table if there are none.
        rows: the methods.
    """

    name: str
    summary: str
    paper: str
    metrics: tuple[str, ...]
    rows: tuple[BenchmarkRow, ...]

    @classmethod
    def of(cls, name: str, *, recipe: str | None = None) -> "BenchmarkSpec":
        """Return a table of the catalog.

        Args:
            name: of the table.
            recipe: what all rows start from, instead of the table's own.

        Raises:
            LongigenError: if there is no such table, or what is written of it cannot be used.
        """
        content = Catalog().table(name).content
        owner = f"The table '{name}'"
        _known(content, KEYS, owner)
        rows = content.get("rows")
        if not isinstance(rows, Mapping) or not rows:
            raise LongigenError(f"{owner} has no rows; under 'rows' it must name each and say what it is.")
        made = tuple(_row(str(key), value or {}, recipe, content.get("recipe"), owner) for key, value in rows.items())
        if len({row.folder for row in made} | {COPY_LAST, ""}) < len(made) + 2:
            raise LongigenError(f"{owner} has rows whose names are too much alike, or one called {COPY_LAST}.")
        metrics = content.get("metrics") or []
        if not isinstance(metrics, list):
            raise LongigenError(f"{owner} must hold a list 'metrics', got {metrics!r}.")
        summary, paper = (str(content.get(key, "")) for key in ("summary", "paper"))
        return cls(name, summary, paper, tuple(map(str, metrics)), made)

    def only(self, names: Sequence[str]) -> tuple[BenchmarkRow, ...]:
        """Return the rows of these names, all by default.

        Raises:
            LongigenError: for a name that is no row's.
        """
        known = {row.name: row for row in self.rows}
        for name in names:
            if name not in known:
                raise LongigenError(
                    f"The table '{self.name}' has no row '{name}'.{did_you_mean(name, known)} "
                    f"Its rows: {', '.join(known)}."
                )
        return tuple(row for row in self.rows if not names or row.name in names)


def _row(name: str, content: Any, recipe: str | None, default: Any, owner: str) -> BenchmarkRow:
    owner = f"{owner}, row '{name}',"
    if not isinstance(content, Mapping):
        raise LongigenError(f"{owner} must hold keys such as 'components', got {content!r}.")
    _known(content, ROW_KEYS, owner)
    components, changes = content.get("components") or {}, content.get("changes") or []
    if not isinstance(components, Mapping) or not isinstance(changes, list):
        raise LongigenError(f"{owner} must hold a mapping 'components' and a list 'changes'.")
    _known(components, COMPONENTS, owner)
    start = recipe or content.get("recipe") or default
    if not start:
        raise LongigenError(f"{owner} starts from no recipe; name one.")
    return BenchmarkRow(
        name, str(start), {key: str(value) for key, value in components.items()}, [str(c) for c in changes]
    )


def _known(content: Mapping[str, Any], keys: Sequence[str], owner: str) -> None:
    for key in content:
        if key not in keys:
            raise LongigenError(f"{owner} has an unknown key '{key}'.{did_you_mean(str(key), keys)}")


def _concerns(change: str, recipe: Recipe) -> bool:
    section, dot, key = change.partition("=")[0].strip().rpartition(".")
    owners = [section] if dot else list(recipe.configs)
    return any(key in recipe.configs.get(owner, {}) for owner in owners)
