"""What there is, without importing or fetching it: components, recipes, tables, and models published or pulled."""

from pathlib import Path
from typing import Any

from longigen.errors import LongigenError, did_you_mean
from longigen.hub.hub_cache import pulled
from longigen.hub.manifest import CONFIG, MODEL_FOLDER
from longigen.hub.model_config import read_config
from longigen.hub.model_summary import ModelSummary
from longigen.hub.resolve import ModelSource
from longigen.hub.zoo import HUB, ZooModel
from longigen.registry.catalog import CATALOG_SECTIONS, Catalog, Description
from longigen.registry.registry import KINDS, registry
from longigen.registry.signature import signature_of


def list_section(catalog: Catalog, section: str) -> list[dict[str, Any]]:
    """Return the entries of one section of the catalog, a mapping each.

    Every entry has ``name``, ``distribution`` and ``summary``; ``problem`` says why one cannot be used, and ``extra``
    what to install.
    """
    kind = section.removesuffix("s")
    if section == "models":
        return [*_published(catalog), *_pulled()]
    if kind in KINDS:
        return _components(catalog, section, kind)
    return [
        {"name": name, "distribution": entry.distribution, "summary": entry.summary}
        for name, entries in sorted(catalog.sections[section].items())
        for entry in entries
    ]


def describe_name(name: str) -> dict[str, Any]:
    """Return what is known of a component, recipe, table or model, of a run or a folder.

    Raises:
        LongigenError: if there is nothing of that name.
    """
    return _model(name) if _names_model(name) else _named(name)


def _components(catalog: Catalog, section: str, kind: str) -> list[dict[str, Any]]:
    rows = []
    for name, claims in registry.entries(kind).items():
        described = catalog.describe(section, name)
        for claim in claims:
            problem = claim.problem()
            if len(claims) > 1:
                problem = "claimed by " + " and ".join(c.distribution for c in claims)
            rows.append(
                {
                    "name": name,
                    "distribution": f"{claim.distribution} {claim.version}".strip(),
                    "summary": described.summary if described else "",
                    **({"problem": problem} if problem else {}),
                    **({"extra": claim.extra} if claim.extra else {}),
                }
            )
    return rows


def _published(catalog: Catalog) -> list[dict[str, Any]]:
    rows = []
    for name, entries in sorted(catalog.sections["models"].items()):
        for entry in entries:
            row: dict[str, Any] = {"name": name, "distribution": entry.distribution, "summary": entry.summary}
            try:
                if len(entries) > 1:
                    catalog.model(name)  # says who claims it
                summary = ModelSummary.of_published(ZooModel.of(entry))
                row |= {**summary.to_dict(), "line": summary.line}
            except LongigenError as error:
                row["problem"] = str(error)
            rows.append(row)
    return rows


def _pulled() -> list[dict[str, Any]]:
    """Return the models in huggingface_hub's cache."""
    rows = []
    for repository, revision, folder in pulled():
        row: dict[str, Any] = {"name": f"{HUB}{repository}@{revision}", "distribution": "pulled", "summary": ""}
        try:
            summary = ModelSummary.of_folder(folder)
            row |= {**summary.to_dict(), "line": summary.line, "folder": str(folder)}
        except LongigenError as error:
            row["problem"] = str(error)
        rows.append(row)
    return rows


def _named(name: str) -> dict[str, Any]:
    catalog = Catalog()
    found: dict[str, Any] = {}
    for section in CATALOG_SECTIONS:
        kind = section.removesuffix("s")
        described = catalog.describe(section, name)
        entries = registry.entries(kind).get(name, []) if kind in KINDS else []
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
        if section == "models" and described is not None:
            shown |= _place_of(described)
        found[kind] = shown
    if not found and Path(name).is_dir():
        raise LongigenError(f"{name} holds no model ({CONFIG} is not there); give a folder that 'train' wrote.")
    if not found:
        known = {key for section in catalog.sections.values() for key in section}
        known |= {key for kind in KINDS for key in registry.entries(kind)}
        raise LongigenError(f"There is nothing called '{name}'.{did_you_mean(name, known)} See 'longigen list'.")
    return found


def _names_model(name: str) -> bool:
    """Say whether it can be nothing but a model's; a plugin's folder has its component's name and holds none."""
    folders = Path(name), Path(name) / MODEL_FOLDER
    return any(mark in name for mark in "/:") or any((folder / CONFIG).exists() for folder in folders)


def _place_of(described: Description) -> dict[str, Any]:
    """Say where a published model is, or how to get it; or what is wrong with its entry."""
    try:
        folder = ModelSource(described.name, zoo_model=ZooModel.of(described)).here()
    except LongigenError as error:
        return {"broken": [str(error)]}
    return {"folder": str(folder)} if folder is not None else {"not here yet": f"longigen pull {described.name}"}


def _model(name: str) -> dict[str, Any]:
    """Return what the files of a model say: its summary, and its configuration."""
    folder = ModelSource.of(name).here()
    if folder is None:
        raise LongigenError(f"The model '{name}' is not on this machine; fetch it with 'longigen pull {name}'.")
    return {"folder": str(folder), **ModelSummary.of_folder(folder).to_dict(), **read_config(folder)}
