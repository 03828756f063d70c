"""Generate the visits of a cohort and write them, batch by batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from longigen.generation.explanation import require_explaining, write_explanations
from longigen.generation.session import GenerationSession
from longigen.models.predict import GenerationSettings, SubjectTask
from longigen.models.tasks import Scenario
from longigen.models.visit_files import spread_caution, write_mean_and_std, write_visits


@dataclass(frozen=True)
class WrittenVisits:
    """What `write_cohort` wrote.

    Attributes:
        folder: with a folder for each subject.
        files: the NIfTI files of all visits and samples that this process wrote.
        caution: a sentence if the standard deviation of the samples must not be read as uncertainty.
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
    explain: bool = False,
    batch_size: int = 4,
    callback: Callable[[int, int], None] | None = None,
) -> WrittenVisits:
    """Generate visits for the subjects of a session and write them; several processes share the work.

    Args:
        session: the model and its subjects; the model is moved to this process's device.
        folder: to write to.
        settings: how to generate; samples are numbered from 0.
        scenario: which visits are given.
        times: of the user's choice (see `GenerationSession.tasks_at`); by default those of the subjects' own visits.
        samples: of each visit. With two or more their mean and standard deviation are written too.
        explain: write where the conditioner looked.
        batch_size: subjects that are generated together.
        callback: called as ``callback(done, total)``, counting tasks times samples.

    Raises:
        LongigenError: if a time cannot be generated, the conditioner cannot explain itself, or a file not be written.
    """
    from accelerate import PartialState

    if explain:
        require_explaining(session.model)
    state = PartialState()
    session.model.to(state.device)
    if times is None:
        every, wanted = session.tasks(scenario, seed=settings.seed), None
    else:
        every, wanted = session.tasks_at(times, scenario, seed=settings.seed)
    record = session.record(scenario, settings)
    written: list[Path] = []
    widest = 0.0

    def write_batch(batch: Sequence[SubjectTask], asked: Sequence[Sequence[float]] | None, done: int) -> None:
        nonlocal widest
        paths: list[list[list[Path]]] = []  # by sample, subject and visit
        generated = []
        for sample in range(samples):
            numbered = replace(settings, sample=sample)
            generated = list(session.generate(batch, numbered, times=asked, batch_size=batch_size))
            paths.append([write_visits(each, folder, record, sample=sample) for each in generated])
            if explain:
                for each, files in zip(generated, paths[-1], strict=True):
                    write_explanations(session.model, each, files, record)
            if callback is not None:
                callback(done * samples + (sample + 1) * len(batch), total * samples)
        if samples > 1:
            for each, files in zip(generated, zip(*paths, strict=True), strict=True):
                widest = max(widest, write_mean_and_std(each, files, record))
        written.extend(file for by_subject in paths for files in by_subject for file in files)

    with state.split_between_processes(list(range(len(every)))) as mine:
        total = len(mine)
        for start in range(0, total, batch_size):
            places = mine[start : start + batch_size]
            asked = None if wanted is None else [wanted[place] for place in places]
            write_batch([every[place] for place in places], asked, start)
    caution = spread_caution(samples, record.steps, widest) if total else None
    return WrittenVisits(folder, tuple(written), caution)
