"""The index of a folder of generated visits: ``visits.csv``, one row per volume."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from longigen.models.visit_files import FILE, STATISTICS
from longigen.utils.files import atomic, read_json, write_errors
from longigen.utils.time_units import time_text

INDEX, LOCK, DATA, SHEET = "visits.csv", ".visits.lock", "data.json", "contact-sheet.png"
COLUMNS: Sequence[str] = ("subject", "time", "time_unit", "sample", "path", "given", "setting", "seed", "sha256")
CHANNEL = "channel"
"""A further column, of folders that have volumes of several channels."""
SIDECARS = ("*/*.json", "sub-*/ses-*/anat/*.json")
"""Where sidecars are, in the flat layout and in that of BIDS."""


def write_index(folder: Path) -> list[dict[str, Any]]:
    """Write ``visits.csv``: a row for each volume that the sidecars in the subjects' folders describe; return the rows.

    - ``sample`` is a number, or ``mean`` or ``std`` of the samples.
    - ``path`` is relative to the folder.
    - ``given`` are the times of the given visits, with spaces between them.
    - ``sha256`` is the checksum of the volume when it was written.
    - ``channel`` is the name of the channel, if there are several.

    Commands that write into one folder side by side, as in a cluster's array, each write it at their end, one after the
    other, so that the last one lists all.

    Raises:
        LongigenError: if it cannot be written.
    """
    path = folder / INDEX
    with write_errors(path), FileLock(folder / LOCK, mode=0o664):
        rows = sorted(_rows(folder), key=lambda row: (row["subject"], float(row["time"]), row["path"]))
        with atomic(path) as part, part.open("w", newline="", encoding="utf-8") as file:
            several = any(CHANNEL in row for row in rows)
            writer = csv.DictWriter(file, [*COLUMNS, *([CHANNEL] if several else [])], restval="")
            writer.writeheader()
            writer.writerows(rows)
    return rows


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    for sidecar in (path for pattern in SIDECARS for path in folder.glob(pattern)):
        if sidecar.name.startswith("."):
            continue
        content = read_json(sidecar)
        volume = sidecar.with_suffix(".nii.gz")
        if FILE not in content or not volume.exists():
            continue  # an explanation, or of a process that was killed
        statistic = next((name for name, text in STATISTICS.items() if text == content.get("statistic")), None)
        yield {
            "subject": content["subject"],
            "time": time_text(float(content["time"])),
            "time_unit": content["time_unit"],
            "sample": content.get("sample", statistic),
            "path": volume.relative_to(folder).as_posix(),
            "given": " ".join(time_text(float(visit["time"])) for visit in content["history"]),
            "setting": content.get("setting", ""),
            "seed": content["seed"],
            "sha256": content[FILE]["sha256"],
            **({CHANNEL: content[CHANNEL]} if CHANNEL in content else {}),
        }
