"""Serve the viewer's page on this machine's loopback address, until Ctrl-C."""

import webbrowser
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast
from urllib.parse import unquote, urlsplit

ADDRESS = "127.0.0.1"
NAMES = (ADDRESS, "localhost")
"""The names by which a browser may ask: a page of another site that points its own name here gets nothing."""


class ViewerServer(ThreadingHTTPServer):
    """A server of one page and its volumes, on a free port of the loopback address.

    Args:
        page: the page.
        volumes: the volumes by key, as the page asks for them.
    """

    daemon_threads = True

    def __init__(self, page: str, volumes: Mapping[str, bytes]) -> None:
        super().__init__((ADDRESS, 0), _Handler)
        self.page = page.encode()
        self.volumes = volumes

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{ADDRESS}:{self.server_port}/"

    def run(self, *, browser: bool, say: Callable[[str], object]) -> None:
        """Serve until Ctrl-C.

        Args:
            browser: open the page in the user's browser.
            say: called with a sentence that names the address.
        """
        say(f"The viewer is at {self.url}; Ctrl-C ends it.")
        if browser:
            webbrowser.open(self.url)
        with self:
            try:
                self.serve_forever()
            except KeyboardInterrupt:
                say("The viewer has ended.")


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # as http.server calls it
        if urlsplit(f"//{self.headers.get('Host', '')}").hostname not in NAMES:
            return self._send(403, b"", "text/plain")
        path, server = unquote(urlsplit(self.path).path), cast(ViewerServer, self.server)
        if path == "/":
            return self._send(200, server.page, "text/html; charset=utf-8")
        found = server.volumes.get(path.removeprefix("/volumes/"))
        return self._send(404 if found is None else 200, found or b"", "application/octet-stream")

    def _send(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Print nothing for each request."""
