"""Sources: where a model lies that is called by a name, a folder or a repository.

Everything that takes a MODEL takes the same:

- ``NAME``, of a published model in any ``registry.yaml`` (`longigen.published`);
- a folder: a run's or a model's; ``local-dir:PATH`` where it has the name of a published model too;
- ``hf-hub:org/repo``, ``hf-hub:org/repo@REVISION``, or both without ``hf-hub:``.

What was pulled from the Hub is used as it is until it is pulled again; what was not is fetched when it is first used.
"""

from dataclasses import dataclass
from pathlib import Path

from longigen.catalog import Catalog
from longigen.download import Progress, download
from longigen.errors import LongigenError, did_you_mean
from longigen.manifest import CONFIG, verify
from longigen.published import HUB, Published, published
from longigen.snapshot import cached, verify_cached

LOCAL = "local-dir:"
FORMS = "a run's folder, a model's folder, a published model's name (longigen list models) or hf-hub:org/repo"


@dataclass(frozen=True)
class Source:
    """Where a model lies, before anything is looked for there.

    Attributes:
        text: as it was called.
        path: the folder, of a run or a model; None of any other.
        published: the published model of that name, or None.
        repository: on the Hub, or None.
        revision: of the repository: a branch, a tag or a commit; None is ``main``.
    """

    text: str
    path: Path | None = None
    published: Published | None = None
    repository: str | None = None
    revision: str | None = None

    @classmethod
    def of(cls, text: str, revision: str | None = None) -> "Source":
        """Understand what a model is called.

        Args:
            text: as a user says it.
            revision: of a repository; or as ``@REVISION`` in `text`.

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
            source = cls(text, published=published(text))
        elif Path(text).expanduser().exists():
            source = cls(text, path=_folder(text, text))
        elif text.count("/") != 1 or text.startswith((".", "/", "~")):
            called = f"at {text}" if "/" in text else f"'{text}'"
            raise LongigenError(f"There is no model {called}.{did_you_mean(text, known)} Give {FORMS}.")
        else:
            source = cls._on_the_hub(text, text, revision)
        if revision is not None and source.repository is None:
            raise LongigenError(f"'{text}' is no repository, so it has no revision '{revision}'; leave that out.")
        return source

    @classmethod
    def _on_the_hub(cls, text: str, rest: str, revision: str | None) -> "Source":
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
        return self.published.name if self.published is not None else str(self.repository).partition("/")[2]

    @property
    def run(self) -> Path | None:
        """The folder of the run that the model is of, or None where it is not of a run here."""
        run = self.path is not None and (self.path / "run.json").exists()
        return self.path if run else None

    def here(self) -> Path | None:
        """Return the folder of the model if it is on this machine, or None; no network is used.

        Raises:
            LongigenError: if it ships in a package that is not as it should be.
        """
        if self.path is not None:
            return self.path if (self.path / CONFIG).exists() else self.path / "model"
        if self.published is not None and self.published.repository is None:
            return self.published.folder()
        return cached(*self._place)

    def find(self, progress: Progress | None = None) -> Path:
        """Return the folder of the model, verified; it is fetched if it is not on this machine.

        Raises:
            LongigenError: if it cannot be had, or a file is not what it should be.
        """
        folder = self.here()
        if folder is None:
            return self.pull(progress)[0]
        if self.published is not None:
            verify(folder, self.published.files, self._remedy)
        elif self.repository is not None:
            verify_cached(folder, self.text)
        return folder

    def pull(self, progress: Progress | None = None) -> tuple[Path, int, str]:
        """Bring the model to this machine, or up to date with its revision on the Hub.

        Returns:
            Its folder, verified; how many bytes came over the network; and why the Hub could not be asked, if so.

        Raises:
            LongigenError: as `find`.
        """
        if self.path is not None or (self.published is not None and self.published.repository is None):
            return self.find(), 0, ""
        manifest = self.published.files if self.published is not None else None
        found = download(*self._place, manifest=manifest, progress=progress)
        return found.folder, found.received, found.note

    def commit(self, folder: Path) -> str | None:
        """Return the commit that the folder from `find` is of, or None of what is of no repository."""
        on_the_hub = self.path is None and (self.published is None or self.published.repository is not None)
        return folder.name if on_the_hub else None

    def pinned(self, folder: Path) -> str:
        """Return what to call exactly this model by from now on, given the folder that `find` returned."""
        return self.text if self.repository is None else f"{HUB}{self.repository}@{self.commit(folder)}"

    def origin(self, folder: Path) -> str:
        """Say where the model in the folder from `find` comes from."""
        if self.path is not None:
            return f"the {'run' if self.run else 'folder'} {self.path}"
        if self.published is not None and self.published.repository is None:
            return f"shipped with {self.published.distribution}"
        repository, revision = self._place
        commit = self.commit(folder)
        return f"{HUB}{repository}@{commit}" + (f" (which is {revision or 'main'})" if revision != commit else "")

    @property
    def public_name(self) -> str | None:
        """What strangers may call the model: its repository and revision, or its published name; None of a folder."""
        if self.path is not None:
            return None
        if self.published is not None and self.published.repository is None:
            return self.published.name
        repository, revision = self._place
        return f"{HUB}{repository}" + (f"@{revision}" if revision else "")

    @property
    def _place(self) -> tuple[str, str | None]:
        if self.published is not None and self.published.repository is not None:
            return self.published.repository, self.published.revision
        assert self.repository is not None
        return self.repository, self.revision

    @property
    def _remedy(self) -> str:
        assert self.published is not None
        if self.published.repository is None:
            return f"reinstall {self.published.distribution}"
        return f"'longigen pull {self.text}' fetches it again"


def _holds_model(path: Path) -> bool:
    return (path / CONFIG).exists() or (path / "model" / CONFIG).exists()


def _folder(path: str, text: str) -> Path:
    folder = Path(path).expanduser()
    if not folder.exists():
        raise LongigenError(f"There is no model at {folder}; give {FORMS}.")
    if not path or not _holds_model(folder):
        raise LongigenError(
            f"{folder} holds no model ({CONFIG} is not there); give a folder that 'longigen train' wrote."
        )
    return folder
