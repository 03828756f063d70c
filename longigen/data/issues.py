"""`Finding`: a problem in a data set, with its file, subject and advice; `BadData` raises it as an error."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from longigen.errors import LongigenError, LongigenWarning, sentence

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """A problem in a data set; ``str()`` of it is one sentence.

    Attributes:
        kind: machine-readable name, lower case with hyphens, such as ``truncated`` or ``duplicate-time``.
        source: the file, and the line or frame in it: ``visits.csv, line 7``, ``cine.nii.gz, frame 3``.
        problem: the problem, worded to follow the source in a sentence: ``is truncated``.
        advice: what to do: ``copy it again or remove it``.
        subject: id of the subject; empty if the problem is not of one subject.
        severity: ``error`` if the visit cannot be used or would invalidate results; ``warning`` if the data may be
            correct, but should be checked.
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
        return sentence(f"{self.source}{subject} {self.problem}; {self.advice}.")


class BadData(LongigenError):  # noqa: N818
    """An error in the user's data, raised from a `Finding`."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding)
        self.finding = finding


OnBad = Callable[[Finding], None]
"""Called with the `Finding` of each visit or subject that cannot be used: raises it, or records it and returns."""


def warn_of(findings: Iterable[Finding]) -> None:
    """Warn of findings, in one sentence for each kind, which names the first."""
    by_kind: dict[str, list[Finding]] = {}
    for finding in findings:
        by_kind.setdefault(finding.kind, []).append(finding)
    for first, *others in by_kind.values():
        more = f" (and {len(others)} more like it)" if others else ""
        warnings.warn(str(replace(first, problem=first.problem + more)), LongigenWarning, stacklevel=3)


def refuse(finding: Finding) -> None:
    """Raise the finding as `BadData`, so that one bad file stops the work before it starts."""
    raise BadData(finding)
