"""Tests of components' configuration: which values are accepted, converted and refused."""

import copy
import pickle
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from longigen import LongigenError
from longigen.components.base import Component, Parameter, checked, parameters


class Part(Component):
    def __init__(
        self,
        *,
        size: int,
        rate: float = 0.5,
        mode: Literal["fast", "slow"] = "fast",
        shape: tuple[int, int, int] | None = None,
        steps: tuple[float, ...] = (),
        name: str | None = None,
        flag: bool = False,
    ) -> None:
        super().__init__()
        self.size = size


DEFAULTS = {"rate": 0.5, "mode": "fast", "shape": None, "steps": (), "name": None, "flag": False}


def test_config_is_complete_and_recreates_component() -> None:
    part = Part.from_config({"size": 3, "rate": 1, "shape": [1, 2, 3]})
    assert part.config == {"size": 3, **DEFAULTS, "rate": 1.0, "shape": (1, 2, 3)}
    assert type(part.config["rate"]) is float
    assert Part.from_config(part.config).config == part.config
    assert Part(**part.config).config == part.config


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda part: pickle.loads(pickle.dumps(part))], ids=["copy", "deep", "pickle"]
)
def test_copy_of_component_with_required_parameter(again: Any) -> None:
    part = Part(size=3)
    other = again(part)
    assert other is not part
    assert (other.size, other.config) == (3, part.config)


@pytest.mark.parametrize(
    ("annotation", "given", "expected"),
    [
        (float, 3, 3.0),
        (float, "1e-4", 1e-4),
        (float, -0.5, -0.5),
        (int, 3, 3),
        (bool, True, True),
        (str, "3", "3"),
        (Path, "a/b", Path("a/b")),
        (tuple[int, int], [1, 2], (1, 2)),
        (tuple[int, int], "1,2", (1, 2)),
        (tuple[int, ...], "1, 2, 3", (1, 2, 3)),
        (tuple[int, ...], 4, (4,)),
        (tuple[int, ...], [], ()),
        (tuple[float, float], (1, "2e1"), (1.0, 20.0)),
        (tuple[str, ...], "a,b", ("a", "b")),
        (tuple[tuple[int, int], ...], [[1, 2], [3, 4]], ((1, 2), (3, 4))),
        (Literal["x", "v"], "v", "v"),
        (Literal["no", "bf16"], False, "no"),  # YAML reads a bare no as a boolean
        (Literal["on", "off"], True, "on"),
        (Literal[True, "yes"], True, True),
        (int | None, None, None),
        (int | None, 3, 3),
        (float | None, 3, 3.0),
        (tuple[int, int] | None, None, None),
    ],
)
def test_value_is_converted_to_annotated_type(annotation: Any, given: Any, expected: Any) -> None:
    value = Parameter("p", annotation).check(given, "X")
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "given", "type_text"),
    [
        (int, True, "int"),
        (int, 3.0, "int"),
        (int, "3", "int"),
        (int, None, "int"),
        (float, True, "float"),
        (float, "fast", "float"),
        (float, None, "float"),
        (float, "nan", "float"),
        (float, float("inf"), "float"),
        (float, [1.0], "float"),
        (bool, 1, "bool"),
        (bool, "true", "bool"),
        (str, 3, "str"),
        (Literal["x", "v"], "w", "one of 'x', 'v'"),
        (Literal["x", "v"], ["x"], "one of 'x', 'v'"),
        (tuple[int, int, int], [1, 2], "3 × int"),
        (tuple[int, int, int], [1, 2, True], "3 × int"),
        (tuple[int, ...], "1,a", "a list of int"),
        (tuple[int, ...], "[,1", "a list of int"),
        (tuple[int, ...], {"a": 1}, "a list of int"),
        (int | None, "many", "int or None"),
        (tuple[int, int] | None, 1, "2 × int or None"),
    ],
)
def test_value_of_wrong_type_is_refused(annotation: Any, given: Any, type_text: str) -> None:
    with pytest.raises(LongigenError) as caught:
        Parameter("p", annotation).check(given, "The part 'x'")
    assert str(caught.value) == f"The part 'x': p must be {type_text}, got {given!r}."


