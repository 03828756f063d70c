"""Generate the visits of a session's subjects and write them, batch by batch."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from longigen.errors import LongigenWarning
from longigen.generation.explanation import require_explaining, write_explanations
from longigen.generation.session import GenerationSession
from longigen.models.batch_size import BatchSize, Size
from longigen.models.cautions import subject_cautions
from longigen.models.predict import GenerationSettings
from longigen.models.tasks import Scenario
from longigen.models.visit_files import make_way, spread_caution, write_mean_and_std, write_visits


@dataclass(frozen=True)
class WrittenVisits:
    """The files that `write_cohort` wrote.

    Attributes:
        folder: the folder, with a subfolder for each subject.
        files: the NIfTI files of all visits and samples that this process wrote.
        caution: a warning if the standard deviation of the samples does not measure uncertainty, else None.
    """

    folder: Path
    files: tuple[Path, ...]
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
    batch_size: Size = 4,
    callback: Callable[[int, int], None] | None = None,
) -> WrittenVisits:
    """Generate visits for the subjects of a session and write them; several processes share the work.

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
        batch_size: number of volumes generated in one batch: samples of subjects; see `BatchSize`.
        callback: called as ``callback(done, total)``, counting tasks times samples.

    Raises:
        LongigenError: if a time cannot be generated, too much of a subject lies outside of the model's grid, the
            conditioner has no explanation, a visit has files in the folder already, or a file cannot be written.
    """
    from accelerate import PartialState

    if explain:
        require_explaining(session.model)
    state = PartialState()
    session.model.to(state.device)
    if times is None:
        subject_tasks, task_times = session.tasks(scenario, seed=settings.seed), None
    else:
        subject_tasks, task_times = session.tasks_at(times, scenario, seed=settings.seed)
    wanted = task_times or [[item.subject.times[index] for index in task.targets] for item, task in subject_tasks]
    record = session.record(scenario, settings, detail=detail)
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
                if kind not in cautioned:  # the first subject stands for all
                    warnings.warn(text, LongigenWarning, stacklevel=5)
                    cautioned.add(kind)
        paths: list[list[Path]] = []  # of the subject's samples, by visit
        made = session.generate(batch, settings, samples=samples, times=batch_times, batch_size=at_once)
        for number, generated in enumerate(made):
            paths.append(write_visits(generated, folder, record, sample=number % samples))
            if explain:
                write_explanations(session.model, generated, paths[-1], record)
            if callback is not None:
                callback(done * samples + number + 1, total * samples)
            if len(paths) == samples:
                if samples > 1:
                    max_std = max(max_std, write_mean_and_std(generated, paths, record))
                written.extend(file for files in paths for file in files)
                paths = []

    with state.split_between_processes(list(range(len(subject_tasks)))) as share:
        indices = [int(index) for index in share]
        total = len(indices)
        visits = [(subject_tasks[index][0].subject.id, time) for index in indices for time in wanted[index]]
        make_way(record, folder, visits, overwrite=overwrite)
        session.check_box(list(dict.fromkeys(subject_tasks[index][0] for index in indices)))
        at_once = BatchSize(batch_size, session.model.device)
        subjects = at_once.size
        for start in range(0, total, subjects):
            write_batch(indices[start : start + subjects], start)
    central = settings.sampler_of(session.model).central
    caution = spread_caution(samples, record.steps, max_std, central=central) if total else None
    return WrittenVisits(folder, tuple(written), caution)
