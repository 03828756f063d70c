"""List and describe components, recipes, tables and models for `longigen list` and `info`, without importing them."""

from pathlib import Path
from typing import Any

from longigen.errors import LongigenError, did_you_mean
from longigen.hub.description import description_of, read_description
from longigen.hub.hub_cache import cached_models
from longigen.hub.manifest import CONFIG, DESCRIPTIONS, MODEL_FOLDER
from longigen.hub.model_summary import ModelSummary
from longigen.hub.resolve import ModelSource
from longigen.hub.zoo import HUB, ZooModel
from longigen.registry.catalog import CATALOG_SECTIONS, Catalog, Description
from longigen.registry.registry import KINDS, registry
from longigen.registry.signature import read_signature
from longigen.utils.files import user_path


def list_section(catalog: Catalog, section: str) -> list[dict[str, Any]]:
    """Return the entries of one section of the catalog, each as a dict.

    Every entry has ``name``, ``distribution`` and ``summary``; ``problem`` is the reason why it cannot be used, and
    ``extra`` the extra to install.
    """
    kind = section.removesuffix("s")
    if section == "models":
        return [*_list_published_models(catalog), *_list_pulled_models()]
    if kind in KINDS:
        return _list_components(catalog, section, kind)
    return [
        {"name": name, "distribution": entry.distribution, "summary": entry.summary}
        for name, entries in sorted(catalog.sections[section].items())
        for entry in entries
    ]


def describe_name(name: str) -> dict[str, Any]:
    """Describe a component, recipe, table or model by its name, or the model of a run or folder.

    Raises:
        LongigenError: if there is nothing of that name.
    """
    return _describe_model(name) if _must_be_model(name) else _describe_entries(name)


def _list_components(catalog: Catalog, section: str, kind: str) -> list[dict[str, Any]]:
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


def _list_published_models(catalog: Catalog) -> list[dict[str, Any]]:
    rows = []
    for name, entries in sorted(catalog.sections["models"].items()):
        for entry in entries:
            row: dict[str, Any] = {"name": name, "distribution": entry.distribution, "summary": entry.summary}
            try:
                if len(entries) > 1:
                    catalog.model(name)  # raises the error that names both distributions
                summary = ModelSummary.from_entry(ZooModel.from_entry(entry))
                row |= {**summary.to_dict(), "line": summary.line}
            except LongigenError as error:
                row["problem"] = str(error)
            rows.append(row)
    return rows


def _list_pulled_models() -> list[dict[str, Any]]:
    """Return the models in huggingface_hub's cache."""
    rows = []
    for repository, revision, folder in cached_models():
        row: dict[str, Any] = {"name": f"{HUB}{repository}@{revision}", "distribution": "pulled", "summary": ""}
        try:
            summary = ModelSummary.from_folder(folder)
            row |= {**summary.to_dict(), "line": summary.line, "folder": str(folder)}
        except LongigenError as error:
            row["problem"] = str(error)
        rows.append(row)
    return rows


def _describe_entries(name: str) -> dict[str, Any]:
    """Return the descriptions of everything that has a name, by kind."""
    catalog = Catalog()
    descriptions: dict[str, Any] = {}
    for section in CATALOG_SECTIONS:
        kind = section.removesuffix("s")
        described = catalog.describe(section, name)
        entries = registry.entries(kind).get(name, []) if kind in KINDS else []
        if described is None and not entries:
            continue
        shown: dict[str, Any] = dict(described.content) if described else {}
        if entries:
            shown["provided by"] = [f"{e.distribution} {e.version}".strip() + f" ({e.reference})" for e in entries]
            parameters = read_signature(entries[0].reference)
            shown |= {"parameters": parameters} if parameters else {}
            problems = [problem for entry in entries if (problem := entry.problem())]
            label = "not loadable" if any(entry.extra for entry in entries) else "broken"
            shown |= {label: problems} if problems else {}
        elif described:
            shown["provided by"] = described.distribution
        if section == "models" and described is not None:
            shown |= _find_published_model(described)
        descriptions[kind] = shown
    if not descriptions and Path(name).is_dir():
        raise LongigenError(f"{name} has no model ({CONFIG} is missing); give a folder that 'longigen train' wrote.")
    if not descriptions:
        known = {key for section in catalog.sections.values() for key in section}
        known |= {key for kind in KINDS for key in registry.entries(kind)}
        raise LongigenError(f"There is nothing named '{name}'.{did_you_mean(name, known)} See 'longigen list'.")
    return descriptions


def _must_be_model(name: str) -> bool:
    """Return whether a name can only be a model's; a plugin's folder may have its component's name, but no model."""
    folders = user_path(name), user_path(name) / MODEL_FOLDER
    return any(mark in name for mark in "/:") or any(description_of(folder) for folder in folders)


def _find_published_model(described: Description) -> dict[str, Any]:
    """Return a published model's folder, the command that downloads it, or the problem of its entry."""
    try:
        folder = ModelSource(described.name, zoo_model=ZooModel.from_entry(described)).local_folder()
    except LongigenError as error:
        return {"broken": [str(error)]}
    return {"folder": str(folder)} if folder is not None else {"not here yet": f"longigen pull {described.name}"}


def _describe_model(name: str) -> dict[str, Any]:
    """Return the summary and the configuration of a model or a segmenter on this machine."""
    folder = ModelSource.parse(name, accepted=tuple(DESCRIPTIONS)).local_folder()
    if folder is None:
        raise LongigenError(f"The model '{name}' is not on this machine; download it with 'longigen pull {name}'.")
    config = read_description(folder)
    hidden = ("seen", "earlier")  # hashes
    if "data" in config:
        config["data"] = {key: value for key, value in config["data"].items() if key not in hidden}
    return {"folder": str(folder), **ModelSummary.from_folder(folder).to_dict(), **config}
