"""Disclosure: which values of a configuration may be told to strangers."""

import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from longigen.components.base import Parameter


def public_values(known: Mapping[str, Parameter], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that can hold neither a path nor a name, as plain values for JSON.

    Those are numbers, truth values, choices from a fixed list, and defaults. Free text may hold anything (a pattern
    with a patient's name, a folder), so it is not among them.

    Args:
        known: the parameters.
        config: values by name; a name that is not known is left out.
    """
    return {name: _plain(value) for name, value in config.items() if name in known and _is_safe(known[name], value)}


def private_keys(known: Mapping[str, Parameter], config: Mapping[str, Any]) -> list[str]:
    """Return the names of the values that `public_values` leaves out."""
    return [name for name in config if name not in public_values(known, config)]


def is_path(value: Any) -> bool:
    """Say whether a value is a path, or text that would be understood as one on this machine."""
    if isinstance(value, list | tuple):
        return any(map(is_path, value))
    if isinstance(value, Path):
        return True
    if not isinstance(value, str):
        return False
    if value.startswith(("/", "\\", "~", "./", "../")) or re.match(r"[A-Za-z]:[\\/]", value):
        return True
    try:
        return any(mark in value for mark in "/\\") and Path(value).exists()
    except (OSError, ValueError):  # too long for a name, or a null in it
        return False


def names_path(annotation: Any) -> bool:
    """Say whether a parameter of this type may be a path."""
    return annotation is Path or any(names_path(part) for part in typing.get_args(annotation))


def _is_safe(parameter: Parameter, value: Any) -> bool:
    if isinstance(value, Path):
        return False
    if not parameter.required and _plain(value) == _plain(parameter.default):
        return True
    if isinstance(value, list | tuple):
        return all(isinstance(item, bool | int | float) or item in _choices(parameter.annotation) for item in value)
    return value is None or isinstance(value, bool | int | float) or value in _choices(parameter.annotation)


def _choices(annotation: Any) -> tuple[Any, ...]:
    """Return every value of the literals in a type."""
    if typing.get_origin(annotation) is Literal:
        return typing.get_args(annotation)
    return tuple(choice for part in typing.get_args(annotation) for choice in _choices(part))


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
