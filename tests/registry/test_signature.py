"""Tests of read_signature: constructor parameters read from source."""

from pathlib import Path

import pytest

from longigen.components.base import parameters
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
