"""Whether a data set is fit for a model: what `generate` would refuse, and what it would warn of."""

import warnings
from collections.abc import Callable, Sequence

from longigen.data.issues import Finding, Severity
from longigen.data.quality.inspect import Examination
from longigen.errors import LongigenError, LongigenWarning
from longigen.generation.session import GenerationSession
from longigen.hub.resolve import ModelSource
from longigen.models.cautions import box_cautions, subject_cautions


def examine_for(
    source: ModelSource,
    data: str,
    changes: Sequence[str] = (),
    callback: Callable[[int, int], None] | None = None,
) -> Examination:
    """Read every visit of a data set as `generate` does for a model, and return the problems.

    An error is what `generate` refuses for one visit or subject; a warning is what it warns of.

    Args:
        source: the model.
        data: a data set's name, a file or folder, or ``NAME:PATH``.
        changes: parameters of the data set, as ``key=value``.
        callback: called as ``callback(visits read, all visits)``.

    Raises:
        LongigenError: if `generate` refuses the model or the data set as a whole, for example for its unit of time, or
            since no subject can be used.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LongigenWarning)
        try:
            session = GenerationSession.open(source, data=data, changes=changes, skip_bad=True, callback=callback)
        except LongigenError as error:
            raise LongigenError(f"'longigen generate' would say: {error}") from error
    said = dict.fromkeys(str(each.message) for each in caught if issubclass(each.category, LongigenWarning))
    dataset = session.cohort.dataset
    place = str(dataset.config.get("path") or session.cohort.name)
    findings = [*session.cohort.skipped, *(_finding("caution", place, text) for text in said)]
    for prepared in session.subjects:
        subject = prepared.subject
        scan = subject.visits[0].source
        given = range(len(subject.visits))
        for kind, text in subject_cautions(session.model, prepared, given, subject.times[1:], direct=True):
            findings.append(_finding(kind, scan, text, subject.id))
        try:
            for text in box_cautions(session.model, [prepared], shape_chosen=session.box_chosen):
                findings.append(_finding("outside", scan, text, subject.id))
        except LongigenError as error:
            findings.append(_finding("outside", scan, str(error), subject.id, "error"))
    visits = sum(len(prepared.subject.visits) for prepared in session.subjects)
    return Examination.of(findings, dataset, subjects=len(session.subjects), visits=visits)


def _finding(kind: str, source: str, text: str, subject: str = "", severity: Severity = "warning") -> Finding:
    """Return a sentence of the form "problem; advice." as a finding."""
    problem, _, advice = text.rstrip(".").partition("; ")
    return Finding(kind, source, problem, advice, subject, severity)
