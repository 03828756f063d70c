"""Requests to stop a training: the signals that a user, a terminal or a cluster sends."""

import signal
import threading
from types import FrameType

from longigen.errors import Interruption

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C; the end of a cluster's job; a cluster's warning before it; a closed terminal."""


class StopRequests:
    """Inside this context, the first of `SIGNALS` is noted instead of obeyed, so that a step is always completed.

    A second SIGINT raises KeyboardInterrupt at once. Signals that are ignored when the context is entered, as SIGHUP
    under ``nohup``, stay ignored. Only the main thread can handle signals; in another one nothing is noted.

    Attributes:
        received: the first signal, or None.
        agreed: whether every process of the training knows that one of them received a signal.
    """

    received: signal.Signals | None = None
    agreed: bool = False

    def __enter__(self) -> "StopRequests":
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received is not None:
            raise KeyboardInterrupt
        self.received = self.received or signal.Signals(number)

    def obey(self) -> None:
        """Raise an `Interruption` if a signal was noted."""
        if self.received is not None:
            raise Interruption(self.received)

    def agree(self, requested: bool) -> None:
        """Record whether any process of this training was asked to stop; all of them call this after the same step."""
        if requested:
            self.agreed = True
            self.received = self.received or signal.SIGTERM


def ignore_signals(worker: int = 0) -> None:
    """Ignore `SIGNALS` in a process that loads data, because they go to a whole process group.

    The training would otherwise lose its workers, and with them the step that it is about to complete. They end with
    the training.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
