"""Shell completion of names: components, recipes, tables and models, none of them imported."""

from collections.abc import Callable
from textwrap import shorten

from longigen.registry.catalog import CATALOG_SECTIONS, Catalog
from longigen.registry.registry import KINDS, registry

Completion = Callable[[str], list[tuple[str, str]]]
"""Called with the word so far; returns the names that begin so, each with its summary."""

WIDTH = 79
"""Characters of a summary: typer would break a longer one into lines, which a shell takes for more names."""


def names_in(*sections: str) -> Completion:
    """Return the completion of an option or argument that takes a name of these sections, such as ``conditioners``."""

    def complete(incomplete: str) -> list[tuple[str, str]]:
        from rich.markup import escape  # typer reads what it is given as markup

        catalog = Catalog()
        found: dict[str, str] = {}
        for section in sections:
            kind = section.removesuffix("s")
            for name in registry.entries(kind) if kind in KINDS else sorted(catalog.sections[section]):
                if name.startswith(incomplete):
                    described = catalog.describe(section, name)
                    summary = described.summary if described is not None else ""
                    found.setdefault(name, escape(shorten(summary, WIDTH, placeholder="…")))
        return list(found.items())

    return complete


def complete_section(incomplete: str) -> list[str]:
    """Complete the name of a section of the catalog."""
    return [section for section in CATALOG_SECTIONS if section.startswith(incomplete)]


def complete_kind(incomplete: str) -> list[str]:
    """Complete a kind of component."""
    return [kind for kind in KINDS if kind.startswith(incomplete)]
