"""The one exception that means "the user can mend this", and the warning beside it."""

from collections.abc import Iterable
from difflib import get_close_matches


class LongigenError(Exception):
    """A mistake that the user can mend.

    The message is one sentence: the thing, why it is refused, what to do. The command line prints it on stderr and
    exits with status 2; everything else is a defect of ours and keeps its traceback.
    """


class LongigenWarning(UserWarning):
    """What a user should know though the work goes on, in one sentence."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest of `known`, or an empty string."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""
