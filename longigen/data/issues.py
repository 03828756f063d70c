"""A finding: something wrong in a data set, where it is, and what to do."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from longigen.errors import LongigenError

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """Something wrong in a data set. As text it is one sentence.

    Attributes:
        kind: what it is, for machines: lower case with hyphens, such as ``truncated`` or ``duplicate-time``.
        source: the file, or the place in it: ``visits.csv, line 7``, ``cine.nii.gz, frame 3``.
        problem: what is wrong, as it follows the source in a sentence: ``is truncated``.
        advice: what to do: ``copy it again or remove it``.
        subject: whose it is; empty where it is nobody's.
        severity: ``error`` where it keeps a visit from being used, or would spoil what is measured; ``warning`` where
            it may be right, and should be looked at.
    """

    kind: str
    source: str
    problem: str
    advice: str
    subject: str = ""
    severity: Severity = "error"

    def __str__(self) -> str:
        """Return the sentence."""
        subject = f" (subject {self.subject})" if self.subject else ""
        return f"{self.source}{subject} {self.problem}; {self.advice}."


class BadData(LongigenError):  # noqa: N818
    """What a user can mend in the data: a `Finding`, raised."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding)
        self.finding = finding


OnBad = Callable[[Finding], None]
"""What to do about a visit or a subject that cannot be used: raise, or note it and let it be left out."""


def refuse(finding: Finding) -> None:
    """Raise the finding: one bad file stops the work before it starts."""
    raise BadData(finding)
