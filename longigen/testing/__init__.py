"""The conformance suite: does a component keep the contracts.

``longigen check NAME`` runs it, and so does one parametrised test::

    import pytest
    from longigen.testing import cases, run_check

    @pytest.mark.parametrize(("kind", "label"), cases("denoiser"))
    def test_mine(kind, label):
        run_check(kind, label, "mine")

A check is a function of a `Case` that raises, most often an AssertionError with a sentence, if the contract is broken.
"""

from collections.abc import Callable, Mapping
from typing import Any

from longigen.testing.case import Case
from longigen.testing.composition import two_steps_and_a_visit
from longigen.testing.conditioners import CHECKS as CONDITIONERS
from longigen.testing.datasets import CHECKS as DATASETS
from longigen.testing.denoisers import CHECKS as DENOISERS
from longigen.testing.metrics import CHECKS as METRICS
from longigen.testing.samplers import CHECKS as SAMPLERS

CHECKS: dict[str, Mapping[str, Callable[[Case], None]]] = {
    "conditioner": CONDITIONERS,
    "denoiser": DENOISERS,
    "sampler": SAMPLERS,
    "dataset": DATASETS,
    "metric": METRICS,
}
"""By kind, the checks by what they say."""


def cases(*kinds: str) -> list[tuple[str, str]]:
    """Return (kind, label) of every check of some kinds, to parametrise a test with."""
    return [(kind, label) for kind in kinds or CHECKS for label in CHECKS[kind]]


def run_check(kind: str, label: str, name: str, config: Mapping[str, Any] | None = None) -> None:
    """Run one check on the component `name`, made with `config`; it raises if the contract is broken."""
    CHECKS[kind][label](Case(kind, name, config or {}))


__all__ = ["CHECKS", "Case", "cases", "run_check", "two_steps_and_a_visit"]
