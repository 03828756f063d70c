"""Parse the changes of ``--set section.key=value``."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from longigen.components.base import Parameter
from longigen.errors import LongigenError, did_you_mean


def parse_change(change: str, known: Mapping[str, Mapping[str, Parameter]]) -> tuple[str, str, Any]:
    """Return section, key and value of ``section.key=value`` or ``key=value``.

    Args:
        change: the text; its value is read as YAML.
        known: the parameters of each section. A key without a section must be in exactly one of them.

    Raises:
        LongigenError: if the text has no ``=``, the section or key is unknown, or the key is in several sections.
    """
    name, equals, text = change.partition("=")
    name = name.strip()
    if not equals or not name:
        raise LongigenError(f"--set takes KEY=VALUE, got '{change}'.")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # such as a date that does not exist
        value = text
    section, dot, key = name.partition(".")
    if dot:
        if section not in known:
            raise LongigenError(
                f"--set {name}: there is no section '{section}'.{did_you_mean(section, known)} "
                f"Sections: {', '.join(known)}."
            )
        if key not in known[section]:
            raise LongigenError(
                f"--set {name}: {section} has no '{key}'.{did_you_mean(key, known[section])} "
                f"It has: {', '.join(known[section]) or 'nothing to set'}."
            )
        return section, key, value
    owners = [section for section, keys in known.items() if name in keys]
    if len(owners) > 1:
        raise LongigenError(f"--set {name} could mean {' or '.join(f'{s}.{name}' for s in owners)}; write it out.")
    if not owners:
        full_names = [f"{section}.{key}" for section, keys in known.items() for key in keys]
        keys = [key for keys in known.values() for key in keys]
        raise LongigenError(
            f"--set {name}: there is no parameter of that name.{did_you_mean(name, keys)} You can set: "
            f"{', '.join(full_names)}."
        )
    return owners[0], name, value


def as_changes(given: Mapping[str, Any] | Sequence[str]) -> list[str]:
    """Return changes as a list of ``key=value``, from a mapping, a sequence of such texts, or a single text."""
    if isinstance(given, str):
        return [given]
    if not isinstance(given, Mapping):
        return list(given)
    # JSON is valid YAML, and its quotes keep text of digits from being read as a number.
    return [f"{key}={json.dumps(value, default=str)}" for key, value in given.items()]
