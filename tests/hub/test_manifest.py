"""Manifests: the content of a file is what its hash says, as SHA-256 and as git names it."""

import subprocess
from pathlib import Path

import pytest

from longigen import LongigenError
from longigen.hub.manifest import Content, checksum, manifest_to_dict, read_manifest, verify

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1


def test_hashes_are_those_of_the_standards(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b"abc")
    assert checksum(path) == ABC
    assert Content.from_file(path) == Content(3, ABC)
    blob = subprocess.run(["git", "hash-object", str(path)], capture_output=True, text=True, check=True).stdout.strip()
    assert Content(3, blob, "git").problem(path) is None


def test_another_file_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for data in (b"ab", b"abd", b"abcd"):
        path.write_bytes(data)
        with pytest.raises(LongigenError, match=r"config\.json .*; reinstall longigen\."):
            verify(tmp_path, {"config.json": Content(3, ABC)}, "reinstall longigen")
    path.write_bytes(b"abc")
    verify(tmp_path, {"config.json": Content(3, ABC)}, "reinstall longigen")
    path.unlink()
    with pytest.raises(LongigenError, match="missing"):
        verify(tmp_path, {"config.json": Content(3, ABC)}, "reinstall longigen")


def test_a_manifest_survives_a_registry_yaml() -> None:
    manifest = {"config.json": Content(3, ABC), "model.safetensors": Content(5, ABC)}
    assert read_manifest(manifest_to_dict(manifest), "it") == manifest


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("../secret", {"sha256": ABC, "size": 3}),
        ("model.pkl", {"sha256": ABC, "size": 3}),
        ("config.json", {"sha256": ABC[:-1], "size": 3}),
        ("config.json", {"sha256": ABC, "size": 0}),
        ("config.json", {"sha256": ABC, "size": True}),
        ("config.json", {"sha256": ABC}),
    ],
)
def test_what_cannot_be_a_manifest_is_refused(name: str, content: dict[str, object]) -> None:
    with pytest.raises(LongigenError, match="it") as caught:
        read_manifest({name: content}, "it")
    assert "\n" not in str(caught.value)
