"""The catalog: the merged ``registry.yaml`` files, which describe components, recipes, tables and models."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml

from longigen.errors import LongigenError, did_you_mean
from longigen.registry.packages import find_module, installed_entry_points
from longigen.registry.registry import KINDS

REGISTRY_SCHEMA_VERSION = 1
"""The newest ``schema_version`` of a ``registry.yaml`` that this longigen reads."""

CATALOG_SECTIONS = (*(f"{kind}s" for kind in KINDS), "recipes", "tables", "protocols", "models")


@dataclass(frozen=True)
class Description:
    """One entry of a ``registry.yaml``, and the distribution that ships the file."""

    section: str
    name: str
    distribution: str
    content: Mapping[str, Any]

    @property
    def summary(self) -> str:
        return str(self.content.get("summary", ""))


@dataclass(frozen=True)
class Catalog:
    """All entries of the ``registry.yaml`` files of installed distributions.

    A distribution names a package in the entry-point group ``longigen.registry``; its file is in that package, or in a
    source checkout beside it. A file that cannot be read is skipped; `problems` has the reason by distribution.
    """

    problems: dict[str, str] = field(default_factory=dict)

    @cached_property
    def sections(self) -> dict[str, dict[str, list[Description]]]:
        """The entries by section and name."""
        merged: dict[str, dict[str, list[Description]]] = {section: {} for section in CATALOG_SECTIONS}
        for point, distribution, _ in installed_entry_points("longigen.registry"):
            try:
                content = _read_registry(_registry_path(point.value))
            except LongigenError as error:
                self.problems[distribution] = str(error)
                continue
            for section in CATALOG_SECTIONS:
                for name, entry in (content.get(section) or {}).items():
                    described = Description(section, str(name), distribution, entry or {})
                    merged[section].setdefault(str(name), []).append(described)
        return merged

    def describe(self, section: str, name: str) -> Description | None:
        """Return the entry of a name, or None; of several entries, that of the first distribution by name."""
        entries = self.sections[section].get(name, [])
        return min(entries, key=lambda entry: entry.distribution) if entries else None

    def recipe(self, name: str) -> Description:
        """Return the entry of a recipe.

        Raises:
            LongigenError: if there is no recipe of that name, or two distributions define it.
        """
        return self._only("recipe", name)

    def table(self, name: str) -> Description:
        """Return the entry of a table.

        Raises:
            LongigenError: as `recipe`.
        """
        return self._only("table", name)

    def protocol(self, name: str) -> Description:
        """Return the entry of a published protocol.

        Raises:
            LongigenError: as `recipe`.
        """
        return self._only("protocol", name)

    def model(self, name: str) -> Description:
        """Return the entry of a published model; `longigen.hub.zoo` describes its keys.

        Raises:
            LongigenError: as `recipe`.
        """
        return self._only("model", name)

    def _only(self, noun: str, name: str) -> Description:
        known = self.sections[f"{noun}s"]
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise LongigenError(f"There is no {noun} '{name}'.{did_you_mean(name, known)} There are: {names}.")
        if len(known[name]) > 1:
            claims = " and by ".join(entry.distribution for entry in known[name])
            raise LongigenError(f"The {noun} '{name}' is claimed by {claims}; uninstall one of them.")
        return known[name][0]


def _registry_path(package: str) -> Path:
    spec = find_module(package.partition(":")[0].strip())
    if spec is None or not spec.submodule_search_locations:
        raise LongigenError(f"The package '{package}', which should hold a registry.yaml, is not installed.")
    folder = Path(next(iter(spec.submodule_search_locations)))
    checkout = folder.parent / "registry.yaml"
    if checkout.exists() and (folder.parent / "pyproject.toml").exists():
        return checkout
    return folder / "registry.yaml"


@lru_cache(maxsize=16)
def _parsed(text: str) -> Any:
    """Parse a file, once for each content of it: many recipes are resolved for one table."""
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _read_registry(path: Path) -> dict[str, Any]:
    try:
        content = deepcopy(_parsed(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise LongigenError(f"{path} cannot be read ({str(error).splitlines()[0]}).") from error
    if not isinstance(content, dict) or not isinstance(content.get("schema_version"), int):
        raise LongigenError(f"{path} has no schema_version; add 'schema_version: {REGISTRY_SCHEMA_VERSION}'.")
    if content["schema_version"] > REGISTRY_SCHEMA_VERSION:
        raise LongigenError(
            f"{path} has schema_version {content['schema_version']}, which is newer than this longigen reads "
            f"({REGISTRY_SCHEMA_VERSION}); upgrade longigen."
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
            raise LongigenError(f"{path}: section '{section}' must map names to their descriptions.")
        for name, entry in entries.items():
            if not isinstance(entry or {}, dict):
                raise LongigenError(f"{path}: '{name}' in section '{section}' must have keys such as 'summary'.")
    return content
