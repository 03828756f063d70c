"""Pictures beside generated visits: a contact sheet of a few subjects, and animations of each trajectory."""

from collections.abc import Sequence

from longigen.components.base import parameters
from longigen.components.privacy import public_values
from longigen.generation.animation import Kind, write_animation
from longigen.generation.session import GenerationSession
from longigen.generation.strip import (
    MOST_GENERATED,
    MOST_GIVEN,
    MOST_STRIPS,
    Strip,
    write_contact_sheet,
)
from longigen.generation.trajectory import find_trajectories
from longigen.models.layout import Layout
from longigen.models.visit_index import DATA, SHEET
from longigen.utils.files import write_json


def write_pictures(session: GenerationSession, layout: Layout, *, animations: Sequence[Kind] = ()) -> None:
    """Write ``contact-sheet.png``, of the first of the session's subjects, and animations of each trajectory.

    The given and the true visits are read from the session's data set. ``data.json`` records its name and its settings
    without paths and free text, so that a report finds them again where they need no files.

    Args:
        session: the model and its subjects.
        layout: the layout of the folder, in which ``visits.csv`` is complete.
        animations: formats in which each subject's visits in each setting are animated; see `Layout.animation`.

    Raises:
        LongigenError: if a file cannot be read or written.
    """
    dataset, folder = session.cohort.dataset, layout.folder
    settings = public_values(parameters(type(dataset)), dataset.config)
    write_json({"name": session.cohort.name, "parameters": settings}, folder / DATA)
    subjects = {prepared.subject.id: prepared.subject for prepared in session.subjects}
    found = [files for files in find_trajectories(folder) if files.subject in subjects]
    strips = []
    for files in found if animations else [files.ending(MOST_GENERATED, MOST_GIVEN) for files in found[:MOST_STRIPS]]:
        trajectory = files.read(subjects[files.subject])
        if len(strips) < MOST_STRIPS:
            strips.append(Strip.of(trajectory))
        for kind in animations:
            place = layout.animation(files.of(subjects[files.subject]), files.setting, kind)
            write_animation(trajectory, place, kind)
    write_contact_sheet(strips, folder / SHEET)
