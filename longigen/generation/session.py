"""Generation session: a loaded model and the subjects to generate visits for."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from longigen._version import __version__
from longigen.components.base import parameters
from longigen.components.changes import parse_change
from longigen.components.privacy import public_values
from longigen.data.cohort import Cohort, listed, require_pairs
from longigen.data.dataset import Dataset
from longigen.data.open_dataset import find_dataset
from longigen.data.preprocess import Prepared, PreprocessSettings
from longigen.data.seen import TrainedOn, all_of, unseen
from longigen.data.split import Part, Split, SplitSettings, fingerprint
from longigen.errors import LongigenError, LongigenWarning, did_you_mean
from longigen.hub.manifest import WEIGHTS, checksum
from longigen.hub.resolve import ModelSource
from longigen.models.batch_size import BatchSize, Size
from longigen.models.cautions import box_cautions, data_cautions, require_channels, shares_outside
from longigen.models.longitudinal import LongitudinalModel
from longigen.models.predict import (
    Generated,
    GenerationSettings,
    SubjectTask,
    generation_metadata,
    predict_samples,
    target_times,
)
from longigen.models.pretrained import described_parts, load_folder
from longigen.models.tasks import Scenario, Task, tasks
from longigen.models.visit_files import GenerationRecord
from longigen.registry.registry import registry
from longigen.training.run import Run
from longigen.utils.processes import divided
from longigen.utils.time_units import COUNT_UNITS, conversion_text, time_factor

BOX = "preprocess."
"""The start of a change of the model's grid, where others are of the data set."""

UNSEEN, UNKNOWN = "subjects not used in training", "it is not known whether training used them"
"""What the note of a session says of subjects that no training used, or of which that is not known."""


