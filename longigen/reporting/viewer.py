"""The viewer of volumes in a page: NiiVue, which comes with longigen, and the page's own script."""

import base64
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from longigen.reporting.volumes import Scene

TITLE = "longigen view"


def render(template: str, **content: Any) -> str:
    """Return a page made of a template of this package; what is put in is escaped."""
    return _environment().get_template(template).render(style=_text("style.css"), **content)


def viewer_parts(scenes: Sequence[Scene], *, inside: bool = True) -> dict[str, Any]:
    """Return what the template ``viewer.html`` needs.

    Args:
        scenes: what the viewer shows.
        inside: put the volumes into the page; otherwise a server has them under ``volumes/KEY``.
    """
    volumes = {key: content for scene in scenes if inside for key, content in scene.volumes.items()}
    return {
        "scenes": [scene.description for scene in scenes],
        "volumes": {key: base64.b64encode(content).decode() for key, content in volumes.items()},
        "niivue": base64.b64encode(_file("niivue.umd.js.gz").read_bytes()).decode(),
        "licence": _text("NIIVUE.txt"),
        "script": _text("viewer.js"),
    }


def viewer_page(scenes: Sequence[Scene], title: str, *, inside: bool = True) -> str:
    """Return a page with the viewer alone; see `viewer_parts`."""
    return render(
        "view.html", title=title, connect="'self'" if not inside else "'none'", **viewer_parts(scenes, inside=inside)
    )


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("longigen.reporting", "page")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _file(name: str) -> Any:
    return files("longigen.reporting") / "page" / name


def _text(name: str) -> str:
    return _file(name).read_text("utf-8")
