"""Volumes of regions at generated visits and in the true label maps, and the file that `evaluate` keeps them in."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

VOLUMES = "volumes.csv"
"""The file of an evaluation with the volumes of regions."""


@dataclass(frozen=True)
class RegionVolume:
    """The volume of a region at one visit, in mm³; NaN where it is not known.

    Attributes:
        made: as it is in the image of a method, such as ``model`` or ``copy-last``.
        true: as it is in the true label map, or where the data have none, in the segmenter's of the true image.
    """

    made: float
    true: float


@dataclass(frozen=True)
class VolumeRow:
    """One row of `VOLUMES`: a region at one visit, by one method."""

    setting: str
    method: str
    subject: str
    visit: int
    time: float
    region: str
    volume: RegionVolume


def read_volumes(path: Path) -> Sequence[VolumeRow]:
    """Read a file that `Evaluation.write_scores` wrote; empty if there is none.

    Raises:
        KeyError, ValueError: if it is damaged.
    """
    if not path.is_file():
        return ()
    with path.open(newline="", encoding="utf-8") as file:
        return [
            VolumeRow(
                row["setting"],
                row["method"],
                row["subject"],
                int(row["visit"]),
                float(row["time"]),
                row["region"],
                RegionVolume(float(row["mm3"]), float(row["true_mm3"])),
            )
            for row in csv.DictReader(file)
        ]
