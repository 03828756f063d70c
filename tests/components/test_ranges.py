"""Tests of Range: its values and text, and the checks of parameters that are annotated with one."""

import json
import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Annotated, Any, Literal

import numpy as np
import pytest

import longigen
from longigen import LongigenError
from longigen.components.base import Component, Parameter, Settings, checked, parameters, shortened
from longigen.components.ranges import Range


def test_range_is_public() -> None:
    assert longigen.Range is Range


@pytest.mark.parametrize(
    ("limits", "text", "inside", "outside"),
    [
        (Range(0, 1), "from 0 to 1", [0, 1, 0.5], [-1e-9, 1.0000001, -1, 2]),
        (Range(1), "at least 1", [1, 1e300, 10**400], [0, 0.999]),
        (Range(high=3), "at most 3", [3, -1e300], [3.1, 4]),
        (Range(above=0), "above 0", [1e-300, 5], [0, 0.0, -1]),
        (Range(below=0), "below 0", [-1e-300], [0, 1]),
        (Range(0, below=1), "at least 0 and below 1", [0, 0.999], [1, 1.0, -0.1]),
        (Range(above=0, high=1), "above 0 and at most 1", [1, 0.1], [0, 1.1]),
        (Range(above=0, below=1), "above 0 and below 1", [0.5], [0, 1]),
        (Range(-60, 60), "from -60 to 60", [-60, 60], [61]),
        (Range(1e-12, 1e12), "from 1e-12 to 1e+12", [1e-12, 1.0], [0, 1e13]),
        (Range(0, 2**32 - 1), "from 0 to 4294967295", [2**32 - 1], [2**32]),
        (Range(2, 2), "from 2 to 2", [2], [1, 3]),
    ],
    ids=str,
)
def test_range_contains_values(limits: Range, text: str, inside: list[float], outside: list[float]) -> None:
    assert str(limits) == text
    assert all(number in limits for number in inside)
    assert not any(number in limits for number in (*outside, math.nan, math.inf, -math.inf))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Range(), "one end or two"),
        (lambda: Range(0, above=0), "one end or two"),
        (lambda: Range(0, 1, below=2), "one end or two"),
        (lambda: Range(1, 0), "no number is from 1 to 0"),
        (lambda: Range(above=1, below=1), "no number is above 1 and below 1"),
        (lambda: Range(1, below=1), "no number is at least 1 and below 1"),
    ],
)
def test_invalid_range_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


Angle = Annotated[float, Range(0, 180)]


@pytest.mark.parametrize(
    ("annotation", "given", "kept"),
    [
        (Annotated[float, Range(0, 1)], 1, 1.0),
        (Annotated[float, Range(0, 1)], "1e-4", 1e-4),
        (Annotated[float, Range(0, 1)], np.float32(0.5), 0.5),
        (Annotated[float, Range(0, 1)], Fraction(1, 2), 0.5),
        (Annotated[int, Range(1)], np.int64(3), 3),
        (Annotated[int, Range(1)], 10**30, 10**30),
        (Annotated[int, Range(1)] | None, None, None),
        (Annotated[int, Range(1)] | None, 2, 2),
        (tuple[Angle, Angle, Angle], "0,0,180", (0.0, 0.0, 180.0)),
        (tuple[Annotated[int, Range(-2, 1)], ...], [-1], (-1,)),
        (Annotated[str, "a note"], "x", "x"),
    ],
)
def test_values_within_are_converted(annotation: Any, given: Any, kept: Any) -> None:
    value = Parameter("p", annotation).check(given, "X")
    assert value == kept
    assert type(value) is type(kept)


@pytest.mark.parametrize(
    ("annotation", "given", "spelt"),
    [
        (Annotated[float, Range(0, 1)], 3, "a number from 0 to 1"),
        (Annotated[float, Range(0, 1)], "nan", "a number from 0 to 1"),
        (Annotated[float, Range(0, 1)], True, "a number from 0 to 1"),
        (Annotated[float, Range(0)], math.inf, "a number of at least 0"),
        (Annotated[float, Range(0)], 10**400, "a number of at least 0"),
        (Annotated[float, Range(above=0)], 0, "a number above 0"),
        (Annotated[float, Range(0, below=1)], 1.0, "a number of at least 0 and below 1"),
        (Annotated[int, Range(1)], 0, "a whole number of at least 1"),
        (Annotated[int, Range(1)], 1.5, "a whole number of at least 1"),
        (Annotated[int, Range(1)], True, "a whole number of at least 1"),
        (Annotated[int, Range(1)] | None, 0, "a whole number of at least 1 or None"),
        (tuple[Angle, Angle, Angle], [0, 0, 181], "3 numbers from 0 to 180"),
        (tuple[Angle, Angle, Angle] | None, [0, 0], "3 numbers from 0 to 180 or None"),
        (tuple[Annotated[int, Range(1)], ...], "1,0", "a list of whole numbers of at least 1"),
        (
            tuple[Annotated[int, Range(8)], Annotated[int, Range(2)]],
            [8, 1],
            "a list of 2: a whole number of at least 8, a whole number of at least 2",
        ),
        (Annotated[Literal["a"], "a note"], "b", "one of 'a'"),
    ],
)
def test_values_outside_are_one_sentence(annotation: Any, given: Any, spelt: str) -> None:
    with pytest.raises(LongigenError) as caught:
        Parameter("p", annotation).check(given, "The part 'x'")
    shown = shortened(given)
    assert str(caught.value) == f"The part 'x': p must be {spelt}, got {shown}."
    with pytest.raises(LongigenError) as caught:
        Parameter("p", annotation).check(given)
    assert str(caught.value) == f"p must be {spelt}, got {shown}."


