"""Running the suite by a component's name: what `longigen check` prints."""

from collections.abc import Iterator
from typing import Any

import pytest

from helpers.conformance import registered
from helpers.processes import Longigen
from helpers.sites import Site
from longigen import LongigenError, Metric
from longigen.registry.registry import registry
from longigen.testing import CHECKS, CheckResult, cases, check


class Error(Metric):
    """The mean absolute error, which with another `sign` is worst for the truth."""

    higher_is_better = False

    def __init__(self, *, sign: float = 1.0) -> None:
        super().__init__()
        self.sign = sign

    @property
    def definition(self) -> str:
        return f"{self.sign} * mean |generated - true|"

    def __call__(self, generated: Any, true: Any, previous: Any, foreground: Any) -> float:
        return float(self.sign * (generated - true).abs().mean())


@pytest.fixture
def name() -> Iterator[str]:
    with registered("metric", Error) as name:
        yield name


def test_a_result_for_every_check(name: str) -> None:
    results = list(check(name))
    assert results == [CheckResult("metric", label) for label in CHECKS["metric"]]
    assert all(result.passed for result in results)


@pytest.mark.parametrize("changes", [{"sign": -1}, ["sign=-1"], ["metric.sign=-1"]])
def test_what_a_component_is_made_with(name: str, changes: Any) -> None:
    failed = {
        result.label: result.problem for result in check(name, kind="metric", changes=changes) if not result.passed
    }
    assert set(failed) == {"is best for the truth", "prefers what is closer"}
    assert "and lower is to be better" in str(failed["is best for the truth"])


def test_an_error_of_another_type_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def divide(self: Any, generated: Any, true: Any, previous: Any, foreground: Any) -> float:
        return 1 / 0

    monkeypatch.setattr(Error, "__call__", divide)
    failed = {result.problem for result in check(name) if not result.passed}
    assert failed == {"ZeroDivisionError: division by zero"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "psnrr"}, r"no component 'psnrr' to check\. Did you mean 'psnr'"),
        ({"name": "psnr", "kind": "denoiser"}, "no denoiser 'psnr' to check"),
        ({"name": "psnr", "kind": "metrics"}, r"no kind 'metrics'\. Did you mean 'metric'"),
        ({"name": "nrmse", "changes": ["power=2"]}, "there is no parameter of that name"),
        (
            {"name": "fid", "changes": {"layer": "deep"}},
            "The metric 'fid': layer must be a whole number of at least 0, got 'deep'",
        ),
    ],
)
def test_mistakes_are_told_before_the_first_check(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(LongigenError, match=message):
        check(**arguments)


def test_a_name_of_two_kinds() -> None:
    registry.register("metric", "sadm")(Error)
    try:
        with pytest.raises(LongigenError, match="'sadm' is a conditioner and a metric; choose one with --kind"):
            check("sadm")
        assert next(check("sadm", kind="metric")).kind == "metric"
    finally:
        registry.unregister("metric", "sadm")


def test_cases_are_of_the_kinds_that_are_asked_for() -> None:
    assert cases("metric") == [("metric", label) for label in CHECKS["metric"]]
    assert {kind for kind, _ in cases()} == set(CHECKS)


BROKEN = """\
from longigen import Metric


class Broken(Metric):
    higher_is_better = False
    definition = "mean |generated - true|,\\nin two lines"

    def __call__(self, generated, true, previous, foreground):
        return float((generated - true).abs().mean())
"""


def test_the_command(site: Site, longigen: Longigen) -> None:
    site.install("breaker", {"longigen.metrics": {"broken": "bad:Broken", "Bad": "bad:Broken"}}, {"bad.py": BROKEN})
    environment = {"PYTHONPATH": str(site.folder)}
    said = longigen("check", "broken", status=1, **environment).stdout.splitlines()
    assert said[0] == "ok    can be made again from its configuration"
    assert said[1] == "FAIL  is defined in one line: the definition is longer than one line"
    assert said[-1] == f"metric 'broken': {len(CHECKS['metric']) - 1} of {len(CHECKS['metric'])} checks passed"
    assert all(line.startswith("ok    ") for line in said[2:-1])
    refused = longigen("check", "Bad", status=2, **environment)
    assert refused.stdout == ""
    assert refused.stderr == (
        "longigen: The metric of breaker cannot be used: 'Bad' is not a name of lower-case letters, digits and single "
        "hyphens; write 'bad'.\n"
    )
