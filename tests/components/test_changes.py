"""Tests of parsing changes of hyperparameters, given as texts or as a mapping."""

from pathlib import Path

import pytest

from longigen import LongigenError
from longigen.components.base import parameters
from longigen.components.changes import as_changes, parse_change


def one(*, width: int = 1, rate: float = 0.1, sizes: tuple[int, ...] = ()) -> None: ...


def two(*, width: int = 1, name: str = "") -> None: ...


KNOWN = {"one": parameters(one), "two": parameters(two)}


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("one.width=3", ("one", "width", 3)),
        ("rate=1e-4", ("one", "rate", "1e-4")),  # YAML 1.1 reads this as text; the annotation converts it to a number
        ("sizes=[1, 2]", ("one", "sizes", [1, 2])),
        ("name=", ("two", "name", None)),
        ("name=2024-13-45", ("two", "name", "2024-13-45")),  # a date that does not exist
    ],
)
def test_change_is_parsed(text: str, parsed: tuple[str, str, object]) -> None:
    assert parse_change(text, KNOWN) == parsed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("width", "takes KEY=VALUE, got 'width'"),
        ("width=3", r"could mean one\.width or two\.width"),
        ("three.width=3", "no section 'three'"),
        ("one.widht=3", "one has no 'widht'.* Did you mean 'width'"),
        ("colour=3", "there is no parameter of that name"),
    ],
)
def test_invalid_change_is_refused(text: str, message: str) -> None:
    with pytest.raises(LongigenError, match=message):
        parse_change(text, KNOWN)


def test_mapping_is_converted_to_texts() -> None:
    texts = as_changes({"one.width": 3, "sizes": (1, 2), "name": "007", "one.rate": 1e-4, "path": Path("a b")})
    assert texts == ["one.width=3", "sizes=[1, 2]", 'name="007"', "one.rate=0.0001", 'path="a b"']
    assert parse_change(texts[2], KNOWN) == ("two", "name", "007")
    assert as_changes(["one.width=3"]) == ["one.width=3"]