class Part(Component):
    def __init__(self, *, size: Annotated[int, Range(1)], rate: Annotated[float, Range(0, 1)] = 0.5) -> None:
        super().__init__()
        if size == 13:
            raise ValueError("thirteen\nof them.")
        self.share = 1 / (size - 7)


@pytest.mark.parametrize("make", [lambda given: Part(**given), Part.from_config], ids=["constructor", "from_config"])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": 0}, "Part: size must be a whole number of at least 1, got 0."),
        ({"size": 1, "rate": 1.5}, "Part: rate must be a number from 0 to 1, got 1.5."),
        ({}, "Part needs 'size' (a whole number of at least 1); give it, as in --set size=."),
    ],
)
def test_component_refuses_values_outside_the_range(make: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(LongigenError) as caught:
        make(given)
    assert str(caught.value) == message


def test_config_values_are_plain() -> None:
    part = Part(size=np.int64(3), rate=np.float32(0.5))  # type: ignore[arg-type]
    assert json.dumps(part.config) == '{"size": 3, "rate": 0.5}'
    assert Part.from_config(part.config).config == part.config


def test_error_of_a_constructor_becomes_one_sentence() -> None:
    for given, problem, kind in [
        ({"size": 13}, "thirteen", ValueError),
        ({"size": 7}, "division by zero", ArithmeticError),
    ]:
        with pytest.raises(LongigenError) as caught:
            Part.from_config(given, "The part 'x'")
        assert str(caught.value) == f"The part 'x': {problem}."
        assert isinstance(caught.value.__cause__, kind)
        with pytest.raises(kind):
            Part(**given)


def test_class_with_invalid_ranges_is_refused_at_definition() -> None:
    for annotation in (
        Annotated[str, Range(1)],
        Annotated[int | None, Range(1)],
        tuple[Annotated[bool, Range(0)], ...],
    ):

        def function(*, size: annotation) -> None: ...  # type: ignore[valid-type]

        with pytest.raises(TypeError, match="the Range of 'size' must be of int or float"):
            parameters(function)
    with pytest.raises(TypeError, match=r"Beyond: size must be a whole number of at least 1, got 0\."):

        class Beyond(Component):
            def __init__(self, *, size: Annotated[int, Range(1)] = 0) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Options(Settings):
    low: Annotated[float, Range(0, 10)] = 0.0
    high: Annotated[float, Range(0, 10)] = 1.0
    place: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low > self.high:
            raise LongigenError("low is above high.")


def test_settings_are_checked_and_converted_however_they_are_made() -> None:
    options = Options(low=1, high=2, place=[1, 2])  # type: ignore[arg-type]
    assert (
        options
        == Options(low=1.0, high=2.0, place=(1, 2))
        == Options.from_config({"low": 1, "high": "2", "place": "1,2"}, "X")
    )
    assert type(options.low) is float
    for make, owner in [
        (lambda given: Options(**given), "Options"),
        (lambda given: replace(options, **given), "Options"),
        (lambda given: Options.from_config(given, "Section 'o'"), "Section 'o'"),
    ]:
        with pytest.raises(LongigenError) as caught:
            make({"high": 11})
        assert str(caught.value) == f"{owner}: high must be a number from 0 to 10, got 11."
        with pytest.raises(LongigenError, match=r"^low is above high\.$"):
            make({"low": 3, "high": 2})
    with pytest.raises(LongigenError, match=r"Section 'o' has no parameter 'hihg'\. Did you mean 'high'\?"):
        Options.from_config({"hihg": 1}, "Section 'o'")


def test_parameters_of_a_function_are_checked() -> None:
    def function(*, size: Annotated[int, Range(1)] = 1) -> None: ...

    assert checked(parameters(function), {"size": 2}, "f") == {"size": 2}
    with pytest.raises(LongigenError, match=r"f: size must be a whole number of at least 1, got -1\."):
        checked(parameters(function), {"size": -1}, "f")
