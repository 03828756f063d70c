"""Resolve the name of a model, or of a segmenter, to its folder: a published name, a folder or a repository.

Every command and function that takes a MODEL accepts:

- ``NAME`` of a published model in any ``registry.yaml`` (`longigen.hub.zoo`);
- a folder: a run's or a model's; ``local-dir:PATH`` if a published model has the same name;
- ``hf-hub:org/repo``, ``hf-hub:org/repo@REVISION``, or both without ``hf-hub:``.

A segmenter has a folder or a repository too, and no published name.

A model that was pulled from the Hub is not updated until it is pulled again; others are downloaded at their first use.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from longigen.errors import LongigenError, did_you_mean
from longigen.hub.description import description_of, require_accepted
from longigen.hub.download import ByteCallback, download
from longigen.hub.hub_cache import cached_model, verify_cached
from longigen.hub.manifest import BEST_FOLDER, CONFIG, MODEL_FOLDER, RUN_FILE, build_manifest, manifest_to_dict, verify
from longigen.hub.model_summary import ModelSummary
from longigen.hub.zoo import HUB, ZooModel, zoo_model
from longigen.registry.catalog import Catalog
from longigen.utils.files import read_json, user_path

Weights = Literal["last", "best"]
"""The weights of a run: of its last step, or of the step whose scores on validation visits were best."""

LOCAL = "local-dir:"
ACCEPTED_NAMES = "a run's folder, a model's folder, a published model's name (longigen list models) or hf-hub:org/repo"


@dataclass(frozen=True)
class ModelSource:
    """A parsed name of a model: exactly one of `path`, `zoo_model` and `repository` is set.

    Attributes:
        text: the name as given by the user.
        path: the folder of a run or a model, or None.
        zoo_model: the published model of that name, or None.
        repository: ``org/name`` of a repository on the Hub, or None.
        revision: a branch, a tag or a commit of the repository; None is ``main``.
        token: Hub token for a private repository; None for the one that huggingface_hub finds.
        accepted: the files of which one must say what is there: a model's, a segmenter's, or both.
        weights: which weights of a run.
    """

    text: str
    path: Path | None = None
    zoo_model: ZooModel | None = None
    repository: str | None = None
    revision: str | None = None
    token: str | None = field(default=None, repr=False)
    accepted: tuple[str, ...] = (CONFIG,)
    weights: Weights = "last"

    @classmethod
    def parse(
        cls,
        text: str,
        revision: str | None = None,
        *,
        token: str | None = None,
        accepted: tuple[str, ...] = (CONFIG,),
        weights: Weights = "last",
    ) -> "ModelSource":
        """Parse the name of a model; the network is not used.

        Args:
            text: the name; see the module's description for the accepted forms.
            revision: revision of a repository, unless `text` has ``@REVISION``.
            token: Hub token for a private repository; by default that of ``hf auth login`` or HF_TOKEN.
            accepted: the files of which one must say what is there; by default a model's.
            weights: which weights, if it is a run.

        Raises:
            LongigenError: if there is no such model, the name is ambiguous, or there are no such weights.
        """
        if text.startswith(LOCAL):
            source = cls(text, path=_model_folder(text.removeprefix(LOCAL), accepted))
        elif text.startswith(HUB):
            source = cls._parse_repository(text, text.removeprefix(HUB), revision)
        elif text in (known := Catalog().sections["models"]):
            if _has_model(Path(text)):
                raise LongigenError(
                    f"'{text}' is both a published model and a folder; write {LOCAL}{text} for the folder, or rename "
                    "the folder to use the published model."
                )
            source = cls(text, zoo_model=zoo_model(text))
        elif user_path(text).exists():
            source = cls(text, path=_model_folder(text, accepted))
        elif text.count("/") != 1 or text.startswith((".", "/", "~")):
            model = f"at {text}" if "/" in text else f"'{text}'"
            meant = did_you_mean(text, [*known, *_beside(text)])
            raise LongigenError(f"There is no model {model}.{meant} Give {ACCEPTED_NAMES}.")
        elif Path(text).parent.is_dir():
            raise LongigenError(
                f"There is no model at {text}, though there is a folder {Path(text).parent}."
                f"{did_you_mean(text, _beside(text))} Give another folder, or {HUB}{text} for the repository."
            )
        else:
            source = cls._parse_repository(text, text, revision)
        if revision is not None and source.repository is None:
            raise LongigenError(f"'{text}' is not a repository, so it has no revision '{revision}'; leave it out.")
        if weights == "best":
            source._require_best()
        return replace(source, token=token, accepted=accepted, weights=weights)

    def _require_best(self) -> None:
        if self.run is None:
            raise LongigenError(f"'{self.text}' is not a run, so it has no best weights; leave --weights out.")
        if not (self.run / BEST_FOLDER / CONFIG).exists():
            raise LongigenError(
                f"{self.run} has no best weights, since no validation visits were scored in its training "
                "(training.score_every); leave --weights out to take the last."
            )

    @classmethod
    def _parse_repository(cls, text: str, rest: str, revision: str | None) -> "ModelSource":
        repository, at, named = rest.partition("@")
        if at and revision not in (None, named):
            raise LongigenError(f"'{text}' has one revision and '{revision}' is another; give only one of them.")
        if repository.count("/") != 1 or (at and not named):
            raise LongigenError(f"'{text}' is not a repository; write {HUB}org/repo or {HUB}org/repo@REVISION.")
        return cls(text, repository=repository, revision=named or revision)

    @property
    def stem(self) -> str:
        """A short name of the model for output folders."""
        if self.path is not None:
            return self.path.resolve().name
        return self.zoo_model.name if self.zoo_model is not None else str(self.repository).partition("/")[2]

    @property
    def run(self) -> Path | None:
        """The folder of the model's run; None if the model is not in the folder of a run."""
        is_run = self.path is not None and (self.path / RUN_FILE).exists()
        return self.path if is_run else None

    def local_folder(self) -> Path | None:
        """Return the model's folder if it is on this machine, or None; the network is not used.

        Raises:
            LongigenError: if it ships in a package that is not installed or is incomplete.
        """
        if self._hub is not None:
            return cached_model(*self._hub, self.accepted)
        if self.zoo_model is not None:
            return self.zoo_model.folder()
        if self.path is None or description_of(self.path) in self.accepted:
            return self.path
        return self.path / (BEST_FOLDER if self.weights == "best" else MODEL_FOLDER)

    @property
    def note(self) -> str | None:
        """Which weights of a run this is, in a sentence, if it has others; None if there is no choice."""
        if self.run is None or not (self.run / BEST_FOLDER / CONFIG).exists():
            return None
        last, best = (
            read_json(self.run / name / CONFIG).get("training", {}).get("steps") for name in (MODEL_FOLDER, BEST_FOLDER)
        )
        if last == best:
            return None
        if self.weights == "best":
            return f"The weights are the best of {self.run}, of step {best}; the last are of step {last}"
        return (
            f"The weights are the last of {self.run}, of step {last}; those of the best validation, of step {best}, "
            "are chosen with --weights best (weights='best')"
        )

    def find(self, progress: ByteCallback | None = None) -> Path:
        """Return the model's folder with its files verified; the model is downloaded if it is not on this machine.

        Raises:
            LongigenError: if it cannot be downloaded, or a file has the wrong content.
        """
        folder = self.local_folder()
        if folder is None:
            return self.pull(progress).folder
        if self.zoo_model is not None:
            pull, reinstall = (
                f"'longigen pull {self.text}' downloads it again",
                f"reinstall {self.zoo_model.distribution}",
            )
            verify(folder, self.zoo_model.files, pull if self._hub is not None else reinstall)
        elif self.repository is not None:
            verify_cached(folder, self.text)
        return folder

    def pull(self, progress: ByteCallback | None = None) -> "Pulled":
        """Download the model, or update it to its revision on the Hub; do nothing if it is not on the Hub.

        Raises:
            LongigenError: as `find`.
        """
        if self._hub is None:
            return Pulled(self, self.find())
        manifest = self.zoo_model.files if self.zoo_model is not None else None
        try:
            found = download(*self._hub, manifest=manifest, progress=progress, token=self.token, accepted=self.accepted)
        except LongigenError as error:
            if self.repository is not None and not self.text.startswith(HUB):
                error.args = (f"There is no folder {self.text} here, so the Hub was asked for it. {error}",)
            raise
        return Pulled(self, found.folder, found.received, found.note)

    def commit(self, folder: Path) -> str | None:
        """Return the commit of the model in the folder from `find`; None if it is not on the Hub."""
        return folder.name if self._hub is not None else None

    def pinned_name(self, folder: Path) -> str:
        """Return the name of exactly this version of the model, given the folder from `find`."""
        return self.text if self.repository is None else f"{HUB}{self.repository}@{self.commit(folder)}"

    def origin(self, folder: Path) -> str:
        """Return in words where the model in the folder from `find` comes from."""
        if self._hub is not None:
            (repository, revision), commit = self._hub, self.commit(folder)
            return f"{HUB}{repository}@{commit}" + (f" (which is {revision or 'main'})" if revision != commit else "")
        if self.zoo_model is not None:
            return f"shipped with {self.zoo_model.distribution}"
        return f"the {'run' if self.run else 'folder'} {self.path}"

    @property
    def public_name(self) -> str | None:
        """The name by which anybody can get the model: repository and revision, or published name; None of a folder."""
        if self._hub is not None:
            repository, revision = self._hub
            return f"{HUB}{repository}" + (f"@{revision}" if revision else "")
        return self.zoo_model.name if self.zoo_model is not None else None

    @property
    def _hub(self) -> tuple[str, str | None] | None:
        """Repository and revision on the Hub; None of a folder and of a model that ships in a package."""
        if self.repository is not None:
            return self.repository, self.revision
        if self.zoo_model is not None and self.zoo_model.repository is not None:
            return self.zoo_model.repository, self.zoo_model.revision
        return None


@dataclass(frozen=True)
class Pulled:
    """A model on this machine, after `pull`.

    Attributes:
        source: the name that was pulled.
        folder: the folder with its verified files.
        received: number of bytes that were downloaded now.
        note: why the Hub could not be reached, if an earlier download is used instead; else empty.
    """

    source: ModelSource
    folder: Path
    received: int = 0
    note: str = ""

    def __repr__(self) -> str:
        """Return one line: the name and the folder."""
        return f"Pulled({self.source.text}, in {self.folder})"

    @property
    def origin(self) -> str:
        """Where the model comes from, in words."""
        return self.source.origin(self.folder)

    @property
    def summary(self) -> ModelSummary:
        """The model's summary, from its files."""
        return ModelSummary.from_folder(self.folder)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: folder, origin, and size and hash of each file."""
        return {
            "name": self.source.text,
            "source": self.origin,
            "revision": self.source.commit(self.folder),
            "folder": str(self.folder),
            "received": self.received,
            "files": manifest_to_dict(build_manifest(self.folder)),
        }


def _beside(text: str) -> list[str]:
    """Return the folders beside the one that a text names; none if it is no path."""
    path = user_path(text)
    return [str(other) for other in path.parent.iterdir() if other.is_dir()] if path.parent.is_dir() else []


def _has_model(path: Path) -> bool:
    return (path / CONFIG).exists() or (path / MODEL_FOLDER / CONFIG).exists()


def _model_folder(path: str, accepted: Sequence[str]) -> Path:
    folder = user_path(path)
    if not folder.exists():
        raise LongigenError(f"There is no model at {folder}; give {ACCEPTED_NAMES}.")
    found = description_of(folder) if path else None
    if found is not None:
        require_accepted(str(folder), found, accepted)
        return folder
    if not path or not _has_model(folder):
        raise LongigenError(f"{folder} has no model ({CONFIG} is missing); give a folder that 'longigen train' wrote.")
    return folder
