"""The conformance suite on plugins that tests define."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from longigen.registry.registry import registry
from longigen.testing import CHECKS, run_check

NAME = "of-the-test"
COMPOSES = "composes with every installed part"
COMPILES = "compiles"
SLOW = (COMPOSES, COMPILES)


@contextmanager
def registered(kind: str, cls: type) -> Iterator[str]:
    """Register a component for a while and give its name."""
    registry.register(kind, NAME)(cls)
    try:
        yield NAME
    finally:
        registry.unregister(kind, NAME)


def problems(kind: str, cls: type, config: Mapping[str, Any] | None = None, *, also: str = "") -> dict[str, str]:
    """Return what the suite says of a component, by the labels of the checks that fail.

    Args:
        kind: of the component.
        cls: its class.
        config: what to make it with.
        also: one of the slow checks, to run too.
    """
    found = {}
    with registered(kind, cls) as name:
        for label in CHECKS[kind]:
            if label in SLOW and label != also:
                continue
            try:
                run_check(kind, label, name, config)
            except Exception as error:  # as `longigen check` does
                found[label] = str(error)
    return found


def assert_caught(kind: str, cls: type, expected: Mapping[str, str]) -> None:
    """Check that a component fails those checks alone, with messages that match."""
    found = problems(kind, cls, also=next((label for label in expected if label in SLOW), ""))
    assert set(found) == set(expected), found
    for label, message in expected.items():
        assert re.search(message, found[label]), found[label]


def broken_classes(names: Mapping[str, str]) -> tuple[dict[type, dict[str, str]], Callable[..., Any]]:
    """Return the broken classes with what the suite says of each, empty, and the decorator that adds one.

    The decorator takes messages by the names of the labels of checks in a test module: ``@caught(NAME="message")``.

    Args:
        names: the names of that module.
    """
    broken: dict[type, dict[str, str]] = {}

    def caught(**expected: str) -> Callable[[type], type]:
        def decorate(cls: type) -> type:
            broken[cls] = {names[name]: message for name, message in expected.items()}
            return cls

        return decorate

    return broken, caught


def assert_each_is_broken(kind: str, broken: Mapping[type, Mapping[str, str]]) -> None:
    """Check that there is a broken component for every check of a kind."""
    assert {label for expected in broken.values() for label in expected} == set(CHECKS[kind])