@pytest.mark.parametrize("make", [lambda given: Part(**given), Part.from_config], ids=["constructor", "from_config"])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": True}, r"Part: size must be int, got True\."),
        ({"size": 3, "mode": "slw"}, r"Part: mode must be one of 'fast', 'slow', got 'slw'\."),
        ({"size": 3, "rat": 1.0}, r"Part has no parameter 'rat'\. Did you mean 'rate'\? It takes: size, rate, mode"),
        ({"rate": 1.0}, r"Part needs 'size' \(int\); give it"),
    ],
)
def test_component_checks_its_arguments(make: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(LongigenError, match=message):
        make(given)


def test_positional_argument_is_type_error() -> None:
    with pytest.raises(TypeError, match="Part takes keyword arguments only"):
        Part(3)  # type: ignore[misc]


def test_invalid_constructor_is_refused_at_class_definition() -> None:
    with pytest.raises(TypeError, match=r"Variadic: \*\*rest hides what can be configured; name every parameter"):

        class Variadic(Component):
            def __init__(self, *, size: int, **rest: Any) -> None: ...

    with pytest.raises(TypeError, match="Positional: parameter 'size' must be keyword-only"):

        class Positional(Component):
            def __init__(self, size: int) -> None: ...

    with pytest.raises(TypeError, match="Many: parameter 'sizes' must be keyword-only"):

        class Many(Component):
            def __init__(self, *sizes: int) -> None: ...

    with pytest.raises(TypeError, match="Untyped: parameter 'size' has no type annotation"):

        class Untyped(Component):
            def __init__(self, *, size=3) -> None: ...


class Colour(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("annotation", "type_name"),
    [
        (list[int], "list[int]"),
        (list, "list"),
        (tuple, "tuple"),
        (dict[str, int], "dict[str, int]"),
        (Sequence[int], "collections.abc.Sequence[int]"),
        (tuple[list[int], ...], "tuple[list[int], ...]"),
        (int | list[int], "int | list[int]"),
        (Any, "Any"),
        (object, "object"),
        (complex, "complex"),
        (Colour, "Colour"),
        (Literal[b"x"], "typing.Literal[b'x']"),
        (Annotated[list[int], "of sizes"], "list[int]"),
    ],
    ids=str,
)
def test_parameter_of_unsupported_type_is_refused(annotation: Any, type_name: str) -> None:
    def __init__(self: Any, *, sizes: annotation) -> None: ...  # noqa: N807

    with pytest.raises(TypeError) as caught:
        type("Sized", (Component,), {"__init__": __init__})
    assert str(caught.value) == (
        f"Sized: parameter 'sizes' is {type_name}, which a configuration cannot hold; use None, bool, int, float, str, "
        "Path, Literal, or unions and tuples of those, such as tuple[int, ...]"
    )


@pytest.mark.parametrize(
    "annotation",
    [
        None,
        bool,
        int | None,
        float | str,
        Path,
        tuple[int, ...],
        tuple[int, float, str] | None,
        tuple[tuple[int, int], ...],
        Literal["x", 3, True, None],
        Annotated[float, "above 0"],
    ],
    ids=str,
)
def test_parameter_of_supported_type_is_accepted(annotation: Any) -> None:
    def __init__(self: Any, *, sizes: annotation) -> None: ...  # noqa: N807

    cls = type("Sized", (Component,), {"__init__": __init__})
    assert list(parameters(cls)) == ["sizes"]


@pytest.mark.parametrize(
    ("annotation", "default", "message"),
    [
        (int, None, "Sized: sizes must be int, got None."),
        (float, "fast", "Sized: sizes must be float, got 'fast'."),
        (Literal["x", "v"], "w", "Sized: sizes must be one of 'x', 'v', got 'w'."),
        (tuple[int, ...], [1, 2], "Sized: the default of 'sizes', [1, 2], should be (1, 2)"),
    ],
)
def test_default_of_another_type_is_refused(annotation: Any, default: Any, message: str) -> None:
    def __init__(self: Any, *, sizes: annotation = default) -> None: ...  # noqa: N807

    with pytest.raises(TypeError) as caught:
        type("Sized", (Component,), {"__init__": __init__})
    assert str(caught.value).endswith(message)


def test_invalid_inherited_constructor_is_refused() -> None:
    class Mixin:
        def __init__(self, **rest: Any) -> None: ...

    with pytest.raises(TypeError, match=r"\*\*rest hides"):

        class Mixed(Mixin, Component):
            pass


def test_parameters_of_a_function() -> None:
    def function(*, size: int, rate: float | None = None) -> None: ...

    known = parameters(function)
    assert [(p.name, p.required) for p in known.values()] == [("size", True), ("rate", False)]
    assert checked(known, {"size": 1}, "f") == {"size": 1, "rate": None}
    with pytest.raises(LongigenError, match=r"f has no parameter 'x'\. It takes: none\."):
        checked({}, {"x": 1}, "f")
