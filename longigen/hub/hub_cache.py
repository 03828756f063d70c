"""Snapshots: models in huggingface_hub's cache, found and checked without a network."""

import re
from contextlib import suppress
from pathlib import Path

from longigen.errors import LongigenError
from longigen.hub.manifest import FILES, NEEDED, Content, verify
from longigen.hub.model_config import read_config


def cached(repository: str, revision: str | None = None) -> Path | None:
    """Return the folder of a model that is in the cache, or None; no network is used.

    Args:
        repository: ``org/name``.
        revision: a commit, or a branch or tag as it was when it was last pulled; ``main`` by default.
    """
    from huggingface_hub import try_to_load_from_cache

    require_names(repository, revision)
    paths = [try_to_load_from_cache(repository, name, revision=revision or "main") for name in NEEDED]
    return Path(paths[0]).parent if all(isinstance(path, str) for path in paths) else None  # type: ignore[arg-type]


def pulled() -> list[tuple[str, str, Path]]:
    """Return repository, revision (a branch or a tag where one is known) and folder of each of our models in the cache.

    No network is used, and what is no model of longigen's is passed over.
    """
    from huggingface_hub import constants

    found = []
    for storage in sorted(Path(constants.HF_HUB_CACHE).glob("models--*--*")):
        repository = storage.name.removeprefix("models--").replace("--", "/", 1)
        names = {}
        for ref in sorted((storage / "refs").rglob("*")):
            if ref.is_file():
                names.setdefault(ref.read_text(encoding="utf-8").strip(), str(ref.relative_to(storage / "refs")))
        for folder in sorted((storage / "snapshots").glob("*")):
            if all((folder / name).is_file() for name in NEEDED):
                with suppress(LongigenError):  # of another library
                    read_config(folder)
                    found.append((repository, names.get(folder.name, folder.name), folder))
    return found


def verify_cached(folder: Path, name: str) -> None:
    """Check a model in the cache against the hashes that huggingface_hub names its files by.

    Args:
        folder: as `cached` returns it.
        name: that the model is pulled by.

    Raises:
        LongigenError: if a file has been changed or damaged since.
    """
    manifest = {}
    for file in FILES:
        digest = blob_of(folder / file).name
        if re.fullmatch("[0-9a-f]{64}|[0-9a-f]{40}", digest) and (folder / file).is_file():
            algorithm = "sha256" if len(digest) == 64 else "git"
            manifest[file] = Content((folder / file).stat().st_size, digest, algorithm)
    verify(folder, manifest, f"'longigen pull {name}' fetches it again")


def require_names(repository: str, revision: str | None) -> None:
    """Refuse names that are none, before they become part of a path."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise LongigenError(f"'{repository}' is no name of a repository, which is org/name.") from error
    if revision is not None and not all(re.fullmatch(r"[\w-][\w.+-]*", part) for part in revision.split("/")):
        raise LongigenError(f"'{revision}' is no name of a revision; give a branch, a tag or a commit.")


def blob_of(path: Path) -> Path:
    """Return what a file of a snapshot is a link to, which the cache names by its hash; itself where it is no link.

    One step only: huggingface_hub may keep the content elsewhere again, under another kind of hash.
    """
    return path.parent / path.readlink() if path.is_symlink() else path