@dataclass(frozen=True)
class GenerationSession:
    """A loaded model and the subjects to generate visits for.

    Attributes:
        source: folder of the run or the model that was loaded, or of the best model of a run.
        model: the model.
        cohort: the data set, preprocessed as in the model's training.
        subjects: the subjects to generate visits for.
        part: part of the split; ``all`` if the model was not trained on this data set.
        note: a few words on how the subjects were chosen, and whether training used them.
        used: the ids of the subjects that the model's run trained and validated on; None without the run.
        box_chosen: whether the user chose the grid's shape for these subjects, now or by training on their data set.
    """

    source: str
    model: LongitudinalModel
    cohort: Cohort
    subjects: list[Prepared]
    part: Part
    note: str
    used: frozenset[str] | None = None
    box_chosen: bool = False

    @classmethod
    def open(
        cls,
        source: ModelSource | str,
        *,
        data: str | None = None,
        changes: Sequence[str] = (),
        part: Part | None = None,
        ids: Sequence[str] = (),
        one_of: tuple[int, int] = (1, 1),
        skip_bad: bool = False,
        callback: Callable[[int, int], None] | None = None,
    ) -> "GenerationSession":
        """Load a model and choose its subjects.

        Args:
            source: the model's name, folder or repository; see `longigen.hub.resolve`.
            data: a data set's name or a path. By default the data of the model's training.
            changes: parameters of the data set, as ``key=value``; ``preprocess.shape`` in voxels or
                ``preprocess.extent`` in mm replaces that of the model's grid.
            part: part of the split. By default ``test`` on the data of the model's training, and ``all`` on other data.
            ids: ids of the subjects; by default all of the part.
            one_of: which of how many equal shares of these subjects is chosen, from (1, N) to (N, N).
            skip_bad: leave out visits and subjects that cannot be used; also if the run was trained with this option.
            callback: called as ``callback(done, total)`` while visits are read.

        Raises:
            LongigenError: if the model or the data cannot be used, or do not fit each other.
        """
        resolved = ModelSource.parse(source) if isinstance(source, str) else source
        folder = resolved.find()
        model = load_folder(LongitudinalModel, folder)
        recorded = Run(resolved.run).read() if resolved.run else None
        box = _box(changes)
        changes = [change for change in changes if not change.strip().startswith(BOX)]
        name, config = _dataset(model, recorded, data, changes)
        dataset = registry.make("dataset", name, config)
        for note in _unlike_training(dataset, name, *_trained_on(model, recorded), changes):
            warnings.warn(note, LongigenWarning, stacklevel=2)
        dataset = _in_cycles(dataset, name, config, model.statistics.time_unit)
        factor = _time_factor(dataset, name, model.statistics.time_unit)
        split = SplitSettings(**model.provenance.data.get("split", {}))
        skip_bad = skip_bad or bool(recorded and recorded["recipe"]["training"].get("skip_bad"))
        pipeline = model.provenance.pipeline(box)
        cohort = Cohort(name, dataset, pipeline, split, skip_bad=skip_bad, time_factor=factor, callback=callback)
        require_channels(model, cohort.channels)
        own = fingerprint(cohort.subjects) == model.provenance.data.get("fingerprint")
        used = None
        if recorded is not None:
            own = _keep_split(cohort, model, recorded)
            used = frozenset(name for kind in ("train", "validation") for name in recorded["split"][kind])
        if part not in (None, "all") and not own:
            raise LongigenError(
                f"'{name}' is not the data that the model was trained on, so it has no part '{part}'; leave --part out."
            )
        chosen: Part = part or ("test" if own else "all")
        subjects = _select_subjects(cohort, ids) if ids else cohort.part(chosen)
        if not subjects:
            raise LongigenError(f"The part '{chosen}' of '{name}' has no subjects; choose another with --part.")
        number, shares = one_of
        subjects = subjects[number - 1 :: shares]
        if not subjects:
            raise LongigenError(f"Share {number} of {shares} has no subject; there are fewer subjects than shares.")
        cohort.read(subjects, callback)
        for caution in data_cautions(model, subjects, simulated=dataset.simulated, own=own):
            warnings.warn(caution, LongigenWarning, stacklevel=2)
        place = folder if resolved.weights == "best" else resolved.path or folder
        session = cls(str(place), model, cohort, subjects, chosen, "", used, bool(box or own))
        return replace(session, note=session.describe(explicitly=bool(part or ids), ids=ids))

    def check_box(self, subjects: Sequence[Prepared] | None = None) -> None:
        """Warn of subjects, by default all, of which a part lies outside of the model's grid; see `box_cautions`.

        Every process calls this, with the same subjects.

        Raises:
            LongigenError: if it is so large a part that the model is not made for them.
        """
        chosen = self.subjects if subjects is None else subjects
        outside = divided(shares_outside, chosen)
        for caution in box_cautions(self.model, chosen, shape_chosen=self.box_chosen, outside=outside):
            warnings.warn(caution, LongigenWarning, stacklevel=3)

    def tasks(
        self, scenario: Scenario, *, seed: int, select: Callable[[Sequence[Task], int], list[Task]] | None = None
    ) -> list[SubjectTask]:
        """Return the tasks of a scenario for every subject; see `longigen.models.tasks.tasks`.

        Args:
            scenario: which visits are given.
            seed: random seed of the choice of missing visits.
            select: chooses some of a subject's tasks, given all of them and the subject's number of visits.

        Raises:
            LongigenError: if a subject has fewer than two visits.
        """
        require_pairs(self.subjects)
        subject_tasks = []
        for prepared in self.subjects:
            visits = len(prepared.subject.visits)
            candidates = tasks(visits, scenario, subject=prepared.subject.id, seed=seed)
            chosen = select(candidates, visits) if select else candidates
            subject_tasks += [(prepared, task) for task in chosen]
        return subject_tasks

    def tasks_at(
        self, times: Sequence[str], scenario: Scenario, *, seed: int
    ) -> tuple[list[SubjectTask], list[list[float]]]:
        """Return a task for every subject, and the times to generate for each, as chosen by the user.

        Args:
            times: numbers in the data set's unit, whatever the model's; ``+1`` is one unit after the subject's last
                visit.
            scenario: which visits are given: the first, a random part, or all.
            seed: random seed of the choice of missing visits.

        Raises:
            LongigenError: if a time is not a number, not after the subject's first visit, or the time of a given visit.
        """
        subject_tasks: list[SubjectTask] = []
        requested: list[list[float]] = []
        for prepared in self.subjects:
            visits = len(prepared.subject.visits)
            given = tuple(range(visits))
            if scenario != "full" and visits > 1:
                given = tasks(visits, scenario, subject=prepared.subject.id, seed=seed)[0].given
            subject_tasks.append((prepared, Task(given, ())))
            requested.append(target_times(prepared.subject, given, times, self.cohort.dataset.time_unit))
        return subject_tasks, requested

    def generate(
        self,
        subject_tasks: Sequence[SubjectTask],
        settings: GenerationSettings,
        *,
        samples: int = 1,
        times: Sequence[Sequence[float]] | None = None,
        batch_size: Size | BatchSize = 4,
        callback: Callable[[int, int], None] | None = None,
    ) -> Iterator[Generated]:
        """Yield the generated visits of each task, computed in batches; with several samples, a task's in succession.

        Args:
            subject_tasks: tasks, as `tasks` or `tasks_at` return them.
            settings: sampler, network evaluations, guidance weight, order and seed.
            samples: number of samples of each task; see `predict_samples`.
            times: times to generate for each subject; by default those of the tasks' targets.
            batch_size: number of volumes generated in one batch: samples of subjects.
            callback: called as ``callback(done, total)`` after each task and sample.
        """
        made = predict_samples(self.model, subject_tasks, settings, samples=samples, times=times, batch_size=batch_size)
        for done, generated in enumerate(made, 1):
            yield generated
            if callback is not None:
                callback(done, len(subject_tasks) * samples)

    def record(
        self, scenario: Scenario | None, settings: GenerationSettings, *, detail: bool = True
    ) -> GenerationRecord:
        """Return the provenance to write beside each visit generated with these settings; see `Generated.volume`.

        Of the sampler's configuration it has what cannot be private, see `public_values`.
        """
        sampler = settings.sampler_of(self.model)
        return GenerationRecord(
            time_unit=self.cohort.dataset.time_unit,
            model_time_unit=self.model.statistics.time_unit,
            simulated=self.cohort.dataset.simulated,
            causal=self.model.conditioner.causal,
            scenario=scenario,
            model=self.provenance,
            sampler_config=public_values(parameters(type(sampler)), sampler.config),
            detail=detail,
            **generation_metadata(self.model, settings),
        )

    @cached_property
    def unseen_by_subject(self) -> Mapping[str, bool | None]:
        """For each subject, by id, whether no training used it; None if that is not known. See `TrainedOn.unseen`."""
        trained_on = TrainedOn.of(self.model.provenance.data, used=self.used)
        found = divided(lambda part: unseen(part, self.cohort, trained_on).values(), self.subjects)
        return dict(zip((prepared.subject.id for prepared in self.subjects), found, strict=True))

    @property
    def unseen(self) -> bool | None:
        """Whether no training used any of the subjects; None if that is not known."""
        return all_of(self.unseen_by_subject.values())

    def describe(self, *, explicitly: bool, ids: Sequence[str] = ()) -> str:
        """Return a few words on how the subjects were chosen, and whether training used them.

        Args:
            explicitly: whether the user chose the part or the subjects.
            ids: the ids that the user chose.

        Raises:
            LongigenError: if the user did not choose subjects of other data, and training used some of them.
        """
        used = [name for name, verdict in self.unseen_by_subject.items() if verdict is False]
        if used and self.part == "all" and not explicitly:
            raise LongigenError(
                f"'{self.cohort.name}' is not the training data of the model but holds {len(used)} subjects that it "
                f"was trained on (such as {used[0]}); take all of them with --part all, or in 'generate' some with "
                "--subject."
            )
        chosen = f"{len(ids)} chosen subjects" if ids else f"part '{self.part}'" if explicitly else ""
        known = {True: UNSEEN, None: UNKNOWN, False: f"{len(used)} of them used in training"}[self.unseen]
        return f"{chosen}, {known}" if chosen else known

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """The version of longigen, the components' names and the SHA-256 of the model's weights."""
        folder = ModelSource(self.source, path=Path(self.source)).find()
        parts = {kind: described["name"] for kind, described in described_parts(self.model).items()}
        return {"longigen": __version__, **parts, "weights_sha256": checksum(folder / WEIGHTS)}


