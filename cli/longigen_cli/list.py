"""``longigen list``: what there is."""

import json
from typing import Annotated, Any

import typer

from longigen.catalog import SECTIONS, Catalog
from longigen.errors import LongigenError, did_you_mean
from longigen.registry import KINDS, registry
from longigen_cli.console import AsJSON, say


def list_(
    kind: Annotated[str | None, typer.Argument(help=f"{', '.join(SECTIONS[:-1])} or {SECTIONS[-1]}.")] = None,
    as_json: AsJSON = False,
) -> None:
    """List components, recipes, tables and models. Nothing is imported, nor fetched."""
    catalog = Catalog()
    sections = list(SECTIONS)
    if kind is not None:
        kind = kind if kind.endswith("s") else f"{kind}s"
        if kind not in sections:
            raise LongigenError(f"There is nothing called '{kind}' to list.{did_you_mean(kind, sections)}")
        sections = [kind]
    found = {section: _rows(catalog, section) for section in sections}
    if as_json:
        plain = {name: [{k: v for k, v in row.items() if k != "line"} for row in rows] for name, rows in found.items()}
        typer.echo(json.dumps(plain, indent=2))
    else:
        _print(found)
    for distribution, problem in catalog.problems.items():
        say(f"The registry.yaml of {distribution} is left out: {problem}")


def _rows(catalog: Catalog, section: str) -> list[dict[str, Any]]:
    kind = section.removesuffix("s")
    if section == "models":
        return [*_published(catalog), *_pulled()]
    if kind not in KINDS:
        return [
            {"name": name, "distribution": entry.distribution, "summary": entry.summary}
            for name, entries in sorted(catalog.sections[section].items())
            for entry in entries
        ]
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
    from longigen.overview import Overview
    from longigen.published import Published

    rows = []
    for name, entries in sorted(catalog.sections["models"].items()):
        for entry in entries:
            row: dict[str, Any] = {"name": name, "distribution": entry.distribution, "summary": entry.summary}
            try:
                if len(entries) > 1:
                    catalog.model(name)  # says who claims it
                overview = Overview.of_published(Published.of(entry))
                row |= {**overview.to_dict(), "line": overview.line}
            except LongigenError as error:
                row["problem"] = str(error)
            rows.append(row)
    return rows


def _pulled() -> list[dict[str, Any]]:
    """Return the models in huggingface_hub's cache."""
    from longigen.overview import Overview
    from longigen.snapshot import pulled

    rows = []
    for repository, revision, folder in pulled():
        row: dict[str, Any] = {"name": f"hf-hub:{repository}@{revision}", "distribution": "pulled", "summary": ""}
        try:
            overview = Overview.of_folder(folder)
            row |= {**overview.to_dict(), "line": overview.line, "folder": str(folder)}
        except LongigenError as error:
            row["problem"] = str(error)
        rows.append(row)
    return rows


def _print(found: dict[str, list[dict[str, Any]]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    for section, rows in found.items():
        if not rows:
            continue
        table = Table(title=section, title_justify="left", box=None, padding=(0, 2, 0, 0), show_header=False)
        table.add_column(no_wrap=True, style="bold")
        table.add_column()
        table.add_column(no_wrap=True, style="dim")
        for row in rows:
            text = row["summary"]
            if "problem" in row:
                colour, label = ("yellow", "not loadable") if "extra" in row else ("red", "broken")
                text = f"[{colour}]{label}: {escape(row['problem'])}[/{colour}]"
            elif "line" in row:
                text = f"{escape(text)}\n[dim]{escape(row['line'])}[/dim]"
            table.add_row(row["name"], text, row["distribution"])
        console.print(table)
        console.print()
