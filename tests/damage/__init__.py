"""Files with something wrong, drawn at random from a seed, and what reading each of them may come to."""

import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

from longigen import LongigenError

SECONDS = 20.0
"""Of the processor: how busy the machine is does not count."""
"""The longest time that reading one file may take, many times what it takes on a machine at rest."""
LONGEST = 4001
"""The most characters of a message."""


class Expected(Enum):
    """What reading a damaged file may come to."""

    SAME = "it is read as if it were whole, since the change is legal"
    REFUSED = "it is refused in a sentence"
    EITHER = "it is refused in a sentence, or read as if it were whole"
    CHANGED = "it is refused, or read with the changed values, since no reader could know: nothing states them twice"


@dataclass(frozen=True)
class Damaged:
    """One damaged file.

    Attributes:
        name: what is wrong with it, for messages.
        expected: what reading it may come to.
        named: a text that a refusal must have: the file.
        read: reads it as the commands do; returns what was read.
        truth: what is read of the whole file.
    """

    name: str
    expected: Expected
    named: str
    read: Callable[[], Any]
    truth: Any


def fault(damaged: Damaged) -> str | None:
    """Read a damaged file; return what was wrong with the outcome, or None."""
    began = time.process_time()
    try:
        with _limit():
            found = damaged.read()
    except LongigenError as error:
        if damaged.expected is Expected.SAME:
            return f"is refused ({error})"
        return _bad_message(str(error), damaged.named)
    except Exception as error:
        return f"raises {type(error).__name__}: {str(error)[:300]}"
    if time.process_time() - began > SECONDS:
        return "takes too long"
    if damaged.expected is Expected.REFUSED and not getattr(found, "said", False):
        return "is accepted"
    if damaged.expected is not Expected.CHANGED and found != damaged.truth:
        return f"is read with other values: {str(found)[:300]}"
    return None


def _bad_message(text: str, named: str) -> str | None:
    """Return what is wrong with the message of a refusal, or None."""
    if named not in text:
        return f"is refused without its name: {text}"
    if re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029]", text):
        return f"is refused with control characters: {text!r}"
    if not text.endswith((".", "?")) or len(text) > LONGEST:
        return f"is refused in {len(text)} characters that are no sentence: {text[:300]} … {text[-100:]}"
    return None


@contextmanager
def _limit() -> Iterator[None]:
    """Raise a TimeoutError in the block if it waits for ever, as for a pipe: after fifteen times `SECONDS`."""

    def stop(number: int, frame: Any) -> None:
        raise TimeoutError(f"not read within {15 * SECONDS:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 15 * SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