def _in_cycles(dataset: Dataset, name: str, config: Mapping[str, Any], unit: str) -> Dataset:
    """Return the data set read in cycles, if a model's `unit` is that and the images are those of a short series."""
    converts = "time_unit" in parameters(type(dataset)) and config.get("time_unit") is None
    if not converts or unit != "cycle" or dataset.time_unit not in (*COUNT_UNITS, "seconds", "milliseconds"):
        return dataset
    if dataset.time_unit in COUNT_UNITS:
        found = f"The images of '{name}' have no times; they are read in the model's unit, {unit}."
    else:
        found = (
            f"The times of '{name}' are in {dataset.time_unit} and the model's in cycle; they are read as 0 at the "
            "first image and 1 at the last."
        )
    warnings.warn(
        f"{found} If that is wrong, give their times in a sidecar, or the unit with --set time_unit.",
        LongigenWarning,
        stacklevel=3,
    )
    return registry.make("dataset", name, {**config, "time_unit": unit})


def _time_factor(dataset: Dataset, name: str, unit: str) -> float:
    """Return what the data set's times are multiplied by to be in a model's `unit`, and say it if they are converted.

    Raises:
        LongigenError: if it is not known how many of the one are one of the other.
    """
    factor = time_factor(dataset.time_unit, unit)
    if factor is None:
        own = parameters(type(dataset))
        advice = ", or say with --set time_unit=UNIT which unit they are in" if "time_unit" in own else ""
        raise LongigenError(
            f"The times of '{name}' are in {dataset.time_unit} and the model's in {unit}, which cannot be converted to "
            f"each other; give them in {unit}{advice}."
        )
    if dataset.time_unit != unit:
        warnings.warn(
            f"The times of '{name}' are in {dataset.time_unit} and are converted to the model's {unit}, where "
            f"{conversion_text(dataset.time_unit, unit)}; --times and the names of files are in {dataset.time_unit}.",
            LongigenWarning,
            stacklevel=3,
        )
    return factor


def _box(changes: Sequence[str]) -> dict[str, Any]:
    """Return the shape or the extent of the model's grid that the user chose, if any."""
    settings = parameters(PreprocessSettings)
    known = {"preprocess": {key: settings[key] for key in ("shape", "extent")}}
    chosen = [parse_change(change, known)[1:] for change in changes if change.strip().startswith(BOX)]
    return {key: settings[key].check(value, "preprocess") for key, value in chosen}


def _dataset(
    model: LongitudinalModel, recorded: dict[str, Any] | None, data: str | None, changes: Sequence[str]
) -> tuple[str, dict[str, Any]]:
    """Return the name and the configuration of the data set to generate for: the chosen one, or that of training.

    The settings of training hold for other data that the same reader reads, unless `changes` say otherwise.
    """
    trained_name, trained = _trained_on(model, recorded)
    name, chosen = (trained_name, {}) if data is None else find_dataset(data)
    config = {**trained, **chosen} if name == trained_name else chosen
    cls = registry.load("dataset", name)
    known = parameters(cls)
    if data is None and recorded is None and any(parameter.required for parameter in known.values()):
        raise LongigenError(
            f"The model was trained on files (data set '{name}') that are not part of it; give your data with --data."
        )
    for change in changes:
        _, key, value = parse_change(change, {"data": known})
        config[key] = value
    return name, config


def _trained_on(model: LongitudinalModel, recorded: dict[str, Any] | None) -> tuple[str, dict[str, Any]]:
    """Return the name of the training data's reader and its settings; of a model without its run, the public ones."""
    if recorded is None:
        data = model.provenance.data
        return str(data.get("name")), dict(data.get("parameters", {}))
    settings = dict(recorded["recipe"]["data"])
    return str(settings.pop("name")), settings


def _unlike_training(
    dataset: Dataset, name: str, trained_name: str, trained: Mapping[str, Any], changes: Sequence[str]
) -> Iterator[str]:
    """Yield in sentences how the settings of a data set differ from those of the training data, or what it inherits."""
    if trained_name not in registry.entries("dataset"):
        return
    own = parameters(registry.load("dataset", trained_name))
    known = {key: parameter.check(trained[key]) for key, parameter in own.items() if key in trained}
    chosen = {key: value for key, value in known.items() if not own[key].required and value != own[key].default}
    if name != trained_name:
        if chosen and "path" in own:
            yield (
                f"The data are read by '{name}' and those of training were by '{trained_name}', so its settings do not "
                f"hold here: {_listed(chosen)}."
            )
        return
    config = dataset.config
    changed = {key: value for key, value in config.items() if key in known and value != known[key]}
    paths = {key for key in changed if own[key].required}
    settings = {key: value for key, value in changed.items() if key not in paths}
    if settings:
        was = {key: known[key] for key in settings}
        yield f"The data are read with {_listed(settings)}, where the model was trained with {_listed(was)}."
    inherited = {key: value for key, value in chosen.items() if key not in changed}
    if inherited and paths:
        yield f"The data are read with {_listed(inherited)}, as in training; --set KEY=VALUE changes that."
    given = {change.partition("=")[0].strip().removeprefix("data.") for change in changes}
    unknown = {key: config[key] for key in own if key not in {*known, *given, "time_unit"} and not own[key].required}
    if unknown:  # free text, which a model does not hold; the unit of time is compared with the model's
        yield (
            f"The model does not record how its training data were read in {', '.join(unknown)}; the default holds, "
            f"{_listed(unknown)}, unless --set changes it."
        )


def _listed(settings: Mapping[str, Any]) -> str:
    """Return settings as ``key=value, key=value``, each as ``--set`` takes it."""
    return ", ".join(
        f"{key}={','.join(map(str, value)) if isinstance(value, tuple) else value}" for key, value in settings.items()
    )


def _keep_split(cohort: Cohort, model: LongitudinalModel, recorded: dict[str, Any]) -> bool:
    """Return whether the cohort is the data of a run; its split then holds, in which later subjects have no part.

    A `LongigenWarning` names such subjects.
    """
    named = {name for part in recorded["split"].values() for name in part}
    if fingerprint([s for s in cohort.subjects if s.id in named]) != model.provenance.data.get("fingerprint"):
        return False
    cohort.split = Split.recorded(cohort.subjects, recorded["split"])
    added = [subject.id for subject in cohort.subjects if subject.id not in named]
    if added:
        warnings.warn(
            f"{len(added)} subjects of '{cohort.name}' are not in the run's split, so they are in none of its parts: "
            f"{listed(added)}; choose them with --subject.",
            LongigenWarning,
            stacklevel=3,
        )
    return True


def _select_subjects(cohort: Cohort, ids: Sequence[str]) -> list[Prepared]:
    known = {subject.id: subject for subject in cohort.subjects}
    for name in ids:
        if name not in known:
            raise LongigenError(
                f"There is no subject '{name}' in '{cohort.name}'.{did_you_mean(name, known)} Its first id is "
                f"'{next(iter(known))}'."
            )
    return cohort.prepared([known[name] for name in ids])
