"""Uploads: what goes to LFS and what into the commit, and the commit that is all of it or nothing."""

import base64
import binascii
import json
import re
from typing import Any
from urllib.parse import urlencode

from hubserver.access import Access
from hubserver.repository import Commit, HubError, Pointer, Repository

SHA256 = re.compile(r"[0-9a-f]{64}")


class Upload(Access):
    """The part of the Hub that takes files."""

    def preupload(self, name: str, revision: str) -> None:
        """Say of each file whether it goes to LFS, and what is there already. (`.gitignore` is not heeded.)"""
        asked = self.json()["files"]
        with self.hub.lock:
            repository = self.repository(name, write=True)
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
            repository = self.repository(name, write=True)
            head = self.head(repository, revision)
            parent = header.get("parentCommit")
            if parent and not head.oid.startswith(parent):
                raise HubError(412, "", "A commit has happened since. Please refresh and try again.")
            changes: dict[str, bytes | Pointer | None] = {}
            for line in lines[1:]:
                changes |= _change(line["key"], line["value"], repository, head)
            token = self.token()
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
            repository = self.repository(name, write=True)
            self.head(repository, branch)
            repository.squash(branch, title, repository.owner)
        self.answer(200)

    def lfs_batch(self, name: str) -> None:
        """Say where each content is to be uploaded (the transfer `basic`), unless it is there."""
        asked = self.json()
        if asked.get("operation") != "upload" or "basic" not in asked.get("transfers", ["basic"]):
            raise HubError(400, "", "this server takes uploads by the transfer 'basic'")
        hub, objects = self.hub, []
        with hub.lock:
            repository = self.repository(name, write=True)
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
            repository = self.repository(name, write=True)
            _uploaded(repository, asked["oid"], asked["size"])
        self.answer(200)


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
