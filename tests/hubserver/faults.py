"""What goes wrong on the way, when a test asks for it."""

import fnmatch
import threading
from dataclasses import dataclass, field


@dataclass(eq=False)
class Fault:
    """One thing that goes wrong with requests whose method and path match.

    Attributes:
        reached: set once it has struck.
    """

    pattern: str
    method: str
    times: int | None
    status: int = 0
    seconds: float = 0.0
    after: int | None = None
    cut: bool = False
    reset: bool = False
    corrupt: int | None = None
    short: int = 0
    whole: bool = False
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def in_body(self) -> bool:
        """Whether it strikes the content of a file, and not the request."""
        return self.after is not None or self.corrupt is not None or self.short > 0 or self.whole

    def strike(self) -> None:
        """Say that it has struck, and wait if it is one of those that wait."""
        self.reached.set()
        if self.seconds:
            self.released.wait(self.seconds)

    def release(self) -> None:
        """End its waiting, now and from now on."""
        self.released.set()


class Faults:
    """The faults of a server. Each is for paths that match a pattern (as of a shell; `*` matches `/` too).

    `times` is how many requests a fault strikes, None for all of them. Faults of a content strike where the content is
    sent: for a file in LFS that is the storage, not the answer of `resolve` that sends the client there.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def fail(self, pattern: str, status: int = 503, *, method: str = "*", times: int | None = 1) -> Fault:
        """Answer with an error, such as 500 or 503."""
        return self._add(Fault(pattern, method, times, status=status))

    def delay(self, pattern: str, seconds: float, *, method: str = "*", times: int | None = None) -> Fault:
        """Wait before answering."""
        return self._add(Fault(pattern, method, times, seconds=seconds))

    def cut(self, pattern: str, after: int, *, reset: bool = False, times: int | None = 1) -> Fault:
        """Close the connection after so many bytes of a download; with `reset` as a broken network does it."""
        return self._add(Fault(pattern, "GET", times, after=after, cut=True, reset=reset))

    def stall(self, pattern: str, after: int, *, seconds: float = 60.0, times: int | None = 1) -> Fault:
        """Send no more after so many bytes of a download, until `release` or the time is over.

        A process is killed half way so: `stall.reached.wait(10)`, kill, `stall.release()`.
        """
        return self._add(Fault(pattern, "GET", times, after=after, seconds=seconds))

    def corrupt(self, pattern: str, *, at: int = 0, times: int | None = None) -> Fault:
        """Change one byte of a download, at a position of the file."""
        return self._add(Fault(pattern, "GET", times, corrupt=at))

    def shorten(self, pattern: str, by: int = 1, *, times: int | None = None) -> Fault:
        """Serve a file without its last bytes, as if it were so long."""
        return self._add(Fault(pattern, "GET", times, short=by))

    def ignore_ranges(self, pattern: str, *, times: int | None = None) -> Fault:
        """Send all of a file where a part of it is asked for, as a server may."""
        return self._add(Fault(pattern, "GET", times, whole=True))

    def clear(self) -> None:
        """Let everything go well from now on, and end all waiting."""
        with self._lock:
            for fault in self._faults:
                fault.release()
            self._faults.clear()

    def take(self, method: str, path: str, *, in_body: bool) -> list[Fault]:
        """Return the faults that strike a request, counting them."""
        with self._lock:
            struck = [
                fault
                for fault in self._faults
                if fault.in_body == in_body
                and fault.times != 0
                and fnmatch.fnmatchcase(method, fault.method)
                and fnmatch.fnmatchcase(path, fault.pattern)
            ]
            for fault in struck:
                if fault.times is not None:
                    fault.times -= 1
            return struck

    def _add(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault
