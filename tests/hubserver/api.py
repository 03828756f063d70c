"""The Hub's own addresses: accounts, repositories, commits, revisions, listings, files."""

import io
import re
from typing import Any, ClassVar
from urllib.parse import parse_qs, quote, urlencode

from hubserver.repository import Commit, Entry, HubError, Repository
from hubserver.upload import Upload

REPOSITORY = r"(?P<name>[^/]+/[^/]+)"
API = rf"/api/models/{REPOSITORY}"


class Api(Upload):
    """The handler of the Hub, for repositories of models."""

    routes: ClassVar = [
        (method, re.compile(pattern), name)
        for method, pattern, name in [
            ("GET", r"/api/whoami-v2", "whoami"),
            ("POST", r"/api/validate-yaml", "validate_card"),
            ("POST", r"/api/repos/create", "create"),
            ("DELETE", r"/api/repos/delete", "delete"),
            ("GET", API, "info"),
            ("GET", rf"{API}/revision/(?P<revision>[^/]+)", "info"),
            ("GET", rf"/api/(?P<kind>datasets|spaces)/{REPOSITORY}", "other"),
            ("GET", rf"{API}/auth-check", "check_access"),
            ("GET", rf"{API}/refs", "refs"),
            ("GET", rf"{API}/commits/(?P<revision>[^/]+)", "history"),
            ("GET", rf"{API}/tree/(?P<revision>[^/]+)(?:/(?P<folder>.*))?", "tree"),
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
        token = self.token()
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
        token = self.token()
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
        token = self.token()
        name = f"{asked.get('organization') or (token.user if token else '')}/{asked['name']}"
        with self.hub.lock:
            self.repository(name, write=True)
            del self.hub.repositories[name]
        self.answer(200)

    def info(self, name: str, revision: str = "main") -> None:
        """Describe a repository at a revision, with `blobs` the files too."""
        with self.hub.lock:
            repository = self.repository(name)
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

    def other(self, kind: str, name: str) -> None:
        """Say that a data set or a space is there, if it is one of `Hub.others`; there is no more to it."""
        if (kind, name) not in self.hub.others:
            raise HubError(404, "RepoNotFound", "Repository not found")
        self.answer_json({"id": name, "sha": "0" * 40, "private": False, "siblings": [], "tags": []})

    def check_access(self, name: str) -> None:
        """Answer if the repository may be read."""
        self.repository(name)
        self.answer(200)

    def refs(self, name: str) -> None:
        """List branches and tags."""
        with self.hub.lock:
            repository = self.repository(name)
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
            repository = self.repository(name)
            commits = list(repository.history(repository.resolve(revision)))
        self.page(
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
            commit = self.repository(name).resolve(revision)
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
        self.page(rows, _commit(commit))

    def paths(self, name: str, revision: str) -> None:
        """Describe the files and folders of a form that exist."""
        asked = parse_qs(self.body.read().decode()).get("paths", [])
        with self.hub.lock:
            commit = self.repository(name).resolve(revision)
        known = {*commit.files, *commit.folders} - {""}
        self.answer_json([_row(path.strip("/"), commit) for path in asked if path.strip("/") in known])

    def tag(self, name: str, revision: str) -> None:
        """Tag a revision; 409 if the tag exists."""
        tag = self.json()["tag"]
        with self.hub.lock:
            repository = self.repository(name, write=True)
            commit = repository.resolve(revision)
            if tag in repository.tags:
                raise HubError(409, "", f"Tag reference exists already: {tag}")
            repository.tags[tag] = commit.oid
        self.answer(200)

    def delete_tag(self, name: str, tag: str) -> None:
        """Remove a tag."""
        with self.hub.lock:
            repository = self.repository(name, write=True)
            if repository.tags.pop(tag, None) is None:
                raise HubError(404, "RevisionNotFound", f"Invalid rev id: {tag}")
        self.answer(200)

    def branch(self, name: str, branch: str) -> None:
        """Begin a branch; 409 if it exists."""
        start = self.json().get("startingPoint", "main")
        with self.hub.lock:
            repository = self.repository(name, write=True)
            commit = repository.resolve(start)
            if branch in repository.branches:
                raise HubError(409, "", f"Reference already exists: {branch}")
            repository.branches[branch] = commit.oid
        self.answer(200)

    def delete_branch(self, name: str, branch: str) -> None:
        """Remove a branch, and with it the commits that nothing else reaches."""
        with self.hub.lock:
            repository = self.repository(name, write=True)
            if branch == "main":
                raise HubError(403, "", "The main branch cannot be deleted")
            self.head(repository, branch)
            del repository.branches[branch]
        self.answer(200)

    def resolve(self, name: str, revision: str, path: str) -> None:
        """Send a file, or for one in LFS the address of its content, with what it is in the headers."""
        hub = self.hub
        with hub.lock:
            repository = self.repository(name)
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
