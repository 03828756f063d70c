"""Open a data set by its registered name, or by a path that an installed reader recognises."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from longigen.components.base import parameters
from longigen.components.changes import parse_change
from longigen.data.dataset import Dataset, Subject
from longigen.data.split import fingerprint
from longigen.errors import LongigenError, did_you_mean
from longigen.registry.registry import registry
from longigen.utils.files import user_path


def find_dataset(data: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the configuration of the data set that a name or path refers to.

    Args:
        data: the name of a registered data set, a path that exactly one data set claims, or ``name:path``.

    Raises:
        LongigenError: if it is neither a name nor an existing path, or if no data set or several claim the path.
    """
    known = registry.entries("dataset")
    if data in known:
        return data, {}
    named, colon, rest = data.partition(":")
    named = named if colon and named in known else ""
    path = user_path(rest if named else data)
    if named and not path.exists():
        raise LongigenError(f"There is no path '{path}' for the data set '{named}' to read; check it.")
    if not path.exists():
        raise LongigenError(
            f"There is neither a data set nor a path named '{path}'.{did_you_mean(data, known)} "
            f"Data sets: {', '.join(known)}."
        )
    config = {"path": str(path.resolve())}
    if named:
        return named, config
    claims, readers, broken = claims_on(path)
    if len(claims) > 1:
        raise LongigenError(
            f"{path} can be read by the data sets {' and '.join(claims)}; choose one, as "
            f"{' or '.join(f'{name}:{data}' for name in claims)}."
        )
    if not claims:
        raise LongigenError(
            " ".join(
                [
                    f"No data set recognises {path}; choose one as NAME:{data}, where NAME is one of "
                    f"{', '.join(readers)} (see longigen info NAME), or give a CSV manifest (subject, time, path).",
                    *broken,
                ]
            )
        )
    return claims[0], config


def claims_on(path: Path) -> tuple[list[str], list[str], list[str]]:
    """Return which data sets claim a path, which read files at all, and why others cannot be loaded."""
    claims, readers, broken = [], [], []
    for name in registry.entries("dataset"):
        try:
            dataset = registry.load("dataset", name)
        except LongigenError as error:  # another data set may still be able to read the path
            broken.append(str(error))
            continue
        if "path" in parameters(dataset):
            readers.append(name)
        if dataset.claims(path):
            claims.append(name)
    return claims, readers, broken


def open_dataset(name_or_path: Path | str, changes: Sequence[str] = ()) -> tuple[str, Dataset]:
    """Open a data set; return its name in the registry and the data set.

    Args:
        name_or_path: a name, a path or ``name:path``; see `find_dataset`.
        changes: ``key=value`` of its parameters.

    Raises:
        LongigenError: as `find_dataset`; also if a parameter is unknown or has an invalid value.
    """
    name, config = find_dataset(str(name_or_path))
    known = {"data": parameters(registry.load("dataset", name))}
    given = {key: value for _, key, value in (parse_change(change, known) for change in changes)}
    return name, registry.make("dataset", name, {**config, **given})


def recorded_subjects(name: str, config: Mapping[str, Any], known: str) -> Sequence[Subject]:
    """Return the subjects of a data set that needs no files, as a model records it.

    Args:
        name: name of the data set.
        config: its parameters.
        known: `longigen.data.split.fingerprint` of the subjects.

    Returns:
        The subjects; none if the data set needs files, is not installed, or no longer has these subjects.
    """
    try:
        if any(parameter.required for parameter in parameters(registry.load("dataset", name)).values()):
            return []
        subjects = registry.make("dataset", name, config).subjects()
    except (LongigenError, TypeError):  # not installed, or with other parameters
        return []
    return subjects if fingerprint(subjects) == known else []
