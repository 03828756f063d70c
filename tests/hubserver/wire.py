"""HTTP: requests read and recorded, answers sent, ranges of files, with the faults that a test asked for."""

import io
import json
import re
import socket
import struct
import sys
import traceback
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from hubserver.repository import HubError

if TYPE_CHECKING:
    from hubserver.faults import Fault
    from hubserver.server import Hub

BLOCK = 2**18


@dataclass
class Request:
    """A request as it came.

    Attributes:
        host: `hub` or `storage`.
        path: decoded, without the query.
        range: the `Range` header, "" if there was none.
        authorized: whether an `Authorization` header came.
        status: of the answer; 0 before there is one.
        sent: bytes of content sent.
    """

    host: str
    method: str
    path: str
    range: str
    authorized: bool
    status: int = 0
    sent: int = 0


class Listener(ThreadingHTTPServer):
    """A server on a free port of loopback, a thread for each connection."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, hub: "Hub", handler: type["Wire"]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.hub = hub
        self._open: set[Any] = set()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection, and remember it."""
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection that has ended."""
        self._open.discard(request)
        super().shutdown_request(request)

    def end(self) -> None:
        """Stop, and end the connections that clients keep for later."""
        self.shutdown()
        self.server_close()
        for connection in list(self._open):
            with suppress(OSError):  # it ended by itself meanwhile
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep what a thread could not handle for the test to see; a client that was killed is no fault of ours."""
        if isinstance(sys.exception(), ConnectionError):
            return
        self.hub.errors.append(traceback.format_exc())


def span(header: str, size: int) -> tuple[int, int] | None:
    """Return first and last + 1 of a `Range` header, or None where the header says nothing that is served in part.

    Raises:
        HubError: 416, if there is no such part.
    """
    match = re.fullmatch(r"\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", header, re.IGNORECASE)
    if match is None or match[1] + match[2] == "" or (match[1] and match[2] and int(match[1]) > int(match[2])):
        return None
    if match[1]:
        start, stop = int(match[1]), min(int(match[2]) + 1 if match[2] else size, size)
    else:
        start, stop = max(size - int(match[2]), 0), size
    if start >= stop:
        raise HubError(416, "", "The requested range cannot be satisfied", {"Content-Range": f"bytes */{size}"})
    return start, stop


