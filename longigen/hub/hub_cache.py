"""Find and verify models and segmenters in huggingface_hub's local cache, without using the network."""

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from longigen.errors import LongigenError
from longigen.hub.manifest import ALL_FILES, CONFIG, REQUIRED_FILES, WEIGHTS, Content, verify
from longigen.hub.model_config import read_config

COMMIT = re.compile("[0-9a-f]{40}")
"""The full hash of a commit."""


def cached_model(repository: str, revision: str | None = None, accepted: Sequence[str] = (CONFIG,)) -> Path | None:
    """Return the folder of a model in the cache, or None if it is not there; the network is not used.

    Args:
        repository: ``org/name``.
        revision: a commit, or a branch or tag, meaning the commit at its last pull; ``main`` by default.
        accepted: the files of which one says what the folder holds; see `longigen.hub.manifest.DESCRIPTIONS`.
    """
    from huggingface_hub import try_to_load_from_cache

    require_names(repository, revision)
    found = {
        name: Path(path).parent
        for name in (*accepted, WEIGHTS)
        if isinstance(path := try_to_load_from_cache(repository, name, revision=revision or "main"), str)
    }
    return found.get(WEIGHTS) if any(name in found for name in accepted) else None


def cached_models() -> list[tuple[str, str, Path]]:
    """Return repository, revision and folder of every longigen model in the cache; the network is not used.

    The revision is a branch or tag if one is known, and otherwise the commit. Models of other libraries are skipped.
    """
    from huggingface_hub import constants

    models = []
    for storage in sorted(Path(constants.HF_HUB_CACHE).glob("models--*--*")):
        repository = storage.name.removeprefix("models--").replace("--", "/", 1)
        names = {}
        for ref in sorted((storage / "refs").rglob("*")):
            if ref.is_file():
                names.setdefault(ref.read_text(encoding="utf-8").strip(), str(ref.relative_to(storage / "refs")))
        for folder in sorted((storage / "snapshots").glob("*")):
            if all((folder / name).is_file() for name in REQUIRED_FILES):
                with suppress(LongigenError):  # a model of another library
                    read_config(folder)
                    models.append((repository, names.get(folder.name, folder.name), folder))
    return models


def verify_cached(folder: Path, name: str) -> None:
    """Verify a model in the cache by the hashes in the names of huggingface_hub's cache files.

    Args:
        folder: the folder from `cached_model`.
        name: the name by which the model is pulled, for messages.

    Raises:
        LongigenError: if a file was changed or damaged after its download.
    """
    manifest = {}
    for file in ALL_FILES:
        digest = blob_path(folder / file).name
        if re.fullmatch("[0-9a-f]{64}|[0-9a-f]{40}", digest) and (folder / file).is_file():
            algorithm = "sha256" if len(digest) == 64 else "git"
            manifest[file] = Content((folder / file).stat().st_size, digest, algorithm)
    verify(folder, manifest, f"'longigen pull {name}' downloads it again")


def require_names(repository: str, revision: str | None) -> None:
    """Refuse invalid names of repositories and revisions, before they become part of a path.

    Raises:
        LongigenError: naming the one that is invalid.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise LongigenError(f"'{repository}' is not the name of a repository; give org/name.") from error
    if revision is not None and not all(re.fullmatch(r"[\w-][\w.+-]*", part) for part in revision.split("/")):
        raise LongigenError(f"'{revision}' is not the name of a revision; give a branch, a tag or a commit.")


def blob_path(path: Path) -> Path:
    """Return the target of a snapshot file's link, which is named by its hash; the path itself if it is not a link.

    Only one link is followed, since huggingface_hub may link that file again to one named by another kind of hash.
    """
    return path.parent / path.readlink() if path.is_symlink() else path
