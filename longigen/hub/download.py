"""Downloads: a model from a repository of the Hub into huggingface_hub's cache, verified before it is there to be used.

Where the cache is, whether the network may be used, which Hub is asked and with which token are huggingface_hub's own
matters: ``HF_HOME``, ``HF_HUB_OFFLINE``, ``HF_ENDPOINT``, ``HF_TOKEN``. What is added here:

- A file gets its name in the cache after its size and its hash are right. They are those of the ``registry.yaml`` that
  names the model, and those of the repository's own list of files.
- A download that broke off, or whose process was killed, goes on where it stopped: what has come so far stays beside
  the file to be, as ``….incomplete``. (huggingface_hub itself starts again in a new process.)
- Only the files of a model are fetched (`longigen.hub.manifest.FILES`), the configuration first: what is no model of
  longigen's is refused before its weights are asked for.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from longigen.errors import LongigenError
from longigen.hub.hub_cache import COMMIT, blob_path, cached_model, require_names, verify_cached
from longigen.hub.manifest import CARD, CONFIG, FILES, METRICS, WEIGHTS, Content, Manifest, verify
from longigen.hub.model_config import MAX_CONFIG_BYTES, read_config
from longigen.hub.safetensors_header import read_header
from longigen.utils.files import atomic, reason
from longigen.utils.progress import transfer

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

LARGEST = {CONFIG: MAX_CONFIG_BYTES, CARD: 2**24, METRICS: 2**24}
"""Longer ones are refused before they are fetched."""
BLOCK = 2**20
"""Bytes that are received at a time."""
ATTEMPTS = 5
"""So often a broken connection is made again, with a second between, before a pull gives up."""

ByteCallback = Callable[[int, int, str], None]
"""Called as ``callback(bytes there, bytes in all, file)``."""


@dataclass(frozen=True)
class Download:
    """A model in the cache.

    Attributes:
        folder: with its files.
        commit: of the repository.
        received: bytes that came over the network for it now.
        note: why the Hub could not be asked, where what had been pulled before is taken instead.
    """

    folder: Path
    commit: str
    received: int
    note: str = ""


class _UnreachableError(Exception):
    """The Hub did not answer, or must not be asked."""


def download(
    repository: str,
    revision: str | None = None,
    *,
    manifest: Manifest | None = None,
    progress: ByteCallback | None = None,
    token: str | None = None,
) -> Download:
    """Bring a model into the cache, if it is not there, and return where it is.

    Several processes may do so at once: one fetches a file, the others wait for it.

    Args:
        repository: ``org/name``.
        revision: a branch, a tag or a commit; ``main`` by default. It is resolved to a commit once, at the start.
        manifest: what the files must hold, if that is known from elsewhere.
        progress: is told of the bytes; by default a bar is shown, unless HF_HUB_DISABLE_PROGRESS_BARS is set.
        token: for a private repository; by default the one that ``hf auth login`` or HF_TOKEN set.

    Raises:
        LongigenError: if the model cannot be had, or is not what it should be. What was there before is as it was.
    """
    with _shown(progress) as callback:
        return _Fetch(repository, revision, dict(manifest or {}), callback, token).run()


@contextmanager
def _shown(progress: ByteCallback | None) -> Iterator[ByteCallback]:
    """Give what is told of the bytes: the caller's own callback, or a bar."""
    from huggingface_hub.utils import are_progress_bars_disabled

    if progress is not None:
        yield progress
    elif are_progress_bars_disabled():
        yield lambda *_: None
    else:
        with transfer("pulling") as update:
            yield update


