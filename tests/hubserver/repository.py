"""Repositories as git keeps them: blobs, trees, commits, branches and tags under their real object ids."""

import fnmatch
import hashlib
import io
import shutil
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ATTRIBUTES = "".join(
    f"{pattern} filter=lfs diff=lfs merge=lfs -text\n"
    for pattern in ("*.bin", "*.ckpt", "*.gz", "*.h5", "*.npy", "*.npz", "*.pt", "*.pth", "*.safetensors", "*.zip")
)
LARGE = 10 * 2**20  # bytes; a larger file goes to LFS whatever its name


class HubError(Exception):
    """What the Hub answers instead: a status, the code of `X-Error-Code` ("" for none) and a message."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, dict(headers or {})


@dataclass(frozen=True)
class Pointer:
    """A file whose content is in LFS: its SHA-256 and its size in bytes."""

    sha256: str
    size: int

    @property
    def text(self) -> bytes:
        """The blob that git keeps in its place."""
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n".encode()


@dataclass(frozen=True)
class Entry:
    """A file of a commit: the id of its blob, its size (of the content, not of a pointer), its pointer if it is LFS."""

    oid: str
    size: int
    pointer: Pointer | None = None


@dataclass(frozen=True)
class Commit:
    """A commit: files by path, folders' tree ids by path ("" is the root)."""

    oid: str
    parent: str | None
    title: str
    message: str
    author: str
    seconds: int
    files: Mapping[str, Entry]
    folders: Mapping[str, str]

    @property
    def date(self) -> str:
        """The time as the Hub writes it."""
        return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(self.seconds))


