"""Privacy: which values of a configuration may be published, because they cannot hold a path or a name."""

import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from longigen.components.base import Parameter


def public_values(known: Mapping[str, Parameter], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that can be published, as plain values for JSON.

    These are numbers, booleans, choices from a fixed list, and defaults. Free text is left out, since it may contain
    anything, such as a folder or a pattern with a patient's name.

    Args:
        known: the parameters.
        config: values by name; unknown names are left out.
    """
    return {
        name: _as_lists(value) for name, value in config.items() if name in known and _is_public(known[name], value)
    }


def private_keys(known: Mapping[str, Parameter], config: Mapping[str, Any]) -> list[str]:
    """Return the names of the values that `public_values` leaves out."""
    return [name for name in config if name not in public_values(known, config)]


def is_path(value: Any) -> bool:
    """Return whether a value is a path, or text that looks like a path or names a file on this machine."""
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
    except (OSError, ValueError):  # too long for a file name, or with a null character
        return False


def accepts_path(annotation: Any) -> bool:
    """Return whether a parameter of this type accepts a path."""
    return annotation is Path or any(accepts_path(part) for part in typing.get_args(annotation))


def _is_public(parameter: Parameter, value: Any) -> bool:
    if isinstance(value, Path):
        return False
    if not parameter.required and _as_lists(value) == _as_lists(parameter.default):
        return True
    if isinstance(value, list | tuple):
        return all(isinstance(item, bool | int | float) or item in _choices(parameter.annotation) for item in value)
    return value is None or isinstance(value, bool | int | float) or value in _choices(parameter.annotation)


def _choices(annotation: Any) -> tuple[Any, ...]:
    """Return all values of the `Literal` types in an annotation."""
    if typing.get_origin(annotation) is Literal:
        return typing.get_args(annotation)
    return tuple(choice for part in typing.get_args(annotation) for choice in _choices(part))


def _as_lists(value: Any) -> Any:
    """Return a value with its tuples as lists, as JSON holds them."""
    return [_as_lists(item) for item in value] if isinstance(value, list | tuple) else value
