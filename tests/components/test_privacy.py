"""Which values of a configuration may be published."""

from pathlib import Path
from typing import Literal

from longigen.components.base import parameters
from longigen.components.privacy import is_path, private_keys, public_values


def configured(
    *,
    path: Path | None = None,
    names: tuple[str, ...] = (),
    kind: Literal["a", "b"] | None = None,
    pattern: str = "*.nii",
    sizes: tuple[int, ...] = (),
    required: str,
) -> None: ...


KNOWN = parameters(configured)


def test_public_and_private_values() -> None:
    private = {"path": Path("/home/x"), "names": ("s01",), "pattern": "s01*.nii", "required": "b"}
    public = {"kind": "b", "sizes": (1, 2), "pattern": "*.nii", "path": None, "names": ()}
    for name, value in private.items():
        assert public_values(KNOWN, {name: value}) == {}, name
        assert private_keys(KNOWN, {name: value}) == [name]
    assert public_values(KNOWN, public) == {"kind": "b", "sizes": [1, 2], "pattern": "*.nii", "path": None, "names": []}
    assert public_values(KNOWN, {"unknown": 1}) == {}


def test_is_path(tmp_path: Path) -> None:
    there = tmp_path / "weights.bin"
    there.touch()
    for value in (there, str(there), "~/x", "./x", "../x", r"C:\x", r"\\server\x", ["a", "/x"], "/nowhere/at/all"):
        assert is_path(value), value
    for value in ("sadm", "org/name", "timm/resnet18.a1", "a b", 1, None, "", "x" * 5000, "a/\0"):
        assert not is_path(value), value
