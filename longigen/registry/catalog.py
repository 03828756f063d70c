"""The catalog: what the merged ``registry.yaml`` files say of components, recipes, tables and models, unimported."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from longigen.errors import LongigenError, did_you_mean
from longigen.registry.packages import distribution_of, find_module, installed_entry_points
from longigen.registry.registry import KINDS

SCHEMA_VERSION = 1
CATALOG_SECTIONS = (*(f"{kind}s" for kind in KINDS), "recipes", "tables", "models")


@dataclass(frozen=True)
class Description:
    """One entry of a ``registry.yaml``: its text, and the distribution that says it."""

    section: str
    name: str
    distribution: str
    content: Mapping[str, Any]

    @property
    def summary(self) -> str:
        return str(self.content.get("summary", ""))


@dataclass(frozen=True)
class Catalog:
    """All entries of all ``registry.yaml`` files that installed distributions name in the group ``longigen.registry``.

    A distribution's file lies in the package that its entry point names; in a source checkout, beside the package.
    A file that cannot be read breaks only itself: `problems` says which and why.
    """

    problems: dict[str, str] = field(default_factory=dict)

    @cached_property
    def sections(self) -> dict[str, dict[str, list[Description]]]:
        """Return the entries by section and name."""
        merged: dict[str, dict[str, list[Description]]] = {section: {} for section in CATALOG_SECTIONS}
        for point in installed_entry_points("longigen.registry"):
            distribution, _ = distribution_of(point)
            try:
                content = _read(_file(point.value))
            except LongigenError as error:
                self.problems[distribution] = str(error)
                continue
            for section in CATALOG_SECTIONS:
                for name, entry in (content.get(section) or {}).items():
                    described = Description(section, str(name), distribution, entry or {})
                    merged[section].setdefault(str(name), []).append(described)
        return merged

    def describe(self, section: str, name: str) -> Description | None:
        """Return what is said of a name, or None; where several say something, the first distribution by name."""
        entries = self.sections[section].get(name, [])
        return min(entries, key=lambda entry: entry.distribution) if entries else None

    def recipe(self, name: str) -> Description:
        """Return a recipe.

        Raises:
            LongigenError: if there is none of that name, or two distributions claim it.
        """
        return self._only("recipe", name)

    def table(self, name: str) -> Description:
        """Return a table.

        Raises:
            LongigenError: as `recipe`.
        """
        return self._only("table", name)

    def model(self, name: str) -> Description:
        """Return a published model; `longigen.hub.zoo` says what its entry holds.

        Raises:
            LongigenError: as `recipe`.
        """
        return self._only("model", name)

    def _only(self, noun: str, name: str) -> Description:
        known = self.sections[f"{noun}s"]
        if name not in known:
            there = ", ".join(sorted(known)) or "none"
            raise LongigenError(f"There is no {noun} '{name}'.{did_you_mean(name, known)} There are: {there}.")
        if len(known[name]) > 1:
            claims = " and by ".join(entry.distribution for entry in known[name])
            raise LongigenError(f"The {noun} '{name}' is claimed by {claims}; uninstall one of them.")
        return known[name][0]


def _file(package: str) -> Path:
    spec = find_module(package.partition(":")[0].strip())
    if spec is None or not spec.submodule_search_locations:
        raise LongigenError(f"The package '{package}', which should hold a registry.yaml, is not installed.")
    folder = Path(next(iter(spec.submodule_search_locations)))
    checkout = folder.parent / "registry.yaml"
    if checkout.exists() and (folder.parent / "pyproject.toml").exists():
        return checkout
    return folder / "registry.yaml"


def _read(path: Path) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise LongigenError(f"{path} cannot be read ({str(error).splitlines()[0]}).") from error
    if not isinstance(content, dict) or not isinstance(content.get("schema_version"), int):
        raise LongigenError(f"{path} has no schema_version; it is {SCHEMA_VERSION} today.")
    if content["schema_version"] > SCHEMA_VERSION:
        raise LongigenError(
            f"{path} has schema_version {content['schema_version']}, which is newer than this longigen reads "
            f"({SCHEMA_VERSION}); upgrade longigen."
        )
    unknown = sorted(set(content) - {"schema_version", *CATALOG_SECTIONS})
    if unknown:
        raise LongigenError(
            f"{path} has an unknown section '{unknown[0]}'.{did_you_mean(unknown[0], CATALOG_SECTIONS)} "
            f"It may have: {', '.join(CATALOG_SECTIONS)}."
        )
    for section in CATALOG_SECTIONS:
        entries = content.get(section) or {}
        if not isinstance(entries, dict):
            raise LongigenError(f"{path}: section '{section}' must hold names and what is said of them.")
        for name, entry in entries.items():
            if not isinstance(entry or {}, dict):
                raise LongigenError(f"{path}: '{name}' in section '{section}' must hold keys such as 'summary'.")
    return content
