"""The files of a model or a segmenter, and manifests with their hashes, against which a download is verified."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from longigen.errors import LongigenError

CONFIG, WEIGHTS, CARD, METRICS = "config.json", "model.safetensors", "README.md", "metrics.json"
SEGMENTER = "segmenter.json"
DESCRIPTIONS: Mapping[str, str] = {CONFIG: "model", SEGMENTER: "segmenter"}
"""The file that says what a folder or a repository holds, one of these, and the word for it."""
FILES = (CONFIG, CARD, METRICS, WEIGHTS)
"""All files of a model, the weights last."""
ALL_FILES = (*DESCRIPTIONS, CARD, METRICS, WEIGHTS)
"""All files of a model or a segmenter, the weights last; no other file is downloaded or read."""
MAX_BYTES = {CONFIG: 2**23, SEGMENTER: 2**20, CARD: 2**20, METRICS: 2**20}
"""Larger files are neither downloaded nor read."""
RUN_FILE, MODEL_FOLDER, BEST_FOLDER = "run.json", "model", "best"
"""Names inside a run's folder: the file with its recipe and split, the folder of its model, and that of the model at
the step whose scores on validation visits were best."""
REQUIRED_FILES = (CONFIG, WEIGHTS)
"""The files that every model has."""

Algorithm = Literal["sha256", "git"]
"""SHA-256 of the content, or git's SHA-1 of a blob (used by the Hub for files that are not in LFS)."""


@dataclass(frozen=True)
class Content:
    """The expected content of a file: its size and hash.

    Attributes:
        size: in bytes.
        digest: the hash, in hexadecimal digits.
        algorithm: the algorithm of the hash.
    """

    size: int
    digest: str
    algorithm: Algorithm = "sha256"

    @classmethod
    def from_file(cls, path: Path) -> "Content":
        """Return size and SHA-256 of a file."""
        return cls(path.stat().st_size, checksum(path))

    def problem(self, path: Path) -> str | None:
        """Return in a few words how a file differs from this content, or None if it does not."""
        size = path.stat().st_size
        if size != self.size:
            kind = "truncated" if size < self.size else "another file"
            return f"is {kind}: it has {size} bytes and should have {self.size}"
        digest = checksum(path) if self.algorithm == "sha256" else _git_digest(path)
        if digest != self.digest:
            name = "SHA-256" if self.algorithm == "sha256" else "git hash"
            return f"has the wrong content: its {name} is {digest[:12]}… and should be {self.digest[:12]}…"
        return None


Manifest = Mapping[str, Content]
"""The expected content of files, by name; the names are among `ALL_FILES`."""


def build_manifest(folder: Path) -> dict[str, Content]:
    """Compute the manifest of a folder of a model or a segmenter."""
    return {name: Content.from_file(folder / name) for name in ALL_FILES if (folder / name).is_file()}


def manifest_to_dict(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Return a manifest as plain values, as they are under ``files`` in a ``registry.yaml``; see `read_manifest`."""
    return {name: {content.algorithm: content.digest, "size": content.size} for name, content in manifest.items()}


def read_manifest(given: Any, owner: str) -> dict[str, Content]:
    """Read and check the key ``files`` of a model's entry in a ``registry.yaml``.

    Args:
        given: a mapping of file names to ``sha256`` and ``size``.
        owner: the entry, for messages.

    Raises:
        LongigenError: for a name that is not a model's file, a missing or misspelt key, or an invalid hash or size.
    """
    if not isinstance(given, Mapping) or not given:
        raise LongigenError(f"{owner} must have the key 'files', with sha256 and size of each file.")
    manifest = {}
    for name, content in given.items():
        if name not in FILES:
            raise LongigenError(
                f"{owner} has the file '{name}', which is not a file of a model; use only {', '.join(FILES)}."
            )
        if not isinstance(content, Mapping) or set(content) != {"sha256", "size"}:
            raise LongigenError(f"{owner} must have exactly the keys sha256 and size for {name}.")
        digest, size = content["sha256"], content["size"]
        if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
            raise LongigenError(f"{owner}: the sha256 of {name} must be 64 hexadecimal digits, got {digest!r}.")
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise LongigenError(f"{owner}: the size of {name} must be a number of bytes, got {size!r}.")
        manifest[name] = Content(size, digest)
    for name in REQUIRED_FILES:
        if name not in manifest:
            raise LongigenError(f"{owner} must have the file {name} among its 'files'.")
    return manifest


def verify(folder: Path, manifest: Manifest, remedy: str) -> None:
    """Verify every file of a manifest before any is used.

    Args:
        folder: the folder of the files.
        manifest: their expected content.
        remedy: what to do if verification fails, for the message, such as ``reinstall longigen``.

    Raises:
        LongigenError: if a file is missing, truncated or has another content.
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
