"""Pictures beside generated visits: a contact sheet of a few subjects, and an animation of each trajectory."""

from longigen.components.base import parameters
from longigen.components.privacy import public_values
from longigen.generation.session import GenerationSession
from longigen.generation.strip import (
    MOST_GENERATED,
    MOST_GIVEN,
    MOST_STRIPS,
    Strip,
    write_animation,
    write_contact_sheet,
)
from longigen.generation.trajectory import find_trajectories
from longigen.models.layout import Layout
from longigen.models.visit_index import DATA, SHEET
from longigen.utils.files import write_json


def write_pictures(session: GenerationSession, layout: Layout, *, animate: bool) -> None:
    """Write ``contact-sheet.png``, of the first of the session's subjects, and with `animate` a GIF per trajectory.

    The given and the true visits are read from the session's data set. ``data.json`` records its name and its settings
    without paths and free text, so that a report finds them again where they need no files.

    Args:
        session: the model and its subjects.
        layout: the layout of the folder, in which ``visits.csv`` is complete.
        animate: write a GIF for each subject and setting; see `Layout.animation`.

    Raises:
        LongigenError: if a file cannot be read or written.
    """
    dataset, folder = session.cohort.dataset, layout.folder
    settings = public_values(parameters(type(dataset)), dataset.config)
    write_json({"name": session.cohort.name, "parameters": settings}, folder / DATA)
    subjects = {prepared.subject.id: prepared.subject for prepared in session.subjects}
    found = [files for files in find_trajectories(folder) if files.subject in subjects]
    strips = []
    for files in found if animate else [files.ending(MOST_GENERATED, MOST_GIVEN) for files in found[:MOST_STRIPS]]:
        trajectory = files.read(subjects[files.subject])
        if len(strips) < MOST_STRIPS:
            strips.append(Strip.of(trajectory))
        if animate:
            write_animation(trajectory, layout.animation(files.of(subjects[files.subject]), files.setting))
    write_contact_sheet(strips, folder / SHEET)
