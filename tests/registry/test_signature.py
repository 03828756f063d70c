"""Tests of read_signature: constructor parameters read from source."""

from pathlib import Path

import pytest

from longigen.components.base import parameters, ranges
from longigen.registry.registry import KINDS, registry
from longigen.registry.signature import read_signature

COMPONENTS = [(kind, name) for kind in KINDS for name in registry.entries(kind)]


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
def test_signature_lists_the_constructors_parameters(kind: str, name: str) -> None:
    found = read_signature(registry.entries(kind)[name][0].reference)
    known = parameters(registry.load(kind, name))
    assert list(found) == list(known)
    for parameter in known.values():
        text = found[parameter.name]
        assert ", required" in text if parameter.required else " = " in text
        assert "; " in text, f"the docstring of {name} does not describe {parameter.name}"


def test_signature_follows_imports_and_reads_google_docstrings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "sigpack"
    package.mkdir()
    (package / "__init__.py").write_text("from .inner import Real as Mine\nraise RuntimeError('not to be run')\n")
    (package / "inner.py").write_text(
        'class Real:\n    """One.\n\n    Args:\n        a: first,\n            and more.\n        b: second.\n\n'
        '    Raises:\n        E: never.\n    """\n\n'
        "    def __init__(self, *, a: int, b: float = 0.5, c=None):\n        pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert read_signature("sigpack:Mine") == {
        "a": "int, required; first, and more.",
        "b": "float = 0.5; second.",
        "c": "anything = None",
    }
    (package / "derived.py").write_text(
        'from sigpack.inner import Real\n\nclass Child(Real):\n    """Two.\n\n    Args:\n        b: another.\n    """\n'
    )
    assert read_signature("sigpack.derived:Child")["a"] == "int, required; first, and more."
    assert read_signature("sigpack.derived:Child")["b"] == "float = 0.5; another."
    assert read_signature("sigpack:Other") == {}
    assert read_signature("nowhere:Mine") == {}


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
def test_ranges_are_worded_as_in_messages(kind: str, name: str) -> None:
    found = read_signature(registry.entries(kind)[name][0].reference)
    for parameter in parameters(registry.load(kind, name)).values():
        for of, limits in ranges(parameter.annotation):
            assert f"{of.__name__} {limits}" in found[parameter.name].partition(" = ")[0]


def test_types_are_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "worded"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "kinds.py").write_text(
        "import typing\nfrom typing import Annotated, Literal\nimport longigen\nfrom longigen import Range\n"
        "Count = Annotated[int, Range(1)]\nMode = Literal['a', 'b']\n"
    )
    (package / "part.py").write_text(
        "from typing import Annotated, TYPE_CHECKING\nimport typing\nimport longigen\nfrom longigen import Range\n"
        "from .kinds import Count as Number, Mode\nif TYPE_CHECKING:\n    from .kinds import Count\nMOST = 3\n\n"
        "class Part:\n    def __init__(\n        self,\n        *,\n"
        "        a: Annotated[float, Range(0, 1)] = 0.1,\n"
        "        b: typing.Annotated[float, longigen.Range(above=-1, below=1)] | None = None,\n"
        "        c: tuple[Number, Number, Number] = (1, 1, 1),\n"
        "        d: tuple[Annotated[float, Range(0, 180)], ...] = (),\n"
        "        e: Mode = 'a',\n"
        "        f: tuple[Count, int] = (1, 2),\n"
        "        g: Annotated[int, Range(0, MOST)] = 1,\n"
        "        h: Annotated[str, 'a note'] = '',\n"
        "        i: dict[str, int] | None = None,\n"
        "    ):\n        pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert read_signature("worded.part:Part") == {
        "a": "float from 0 to 1 = 0.1",
        "b": "float above -1 and below 1 | None = None",
        "c": "3 × int at least 1 = (1, 1, 1)",
        "d": "list of float from 0 to 180 = ()",
        "e": "Literal['a', 'b'] = 'a'",
        "f": "(int at least 1, int) = (1, 2)",
        "g": "int Range(0, MOST) = 1",
        "h": "str = ''",
        "i": "dict[str, int] | None = None",
    }
