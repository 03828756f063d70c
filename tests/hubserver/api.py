"""The Hub's own addresses: accounts, repositories, commits, revisions, listings, files."""

import base64
import binascii
import io
import json
import re
from typing import Any, ClassVar
from urllib.parse import parse_qs, quote, urlencode

from hubserver.repository import Commit, Entry, HubError, Pointer, Repository
from hubserver.wire import Wire

REPOSITORY = r"(?P<name>[^/]+/[^/]+)"
API = rf"/api/models/{REPOSITORY}"
SHA256 = re.compile(r"[0-9a-f]{64}")


class Api(Wire):
    """The handler of the Hub, for repositories of models.

    Who may not see a repository gets the answer of one that does not exist: 401 without a token, 404 with one.
    """

    host = "hub"
    routes: ClassVar = [
        (method, re.compile(pattern), name)
        for method, pattern, name in [
            ("GET", r"/api/whoami-v2", "whoami"),
            ("POST", r"/api/validate-yaml", "validate_card"),
            ("POST", r"/api/repos/create", "create"),
            ("DELETE", r"/api/repos/delete", "delete"),
            ("GET", API, "info"),
            ("GET", rf"{API}/revision/(?P<revision>[^/]+)", "info"),
            ("GET", rf"{API}/auth-check", "check_access"),
            ("GET", rf"{API}/refs", "refs"),
            ("GET", rf"{API}/commits/(?P<revision>[^/]+)", "history"),
            ("GET", rf"{API}/tree/(?P<revision>[^/]+)(?:/(?P<folder>.+))?", "tree"),
            ("POST", rf"{API}/paths-info/(?P<revision>[^/]+)", "paths"),
            ("POST", rf"{API}/preupload/(?P<revision>[^/]+)", "preupload"),
            ("POST", rf"{API}/commit/(?P<revision>[^/]+)", "commit"),
            ("POST", rf"{API}/super-squash/(?P<branch>[^/]+)", "squash"),
            ("POST", rf"{API}/tag/(?P<revision>[^/]+)", "tag"),
            ("DELETE", rf"{API}/tag/(?P<tag>[^/]+)", "delete_tag"),
            ("POST", rf"{API}/branch/(?P<branch>[^/]+)", "branch"),
            ("DELETE", rf"{API}/branch/(?P<branch>[^/]+)", "delete_branch"),
            ("POST", rf"/{REPOSITORY}\.git/info/lfs/objects/batch", "lfs_batch"),
            ("POST", rf"/{REPOSITORY}\.git/info/lfs/objects/verify", "lfs_verify"),
            ("GET", rf"/{REPOSITORY}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
        ]
    ]

    def whoami(self) -> None:
        """Say whose token it is, and whether it may write."""
        token = self._token()
        if token is None:
            raise HubError(401, "", "Invalid username or password.")
        self.answer_json(
            {
                "type": "user",
                "name": token.user,
                "fullname": token.user,
                "orgs": [{"type": "org", "name": organisation} for organisation in token.organisations],
                "auth": {"type": "access_token", "accessToken": {"displayName": token.user, "role": token.role}},
            }
        )

    def validate_card(self) -> None:
        """Look at the metadata of a model card: whether there are any, and whether they end."""
        content = self.json()["content"].lstrip("\ufeff\n")
        if not content.startswith("---\n"):
            warning = {"message": "empty or missing yaml metadata in repo card"}
            self.answer_json({"errors": [], "warnings": [warning]})
        elif re.search(r"^---\s*$", content[4:], re.MULTILINE) is None:
            self.answer_json({"errors": [{"message": "the yaml metadata have no end"}], "warnings": []}, 400)
        else:
            self.answer_json({"errors": [], "warnings": []})

    def create(self) -> None:
        """Make a repository; 409 if there is one of the name."""
        asked = self.json()
        if asked.get("type", "model") != "model":
            raise HubError(400, "", "this server has repositories of models only")
        token = self._token()
        space = asked.get("organization") or (token.user if token else "")
        if token is None:
            raise HubError(401, "", "Invalid username or password.")
        if not token.writes(space):
            raise HubError(403, "", f'You don\'t have the rights to create a model under the namespace "{space}"')
        name = f"{space}/{asked['name']}"
        hub = self.hub
        with hub.lock:
            status = 409 if name in hub.repositories else 200
            if status == 200:
                private = asked.get("visibility") == "private" or bool(asked.get("private"))  # `private` before 1.0
                hub.repositories[name] = Repository(name, private, token.user, hub.store)
        answer: dict[str, Any] = {"url": f"{hub.endpoint}/{name}", "name": name}
        if status == 409:
            answer["error"] = "You already created this model repo"
        self.answer_json(answer, status)

    def delete(self) -> None:
        """Remove a repository."""
        asked = self.json()
        token = self._token()
        name = f"{asked.get('organization') or (token.user if token else '')}/{asked['name']}"
        with self.hub.lock:
            self._repository(name, write=True)
            del self.hub.repositories[name]
        self.answer(200)

    def info(self, name: str, revision: str = "main") -> None:
        """Describe a repository at a revision, with `blobs` the files too."""
        with self.hub.lock:
            repository = self._repository(name)
            commit = repository.resolve(revision)
            first = list(repository.history(commit))[-1]
        self.answer_json(
            {
                "_id": first.oid[:24],
                "id": name,
                "modelId": name,
                "author": name.split("/")[0],
                "sha": commit.oid,
                "lastModified": commit.date,
                "createdAt": first.date,
                "private": repository.private,
                "gated": False,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "tags": [],
                "siblings": [
                    {"rfilename": path, **(_sibling(entry) if "blobs" in self.query else {})}
                    for path, entry in sorted(commit.files.items())
                ],
            }
        )

    def check_access(self, name: str) -> None:
        """Answer if the repository may be read."""
        self._repository(name)
        self.answer(200)

    def refs(self, name: str) -> None:
        """List branches and tags."""
        with self.hub.lock:
            repository = self._repository(name)
            listed = {
                group: [
                    {"name": ref, "ref": f"refs/{kind}/{ref}", "targetCommit": oid}
                    for ref, oid in sorted(names.items())
                ]
                for group, kind, names in (
                    ("branches", "heads", repository.branches),
                    ("tags", "tags", repository.tags),
                )
            }
        self.answer_json({**listed, "converts": [], "pullRequests": []})

    def history(self, name: str, revision: str) -> None:
        """List commits, the latest first."""
        with self.hub.lock:
            repository = self._repository(name)
            commits = list(repository.history(repository.resolve(revision)))
        self._page(
            [
                {
                    "id": commit.oid,
                    "title": commit.title,
                    "message": commit.message,
                    "authors": [{"user": commit.author}],
                    "date": commit.date,
                }
                for commit in commits
            ]
        )

    def tree(self, name: str, revision: str, folder: str = "") -> None:
        """List a folder, with `recursive` those in it too, in pages of `Hub.page_size`."""
        folder = folder.strip("/")
        with self.hub.lock:
            commit = self._repository(name).resolve(revision)
        if folder not in commit.folders:
            raise HubError(404, "EntryNotFound", f'{folder} does not exist on "{revision}"', _commit(commit))
        everything = {**{path: None for path in commit.folders if path}, **commit.files}
        prefix = f"{folder}/" if folder else ""
        deep = self.query.get("recursive", "").lower() in ("true", "1")
        rows = [
            _row(path, commit)
            for path in sorted(everything)
            if path.startswith(prefix) and (deep or "/" not in path[len(prefix) :])
        ]
        self._page(rows, _commit(commit))

    def paths(self, name: str, revision: str) -> None:
        """Describe the files and folders of a form that exist."""
        asked = parse_qs(self.body.read().decode()).get("paths", [])
        with self.hub.lock:
            commit = self._repository(name).resolve(revision)
        known = {*commit.files, *commit.folders} - {""}
        self.answer_json([_row(path.strip("/"), commit) for path in asked if path.strip("/") in known])

    def preupload(self, name: str, revision: str) -> None:
        """Say of each file whether it goes to LFS, and what is there already. (`.gitignore` is not heeded.)"""
        asked = self.json()["files"]
        with self.hub.lock:
            repository = self._repository(name, write=True)
            commit = repository.resolve(revision)
            modes = {file["path"]: repository.is_lfs(file["path"], file["size"]) for file in asked}
        answers = []
        for path, lfs in modes.items():
            answer = {"path": path, "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
            if entry := commit.files.get(path):
                answer["oid"] = entry.pointer.sha256 if entry.pointer else entry.oid
            answers.append(answer)
        self.answer_json({"files": answers, "commitOid": commit.oid})

    def commit(self, name: str, revision: str) -> None:
        """Add one commit to a branch: all of the lines of the request, or none if one of them is wrong."""
        if "create_pr" in self.query:
            raise HubError(400, "", "this server has no pull requests")
        try:
            lines = [json.loads(line) for line in self.body.read().splitlines() if line.strip()]
        except ValueError:
            raise HubError(400, "", "Invalid NDJSON") from None
        if not lines or lines[0]["key"] != "header":
            raise HubError(400, "", "the first line must be the header")
        header = lines[0]["value"]
        with self.hub.lock:
            repository = self._repository(name, write=True)
            head = self._head_of(repository, revision)
            parent = header.get("parentCommit")
            if parent and not head.oid.startswith(parent):
                raise HubError(412, "", "A commit has happened since. Please refresh and try again.")
            changes: dict[str, bytes | Pointer | None] = {}
            for line in lines[1:]:
                changes |= _change(line["key"], line["value"], repository, head)
            token = self._token()
            made = repository.commit(
                revision.removeprefix("refs/heads/"),
                changes,
                header["summary"],
                message=header.get("description", ""),
                author=token.user if token else "",
            )
        self.answer_json(
            {
                "success": True,
                "commitOid": made.oid,
                "commitUrl": f"{self.hub.endpoint}/{name}/commit/{made.oid}",
                "hookOutput": "",
            }
        )

    def squash(self, name: str, branch: str) -> None:
        """Make one commit of a branch's history."""
        title = self.json().get("message") or "Super-squash branch"
        with self.hub.lock:
            repository = self._repository(name, write=True)
            self._head_of(repository, branch)
            repository.squash(branch, title, repository.owner)
        self.answer(200)

    def tag(self, name: str, revision: str) -> None:
        """Tag a revision; 409 if the tag exists."""
        tag = self.json()["tag"]
        with self.hub.lock:
            repository = self._repository(name, write=True)
            commit = repository.resolve(revision)
            if tag in repository.tags:
                raise HubError(409, "", f"Tag reference exists already: {tag}")
            repository.tags[tag] = commit.oid
        self.answer(200)

    def delete_tag(self, name: str, tag: str) -> None:
        """Remove a tag."""
        with self.hub.lock:
            repository = self._repository(name, write=True)
            if repository.tags.pop(tag, None) is None:
                raise HubError(404, "RevisionNotFound", f"Invalid rev id: {tag}")
        self.answer(200)

    def branch(self, name: str, branch: str) -> None:
        """Begin a branch; 409 if it exists."""
        start = self.json().get("startingPoint", "main")
        with self.hub.lock:
            repository = self._repository(name, write=True)
            commit = repository.resolve(start)
            if branch in repository.branches:
                raise HubError(409, "", f"Reference already exists: {branch}")
            repository.branches[branch] = commit.oid
        self.answer(200)

    def delete_branch(self, name: str, branch: str) -> None:
        """Remove a branch, and with it the commits that nothing else reaches."""
        with self.hub.lock:
            repository = self._repository(name, write=True)
            if branch == "main":
                raise HubError(403, "", "The main branch cannot be deleted")
            self._head_of(repository, branch)
            del repository.branches[branch]
        self.answer(200)

    def lfs_batch(self, name: str) -> None:
        """Say where each content is to be uploaded (the transfer `basic`), unless it is there."""
        asked = self.json()
        if asked.get("operation") != "upload" or "basic" not in asked.get("transfers", ["basic"]):
            raise HubError(400, "", "this server takes uploads by the transfer 'basic'")
        hub, objects = self.hub, []
        with hub.lock:
            repository = self._repository(name, write=True)
            for one in asked["objects"]:
                row: dict[str, Any] = {"oid": one["oid"], "size": one["size"]}
                if SHA256.fullmatch(one["oid"]) is None:
                    row["error"] = {"code": 422, "message": "the oid is no SHA-256"}
                elif one["oid"] not in repository.uploaded:
                    path = f"/{name}/{one['oid']}"
                    size = str(one["size"])
                    query = urlencode({"size": size, "signature": hub.sign("PUT", path, size)})
                    row["actions"] = {
                        "upload": {"href": f"{hub.storage}{path}?{query}"},
                        "verify": {"href": f"{hub.endpoint}/{name}.git/info/lfs/objects/verify"},
                    }
                objects.append(row)
        self.answer_json({"transfer": "basic", "objects": objects})

    def lfs_verify(self, name: str) -> None:
        """Confirm that a content has arrived."""
        asked = self.json()
        with self.hub.lock:
            repository = self._repository(name, write=True)
            _uploaded(repository, asked["oid"], asked["size"])
        self.answer(200)

    def resolve(self, name: str, revision: str, path: str) -> None:
        """Send a file, or for one in LFS the address of its content, with what it is in the headers."""
        hub = self.hub
        with hub.lock:
            repository = self._repository(name)
            commit = repository.resolve(revision)
            entry = commit.files.get(path)
            if entry is None:
                raise HubError(404, "EntryNotFound", "Entry not found", _commit(commit))
            content = repository.content(entry)
        if entry.pointer is None:
            headers = {"ETag": f'"{entry.oid}"', "Content-Type": "text/plain; charset=utf-8", **_commit(commit)}
            self.answer_file(io.BytesIO(content), entry.size, headers)
            return
        file = path.rsplit("/", 1)[-1]
        address = f"/{name}/{entry.pointer.sha256}/{file}"
        query = urlencode({"signature": hub.sign("GET", address, "")})
        headers = {
            "Location": f"{hub.storage}{quote(address)}?{query}",
            "X-Linked-Etag": f'"{entry.pointer.sha256}"',
            "X-Linked-Size": str(entry.size),
            **_commit(commit),
        }
        self.answer(302, headers=headers)

    def _token(self) -> Any:
        """Return whose token came, or None if none came.

        Raises:
            HubError: 401, if it is nobody's.
        """
        scheme, _, secret = self.headers.get("Authorization", "").partition(" ")
        if not scheme:
            return None
        token = self.hub.tokens.get(secret)
        if scheme.lower() != "bearer" or token is None:
            raise HubError(401, "", "Invalid credentials in Authorization header")
        return token

    def _repository(self, name: str, *, write: bool = False) -> Repository:
        """Return a repository that the token may read, or write.

        Raises:
            HubError: 401, 403 or 404.
        """
        token, space = self._token(), name.split("/")[0]
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not (token and token.reads(space))):
            if token is None:  # the Hub sends no code here; its client takes a 401 of https for this one
                raise HubError(401, "RepoNotFound", "Invalid username or password.")
            raise HubError(404, "RepoNotFound", "Repository not found")
        if write and token is None:
            raise HubError(401, "", "Invalid username or password.")
        if write and not token.writes(space):
            raise HubError(403, "", "You must use a write token of a member to change this repository")
        return repository

    def _head_of(self, repository: Repository, revision: str) -> Commit:
        name = revision.removeprefix("refs/heads/")
        if name not in repository.branches:
            raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repository.commits[repository.branches[name]]

    def _page(self, rows: list[dict[str, Any]], headers: dict[str, str] | None = None) -> None:
        """Send a page of a list, and in `Link` the address of the next."""
        size = self.hub.page_size
        start = int(self.query.get("cursor", "0"))
        headers = dict(headers or {})
        if start + size < len(rows):
            query = urlencode({**self.query, "cursor": start + size})
            headers["Link"] = f'<{self.hub.endpoint}{self.path.partition("?")[0]}?{query}>; rel="next"'
        self.answer_json(rows[start : start + size], headers=headers)


def _change(key: str, value: dict[str, Any], repository: Repository, head: Commit) -> dict[str, bytes | Pointer | None]:
    """Return what a line of a commit changes, path by path.

    Raises:
        HubError: if it cannot be.
    """
    path = value["path"].rstrip("/") if key == "deletedFolder" else value["path"]
    if any(part in ("", ".", "..", ".git") for part in path.split("/")):
        raise HubError(400, "", f"'{path}' is no path of a repository")
    if key == "file":
        if value.get("encoding", "base64") != "base64":
            raise HubError(400, "", f"the encoding {value['encoding']} is not known")
        try:
            return {path: base64.b64decode(value["content"], validate=True)}
        except binascii.Error:
            raise HubError(400, "", f"the content of {path} is no base64") from None
    if key == "lfsFile":
        return {path: _uploaded(repository, value["oid"], value.get("size"))}  # a copy comes without its size
    if key == "deletedFile" and path in head.files:
        return {path: None}
    if key == "deletedFolder" and path in head.folders:
        return {name: None for name in head.files if name.startswith(f"{path}/")}
    if key in ("deletedFile", "deletedFolder"):
        raise HubError(404, "EntryNotFound", f"A file with this name doesn't exist: {path}")
    raise HubError(400, "", f"a line '{key}' is not known")


def _uploaded(repository: Repository, sha256: str, size: int | None) -> Pointer:
    if sha256 not in repository.uploaded:
        raise HubError(404, "", f"the LFS object {sha256} has not been uploaded")
    true = repository.store.path(sha256).stat().st_size
    if size not in (None, true):
        raise HubError(400, "", f"the LFS object {sha256} has {true} bytes, not {size}")
    return Pointer(sha256, true)


def _commit(commit: Commit) -> dict[str, str]:
    return {"X-Repo-Commit": commit.oid}


def _sibling(entry: Entry) -> dict[str, Any]:
    described: dict[str, Any] = {"size": entry.size, "blobId": entry.oid}
    if entry.pointer:
        described["lfs"] = {"sha256": entry.pointer.sha256, "size": entry.size, "pointerSize": len(entry.pointer.text)}
    return described


def _row(path: str, commit: Commit) -> dict[str, Any]:
    entry = commit.files.get(path)
    if entry is None:
        return {"type": "directory", "oid": commit.folders[path], "size": 0, "path": path}
    row: dict[str, Any] = {"type": "file", "oid": entry.oid, "size": entry.size, "path": path}
    if entry.pointer:
        row["lfs"] = {"oid": entry.pointer.sha256, "size": entry.size, "pointerSize": len(entry.pointer.text)}
    return row
