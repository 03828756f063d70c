"""`LongigenError`, for mistakes that the user can correct, `LongigenWarning`, and `Interruption` by a signal."""

import signal
from collections.abc import Iterable
from difflib import get_close_matches


class LongigenError(Exception):
    """A mistake that the user can correct.

    The message is one sentence: the thing, why it is refused, what to do. The command line prints it on stderr and
    exits with status 2. Any other exception is a bug in longigen or in a plugin and keeps its traceback.
    """


class LongigenWarning(UserWarning):
    """A warning to the user, in one sentence; the work goes on."""


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
    """Return ``" Did you mean 'x'?"`` for the most similar of the `known` names, or an empty string."""
    matches = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{matches[0]}'?" if matches else ""
