"""The files that describe a data set of BIDS derivatives: its origin, what BIDS does not know in it, and its tables."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock

from longigen._version import __version__
from longigen.data.dataset import Visit
from longigen.errors import LongigenError
from longigen.models.visit_files import GenerationRecord
from longigen.models.visit_index import DATA, INDEX, LOCK, SHEET
from longigen.utils.files import atomic, read_json, write_errors, write_json

DESCRIPTION, SESSIONS, README, IGNORE = "dataset_description.json", "sessions.json", "README.md", ".bidsignore"
VERSION = "1.10.0"
"""The version of BIDS that a folder follows."""
LINK = "input"
"""The name of the input data set in the URIs of its files."""
IGNORED = (INDEX, DATA, SHEET, "report.html", "sub-*/figures", "sub-*/cine", "sub-*/ses-*/explain")
"""What BIDS has no names for."""
README_TEXT = f"""\
# Synthetic images

No image in this folder is of a scanner. longigen generated them from the visits of subjects that were scanned, or
simulated; the JSON file beside each image says from which ones, with which model, seed and settings.

- A session (`ses-`) is a generated visit. Where the subject has a visit at that time, it has that visit's label; else
  the label is the time, such as `3p5years`. The times are in `sub-*/sub-*_sessions.tsv`, and their unit is in
  `sessions.json`.
- `desc-synthetic` is a generated image. Several samples of a visit are `run-1`, `run-2` and so on, with their voxelwise
  mean (`desc-mean`) and standard deviation (`desc-std`).
- `SkullStripped` is what the input's own JSON file says, and false if it says nothing.
- `{INDEX}` lists all images. `participants.tsv` lists the subjects; ages, diagnoses and other columns of the input are
  not copied.
- `{IGNORE}` lists what BIDS has no names for: pictures (`figures`), 4D series (`cine`) and maps of how much each
  earlier visit contributed (`explain`).
"""


@dataclass(frozen=True)
class SourceFolder:
    """The BIDS data set that an image file is in.

    Attributes:
        path: its folder.
        doi: the identifier of its publication, ``10.…``, if it has one.
    """

    path: Path
    doi: str | None

    @staticmethod
    def of(visit: Visit) -> "SourceFolder | None":
        """Return the data set that a visit's image is in; None if it is no file, or not in one."""
        path = Path(visit.source)
        if not path.is_file():
            return None
        return next((found for parent in path.resolve().parents if (found := _source_folder(parent))), None)

    def link(self, folder: Path) -> str | None:
        """Return where the data set is: its identifier, or the way up to it from a folder inside of it.

        None otherwise, since any other way would tell names of folders on this machine.
        """
        if self.doi:
            return f"doi:{self.doi}"
        way = os.path.relpath(self.path, folder.resolve())
        return way if set(Path(way).parts) == {".."} else None

    def inside(self, visit: Visit) -> str | None:
        """Return the path of a visit's image in the data set; None if it is not in it."""
        path = Path(visit.source).resolve()
        return path.relative_to(self.path).as_posix() if path.is_relative_to(self.path) else None


@lru_cache(maxsize=4096)
def _source_folder(folder: Path) -> SourceFolder | None:
    path = folder / DESCRIPTION
    if not path.is_file():
        return None
    try:
        doi = str(read_json(path).get("DatasetDOI") or "")
    except LongigenError:  # the reader of the data says it if it needs the file
        doi = ""
    doi = doi.removeprefix("doi:").removeprefix("https://doi.org/")
    return SourceFolder(folder, doi if doi.startswith("10.") else None)


def is_public_reference(reference: Any) -> bool:
    """Return whether a ``SpatialReference`` names no file of this machine."""
    return isinstance(reference, str) and (reference == "orig" or reference.startswith(("https://", "http://")))


