"""The suite: the checks of each kind of component, and running them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from longigen.components.base import checked, parameters
from longigen.components.changes import as_changes, parse_change
from longigen.errors import LongigenError, did_you_mean
from longigen.registry.registry import KINDS, registry
from longigen.testing.case import Case
from longigen.testing.codecs import CHECKS as CODECS
from longigen.testing.conditioners import CHECKS as CONDITIONERS
from longigen.testing.datasets import CHECKS as DATASETS
from longigen.testing.denoisers import CHECKS as DENOISERS
from longigen.testing.metrics import CHECKS as METRICS
from longigen.testing.samplers import CHECKS as SAMPLERS
from longigen.testing.segmenters import CHECKS as SEGMENTERS

CHECKS: dict[str, Mapping[str, Callable[[Case], None]]] = {
    "conditioner": CONDITIONERS,
    "denoiser": DENOISERS,
    "sampler": SAMPLERS,
    "codec": CODECS,
    "dataset": DATASETS,
    "metric": METRICS,
    "segmenter": SEGMENTERS,
}
"""The checks of each kind, by their labels. A check raises if the component breaks the contract."""


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes:
        kind: of the component.
        label: of the check: what the component is to do.
        problem: what is wrong, in one line; None if the check passed.
    """

    kind: str
    label: str
    problem: str | None = None

    @property
    def passed(self) -> bool:
        return self.problem is None


def cases(*kinds: str) -> list[tuple[str, str]]:
    """Return (kind, label) of every check of some kinds, or of all, to parametrise a test with."""
    return [(kind, label) for kind in kinds or CHECKS for label in CHECKS[kind]]


def run_check(kind: str, label: str, name: str, config: Mapping[str, Any] | None = None) -> None:
    """Run one check on a component, which raises if the component breaks the contract.

    Args:
        kind: of the component, one of `KINDS`.
        label: of the check, as `cases` returns it.
        name: of the component.
        config: what to make the component with; its defaults otherwise.
    """
    CHECKS[kind][label](Case(kind, name, config or {}))


def check(
    name: str, *, kind: str | None = None, changes: Mapping[str, Any] | Sequence[str] = ()
) -> Iterator[CheckResult]:
    """Run every check on a component; yield the result of each as it is known.

    Args:
        name: of the component.
        kind: of the component, where several kinds have one of that name.
        changes: what to make the component with, as a mapping or as ``key=value``; its defaults otherwise.

    Raises:
        LongigenError: at once, if there is no such component, it cannot be loaded, or the changes do not fit it.
    """
    found = _kind_of(name, kind)
    known = parameters(registry.load(found, name))
    given = {key: value for _, key, value in (parse_change(change, {found: known}) for change in as_changes(changes))}
    return _results(Case(found, name, checked(known, given, f"The {found} '{name}'")))


def _kind_of(name: str, kind: str | None) -> str:
    if kind is not None and kind not in KINDS:
        raise LongigenError(f"There is no kind '{kind}'.{did_you_mean(kind, KINDS)} Choose one of: {', '.join(KINDS)}.")
    kinds = KINDS if kind is None else (kind,)
    found = [each for each in kinds if name in registry.entries(each)]
    if len(found) > 1:
        raise LongigenError(f"'{name}' is a {' and a '.join(found)}; choose one with --kind.")
    if not found:
        known = [key for each in kinds for key in registry.entries(each)]
        raise LongigenError(
            f"There is no {kind or 'component'} '{name}' to check.{did_you_mean(name, known)} "
            f"Installed: {', '.join(known)}."
        )
    return found[0]


def _results(case: Case) -> Iterator[CheckResult]:
    for label, run in CHECKS[case.kind].items():
        problem = None
        try:
            run(case)
        except Exception as error:  # whatever a stranger's component raises is the result of the check
            problem = _line(error)
        yield CheckResult(case.kind, label, problem)


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    return text if isinstance(error, AssertionError) and text else f"{type(error).__name__}: {text}"
