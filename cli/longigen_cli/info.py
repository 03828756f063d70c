"""``longigen info``: one component, recipe, table or model."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from longigen.catalog import SECTIONS, Catalog
from longigen.errors import LongigenError, did_you_mean
from longigen.registry import KINDS, registry
from longigen.signature import signature_of
from longigen_cli.console import AsJSON


def info(
    name: Annotated[str, typer.Argument(help="Of a component, recipe, table or model; or a run's or model's folder.")],
    as_json: AsJSON = False,
) -> None:
    """Show what is known of a component, a recipe, a table or a model. Nothing is imported."""
    content = _folder(Path(name)) or _named(name)
    if as_json:
        typer.echo(json.dumps(content, indent=2))
        return
    import yaml

    typer.echo(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110).rstrip())


def _named(name: str) -> dict[str, Any]:
    catalog = Catalog()
    found: dict[str, Any] = {}
    for section in SECTIONS:
        described = catalog.describe(section, name)
        entries = (
            registry.entries(section.removesuffix("s")).get(name, []) if section.removesuffix("s") in KINDS else []
        )
        if described is None and not entries:
            continue
        shown: dict[str, Any] = dict(described.content) if described else {}
        if entries:
            shown["provided by"] = [f"{e.distribution} {e.version}".strip() + f" ({e.reference})" for e in entries]
            parameters = signature_of(entries[0].reference)
            shown |= {"parameters": parameters} if parameters else {}
            problems = [problem for entry in entries if (problem := entry.problem())]
            label = "not loadable" if any(entry.extra for entry in entries) else "broken"
            shown |= {label: problems} if problems else {}
        elif described:
            shown["provided by"] = described.distribution
        found[section.removesuffix("s")] = shown
    if not found and Path(name).is_dir():
        raise LongigenError(f"{name} holds no model (config.json is not there); give a folder that 'train' wrote.")
    if not found:
        known = {key for section in catalog.sections.values() for key in section}
        known |= {key for kind in KINDS for key in registry.entries(kind)}
        raise LongigenError(f"There is nothing called '{name}'.{did_you_mean(name, known)} See 'longigen list'.")
    return found


def _folder(folder: Path) -> dict[str, Any] | None:
    """Return the configuration of the model that a folder holds, or None; a plugin's folder has its name and none."""
    from longigen.files import read_json

    model = next((path for path in (folder, folder / "model") if (path / "config.json").exists()), None)
    return None if model is None else read_json(model / "config.json")
