"""Read the file that says what a folder holds: a model's ``config.json``, or a segmenter's ``segmenter.json``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from longigen.components.base import Parameter, shortened
from longigen.components.ranges import VoxelSizes
from longigen.errors import LongigenError
from longigen.hub.manifest import DESCRIPTIONS, MAX_BYTES, SEGMENTER
from longigen.hub.model_config import read_config
from longigen.utils.files import read_json

SEGMENTER_SCHEMA_VERSION = 1
"""The schema of ``segmenter.json`` that is written and read."""
MOST_REGIONS = 1000
"""The largest number of regions of a segmenter."""


def description_of(folder: Path) -> str | None:
    """Return the name of the file that says what a folder holds, among `DESCRIPTIONS`; None if there is none."""
    return next((name for name in DESCRIPTIONS if (folder / name).exists()), None)


def read_description(folder: Path) -> dict[str, Any]:
    """Read and validate the file that says what a folder holds.

    Raises:
        LongigenError: as `read_config` for a model, and `read_segmenter` for a segmenter.
    """
    return read_segmenter(folder) if description_of(folder) == SEGMENTER else read_config(folder)


def read_segmenter(folder: Path) -> dict[str, Any]:
    """Read and validate the ``segmenter.json`` of a folder; the component is not imported.

    Raises:
        LongigenError: if the file is missing, cannot be read, is not of a longigen segmenter, has a newer schema, or
            has a value of the wrong type or out of range.
    """
    path = folder / SEGMENTER
    if not path.is_file():
        raise LongigenError(
            f"{folder} has no segmenter ({SEGMENTER} is missing); give a folder that 'longigen train-segmenter' wrote."
        )
    content = read_json(path, MAX_BYTES[SEGMENTER])
    version = content.get("schema_version")
    if not isinstance(version, int) or version < 1 or content.get("library_name") != "longigen":
        raise LongigenError(f"{path} is not of a longigen segmenter.")
    if version > SEGMENTER_SCHEMA_VERSION:
        raise LongigenError(f"{path} has schema_version {version}, newer than this longigen reads; upgrade longigen.")

    def wrong(key: str, expected: str) -> LongigenError:
        return LongigenError(f"{path}: '{key}' must be {expected}, got {shortened(content.get(key))}.")

    described, names = content.get("segmenter"), content.get("regions")
    if (
        not isinstance(described, dict)
        or not isinstance(described.get("name"), str)
        or not isinstance(described.get("config"), dict)
    ):
        raise wrong("segmenter", "an object with name and config")
    if (
        not isinstance(names, list)
        or not all(isinstance(name, str) and name for name in names)
        or not 1 <= len({*names}) == len(names) <= MOST_REGIONS
    ):
        raise wrong("regions", f"a list of 1 to {MOST_REGIONS} different names")
    if not isinstance(content.get("training", {}), dict):
        raise wrong("training", "an object of keys and values")
    Parameter("spacing", VoxelSizes).check(content.get("spacing"), str(path))
    return content


def require_accepted(place: str, found: str, accepted: Sequence[str]) -> None:
    """Refuse a folder or repository that holds something else than what is accepted.

    Args:
        place: the folder or repository, for the message.
        found: the file that says what it holds.
        accepted: the files that are accepted.

    Raises:
        LongigenError: naming what it holds, and the command that takes it.
    """
    if found not in accepted:
        command = "longigen evaluate MODEL --segmenter" if found == SEGMENTER else "longigen generate"
        wanted = " or ".join(DESCRIPTIONS[name] for name in accepted)
        raise LongigenError(f"{place} has a {DESCRIPTIONS[found]} and no {wanted}; give it to '{command}'.")