class Store:
    """The contents of LFS files, each in a file named after its SHA-256."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, sha256: str) -> Path:
        """Return where a content is, or would be."""
        return self.folder / sha256

    def put(self, stream: io.BufferedIOBase, sha256: str, size: int) -> None:
        """Keep a content, once it is known to be what was announced.

        Raises:
            HubError: if it has another size or another SHA-256; nothing is kept then.
        """
        digest, count = hashlib.sha256(), 0
        part = self.path(f"{sha256}.{time.monotonic_ns()}.part")
        try:
            with part.open("wb") as file:
                while block := stream.read(2**20):
                    digest.update(block)
                    count += len(block)
                    file.write(block)
            if count != size:
                raise HubError(400, "", f"{size} bytes were announced and {count} came")
            if digest.hexdigest() != sha256:
                raise HubError(400, "", f"the content has the SHA-256 {digest.hexdigest()}, not {sha256}")
            part.replace(self.path(sha256))
        finally:
            part.unlink(missing_ok=True)


@dataclass
class Repository:
    """A repository. It begins, as on the Hub, with a commit of `.gitattributes`, which says what is LFS.

    Not safe under threads by itself: the server holds its lock around every call.
    """

    name: str
    private: bool
    owner: str
    store: Store
    objects: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    uploaded: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.commit("main", {".gitattributes": ATTRIBUTES.encode()}, "initial commit", author=self.owner)

    def commit(
        self,
        branch: str,
        changes: Mapping[str, bytes | Pointer | None],
        title: str,
        *,
        message: str = "",
        author: str,
    ) -> Commit:
        """Add a commit to a branch: contents, pointers, or None for a file that goes. The paths are not checked."""
        parent = self.branches.get(branch)
        files = dict(self.commits[parent].files) if parent else {}
        for path, content in changes.items():
            if content is None:
                del files[path]
            elif isinstance(content, Pointer):
                files[path] = Entry(self._keep("blob", content.text), content.size, content)
            else:
                files[path] = Entry(self._keep("blob", content), len(content))
        return self._add(branch, files, parent, title, message, author)

    def squash(self, branch: str, title: str, author: str) -> Commit:
        """Replace the history of a branch by one commit with its files; those before are gone."""
        return self._add(branch, self.commits[self.branches[branch]].files, None, title, "", author)

    def resolve(self, revision: str) -> Commit:
        """Return the commit of a branch, a tag, or a commit id (at least 7 digits) that a branch or tag still reaches.

        Raises:
            HubError: 404 `RevisionNotFound`.
        """
        for prefix, names in (("refs/heads/", self.branches), ("refs/tags/", self.tags)):
            name = revision.removeprefix(prefix)
            if name in names:
                return self.commits[names[name]]
        if len(revision) >= 7:
            for commit in self._reachable():
                if commit.oid.startswith(revision.lower()):
                    return commit
        raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")

    def history(self, commit: Commit) -> Iterator[Commit]:
        """Yield a commit and those before it."""
        step: Commit | None = commit
        while step is not None:
            yield step
            step = self.commits[step.parent] if step.parent else None

    def content(self, entry: Entry) -> bytes:
        """Return the blob of a file: its content, or its pointer."""
        return self.objects[entry.oid][1]

    def is_lfs(self, path: str, size: int) -> bool:
        """Return whether a file that is to be uploaded to the main branch belongs in LFS."""
        attributes = self.resolve("main").files.get(".gitattributes")
        lines = self.content(attributes).decode().splitlines() if attributes else []
        patterns = [line.split()[0] for line in lines if "filter=lfs" in line.split()]
        name = path.rsplit("/", 1)[-1]
        return size > LARGE or any(fnmatch.fnmatch(name, pattern) for pattern in patterns)

    def write_git(self, folder: Path) -> None:
        """Write the repository as a git repository without checked-out files, with the contents of LFS files."""
        git = folder / ".git"
        for kind, names in (("heads", self.branches), ("tags", self.tags)):
            (git / "refs" / kind).mkdir(parents=True)
            for name, oid in names.items():
                path = git / "refs" / kind / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{oid}\n")
        (git / "HEAD").write_text("ref: refs/heads/main\n")
        (git / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tbare = false\n")
        for oid, (kind, data) in self.objects.items():
            path = git / "objects" / oid[:2] / oid[2:]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(zlib.compress(f"{kind} {len(data)}\0".encode() + data))
        for sha256 in self.uploaded:
            path = git / "lfs" / "objects" / sha256[:2] / sha256[2:4] / sha256
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.store.path(sha256), path)

    def _add(
        self, branch: str, files: Mapping[str, Entry], parent: str | None, title: str, message: str, author: str
    ) -> Commit:
        folders: dict[str, str] = {}
        self._tree(files, "", folders)
        seconds = int(time.time())
        who = f"{author} <{author}@hub.invalid> {seconds} +0000"
        lines = [f"tree {folders['']}", *([f"parent {parent}"] if parent else []), f"author {who}", f"committer {who}"]
        text = "\n".join([*lines, "", title, *(["", message] if message else []), ""])
        oid = self._keep("commit", text.encode())
        commit = Commit(oid, parent, title, message, author, seconds, files, folders)
        self.commits[oid] = commit
        self.branches[branch] = oid
        return commit

    def _tree(self, files: Mapping[str, Entry], prefix: str, folders: dict[str, str]) -> str:
        """Keep the tree of a folder and of those in it, note their ids, and return its id."""
        rows: dict[bytes, tuple[str, str]] = {}  # git sorts a folder as if its name ended in a slash
        for path, entry in files.items():
            if not path.startswith(prefix):
                continue
            name, slash, _ = path[len(prefix) :].partition("/")
            if not slash:
                rows[name.encode()] = ("100644", entry.oid)
            elif f"{name}/".encode() not in rows:
                rows[f"{name}/".encode()] = ("40000", self._tree(files, f"{prefix}{name}/", folders))
        data = b"".join(
            mode.encode() + b" " + name.rstrip(b"/") + b"\0" + bytes.fromhex(oid)
            for name, (mode, oid) in sorted(rows.items())
        )
        folders[prefix.rstrip("/")] = self._keep("tree", data)
        return folders[prefix.rstrip("/")]

    def _keep(self, kind: str, data: bytes) -> str:
        oid = hashlib.sha1(f"{kind} {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()
        self.objects[oid] = (kind, data)
        return oid

    def _reachable(self) -> Iterator[Commit]:
        seen: set[str] = set()
        for oid in (*self.branches.values(), *self.tags.values()):
            for commit in self.history(self.commits[oid]):
                if commit.oid in seen:
                    break
                seen.add(commit.oid)
                yield commit
