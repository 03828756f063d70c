"""The server: its accounts, repositories and record of requests, and its start and end."""

import fnmatch
import hashlib
import hmac
import io
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hubserver.api import Api
from hubserver.faults import Faults
from hubserver.repository import Commit, Pointer, Repository, Store
from hubserver.storage import Storage
from hubserver.wire import Listener, Request


@dataclass(frozen=True)
class Token:
    """Whose a token is: a user, the organisations of the user, the role `read` or `write`."""

    user: str
    role: str
    organisations: tuple[str, ...] = ()

    def reads(self, space: str) -> bool:
        """Return whether private repositories of a namespace may be read."""
        return space == self.user or space in self.organisations

    def writes(self, space: str) -> bool:
        """Return whether repositories of a namespace may be made and changed."""
        return self.role == "write" and self.reads(space)


class Hub:
    """A Hub on loopback, as a context. See the package for how tests use it.

    Attributes:
        endpoint: the Hub's address, without a slash at the end.
        storage: the address of the server that LFS files lie on; another origin, so that a client sends no token there.
        token: may write the namespaces `owner` (its user) and `lab` (an organisation).
        read_token: the same user's, may only read.
        stranger_token: a valid one of another user (`stranger`), who sees nothing private of theirs.
        faults: what is to go wrong.
        others: (`datasets` or `spaces`, name) of what exists and is no model.
        page_size: entries in a page of a listing.
        errors: tracebacks of the server's own failures; the fixture fails a test that leaves one.
    """

    token = "hf_owner_write"  # noqa: S105
    read_token = "hf_owner_read"  # noqa: S105
    stranger_token = "hf_stranger_write"  # noqa: S105

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder)
        self.lock = threading.RLock()
        self.repositories: dict[str, Repository] = {}
        self.tokens = {
            self.token: Token("owner", "write", ("lab",)),
            self.read_token: Token("owner", "read", ("lab",)),
            self.stranger_token: Token("stranger", "write"),
        }
        self.faults = Faults()
        self.others: set[tuple[str, str]] = set()
        self.errors: list[str] = []
        self.page_size = 1000
        self._requests: list[Request] = []
        self._secret = secrets.token_bytes(16)
        self._listeners = [Listener(self, Api), Listener(self, Storage)]
        self.endpoint, self.storage = (listener.url for listener in self._listeners)

    def __enter__(self) -> "Hub":
        for listener in self._listeners:
            threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.faults.clear()
        for listener in self._listeners:
            listener.end()

    def seed(self, name: str, files: Mapping[str, bytes], *, private: bool = False, title: str = "Seed") -> Commit:
        """Commit files to a repository (making it) without a client; paths are taken as they are, also `../x`."""
        with self.lock:
            if name not in self.repositories:
                self.repositories[name] = Repository(name, private, "owner", self.store)
            repository = self.repositories[name]
            changes: dict[str, bytes | Pointer | None] = {}
            for path, content in files.items():
                changes[path] = content
                if repository.is_lfs(path, len(content)):
                    pointer = Pointer(hashlib.sha256(content).hexdigest(), len(content))
                    self.store.put(io.BytesIO(content), pointer.sha256, pointer.size)
                    repository.uploaded.add(pointer.sha256)
                    changes[path] = pointer
            return repository.commit("main", changes, title, author="owner")

    def requests(self, method: str = "*", path: str = "*") -> list[Request]:
        """Return the requests so far, in order, whose method and path match (patterns as of a shell)."""
        with self.lock:
            every = list(self._requests)
        return [one for one in every if fnmatch.fnmatchcase(one.method, method) and fnmatch.fnmatchcase(one.path, path)]

    def note(self, request: Request) -> None:
        """Record a request."""
        with self.lock:
            self._requests.append(request)

    def forget(self) -> None:
        """Empty the record of requests."""
        with self.lock:
            self._requests.clear()

    def sign(self, method: str, path: str, size: str) -> str:
        """Return the signature of an address of the storage."""
        return hmac.new(self._secret, f"{method} {path} {size}".encode(), hashlib.sha256).hexdigest()
