"""Preprocessed visits kept in memory."""

import threading
from collections import OrderedDict

from torch import Tensor


class VisitCache:
    """The visits that were used last, up to a number of bytes, so that a second epoch reads no file.

    - Visits are known by (subject id, index): a cache belongs to one data set and one way of preprocessing it.
    - The limit holds per process. Pickled to another process, such as a spawned worker, a cache arrives empty; forked
      workers share what it held then, and fill it each for themselves.
    - A tensor is handed out, not copied: do not change it in place.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._visits: OrderedDict[tuple[str, int], Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of visits that are held."""
        return len(self._visits)

    def __reduce__(self) -> tuple[type, tuple[int]]:
        return type(self), (self.limit_bytes,)

    def get(self, key: tuple[str, int]) -> Tensor | None:
        """Return a visit, or None if it is not held."""
        with self._lock:
            if key not in self._visits:
                return None
            self._visits.move_to_end(key)
            return self._visits[key]

    def put(self, key: tuple[str, int], visit: Tensor) -> None:
        """Keep a visit, dropping those used longest ago; one that is larger than the limit is not kept."""
        with self._lock:
            replaced = self._visits.pop(key, None)
            self.used_bytes -= 0 if replaced is None else replaced.nbytes
            if visit.nbytes > self.limit_bytes:
                return
            self._visits[key] = visit
            self.used_bytes += visit.nbytes
            while self.used_bytes > self.limit_bytes:
                _, dropped = self._visits.popitem(last=False)
                self.used_bytes -= dropped.nbytes
