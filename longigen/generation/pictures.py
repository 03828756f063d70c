"""Pictures beside generated visits: a contact sheet of a few subjects, and an animation of each trajectory."""

from pathlib import Path

from longigen.components.base import parameters
from longigen.components.privacy import public_values
from longigen.generation.index import DATA
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
from longigen.utils.files import write_json

SHEET = "contact-sheet.png"


def write_pictures(session: GenerationSession, folder: Path, *, animate: bool) -> None:
    """Write ``contact-sheet.png``, of the first of the session's subjects, and with `animate` a GIF per trajectory.

    The given and the true visits are read from the session's data set. ``data.json`` records its name and its settings
    without paths and free text, so that a report finds them again where they need no files.

    Args:
        session: the model and its subjects.
        folder: the folder, in which ``visits.csv`` is complete.
        animate: write ``SUBJECT/SUBJECT[_setting-SETTING].gif`` for each subject.

    Raises:
        LongigenError: if a file cannot be read or written.
    """
    dataset = session.cohort.dataset
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
            setting = f"_setting-{files.setting}" if files.setting else ""
            write_animation(trajectory, folder / files.subject / f"{files.subject}{setting}.gif")
    write_contact_sheet(strips, folder / SHEET)