class Body(io.BufferedIOBase):
    """The content of a request, of known length or in chunks."""

    def __init__(self, stream: io.BufferedIOBase, headers: Message) -> None:
        self._stream = stream
        self._chunked = headers.get("Transfer-Encoding", "").lower() == "chunked"
        self._left = 0 if self._chunked else int(headers.get("Content-Length") or 0)

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes, none at the end."""
        size = -1 if size is None else size
        parts: list[bytes] = []
        while size != 0:
            if self._left == 0 and self._chunked:
                self._left = int(self._stream.readline().split(b";")[0], 16)
                if self._left == 0:
                    self._chunked = False
                    while self._stream.readline().strip():  # trailers
                        continue
            if self._left == 0:
                break
            data = self._stream.read(self._left if size < 0 else min(size, self._left))
            if not data:
                raise ConnectionResetError("the client went away")
            parts.append(data)
            self._left -= len(data)
            size = size if size < 0 else size - len(data)
            if self._left == 0 and self._chunked:
                self._stream.readline()
        return b"".join(parts)


class Wire(BaseHTTPRequestHandler):
    """A handler with a table of routes: method, pattern of the path as it came, name of the function for it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    host: ClassVar[str]
    routes: ClassVar[list[tuple[str, re.Pattern[str], str]]]

    @property
    def hub(self) -> "Hub":
        """The Hub that it serves."""
        return cast(Listener, self.server).hub

    def serve(self) -> None:
        """Answer one request."""
        url = urlsplit(self.path)
        self.query = dict(parse_qsl(url.query))
        self.body = Body(self.rfile, self.headers)
        self.record = Request(
            self.host,
            self.command,
            unquote(url.path),
            self.headers.get("Range", ""),
            "Authorization" in self.headers,
        )
        self.hub.note(self.record)
        try:
            try:
                self._route(url.path)
            except HubError as refusal:
                self.refuse(refusal)
            except ConnectionError:
                raise
            except Exception:  # the test must fail by it, not the thread
                self.hub.errors.append(traceback.format_exc())
                self.refuse(HubError(500, "", "the server of the tests failed"))
            while self.body.read(BLOCK):  # what nobody read stands before the next request
                continue
        except (ConnectionError, ValueError):
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = serve  # noqa: N815 (http.server looks for these)

    def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Send an answer whose content is at hand."""
        self._head(status, {**(headers or {}), "Content-Length": str(len(body))})
        if self.command != "HEAD":
            self._write(body)

    def answer_json(self, value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Send JSON."""
        self.answer(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def refuse(self, refusal: HubError) -> None:
        """Send an error as the Hub words it: two headers and JSON."""
        headers = {"X-Error-Code": refusal.code} if refusal.code else {}
        headers |= {"X-Error-Message": refusal.message, **refusal.headers}
        self.answer_json({"error": refusal.message}, refusal.status, headers)

    def answer_file(self, file: BinaryIO, size: int, headers: Mapping[str, str]) -> None:
        """Send a file, or the part of it that the request asks for.

        Raises:
            HubError: 416.
        """
        faults = self.hub.faults.take(self.command, self.record.path, in_body=True)
        size -= sum(fault.short for fault in faults)
        part = None if any(fault.whole for fault in faults) else span(self.record.range, size)
        start, stop = part or (0, size)
        headers = {**headers, "Accept-Ranges": "bytes", "Content-Length": str(stop - start)}
        if part:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        self._head(206 if part else 200, headers)
        if self.command != "HEAD":
            self._send(file, start, stop, faults)

    def json(self) -> Any:
        """Return the content of the request.

        Raises:
            HubError: 400, if it is no JSON.
        """
        try:
            return json.loads(self.body.read())
        except ValueError:
            raise HubError(400, "", "Invalid JSON") from None

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Say nothing on stderr: the requests are recorded."""

    def _route(self, path: str) -> None:
        for fault in self.hub.faults.take(self.command, self.record.path, in_body=False):
            fault.strike()
            if fault.status:
                raise HubError(fault.status, "", "as the test asked")
        method = "GET" if self.command == "HEAD" else self.command
        for verb, pattern, name in self.routes:
            if verb == method and (match := pattern.fullmatch(path)):
                getattr(self, name)(**{key: unquote(value or "") for key, value in match.groupdict().items()})
                return
        raise HubError(404, "", f"{self.command} {path} is not served")

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.record.status = status
        self.send_response(status)
        for key, value in {"X-Request-Id": uuid.uuid4().hex, **headers}.items():
            self.send_header(key, value)
        self.end_headers()

    def _write(self, data: bytes) -> None:
        self.record.sent += len(data)  # before: the client may have it and the test look, before this thread goes on
        self.wfile.write(data)

    def _send(self, file: BinaryIO, start: int, stop: int, faults: list["Fault"]) -> None:
        stops = sorted({min(start + fault.after, stop) for fault in faults if fault.after is not None} | {stop})
        file.seek(start)
        at = start
        for until in stops:
            while at < until:
                data = bytearray(file.read(min(BLOCK, until - at)))
                for fault in faults:
                    if fault.corrupt is not None and at <= fault.corrupt < at + len(data):
                        data[fault.corrupt - at] ^= 0xFF
                        fault.strike()
                self._write(bytes(data))
                at += len(data)
            for fault in faults:
                if fault.after is not None and min(start + fault.after, stop) == until:
                    fault.strike()
                    if fault.cut:
                        self._cut(reset=fault.reset)
        for fault in faults:
            if fault.short:
                fault.strike()

    def _cut(self, *, reset: bool) -> None:
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        else:
            self.connection.shutdown(socket.SHUT_RDWR)
        raise ConnectionAbortedError("as the test asked")
