"""``longigen info``: one component, recipe, table or model."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from longigen.catalog import SECTIONS, Catalog, Description
from longigen.errors import LongigenError, did_you_mean
from longigen.registry import KINDS, registry
from longigen.signature import signature_of
from longigen_cli.console import AsJSON


def info(
    name: Annotated[
        str, typer.Argument(help="Of a component, recipe, table or model; or a run, a folder, or hf-hub:org/repo.")
    ],
    as_json: AsJSON = False,
) -> None:
    """Show what is known of a component, a recipe, a table or a model. Nothing is imported, nor fetched."""
    content = _model(name) if _names_model(name) else _named(name)
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
        if section == "models":
            assert described is not None
            shown |= _published(described)
        found[section.removesuffix("s")] = shown
    if not found and Path(name).is_dir():
        raise LongigenError(f"{name} holds no model (config.json is not there); give a folder that 'train' wrote.")
    if not found:
        known = {key for section in catalog.sections.values() for key in section}
        known |= {key for kind in KINDS for key in registry.entries(kind)}
        raise LongigenError(f"There is nothing called '{name}'.{did_you_mean(name, known)} See 'longigen list'.")
    return found


def _names_model(name: str) -> bool:
    """Whether it can be nothing but a model's; a plugin's folder has its component's name and holds none."""
    folders = Path(name), Path(name) / "model"
    return any(mark in name for mark in "/:") or any((folder / "config.json").exists() for folder in folders)


def _published(described: Description) -> dict[str, Any]:
    """Say where a published model is, or how to get it; or what is wrong with its entry."""
    from longigen.published import Published
    from longigen.source import Source

    try:
        folder = Source(described.name, published=Published.of(described)).here()
    except LongigenError as error:
        return {"broken": [str(error)]}
    return {"folder": str(folder)} if folder is not None else {"not here yet": f"longigen pull {described.name}"}


def _model(name: str) -> dict[str, Any]:
    """Return what the files of a model say: its overview, and its configuration."""
    from longigen.configuration import read_configuration
    from longigen.overview import Overview
    from longigen.source import Source

    folder = Source.of(name).here()
    if folder is None:
        raise LongigenError(f"The model '{name}' is not on this machine; fetch it with 'longigen pull {name}'.")
    return {"folder": str(folder), **Overview.of_folder(folder).to_dict(), **read_configuration(folder)}
