"""Generate the visits of a session's subjects and write them, batch by batch."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from longigen.errors import LongigenWarning
from longigen.generation.animation import Kind, require_video
from longigen.generation.earlier import Expected
from longigen.generation.explanation import first_of_each, require_explaining, write_explanations
from longigen.generation.pictures import write_pictures
from longigen.generation.series import write_all_series
from longigen.generation.session import GenerationSession
from longigen.models.batch_size import BatchSize, Size
from longigen.models.cautions import subject_cautions
from longigen.models.layout import LayoutName
from longigen.models.open_layout import open_layout
from longigen.models.predict import GenerationSettings
from longigen.models.tasks import Scenario
from longigen.models.visit_files import make_way, spread_caution, write_sample, write_statistics
from longigen.utils.processes import agreeing, divided, gathered, processes, says_first, share


@dataclass(frozen=True)
class WrittenVisits:
    """The files that `write_cohort` wrote.

    Attributes:
        folder: the folder, with a subfolder for each subject, ``visits.csv`` (`longigen.models.visit_index`), and
            ``contact-sheet.png`` (`longigen.generation.pictures`).
        files: the NIfTI files of all visits and samples that were written now, by all processes.
        kept: number of visits that were there already, whole and of the same model, settings and inputs.
        caution: a warning if the standard deviation of the samples does not measure uncertainty, else None.
    """

    folder: Path
    files: tuple[Path, ...]
    kept: int = 0
    caution: str | None = None


def write_cohort(
    session: GenerationSession,
    folder: Path,
    settings: GenerationSettings,
    *,
    scenario: Scenario,
    times: Sequence[str] | None = None,
    samples: int = 1,
    detail: bool = True,
    explain: bool = False,
    overwrite: bool = False,
    animate: bool = False,
    video: bool = False,
    series: bool = False,
    layout: LayoutName | None = None,
    batch_size: Size = 4,
    callback: Callable[[int, int], None] | None = None,
) -> WrittenVisits:
    """Generate visits for the subjects of a session and write them; several processes share the work.

    What is there already, whole and of the same model, settings and inputs, stays as it is, so that the same call goes
    on after an interruption. Each batch has the same subjects however often the work was interrupted and however many
    processes share it, so that the files are the same to the last bit.

    Args:
        session: the model and its subjects; the model is moved to this process's device.
        folder: the folder to write to.
        settings: sampler, network evaluations, guidance weight and seed; samples are numbered from 0.
        scenario: which visits are given.
        times: times to generate (see `GenerationSession.tasks_at`); by default those of the subjects' own visits.
        samples: number of samples of each visit. With several, their mean and standard deviation are written too.
        detail: keep the last given visits' own voxels; see `Generated.volume`.
        explain: also write how much each earlier visit contributed, see `longigen.generation.explanation`.
        overwrite: replace files of the same visits that are there already, instead of refusing.
        animate: also write each trajectory as a GIF.
        video: also write each trajectory as an MP4 video.
        series: also write each trajectory as a 4D NIfTI file; see `longigen.generation.series`.
        layout: the layout of the folder; see `open_layout`.
        batch_size: number of volumes generated in one batch: samples of subjects; see `BatchSize`.
        callback: called as ``callback(done, total)``, counting tasks times samples.

    Raises:
        LongigenError: if a time cannot be generated, too much of a subject lies outside of the model's grid, the
            conditioner has no explanation, there is no ffmpeg for a video, a visit has other files in the folder
            already, or a file cannot be written.
    """
    if video:
        require_video()
    if explain:
        require_explaining(session.model)
    state = processes()
    session.model.to(state.device)
    if times is None:
        subject_tasks, task_times = session.tasks(scenario, seed=settings.seed), None
    else:
        subject_tasks, task_times = session.tasks_at(times, scenario, seed=settings.seed)
    wanted = task_times or [[item.subject.times[index] for index in task.targets] for item, task in subject_tasks]
    numbers = range(len(subject_tasks))
    record = session.record(scenario, settings, detail=detail)
    chosen = open_layout(layout, folder, record, session.cohort.subjects, session.cohort.name)
    direct = record.order == "direct"
    written: list[Path] = []
    cautioned: set[str] = set()
    max_std = 0.0

    def write_batch(indices: Sequence[int], done: int) -> None:
        nonlocal max_std
        batch = [subject_tasks[index] for index in indices]
        batch_times = None if task_times is None else [task_times[index] for index in indices]
        for index in indices:
            prepared, task = subject_tasks[index]
            for kind, text in subject_cautions(session.model, prepared, task.given, wanted[index], direct=direct):
                if kind not in cautioned and says_first(kind):  # the first subject stands for all
                    warnings.warn(text, LongigenWarning, stacklevel=5)
                    cautioned.add(kind)
        paths: list[list[list[Path]]] = []  # of the subject's samples, by channel and visit
        made = session.generate(batch, settings, samples=samples, times=batch_times, batch_size=at_once)
        for number, generated in enumerate(made):
            if callback is not None:
                callback(done * samples + number + 1, total * samples)
            if indices[number // samples] not in todo:
                continue
            paths.append(write_sample(generated, chosen, sample=number % samples, samples=samples))
            if explain:
                write_explanations(session.model, generated, first_of_each(generated, paths[-1]), chosen)
            if len(paths) == samples:
                if samples > 1:
                    max_std = max(max_std, write_statistics(generated, paths, chosen))
                written.extend(file for of_sample in paths for files in of_sample for file in files)
                paths = []

    def missing(part: Sequence[int]) -> Iterator[bool]:
        for index in part:
            expected = Expected(chosen, subject_tasks[index], wanted[index], samples, explain)
            yield not expected.is_whole

    with agreeing():
        if state.is_main_process:
            chosen.prepare()
            for note in chosen.notes:
                warnings.warn(note, LongigenWarning, stacklevel=3)
            if overwrite:
                visits = [(subject_tasks[index][0].subject, time) for index in numbers for time in wanted[index]]
                make_way(chosen, visits, overwrite=True)
    session.check_box(list(dict.fromkeys(prepared for prepared, _ in subject_tasks)))
    todo = {index for index, is_missing in zip(numbers, divided(missing, numbers), strict=True) if is_missing}
    at_once = BatchSize(batch_size, session.model.device)
    batches = [list(numbers[start : start + at_once.size]) for start in numbers[:: at_once.size]]
    mine = share([batch for batch in batches if todo.intersection(batch)])
    total, done = sum(map(len, mine)), 0
    for batch in mine:
        write_batch(batch, done)
        done += len(batch)
    files = gathered(written)
    if state.is_main_process:
        chosen.complete()
        animations: list[Kind] = [*(["gif"] if animate else []), *(["mp4"] if video else [])]
        write_pictures(session, chosen, animations=animations)
        if series:
            write_all_series(session, chosen)
    max_std = max(gathered([max_std]))
    central = settings.sampler_of(session.model).central
    caution = spread_caution(samples, record.steps, max_std, central=central) if files else None
    kept = sum(len(wanted[index]) for index in numbers if index not in todo)
    return WrittenVisits(folder, tuple(files), kept, caution)
