"""`LongigenError`, for mistakes that the user can correct, `LongigenWarning`, `Interruption` by a signal, messages."""

import re
import signal
from collections.abc import Iterable
from difflib import get_close_matches

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Characters that are not shown but act on a terminal or on the order of the text, other than tab and line feed."""


def printable(text: str) -> str:
    """Return a text with its control characters escaped, so that a stranger's name or card cannot act on a terminal."""
    return CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


LONGEST_WORD, LONGEST_SENTENCE = 500, 4000
"""Characters of a word (a path may be so long) and of a message that are shown; no sentence of ours has more, but names
and cells of somebody's file may."""


def sentence(text: str) -> str:
    """Return a message in one line with control characters escaped, and its overlong words and middle left out."""
    line = printable(text.replace("\n", " "))
    line = re.sub(rf"\S{{{LONGEST_WORD},}}", lambda word: _without_middle(word[0], LONGEST_WORD // 2), line)
    return _without_middle(line, LONGEST_SENTENCE)


def _without_middle(text: str, length: int) -> str:
    half = length // 2
    return text if len(text) <= length else f"{text[:half]}…{text[-half:]}"


class LongigenError(Exception):
    """A mistake that the user can correct.

    The message is one sentence: the thing, why it is refused, what to do. The command line prints it on stderr and
    exits with status 2. Any other exception is a bug in longigen or in a plugin and keeps its traceback.
    """

    raised_by_all: bool = False
    """Whether every process of the command raises it (`longigen.utils.processes.agreeing`)."""

    def __str__(self) -> str:
        """Return the message in one line, with control characters escaped."""
        return sentence(super().__str__())


class LongigenWarning(UserWarning):
    """A warning to the user, in one sentence; the work goes on."""

    def __str__(self) -> str:
        """Return the message in one line, with control characters escaped."""
        return sentence(super().__str__())


class Interruption(KeyboardInterrupt):
    """A training that was stopped by a signal, after it wrote a checkpoint.

    Args:
        number: the signal.

    Attributes:
        status: the exit status of a command that the signal ended, 128 + `number`.
    """

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(f"stopped by {number.name}")
        self.status = 128 + number


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the most similar of the `known` names, or an empty string.

    Capitals, hyphens and the order of the letters do not matter; initials mean the whole name, as ``lr`` does
    ``learning_rate``; a word means the only name that it is part of, as ``rate``. The name itself is never suggested.
    """
    plain = {other: _plain(other) for other in known if other != name}
    wanted = _plain(name)
    matches = (
        [other for other, text in plain.items() if text == wanted]
        or [other for other, text in plain.items() if "".join(word[:1] for word in text.split("_")) == wanted]
        or [other for other, text in plain.items() if sorted(text) == sorted(wanted)]
        or [other for text in get_close_matches(wanted, plain.values(), n=1) for other in plain if plain[other] == text]
    )
    parts = [other for other, text in plain.items() if wanted in text.split("_")]
    matches = matches or (parts if len(set(parts)) == 1 else [])
    return f" Did you mean '{matches[0]}'?" if matches else ""


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")
