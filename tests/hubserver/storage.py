"""Where LFS files lie: another origin than the Hub's, with signed addresses and no tokens."""

import re
from typing import ClassVar

from hubserver.repository import HubError
from hubserver.wire import Wire


class Storage(Wire):
    """The handler of the storage. As S3 does, it refuses a request that is signed and carries a token as well."""

    host = "storage"
    routes: ClassVar = [
        ("GET", re.compile(r"/(?P<name>[^/]+/[^/]+)/(?P<sha256>[0-9a-f]{64})/(?P<file>[^/]+)"), "download"),
        ("PUT", re.compile(r"/(?P<name>[^/]+/[^/]+)/(?P<sha256>[0-9a-f]{64})"), "upload"),
    ]

    def download(self, name: str, sha256: str, file: str) -> None:
        """Send the content of a file."""
        self._check("GET")
        path = self.hub.store.path(sha256)
        with path.open("rb") as stream:
            disposition = f"inline; filename*=UTF-8''{file}; filename=\"{file}\";"
            headers = {
                "ETag": f'"{sha256}"',
                "Content-Type": "application/octet-stream",
                "Content-Disposition": disposition,
            }
            self.answer_file(stream, path.stat().st_size, headers)

    def upload(self, name: str, sha256: str) -> None:
        """Keep the content of a file, if it is what its address says."""
        self._check("PUT")
        hub = self.hub
        hub.store.put(self.body, sha256, int(self.query["size"]))
        with hub.lock:
            if name not in hub.repositories:
                raise HubError(404, "RepoNotFound", "Repository not found")
            hub.repositories[name].uploaded.add(sha256)
        self.answer(200, headers={"ETag": f'"{sha256}"'})

    def _check(self, method: str) -> None:
        if self.record.authorized:
            raise HubError(400, "", "Only one auth mechanism allowed")
        size = self.query.get("size", "")
        if self.query.get("signature") != self.hub.sign(method, self.record.path, size):
            raise HubError(403, "", "The signature does not match")
