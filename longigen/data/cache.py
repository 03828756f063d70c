"""Preprocessed visits kept on disk."""

import hashlib
import os
import shutil
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from longigen.errors import LongigenError, LongigenWarning
from longigen.utils.files import atomic

FOLDER, LIMIT = "LONGIGEN_CACHE", "LONGIGEN_CACHE_GB"
"""The environment variables that say where the cache is, and how large it may get."""

DEFAULT_GB = 20.0
ROOM = 0.1
"""The share of the limit that is freed at once, so that a full cache is not walked at every write."""

ABANDONED = 3600.0
"""Seconds after which an unfinished file is that of a process which was killed."""


class VisitCache:
    """Preprocessed visits on disk, each written once, so that a second epoch reads no NIfTI.

    - A visit is known by a key, a hash of what it was made from: its file, the subject's first one, the pipeline. A
      file that changes has another key; the old entry is not read again and is dropped in time.
    - An entry is a safetensors file, mapped into memory when it is asked for: processes share its pages, and a data
      set larger than memory needs no more of it. What is handed out is private: changing it changes no file.
    - An entry appears whole or not at all, at whatever moment a process is killed. Two processes that make the same
      one write the same, and the last to finish wins. One that cannot be read is made again.
    - Beyond `limit_bytes` those used longest ago are dropped; processes that write at once may exceed it for a moment,
      by `ROOM` each. A process that has mapped an entry keeps it, dropped or not.
    - Where nothing can be written (a full disk, a folder of someone else's) it warns once and goes on without.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._used: int | None = None
        self._written = 0
        self._off = False

    @classmethod
    def default(cls) -> Self:
        """Return the user's cache: in `LONGIGEN_CACHE`, or ``longigen`` in the user's folder of caches.

        It holds `LONGIGEN_CACHE_GB` (0 for none), by default 20 GB but at most half of what the disk has free.

        Raises:
            LongigenError: if the limit is no number of GB.
        """
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(os.environ.get(FOLDER) or Path(home) / "longigen").expanduser() / "visits"
        said = os.environ.get(LIMIT)
        if said is None:
            cache = cls(folder, int(DEFAULT_GB * 1e9))
            place = next(parent for parent in (folder, *folder.parents) if parent.exists())
            cache.limit_bytes = min(cache.limit_bytes, (shutil.disk_usage(place).free + cache.used_bytes) // 2)
            return cache
        try:
            return cls(folder, int(float(said) * 1e9))
        except (ValueError, OverflowError):
            raise LongigenError(f"{LIMIT} is {said!r}, which is no number of GB; set it to such as 20.") from None

    def __reduce__(self) -> tuple[type, tuple[Path, int]]:
        return type(self), (self.folder, self.limit_bytes)

    @staticmethod
    def key(*parts: str) -> str:
        """Return the key of what is made from `parts`."""
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    @property
    def used_bytes(self) -> int:
        """The size of all entries."""
        return sum(status.st_size for _, status in self._entries())

    def get(self, key: str) -> tuple[Tensor, Mapping[str, str]] | None:
        """Return a visit, mapped, and the notes that were put with it, or None if it is not held."""
        path = self._path(key)
        try:
            with safe_open(path, framework="pt") as file:
                visit, notes = file.get_tensor("visit"), file.metadata() or {}
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError):  # damaged by a failing disk or a crash of the machine: make it again
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):  # dropped meanwhile, or someone else's
            os.utime(path)  # used now
        return visit, notes

    def put(self, key: str, visit: Tensor, notes: Mapping[str, str]) -> None:
        """Keep a visit with some notes, dropping those used longest ago; one larger than the limit is not kept."""
        if self._off or visit.nbytes > self.limit_bytes:
            return
        try:
            self._make_room(visit.nbytes)
            with atomic(self._path(key)) as part:
                save_file({"visit": visit.contiguous()}, part, dict(notes))
        except (LongigenError, SafetensorError, OSError) as error:
            self._off = True
            warnings.warn(
                f"The cache in {self.folder} cannot be used, so files are read again each time ({error}); set "
                f"{FOLDER} to a folder with room.",
                LongigenWarning,
                stacklevel=2,
            )

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def _make_room(self, size: int) -> None:
        """See that `size` more bytes fit; the folder is walked at first, and whenever it may be full."""
        with self._lock:
            if self._used is None:
                self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # scans of people
            elif self._used + size <= self.limit_bytes and self._written + size <= ROOM * self.limit_bytes:
                self._used, self._written = self._used + size, self._written + size
                return
            entries = sorted(self._entries(), key=lambda entry: entry[1].st_mtime)
            used = sum(status.st_size for _, status in entries) + size
            keep = self.limit_bytes if used <= self.limit_bytes else int((1 - ROOM) * self.limit_bytes)
            for path, status in entries:
                if used <= max(keep, size):
                    break
                with suppress(OSError):  # gone already, or in use where a mapped file cannot be removed
                    path.unlink()
                    used -= status.st_size
            self._used, self._written = used, size

    def _entries(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield the entries, and remove what killed processes left half written."""
        for path in self.folder.glob("??/*"):
            with suppress(OSError):  # another process dropped it meanwhile
                status = path.stat()
                if path.suffix == ".safetensors" and not path.name.startswith("."):
                    yield path, status
                elif time.time() - status.st_mtime > ABANDONED:
                    path.unlink()