@dataclass
class _Fetch:
    repository: str
    revision: str | None
    manifest: dict[str, Content]
    progress: ByteCallback
    token: str | None = field(repr=False)
    there: int = 0
    total: int = 0
    received: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    def run(self) -> Download:
        from huggingface_hub import constants

        require_names(self.repository, self.revision)
        known = cached_model(self.repository, self.revision)
        pinned = self.revision is not None and COMMIT.fullmatch(self.revision) is not None
        if known is not None and (pinned or constants.HF_HUB_OFFLINE) and self._is_whole(known):
            return Download(known, known.name, 0)
        try:
            commit, files = self._listed()
        except _UnreachableError as error:
            if known is None:
                raise LongigenError(str(error)) from error.__cause__
            self._check(known)
            return Download(known, known.name, 0, note=str(error))
        names = [name for name in FILES if name in files and (not self.manifest or name in self.manifest)]
        wanted = {name: self._content(files[name]) for name in names}
        self._refuse_unfit(wanted, commit)
        self.total = sum(content.size for content in wanted.values())
        folder = Path()
        try:
            for name, content in wanted.items():
                folder = self._fetch(name, content, commit).parent
                if name == CONFIG:
                    read_config(folder)
        except _UnreachableError as error:
            raise LongigenError(str(error)) from error.__cause__
        self._remember(commit)
        return Download(folder, commit, self.received)

    @property
    def _storage(self) -> Path:
        from huggingface_hub import constants

        return Path(constants.HF_HUB_CACHE) / f"models--{self.repository.replace('/', '--')}"

    def _is_whole(self, folder: Path) -> bool:
        """Say whether a model in the cache is what it should be; what is not is fetched again where it can be."""
        from huggingface_hub import constants

        try:
            self._check(folder)
        except LongigenError:
            if constants.HF_HUB_OFFLINE:
                raise
            return False
        return True

    def _check(self, folder: Path) -> None:
        name = f"hf-hub:{self.repository}" + (f"@{self.revision}" if self.revision else "")
        if self.manifest:
            verify(folder, self.manifest, f"'longigen pull {name}' downloads it again")
        verify_cached(folder, name)

    def _listed(self) -> tuple[str, "dict[str, RepoFile]"]:
        """Return the commit that the revision means, and the files at the root of the repository there."""
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        api = HfApi(library_name="longigen", token=self.token)
        with self._told():
            commit = self.revision
            if commit is None or not COMMIT.fullmatch(commit):
                commit = api.model_info(self.repository, revision=self.revision).sha
            if commit is None or not COMMIT.fullmatch(commit):
                raise LongigenError(
                    f"The Hub at {_endpoint()} names no commit of '{self.repository}', so it cannot be pinned; take "
                    "another Hub with HF_ENDPOINT."
                )
            tree = api.list_repo_tree(self.repository, revision=commit)
            return commit, {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}

    @staticmethod
    def _content(entry: "RepoFile") -> Content:
        if entry.lfs is not None:
            return Content(entry.lfs.size, entry.lfs.sha256)
        return Content(entry.size, entry.blob_id, "git")

    def _refuse_unfit(self, wanted: Mapping[str, Content], commit: str) -> None:
        """Refuse, by the list of files alone, what is no model or another one than the manifest's."""
        where = f"The repository '{self.repository}' at {commit[:12]}"
        if CONFIG not in wanted:
            raise LongigenError(f"{where} holds no model of longigen ({CONFIG} is not there); check its name.")
        if WEIGHTS not in wanted:
            raise LongigenError(
                f"{where} has no {WEIGHTS}, and weights of any other kind, such as pickles, are never loaded; ask its "
                "author for safetensors."
            )
        for name, most in LARGEST.items():
            if name in wanted and wanted[name].size > most:
                raise LongigenError(
                    f"{where} has a {name} of {wanted[name].size} bytes, which no model has; it is refused."
                )
        for name, content in self.manifest.items():
            there = wanted.get(name)
            same = there is not None and there.size == content.size
            if there is None or not same or (there.algorithm == content.algorithm and there.digest != content.digest):
                raise LongigenError(
                    f"{where} has another {name} than the registry.yaml says; do not use it, and tell its author."
                )

    def _fetch(self, name: str, content: Content, commit: str) -> Path:
        """Return a file of the snapshot, fetched and verified unless it is there already."""
        from filelock import FileLock
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
        from huggingface_hub.utils import build_hf_headers

        expected = [content, *([self.manifest[name]] if name in self.manifest else [])]
        held = try_to_load_from_cache(self.repository, name, revision=commit)
        if isinstance(held, str):
            if _intact(Path(held), expected):
                self.there += content.size
                return Path(held)
            for path in (blob_path(Path(held)), Path(held)):
                path.unlink(missing_ok=True)
        with self._told():
            url = hf_hub_url(self.repository, name, revision=commit)
            headers = build_hf_headers(library_name="longigen", token=self.token)
            blob = self._storage / "blobs" / _blob_name(get_hf_file_metadata(url, headers=headers).etag, name)
            lock = self._storage.parent / ".locks" / self._storage.name / f"{blob.name}.lock"
            for folder in (blob.parent, lock.parent):
                folder.mkdir(parents=True, exist_ok=True)
            with FileLock(lock, mode=0o664):  # as huggingface_hub takes it, whose downloads wait too
                if blob.exists() and not _intact(blob, expected):
                    blob.unlink()
                if not blob.exists():
                    self._receive(url, headers, blob, expected, name)
                else:
                    self.there += content.size
            return Path(
                hf_hub_download(self.repository, name, revision=commit, library_name="longigen", token=self.token)
            )

    def _receive(self, url: str, headers: dict[str, str], blob: Path, expected: list[Content], name: str) -> None:
        """Receive a file beside its place in the cache, go on where an earlier attempt stopped, and verify it."""
        part = blob.with_name(f"{blob.name}.incomplete")
        size, before = expected[0].size, self.there
        problem: str | None = None
        for attempt in range(2):
            with part.open("ab") as file:
                if attempt or file.tell() > size:
                    file.truncate(0)
                    file.seek(0)
                begun = file.tell()
                self.there = before
                self._advance(begun, name)
                self._append(url, headers, file, size, name)
            problem = next(filter(None, (content.problem(part) for content in expected)), None)
            if problem is None:
                if name == WEIGHTS:
                    read_header(part)
                part.replace(blob)
                return
            if not begun:
                break  # all of it came now; what an earlier attempt had left may have been damaged since
        part.unlink()
        raise LongigenError(
            f"{name} of '{self.repository}' {problem}; nothing of it is kept, so pull again, and if that does not help "
            "tell its author."
        )

    def _append(self, url: str, headers: dict[str, str], file: BinaryIO, size: int, name: str) -> None:
        """Receive the rest of a file that is to have `size` bytes; a connection that breaks is made again."""
        from huggingface_hub import constants, hf_raise_for_status
        from huggingface_hub.errors import HfHubHTTPError, HTTPError  # pyright: ignore[reportPrivateImportUsage]
        from huggingface_hub.utils import http_stream_backoff

        left = ATTEMPTS
        while (begun := file.tell()) < size:
            try:
                with http_stream_backoff(
                    "GET",
                    url,
                    headers={
                        **headers,
                        "Accept-Encoding": "identity",
                        **({"Range": f"bytes={begun}-"} if begun else {}),
                    },
                    timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
                    retry_on_exceptions=(),
                    retry_on_status_codes=(408, 429),
                ) as response:
                    hf_raise_for_status(response)
                    if begun and response.status_code != 206:  # all of it comes, and not the rest
                        file.seek(0)
                        file.truncate()
                        self._advance(-begun, name)
                    for block in response.iter_bytes(BLOCK):
                        file.write(block)
                        self.received += len(block)
                        self._advance(len(block), name)
                        left = ATTEMPTS
                break
            except HfHubHTTPError:
                raise
            except HTTPError:
                if not left:
                    raise
                left -= 1
                time.sleep(1)
        if file.tell() < size:
            raise LongigenError(
                f"The connection to the Hub at {_endpoint()} ended before {name} of '{self.repository}' was there; run "
                f"'longigen pull hf-hub:{self.repository}' again: it goes on where it stopped."
            )

    def _advance(self, count: int, name: str) -> None:
        self.there += count
        self.progress(self.there, self.total, name)

    def _remember(self, commit: str) -> None:
        """Note which commit a branch or a tag is, as huggingface_hub does, so that it is known without the network."""
        name = self.revision or "main"
        if name != commit:
            path = self._storage / "refs" / name
            if not path.exists() or path.read_text(encoding="utf-8") != commit:
                with atomic(path) as part:
                    part.write_text(commit, encoding="utf-8")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say what goes wrong between us and the Hub in one sentence."""
        from huggingface_hub import errors, get_token
        from huggingface_hub.errors import HfHubHTTPError, HTTPError  # pyright: ignore[reportPrivateImportUsage]

        has_token = bool(self.token or get_token())
        name, hub, revision = f"'{self.repository}'", f"The Hub at {_endpoint()}", self.revision or "main"
        pull = f"'longigen pull hf-hub:{self.repository}'"
        try:
            yield
        except errors.OfflineModeIsEnabled as error:
            raise _UnreachableError(
                f"The model {name} is not in the cache, and HF_HUB_OFFLINE forbids the network; unset it, and run "
                f"{pull} once."
            ) from error
        except errors.GatedRepoError as error:
            raise LongigenError(
                f"The repository {name} is gated; accept its terms at {_endpoint()}/{self.repository}, and give a "
                "token of yours with HF_TOKEN or 'hf auth login'."
            ) from error
        except errors.RevisionNotFoundError as error:
            raise LongigenError(
                f"The repository {name} has no revision '{revision}', or has it no more; take another, as in "
                f"hf-hub:{self.repository}@main."
            ) from error
        except errors.RepositoryNotFoundError as error:
            seen = "that your token may see" if has_token else "that is open to all"
            advice = (
                "check its name, or take a token of somebody who may"
                if has_token
                else "check its name, and if it is private give a token with HF_TOKEN or 'hf auth login'"
            )
            raise LongigenError(f"{hub} has no repository {name} {seen}; {advice}.") from error
        except HfHubHTTPError as error:
            self._raise_for(error, hub, name)
        except errors.HFValidationError as error:
            raise LongigenError(f"{name} is no name of a repository, which is org/name ({reason(error)}).") from error
        except (HTTPError, errors.LocalEntryNotFoundError, errors.FileMetadataError) as error:
            cause = error.__cause__ or error
            if isinstance(cause, HfHubHTTPError):
                self._raise_for(cause, hub, name)
            raise _UnreachableError(
                f"{hub} cannot be reached, or the connection broke ({reason(cause)}); run {pull} again later: it goes "
                "on where it stopped."
            ) from error
        except OSError as error:
            raise LongigenError(
                f"The cache {self._storage} cannot be written ({reason(error)}); free some space, or move it with "
                "HF_HOME."
            ) from error

    @staticmethod
    def _raise_for(error: Any, hub: str, name: str) -> None:
        status = error.response.status_code
        if status == 401:
            raise LongigenError(
                f"{hub} refuses your token; give a valid one with HF_TOKEN or 'hf auth login', or none for what is "
                "open to all."
            ) from error
        if status == 403:
            raise LongigenError(
                f"{hub} does not let your token read {name}; give one that may, with HF_TOKEN."
            ) from error
        raise _UnreachableError(f"{hub} fails to give {name} (status {status}); try again later.") from error


def _intact(path: Path, expected: list[Content]) -> bool:
    return all(content.problem(path) is None for content in expected)


def _blob_name(etag: str | None, name: str) -> str:
    """Return the name of a file in the cache, which a Hub chooses, if it is one that cannot leave its folder."""
    if etag is None or not re.fullmatch(r"[\w-][\w.-]*", etag):
        raise LongigenError(f"The Hub at {_endpoint()} gives {name} the hash {etag!r}, which is none; do not use it.")
    return etag


def _endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT
