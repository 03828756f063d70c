"""A loaded model and the subjects to generate visits for."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from longigen._version import __version__
from longigen.components.base import parameters
from longigen.components.changes import parse_change
from longigen.data.cohort import Cohort, require_pairs
from longigen.data.open_dataset import find_dataset
from longigen.data.preprocess import Prepared, Preprocess
from longigen.data.split import Part, SplitSettings, fingerprint
from longigen.errors import LongigenError, did_you_mean
from longigen.hub.manifest import RUN_FILE, WEIGHTS, checksum
from longigen.hub.model_config import COMPONENTS
from longigen.hub.resolve import ModelSource
from longigen.models.longitudinal import LongitudinalModel
from longigen.models.predict import (
    Generated,
    GenerationSettings,
    SubjectTask,
    generation_metadata,
    predict_batch,
    target_times,
)
from longigen.models.pretrained import describe, load_folder
from longigen.models.tasks import Scenario, Task, tasks
from longigen.models.visit_files import GenerationRecord
from longigen.registry.registry import registry
from longigen.training.run import Run


@dataclass(frozen=True)
class GenerationSession:
    """A loaded model, the subjects to generate visits for, and a note on who they are.

    Attributes:
        source: the folder of the run or of the model that it was loaded from.
        model: the model, on the device where it will compute.
        cohort: the data set, preprocessed as in the model's training.
        subjects: those to generate visits for.
        part: of the split; ``all`` where the data set is not the one that the model was trained on.
        note: one line that says which subjects these are, and why.
    """

    source: str
    model: LongitudinalModel
    cohort: Cohort
    subjects: list[Prepared]
    part: Part
    note: str

    @classmethod
    def open(
        cls,
        source: ModelSource | str,
        *,
        data: str | None = None,
        changes: Sequence[str] = (),
        part: Part | None = None,
        ids: Sequence[str] = (),
        skip_bad: bool = False,
        callback: Callable[[int, int], None] | None = None,
    ) -> "GenerationSession":
        """Load a model and find its subjects.

        Args:
            source: what the model is called; see `longigen.hub.resolve`.
            data: a data set's name or a path. By default the run's own data, else the data set of that name.
            changes: ``key=value``, parameters of the data set.
            part: of the split. By default ``test`` on the data the model was trained on, and ``all`` on other data.
            ids: only these subjects.
            skip_bad: leave out what cannot be used, as the run did if it was trained so.
            callback: gets (visits read, all visits) while they are read for that.

        Raises:
            LongigenError: if the model or the data cannot be used, or do not fit each other.
        """
        called = ModelSource.of(source) if isinstance(source, str) else source
        folder = called.find()
        model = load_folder(LongitudinalModel, folder)
        recorded = Run(called.run).read() if called.run else None
        name, config = _dataset(model, recorded, data, changes)
        dataset = registry.make("dataset", name, config)
        if dataset.time_unit != model.statistics.time_unit:
            raise LongigenError(
                f"The model's times are {model.statistics.time_unit}, those of '{name}' are {dataset.time_unit}; "
                f"convert them, or say --set time_unit={model.statistics.time_unit} if that is what they are."
            )
        split = SplitSettings(**model.provenance.data.get("split", {}))
        skip_bad = skip_bad or bool(recorded and recorded["recipe"]["training"].get("skip_bad"))
        pipeline = Preprocess.from_config(model.provenance.preprocess)
        cohort = Cohort(name, dataset, pipeline, split, skip_bad=skip_bad, callback=callback)
        chosen, note = _part(cohort, model, recorded, part)
        subjects = cohort.part(chosen)
        if ids:
            subjects = _only(cohort, ids)
            note = f"{len(subjects)} chosen subjects"
        if not subjects:
            raise LongigenError(f"The part '{chosen}' of '{name}' has no subjects; choose another with --part.")
        return cls(str(called.path or folder), model, cohort, subjects, chosen, note)

    def tasks(
        self, scenario: Scenario, *, seed: int, select: Callable[[Sequence[Task], int], list[Task]] | None = None
    ) -> list[SubjectTask]:
        """Return the tasks of a scenario for every subject; see `longigen.models.tasks.tasks`.

        Args:
            scenario: which visits are given.
            seed: of the missing visits.
            select: picks some of a subject's tasks, given all of them and its number of visits.

        Raises:
            LongigenError: if a subject has fewer than two visits.
        """
        require_pairs(self.subjects)
        found = []
        for prepared in self.subjects:
            visits = len(prepared.subject.visits)
            every = tasks(visits, scenario, subject=prepared.subject.id, seed=seed)
            found += [(prepared, task) for task in (select(every, visits) if select else every)]
        return found

    def tasks_at(
        self, times: Sequence[str], scenario: Scenario, *, seed: int
    ) -> tuple[list[SubjectTask], list[list[float]]]:
        """Return a task for every subject at times of the user's choice, and those times.

        Args:
            times: numbers in the data set's unit; ``+1`` is one unit after the subject's last visit.
            scenario: which visits are given: the first, a random part, or all.
            seed: of the missing visits.

        Raises:
            LongigenError: if a time is no number, not after the subject's first visit, or that of a given visit.
        """
        found: list[SubjectTask] = []
        wanted: list[list[float]] = []
        for prepared in self.subjects:
            visits = len(prepared.subject.visits)
            given = tuple(range(visits))
            if scenario != "full" and visits > 1:
                given = tasks(visits, scenario, subject=prepared.subject.id, seed=seed)[0].given
            found.append((prepared, Task(given, ())))
            wanted.append(target_times(prepared.subject, given, times, self.cohort.dataset.time_unit))
        return found, wanted

    def generate(
        self,
        subject_tasks: Sequence[SubjectTask],
        settings: GenerationSettings,
        *,
        times: Sequence[Sequence[float]] | None = None,
        batch_size: int = 4,
        callback: Callable[[int, int], None] | None = None,
    ) -> Iterator[Generated]:
        """Yield the generated visits of each task, computed in batches.

        Args:
            subject_tasks: as `tasks` or `tasks_at` return them.
            settings: how to generate.
            times: of the visits to generate, where they are not visits of the subject.
            batch_size: subjects that are generated together.
            callback: called as ``callback(done, total)`` after each batch, counting tasks.
        """
        for start in range(0, len(subject_tasks), batch_size):
            batch = subject_tasks[start : start + batch_size]
            asked = None if times is None else times[start : start + batch_size]
            yield from predict_batch(self.model, batch, settings=settings, times=asked)
            if callback is not None:
                callback(start + len(batch), len(subject_tasks))

    def record(self, scenario: Scenario | None, settings: GenerationSettings) -> GenerationRecord:
        """Return what is written beside each visit of how it was generated."""
        return GenerationRecord(
            time_unit=self.cohort.dataset.time_unit,
            simulated=self.cohort.dataset.simulated,
            causal=self.model.conditioner.causal,
            scenario=scenario,
            model=self.provenance,
            **generation_metadata(self.model, settings),
        )

    @property
    def unseen(self) -> bool:
        """Whether training saw none of the subjects, as far as a model without its run can tell."""
        if (Path(self.source) / RUN_FILE).exists():
            split = Run(Path(self.source)).read()["split"]
            return not {p.subject.id for p in self.subjects} & {*split["train"], *split["validation"]}
        trained_on_it = fingerprint(self.cohort.subjects) == self.model.provenance.data.get("fingerprint")
        return self.part == "test" or not trained_on_it

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """The model, as it is written beside everything that it generates."""
        folder = ModelSource(self.source, path=Path(self.source)).find()
        parts = {kind: describe(getattr(self.model, kind))["name"] for kind in COMPONENTS}
        return {"longigen": __version__, **parts, "weights_sha256": checksum(folder / WEIGHTS)}


def _dataset(
    model: LongitudinalModel, recorded: dict[str, Any] | None, data: str | None, changes: Sequence[str]
) -> tuple[str, dict[str, Any]]:
    kept = model.provenance.data  # what a model without its run knows of its data
    if data is not None:
        name, config = find_dataset(data)
        if recorded is not None and not config and recorded["recipe"]["data"].get("name") == name:
            config = {key: value for key, value in recorded["recipe"]["data"].items() if key != "name"}
        elif recorded is None and kept.get("name") == name:
            config = {**kept.get("parameters", {}), **config}
    elif recorded is not None:
        config = dict(recorded["recipe"]["data"])
        name = config.pop("name")
    else:
        name, config = str(kept.get("name")), dict(kept.get("parameters", {}))
    cls = registry.load("dataset", name)
    known = parameters(cls)
    if data is None and recorded is None and any(parameter.required for parameter in known.values()):
        raise LongigenError(f"The model was trained on files (data set '{name}'); say which to use with --data.")
    for change in changes:
        _, key, value = parse_change(change, {"data": known})
        config[key] = value
    return name, config


def _part(
    cohort: Cohort, model: LongitudinalModel, recorded: dict[str, Any] | None, part: Part | None
) -> tuple[Part, str]:
    trained_on_it = fingerprint(cohort.subjects) == model.provenance.data.get("fingerprint")
    if part is not None and (trained_on_it or part == "all"):
        return part, f"part '{part}'"
    if part is not None:
        raise LongigenError(
            f"'{cohort.name}' is not the data that the model was trained on, so it has no part "
            f"'{part}'; leave --part out."
        )
    if trained_on_it:
        return "test", "subjects that training never saw"
    if recorded is not None:
        seen = {name for kind in ("train", "validation") for name in recorded["split"][kind]}
        both = seen & {subject.id for subject in cohort.subjects}
        if both:
            raise LongigenError(
                f"'{cohort.name}' holds {len(both)} subjects that the model was trained on (such as {min(both)}) "
                "but is not the "
                "same data; choose subjects with --subject, or all of them with --part all."
            )
    return "all", "other data than the model was trained on: all its subjects"


def _only(cohort: Cohort, ids: Sequence[str]) -> list[Prepared]:
    known = {subject.id: subject for subject in cohort.subjects}
    for name in ids:
        if name not in known:
            raise LongigenError(
                f"There is no subject '{name}' in '{cohort.name}'.{did_you_mean(name, known)} Its ids are such as "
                f"'{next(iter(known))}'."
            )
    return cohort.prepared([known[name] for name in ids])
