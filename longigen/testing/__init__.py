"""The conformance suite: it checks whether a component keeps the contract of its kind.

``longigen check NAME`` runs it. In a plugin's tests it is one parametrised test::

    import pytest
    from longigen.testing import cases, run_check

    @pytest.mark.parametrize(("kind", "label"), cases("denoiser"))
    def test_contracts(kind, label):
        run_check(kind, label, "my-denoiser", {"width": 8})

A check that fails raises an error whose message says what is wrong.
"""

from longigen.testing.case import Case
from longigen.testing.composition import two_steps_and_a_visit
from longigen.testing.suite import CHECKS, CheckResult, cases, check, run_check

__all__ = ["CHECKS", "Case", "CheckResult", "cases", "check", "run_check", "two_steps_and_a_visit"]
