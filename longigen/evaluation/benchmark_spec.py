"""Benchmark tables: the methods to compare, as a ``registry.yaml`` lists them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from longigen.components.changes import as_changes
from longigen.data.open_dataset import find_dataset
from longigen.errors import LongigenError, did_you_mean
from longigen.hub.metrics_file import COPIES, COPY_LAST
from longigen.hub.model_config import CODEC, COMPONENTS
from longigen.registry.catalog import Catalog
from longigen.training.recipe import Recipe

KEYS = ("summary", "paper", "recipe", "sizes", "data", "metrics", "rows")
ROW_KEYS = ("recipe", "recipes", "sizes", "components", "changes", "data")
EQUAL = ("data", "preprocess", "split")
"""The sections that all rows of a table with sizes have from the table's recipe, instead of their own."""


@dataclass(frozen=True)
class BenchmarkRow:
    """A row of a benchmark table, that is a method: a recipe with changed components and hyperparameters.

    Attributes:
        name: name of the method.
        recipe: name of the recipe.
        components: names of components to use instead of the recipe's, by section.
        changes: changes ``section.key=value`` of the recipe.
        equal: name of the recipe whose data set, preprocessing and split the row has instead of its own recipe's; None
            for its own.
        tagged: further changes on data sets with a tag, by tag.
    """

    name: str
    recipe: str
    components: Mapping[str, str]
    changes: Sequence[str]
    equal: str | None = None
    tagged: Mapping[str, Sequence[str]] = field(default_factory=dict)

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
        own, data = self.changes, self.data(data)
        if data is not None and self.equal is not None:
            own = [*self._of_equal(self.equal, data), *self.changes, *self._of_tags(data)]
        unchanged = Recipe.resolve(self.recipe, components=self.components, data=data, changes=own)
        unused = [change for change in changes if not _applies(change, unchanged)]
        applied = [*own, *(change for change in changes if change not in unused), *forced]
        return Recipe.resolve(self.recipe, components=self.components, data=data, changes=applied), unused

    def data(self, data: str | None) -> str | None:
        """Return the user's data set, or else that of the recipe `equal`; None for that of the row's own recipe."""
        if data is not None or self.equal is None:
            return data
        return (Catalog().recipe(self.equal).content.get("data") or {}).get("name")

    def to_dict(self) -> dict[str, Any]:
        """Return the row for JSON; what a table without sizes does not have is left out."""
        return {key: value for key, value in vars(self).items() if key not in ("equal", "tagged") or value}

    def _of_equal(self, equal: str, data: str) -> list[str]:
        """Return the changes that give the row's recipe data set, preprocessing and split of the recipe `equal`."""
        own, other = (Recipe.resolve(name, data=data).configs for name in (self.recipe, equal))
        return as_changes(
            {
                f"{section}.{key}": value
                for section in EQUAL
                for key, value in other[section].items()
                if value != own[section][key]
            }
        )

    def _of_tags(self, data: str) -> list[str]:
        """Return the further changes on a data set, by the tags that its entry in a ``registry.yaml`` has."""
        described = Catalog().describe("datasets", find_dataset(data)[0])
        tags = described.content.get("tags") or [] if described else []
        return [change for tag in tags for change in self.tagged.get(tag, ())]


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
        size: the chosen size, of a table that has sizes: each row then has a recipe of its own at that size, and data
            set, preprocessing, split and budget of the table.
        unavailable: for each row that cannot be had with the chosen recipe, the reason.
    """

    name: str
    summary: str
    paper: str
    metrics: tuple[str, ...]
    rows: tuple[BenchmarkRow, ...]
    size: str | None = None
    unavailable: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, *, recipe: str | None = None, size: str | None = None) -> "BenchmarkSpec":
        """Return a table of the catalog.

        Args:
            name: name of the table.
            recipe: name of a recipe to use instead of the table's own, which changes the size and the data of all rows
                and the method of none: it must have the components of the table's recipe, and a row with its own recipe
                lists under ``recipes`` which one belongs to it. The other rows are `unavailable`.
            size: one of the table's sizes, by default the first; for a table that has them.

        Raises:
            LongigenError: if there is no such table, recipe or size, its entry in the ``registry.yaml`` is invalid, or
                no row can be had with the recipe.
        """
        catalog = Catalog()
        content = catalog.table(name).content
        owner = f"The table '{name}'"
        _require_known(content, KEYS, owner)
        entries = content.get("rows")
        if not isinstance(entries, Mapping) or not entries:
            raise LongigenError(f"{owner} has no rows; list them by name under 'rows' in its registry.yaml.")
        default = content.get("recipe")
        size = _size(name, content, size, recipe)
        rows = [_row(str(key), value or {}, default, owner, sized=size is not None) for key, value in entries.items()]
        if size is not None:
            rows = [_at_size(row, entries[row.name] or {}, content, size, owner) for row in rows]
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
        return cls(name, summary, paper, tuple(map(str, metrics)), tuple(rows), size, unavailable)

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


def _size(name: str, table: Mapping[str, Any], size: str | None, recipe: str | None) -> str | None:
    """Return the size to make a table at, None for a table without sizes."""
    sizes = table.get("sizes") or {}
    if not _lists_of_changes(sizes):
        raise LongigenError(f"The table '{name}', sizes, must map names to lists of changes section.key=value.")
    if not sizes:
        if "data" in table:
            raise LongigenError(f"The table '{name}' has the key 'data' and no 'sizes'; remove it, or add them.")
        if size is not None:
            raise LongigenError(f"The table '{name}' has no sizes; leave --size out (--recipe may have another size).")
        return None
    known = [*sizes]
    if recipe is not None:
        raise LongigenError(
            f"The table '{name}' has a recipe for each row, so --recipe cannot be given; choose a size with --size: "
            f"{', '.join(known)}."
        )
    if size is not None and size not in known:
        raise LongigenError(
            f"The table '{name}' has no size '{size}'.{did_you_mean(size, known)} Its sizes: {', '.join(known)}."
        )
    return size or known[0]


def _at_size(
    row: BenchmarkRow, content: Mapping[str, Any], table: Mapping[str, Any], size: str, owner: str
) -> BenchmarkRow:
    """Return a row with its recipe at a size of the table, and what the table gives all rows at that size."""
    recipes = content.get("sizes")
    if not isinstance(recipes, Mapping) or {*recipes} != {*table["sizes"]}:
        raise LongigenError(
            f"{owner}, row '{row.name}', must map each of the table's sizes to a recipe; list under its 'sizes': "
            f"{', '.join(table['sizes'])}."
        )
    tagged: dict[str, list[str]] = {}
    for place, of_tags in (
        (owner, table.get("data") or {}),
        (f"{owner}, row '{row.name}',", content.get("data") or {}),
    ):
        if not isinstance(of_tags, Mapping) or not all(map(_lists_of_changes, of_tags.values())):
            raise LongigenError(f"{place} must hold a mapping 'data' from tags and sizes to lists of changes.")
        for tag, of_size in of_tags.items():
            _require_known(of_size, [*table["sizes"]], f"{place} data, '{tag}',")
            tagged.setdefault(str(tag), []).extend(of_size.get(size, ()))
    return replace(
        row,
        recipe=str(recipes[size]),
        changes=[*table["sizes"][size], *row.changes],
        equal=str(table["recipe"]),
        tagged={tag: changes for tag, changes in tagged.items() if changes},
    )


def _lists_of_changes(content: Any) -> bool:
    return isinstance(content, Mapping) and all(
        isinstance(name, str) and isinstance(changes, list) and all(isinstance(change, str) for change in changes)
        for name, changes in content.items()
    )


def _row(name: str, content: Any, default: Any, owner: str, *, sized: bool) -> BenchmarkRow:
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
    for key in ("recipe", "recipes") if sized else ("sizes", "data"):
        if key in content:
            without = "a table with sizes has a recipe for each" if sized else "it is for a table with sizes"
            raise LongigenError(f"{owner} cannot have the key '{key}': {without}; remove it.")
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
