"""Read and write files: atomic writes, JSON, and file-system errors as one-sentence messages."""

import errno
import json
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from longigen.errors import LongigenError

UMASK = os.umask(0)
os.umask(UMASK)  # the umask can only be read by setting it, which is not thread-safe: do it once, at import

MAX_TEXT_BYTES = 2**24
"""The largest text file that is read at once."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary file path, with the extension of `path`, that is renamed to `path` when the block succeeds.

    Raises:
        LongigenError: if the folder cannot be written or is full; an existing file at `path` is then unchanged.
    """
    part = None
    try:
        with write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".part-", suffix="".join(path.suffixes[-2:]), dir=path.parent)
            os.close(handle)
            part = Path(name)
            yield part
            part.chmod(0o666 & ~UMASK)
            part.replace(path)
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to `path`, which must be new or empty, when the block succeeds.

    Raises:
        LongigenError: if the folder cannot be written; the temporary folder is then removed.
    """
    part = None
    try:
        with write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            part = Path(tempfile.mkdtemp(prefix=".part-", dir=path.parent))
            yield part
            part.chmod(0o777 & ~UMASK)
            if path.exists():
                path.rmdir()
            part.replace(path)
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Translate an OSError in the block into a `LongigenError` that names the file or folder being written."""
    try:
        yield
    except OSError as error:
        raise LongigenError(f"{path} cannot be written ({reason(error)}); choose another output folder.") from error


def writable_folder(folder: Path) -> None:
    """Create a folder if needed, and check that a file can be written in it.

    Raises:
        LongigenError: if the folder cannot be created or written.
    """
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"longigen")


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write `content` as JSON, atomically."""
    with atomic(path) as part:
        part.write_text(json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path, limit: int = MAX_TEXT_BYTES) -> dict[str, Any]:
    """Read a JSON object from a file of at most `limit` bytes.

    Raises:
        LongigenError: if the file cannot be read, is not JSON, has two values of one key or a number that is not
            finite, or holds something other than an object.
    """
    try:
        content = parse_json(read_text(path, limit), finite=True)
    except (OSError, ValueError) as error:
        raise LongigenError(f"{path} cannot be read ({reason(error)}).") from None
    if not isinstance(content, dict):
        raise LongigenError(f"{path} is not a JSON object.")
    return content


def parse_json(text: str, *, finite: bool = False) -> Any:
    """Parse JSON that may be from a stranger.

    Args:
        text: the JSON.
        finite: refuse NaN and infinity, which Python reads though JSON does not have them.

    Raises:
        ValueError: if it is not JSON, is nested too deeply, or an object has two different values of one key.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key, value in pairs:
            if content.setdefault(key, value) != value:
                raise ValueError(f"it has two values of {key[:80]!r}")
        return content

    def number(digits: str) -> float:
        value = float(digits)
        if finite and not math.isfinite(value):
            raise ValueError(f"{digits[:80]} is not a finite number")
        return value

    try:
        return json.loads(text, object_pairs_hook=unique, parse_float=number, parse_constant=number)
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None


def read_text(path: Path, limit: int = MAX_TEXT_BYTES) -> str:
    """Read a text file in UTF-8 that may be from a stranger.

    Raises:
        OSError: if it cannot be read, is not a regular file (a device or a pipe never ends) or is larger than `limit`
            bytes.
        ValueError: if it is not UTF-8.
    """
    size = regular_size(path)
    if size > limit:
        raise OSError(errno.EFBIG, f"it has {size} bytes, more than the limit of {limit}")
    return path.read_text(encoding="utf-8")


def user_path(text: Path | str) -> Path:
    """Return the path that a user wrote, with ``~`` expanded if that user exists.

    Raises:
        LongigenError: if no file can have that path, since it is too long for the system.
    """
    path = Path(os.path.expanduser(text))
    try:
        path.exists()
    except OSError as error:
        raise LongigenError(f"{path} is no path ({reason(error)}); give a shorter one.") from None
    return path


def regular_size(path: Path) -> int:
    """Return the size of a regular file in bytes, following links.

    Raises:
        OSError: if there is no file, or it is something else, such as a folder, a device or a pipe.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    return status.st_size


def reason(error: BaseException) -> str:
    """Return the message of an exception as one short line, without a full stop."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return text.splitlines()[0].rstrip(".")[:160]


def new_folder(parent: Path | str, stem: str) -> Path:
    """Return the first of ``PARENT/STEM-1``, ``PARENT/STEM-2`` … that does not exist, without creating it."""
    number = 1
    while (folder := Path(parent) / f"{stem}-{number}").exists():
        number += 1
    return folder
