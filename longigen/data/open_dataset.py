"""Open a data set by its name, or by a path that one of the installed readers recognises."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from longigen.components.base import parameters
from longigen.components.changes import parse_change
from longigen.data.dataset import Dataset
from longigen.errors import LongigenError, did_you_mean
from longigen.registry.registry import registry


def find_dataset(data: str) -> tuple[str, dict[str, Any]]:
    """Return the name of the data set that `data` means, and its configuration.

    Args:
        data: the name of a registered data set, a path that exactly one of them claims, or ``name:path``.

    Raises:
        LongigenError: if it is neither, or two data sets claim the path.
    """
    known = registry.entries("dataset")
    if data in known:
        return data, {}
    named, colon, rest = data.partition(":")
    named = named if colon and named in known else ""
    path = Path(rest if named else data).expanduser()
    if not path.exists():
        raise LongigenError(
            f"There is no {'' if named else 'data set and no '}path '{path}'.{did_you_mean(data, known)} "
            f"Data sets: {', '.join(known)}."
        )
    config = {"path": str(path.resolve())}
    if named:
        return named, config
    claims, readers, broken = [], [], []
    for name in known:
        try:
            dataset = registry.load("dataset", name)
        except LongigenError as error:  # another data set may read the path all the same
            broken.append(str(error))
            continue
        if "path" in parameters(dataset):
            readers.append(name)
        if dataset.claims(path):
            claims.append(name)
    if len(claims) > 1:
        raise LongigenError(
            f"{path} is claimed by the data sets {' and '.join(claims)}; say which is meant: "
            f"{' or '.join(f'{name}:{data}' for name in claims)}."
        )
    if not claims:
        raise LongigenError(
            " ".join(
                [
                    f"No data set recognises {path}; say which is meant, NAME:{data} with one of "
                    f"{', '.join(readers)} (longigen info NAME), or give a CSV manifest (subject, time, path).",
                    *broken,
                ]
            )
        )
    return claims[0], config


def open_dataset(name_or_path: Path | str, changes: Sequence[str] = ()) -> tuple[str, Dataset]:
    """Return the name of a data set in the registry, and the data set, opened.

    Args:
        name_or_path: as `find_dataset` takes it.
        changes: ``key=value`` of its parameters.

    Raises:
        LongigenError: if there is none, or a parameter is unknown or cannot have that value.
    """
    name, config = find_dataset(str(name_or_path))
    known = {"data": parameters(registry.load("dataset", name))}
    given = {key: value for _, key, value in (parse_change(change, known) for change in changes)}
    return name, registry.make("dataset", name, {**config, **given})
