"""A disk cache of preprocessed visits, so that each file is read once and not in every epoch."""

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

FOLDER_VARIABLE, LIMIT_VARIABLE = "LONGIGEN_CACHE", "LONGIGEN_CACHE_GB"
"""The environment variables for the cache's folder and its largest size in GB."""

DEFAULT_GB = 20.0
FREED_SHARE = 0.1
"""The share of the limit that is freed at once, so that a full cache is not scanned at every write."""

TEMPORARY_FILE_SECONDS = 3600.0
"""A temporary file older than this was left by a killed process, and is deleted."""


class VisitCache:
    """A disk cache of preprocessed visits, shared by processes and bounded in size.

    - The key of a visit is a hash of its file's identity, the identity of the subject's first file, and the pipeline.
      If a file changes, the key changes; the old entry is no longer used and is evicted later.
    - An entry is a safetensors file that is memory-mapped when read: processes share its pages, and a data set may be
      larger than memory. Changing a returned tensor does not change the file.
    - Writes are atomic, even if a process is killed. Two processes that write the same entry write the same content. An
      entry that cannot be read is deleted and written again.
    - Above `limit_bytes`, the least recently used entries are evicted. Processes that write at the same time may exceed
      the limit by `FREED_SHARE` each for a moment. A mapped entry stays readable after its eviction.
    - If the cache cannot be written (a full disk, missing permission), it warns once and is not used.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._used: int | None = None
        self._written = 0
        self._disabled = False

    @classmethod
    def default(cls) -> Self:
        """Return the user's cache, in the folder `LONGIGEN_CACHE`; by default ``longigen`` in the user's cache folder.

        Its limit is `LONGIGEN_CACHE_GB` (0 for no cache), by default 20 GB but at most half of the free disk space.

        Raises:
            LongigenError: if `LONGIGEN_CACHE_GB` is not a number.
        """
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(os.environ.get(FOLDER_VARIABLE) or Path(home) / "longigen").expanduser() / "visits"
        limit = os.environ.get(LIMIT_VARIABLE)
        if limit is None:
            cache = cls(folder, int(DEFAULT_GB * 1e9))
            existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
            cache.limit_bytes = min(cache.limit_bytes, (shutil.disk_usage(existing).free + cache.used_bytes) // 2)
            return cache
        try:
            return cls(folder, int(float(limit) * 1e9))
        except (ValueError, OverflowError):
            raise LongigenError(
                f"{LIMIT_VARIABLE} is {limit!r}, which is not a number of GB; set it to a number such as 20."
            ) from None

    def __reduce__(self) -> tuple[type, tuple[Path, int]]:
        return type(self), (self.folder, self.limit_bytes)

    @staticmethod
    def key(*parts: str) -> str:
        """Return the key of an entry: a hash of `parts`."""
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    @property
    def used_bytes(self) -> int:
        """The size of all entries, in bytes."""
        return sum(status.st_size for _, status in self._entries())

    def get(self, key: str) -> tuple[Tensor, Mapping[str, str]] | None:
        """Return a memory-mapped visit and the notes stored with it, or None if it is not in the cache."""
        path = self._path(key)
        try:
            with safe_open(path, framework="pt") as file:
                visit, notes = file.get_tensor("visit"), file.metadata() or {}
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError):  # damaged by a failing disk or a crash: delete the entry
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):  # evicted meanwhile, or owned by another user
            os.utime(path)  # the time of last use
        return visit, notes

    def put(self, key: str, visit: Tensor, notes: Mapping[str, str]) -> None:
        """Store a visit and notes, evicting the least recently used entries; skip one larger than the limit."""
        if self._disabled or visit.nbytes > self.limit_bytes:
            return
        try:
            self._make_room(visit.nbytes)
            with atomic(self._path(key)) as part:
                save_file({"visit": visit.contiguous()}, part, dict(notes))
        except (LongigenError, SafetensorError, OSError) as error:
            self._disabled = True
            warnings.warn(
                f"The cache in {self.folder} cannot be used, so files are read again each time ({error}); set "
                f"{FOLDER_VARIABLE} to a folder with free space.",
                LongigenWarning,
                stacklevel=2,
            )

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def _make_room(self, size: int) -> None:
        """Evict entries until `size` more bytes fit; the folder is scanned at first, and whenever it may be full."""
        with self._lock:
            if self._used is None:
                self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # private: medical images
            elif self._used + size <= self.limit_bytes and self._written + size <= FREED_SHARE * self.limit_bytes:
                self._used, self._written = self._used + size, self._written + size
                return
            entries = sorted(self._entries(), key=lambda entry: entry[1].st_mtime)
            used = sum(status.st_size for _, status in entries) + size
            target = self.limit_bytes if used <= self.limit_bytes else int((1 - FREED_SHARE) * self.limit_bytes)
            for path, status in entries:
                if used <= max(target, size):
                    break
                with suppress(OSError):  # already deleted, or mapped on a system that then refuses to delete
                    path.unlink()
                    used -= status.st_size
            self._used, self._written = used, size

    def _entries(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield the entries, and delete temporary files of killed processes."""
        for path in self.folder.glob("??/*"):
            with suppress(OSError):  # another process deleted it meanwhile
                status = path.stat()
                if path.suffix == ".safetensors" and not path.name.startswith("."):
                    yield path, status
                elif time.time() - status.st_mtime > TEMPORARY_FILE_SECONDS:
                    path.unlink()
