"""Choose the layout of a folder of generated visits: the one that it has, the one asked for, or that of BIDS."""

from collections.abc import Sequence
from pathlib import Path

from longigen.data.dataset import Subject
from longigen.errors import LongigenError
from longigen.models.bids_description import DESCRIPTION
from longigen.models.bids_layout import BIDSLayout
from longigen.models.flat_layout import FlatLayout
from longigen.models.layout import Layout, LayoutName
from longigen.models.visit_files import GenerationRecord
from longigen.models.visit_index import INDEX

LAYOUTS: dict[LayoutName, type[Layout]] = {"bids": BIDSLayout, "flat": FlatLayout}


def open_layout(
    name: LayoutName | None, folder: Path, record: GenerationRecord, subjects: Sequence[Subject], origin: str
) -> Layout:
    """Return the layout of a folder to write visits to.

    Args:
        name: the layout; by default that of the visits that are in the folder already, and ``bids`` in a new one.
        folder: the folder.
        record: provenance of the visits that are going to be written.
        subjects: all subjects of the data set, also those of which nothing is written; at least one.
        origin: the name of that data set.

    Raises:
        LongigenError: if there is no such layout, or the folder has another.
    """
    if name is not None and name not in LAYOUTS:
        raise LongigenError(f"There is no layout '{name}'; choose one of: {', '.join(LAYOUTS)}.")
    there = layout_of(folder)
    if name and there and name != there:
        raise LongigenError(
            f"{folder} has the layout '{there}' and not '{name}'; write to another folder, or leave the layout out."
        )
    return LAYOUTS[name or there or "bids"](folder, record, subjects, origin)


def layout_of(folder: Path) -> LayoutName | None:
    """Return the layout of what is in a folder; None if it holds no visits."""
    if (folder / DESCRIPTION).is_file():
        return "bids"
    flat = (folder / INDEX).is_file() or any(folder.glob("*/*_time-*_sample-*"))
    return "flat" if flat else None
