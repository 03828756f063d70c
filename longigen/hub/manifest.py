"""Manifests: the files that a model consists of, and what an index says of their content."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from longigen.errors import LongigenError

CONFIG, WEIGHTS, CARD, METRICS = "config.json", "model.safetensors", "README.md", "metrics.json"
FILES = (CONFIG, CARD, METRICS, WEIGHTS)
"""All files of a model, the weights last: no other file is ever fetched or read."""
RUN_FILE, MODEL_FOLDER = "run.json", "model"
"""In the folder of a run: the file with its recipe and split, and the folder of its model."""
NEEDED = (CONFIG, WEIGHTS)
"""Without these there is no model."""

Algorithm = Literal["sha256", "git"]
"""SHA-256 of the content, or the SHA-1 that git names a file by (the Hub, of files that are not in LFS)."""


@dataclass(frozen=True)
class Content:
    """What a file must hold.

    Attributes:
        size: in bytes.
        digest: hexadecimal.
        algorithm: of the digest.
    """

    size: int
    digest: str
    algorithm: Algorithm = "sha256"

    @classmethod
    def of(cls, path: Path) -> "Content":
        """Return size and SHA-256 of a file."""
        return cls(path.stat().st_size, checksum(path))

    def problem(self, path: Path) -> str | None:
        """Say in a few words how a file differs from this content, or return None."""
        size = path.stat().st_size
        if size != self.size:
            kind = "cut short" if size < self.size else "another file"
            return f"is {kind}: it has {size} bytes and should have {self.size}"
        found = checksum(path) if self.algorithm == "sha256" else _git_digest(path)
        if found != self.digest:
            name = "SHA-256" if self.algorithm == "sha256" else "git hash"
            return f"is not what it should be: its {name} is {found[:12]}… and should be {self.digest[:12]}…"
        return None


Manifest = Mapping[str, Content]
"""By name of a file in `FILES`, its content."""


def manifest_of(folder: Path) -> dict[str, Content]:
    """Return the manifest of a model's folder: what `read_manifest` reads, once `to_plain`."""
    return {name: Content.of(folder / name) for name in FILES if (folder / name).is_file()}


def to_plain(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Return a manifest as a ``registry.yaml`` holds it, under ``files``."""
    return {name: {content.algorithm: content.digest, "size": content.size} for name, content in manifest.items()}


def read_manifest(given: Any, owner: str) -> dict[str, Content]:
    """Read the ``files`` of an entry in a ``registry.yaml``.

    Args:
        given: by name of a file, ``sha256`` and ``size``.
        owner: whose files they are, for messages.

    Raises:
        LongigenError: for a name that is none of a model's files (so none leaves its folder), for a missing or
            misspelt key, or for a hash or a size that cannot be one.
    """
    if not isinstance(given, Mapping) or not given:
        raise LongigenError(f"{owner} must have 'files', and of each its sha256 and size.")
    found = {}
    for name, content in given.items():
        if name not in FILES:
            raise LongigenError(
                f"{owner} names the file '{name}', which is no file of a model; there may be {', '.join(FILES)}."
            )
        if not isinstance(content, Mapping) or set(content) != {"sha256", "size"}:
            raise LongigenError(f"{owner} must say sha256 and size of {name}, and nothing else.")
        digest, size = content["sha256"], content["size"]
        if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
            raise LongigenError(f"{owner}: the sha256 of {name} must be 64 hexadecimal digits, got {digest!r}.")
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise LongigenError(f"{owner}: the size of {name} must be a number of bytes, got {size!r}.")
        found[name] = Content(size, digest)
    for name in NEEDED:
        if name not in found:
            raise LongigenError(f"{owner} must have the file {name} among its 'files'.")
    return found


def verify(folder: Path, manifest: Manifest, remedy: str) -> None:
    """Check every file of a manifest before anything is used.

    Args:
        folder: that they are in.
        manifest: what they must hold.
        remedy: what to do about one that does not, as in ``reinstall longigen``.

    Raises:
        LongigenError: if a file is missing, is cut short or holds something else.
    """
    for name, content in manifest.items():
        path = folder / name
        if not path.is_file():
            raise LongigenError(f"{path} is missing; {remedy}.")
        problem = content.problem(path)
        if problem:
            raise LongigenError(f"{path} {problem}; {remedy}.")


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git_digest(path: Path) -> str:
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        for block in iter(lambda: file.read(2**20), b""):
            digest.update(block)
    return digest.hexdigest()