def describe(folder: Path, record: GenerationRecord, origin: str, source: SourceFolder | None) -> None:
    """Write what describes a folder of visits: ``dataset_description.json``, ``README.md``, ``.bidsignore``, units.

    What earlier calls wrote stays in the description.

    Args:
        folder: the folder.
        record: provenance of the visits that are going to be written.
        origin: the name of the data set that the subjects are from.
        source: the BIDS data set that they are from, if they are from one.

    Raises:
        LongigenError: if the folder is a data set that longigen did not write, or has times in another unit.
    """
    path = folder / DESCRIPTION
    with write_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / LOCK, mode=0o664):
        known = read_json(path) if path.exists() else {}
        if known and not is_own(known):
            raise LongigenError(
                f"{folder} is a BIDS data set that longigen did not write; write to another folder, such as "
                f"{folder / 'derivatives' / 'longigen'}."
            )
        units = folder / SESSIONS
        unit = read_json(units)["time"]["Units"] if units.exists() else record.time_unit
        if unit != record.time_unit:
            raise LongigenError(
                f"{folder} has visits with times in {unit}, and these are in {record.time_unit}; write to another "
                "folder."
            )
        link = source.link(folder) if source else None
        content = {
            "Name": "Synthetic images, generated by longigen",
            "BIDSVersion": VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": _with(known.get("GeneratedBy", []), _generator(record)),
            "SourceDatasets": _with(known.get("SourceDatasets", []), _origin(origin, source)),
            "DatasetLinks": {**known.get("DatasetLinks", {}), **({LINK: link} if link else {})},
        }
        write_json({key: value for key, value in content.items() if value}, path)
        for name, text in ((README, README_TEXT), (IGNORE, "\n".join(IGNORED) + "\n")):
            if not (folder / name).exists():  # somebody may have added to them
                with atomic(folder / name) as part:
                    part.write_text(text, encoding="utf-8")
        write_json({"time": {"Description": "Time of the visit", "Units": record.time_unit}}, units)


def is_own(description: Mapping[str, Any]) -> bool:
    """Return whether longigen wrote a data set, by its ``dataset_description.json``."""
    tools = description.get("GeneratedBy")
    return isinstance(tools, list) and any(isinstance(tool, dict) and tool.get("Name") == "longigen" for tool in tools)


def _generator(record: GenerationRecord) -> dict[str, Any]:
    parts = {key: value for key, value in record.model.items() if key not in ("longigen", "weights_sha256")}
    return {
        "Name": "longigen",
        "Version": __version__,
        "Description": f"{', '.join(f'{kind} {name}' for kind, name in parts.items())}, with the weights of SHA-256 "
        f"{record.model['weights_sha256']}",
    }


def _origin(name: str, source: SourceFolder | None) -> dict[str, str]:
    return {"Name": name, **({"DOI": f"doi:{source.doi}"} if source and source.doi else {})}


def _with(items: Sequence[Any], item: Any) -> list[Any]:
    return [*items, *([] if item in items else [item])]


def write_tables(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``sub-*/sub-*_sessions.tsv`` with the times of the visits, and ``participants.tsv``.

    Nothing of the input's own tables is copied, since they may hold what is private.

    Args:
        folder: the folder.
        rows: the rows of its index, see `write_index`.

    Raises:
        LongigenError: if a table cannot be written.
    """
    sessions: dict[str, dict[str, str]] = {}
    ids: dict[str, str] = {}
    for row in rows:
        subject, session, *_ = Path(row["path"]).parts
        sessions.setdefault(subject, {})[session] = row["time"]
        ids[subject] = row["subject"]
    for subject, times in sessions.items():
        lines = sorted(times.items(), key=lambda item: float(item[1]))
        _write_table(folder / subject / f"{subject}_sessions.tsv", ("session_id", "time"), lines)
    changed = any(name not in (subject, subject.removeprefix("sub-")) for subject, name in ids.items())
    columns = ("participant_id", *(["original_id"] if changed else []))
    _write_table(folder / "participants.tsv", columns, sorted(ids.items()))
    if changed:
        described = {"original_id": {"Description": "Id of the subject in the data that its visits are generated from"}}
        write_json(described, folder / "participants.json")


def _write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table of as many columns as are named, separated by tabs, which no cell may hold."""
    cells = [columns, *(row[: len(columns)] for row in rows)]
    text = "".join("\t".join(" ".join(cell.split()) for cell in row) + "\n" for row in cells)
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")
