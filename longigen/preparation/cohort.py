"""All subjects of a data set prepared, one after another, into one folder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from longigen.errors import LongigenError
from longigen.preparation.derivatives import PreparedFolder, known_settings
from longigen.preparation.images import require_simpleitk
from longigen.preparation.masks import choose_method
from longigen.preparation.raw import open_raw
from longigen.preparation.resampling import common_spacing
from longigen.preparation.settings import METHODS, BiasChoice, MaskChoice, PrepareSettings
from longigen.preparation.subject import PreparedSubject, prepare_subject
from longigen.utils.progress import Update


@dataclass(frozen=True)
class Preparation:
    """What `longigen.prepare` did.

    Attributes:
        folder: the prepared folder.
        settings: the settings of all of its subjects.
        prepared: ids of the subjects that were prepared.
        kept: ids of those that were prepared before.
        failed: what could not be prepared, in sentences that name the subject, the reason and what to do.
    """

    folder: Path
    settings: PrepareSettings
    prepared: tuple[str, ...]
    kept: tuple[str, ...]
    failed: tuple[str, ...]


def prepare_cohort(
    raw: str,
    out: Path,
    *,
    changes: Sequence[str],
    images: str | None,
    mask: MaskChoice,
    bias: BiasChoice,
    spacing: tuple[float, float, float] | None,
    say: Callable[[str], None],
    update: Update,
) -> Preparation:
    """Prepare all subjects, one after another; see `longigen.api.prepare`.

    Args:
        raw: the data.
        out: the folder to write to.
        changes: ``key=value`` of the data set's parameters.
        images: pattern of the images' names in a plain folder tree.
        mask: where masks come from.
        bias: how each visit's bias field is corrected.
        spacing: size of the voxels in mm; None for the median of all visits.
        say: called with each sentence on what was chosen, guessed or should be looked at.
        update: called as ``update(done, total, note)``.
    """
    require_simpleitk()
    data = open_raw(raw, changes, images, out)
    if not data.subjects:
        raise LongigenError(
            f"{raw} has no subject that can be used."
            + (f" {data.problems[0]}" if data.problems else " Look at it with 'longigen doctor'.")
        )
    for note in data.notes:
        say(note)
    known = known_settings(out)
    if known is None:
        method, why = choose_method(mask, data.subjects)
        median = common_spacing([visit.spacing for subject in data.subjects for visit in subject.visits])
        settings = PrepareSettings(method, bias, spacing or median)
        say(f"Masks: {METHODS[method]} ({why}).")
        size = " × ".join(f"{length:g}" for length in settings.spacing)
        say(f"Voxels of {size} mm, {'as asked for' if spacing else 'the median of all visits'}, for all subjects.")
    else:
        settings = PrepareSettings(known.mask if mask == "auto" else mask, bias, spacing or known.spacing)
        if settings != known:
            raise LongigenError(
                f"{out} was prepared with {known}, not with {settings}; give the same, or another folder."
            )
    folder = PreparedFolder(out, data, settings)
    for note in folder.notes:
        say(note)
    folder.describe()
    prepared, kept, failed = [], [], [str(problem) for problem in data.problems]
    total = len(data.subjects)
    for index, subject in enumerate(data.subjects):
        try:
            state = folder.state(subject)
            if state == "done":
                kept.append(subject.id)
                update(index + 1, total, f"{subject.id} was prepared before")
                continue
            if state == "changed":
                say(f"{subject.id} was prepared from other images before, and is prepared anew.")
            result = prepare_subject(subject, settings, partial(_step, update, index, total, subject.id))
            folder.write(result)
        except LongigenError as error:
            failed.append(f"{subject.id}: {error}")
            update(index + 1, total, f"{subject.id} failed")
            continue
        prepared.append(subject.id)
        for caution in result.cautions:
            say(caution)
        update(index + 1, total, _summary(result))
    folder.complete()
    return Preparation(out, settings, tuple(prepared), tuple(kept), tuple(failed))


def _step(update: Update, done: int, total: int, name: str, step: str) -> None:
    update(done, total, f"{name}: {step}")


def _summary(result: PreparedSubject) -> str:
    """Return in a few words how far the visits of a subject were moved, and how alike they are."""
    moved = max(visit.shift for visit in result.visits), max(visit.angle for visit in result.visits)
    alike = "" if result.correlation is None else ", correlation {:.3f} to {:.3f}".format(*result.correlation)
    name, number = result.subject.id, len(result.visits)
    return f"{name}: {number} visit{'s' * (number != 1)} moved by up to {moved[0]:.1f} mm and {moved[1]:.1f}°{alike}"
