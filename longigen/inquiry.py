"""An inquiry: a trained model, the subjects it is asked about, and how its answers are written."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from longigen.cohort import Cohort, require_pairs
from longigen.component import checked, parameters
from longigen.errors import LongigenError, did_you_mean
from longigen.explanation import explanations
from longigen.files import write_json
from longigen.generation import Answer, GenerationSettings, answer
from longigen.model import LongitudinalModel
from longigen.preprocess import Prepared, Preprocess
from longigen.pretrained import COMPONENTS, WEIGHTS, checksum, describe, load_folder
from longigen.recipe import find_dataset, parse_change
from longigen.registry import registry
from longigen.run import RECIPE, Run
from longigen.setting import Setting, Task, tasks
from longigen.source import Source
from longigen.split import Part, SplitSettings, fingerprint
from longigen.spread import Moments
from longigen.volume import Volume, read_volume, write_volume

Question = tuple[Prepared, Task]


@dataclass(frozen=True)
class Inquiry:
    """A model, the subjects that it is asked about, and a note on who they are.

    Attributes:
        source: the folder of the run or of the model that it was loaded from.
        model: the model, on the device where it will compute.
        cohort: the data set, preprocessed as in the model's training.
        subjects: those it is asked about.
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
        source: str,
        *,
        data: str | None = None,
        changes: Sequence[str] = (),
        part: Part | None = None,
        ids: Sequence[str] = (),
        skip_bad: bool = False,
        callback: Callable[[int, int], None] | None = None,
    ) -> "Inquiry":
        """Load a model and find its subjects.

        Args:
            source: what the model is called; see `longigen.source`.
            data: a data set's name or a path. By default the run's own data, else the data set of that name.
            changes: ``key=value``, parameters of the data set.
            part: of the split. By default ``test`` on the data the model was trained on, and ``all`` on other data.
            ids: only these subjects.
            skip_bad: leave out what cannot be used, as the run did if it was trained so.
            callback: gets (visits read, all visits) while they are read for that.

        Raises:
            LongigenError: if the model or the data cannot be used, or do not fit each other.
        """
        called = Source.of(source)
        folder = called.find()
        model = load_folder(folder)
        recorded = Run(called.run).read() if called.run else None
        name, config = _dataset(model, recorded, data, changes)
        dataset = registry.load("dataset", name)(**config)
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

    def questions(
        self, setting: Setting, *, seed: int, select: Callable[[Sequence[Task], int], list[Task]] | None = None
    ) -> list[Question]:
        """Return the tasks of a setting for every subject, as `longigen.setting.tasks`; `select` picks some of them."""
        require_pairs(self.subjects)
        found = []
        for prepared in self.subjects:
            visits = len(prepared.subject.visits)
            every = tasks(visits, setting, subject=prepared.subject.id, seed=seed)
            found += [(prepared, task) for task in (select(every, visits) if select else every)]
        return found

    def forecasts(
        self, times: Sequence[str], setting: Setting, *, seed: int
    ) -> tuple[list[Question], list[list[float]]]:
        """Return a task for every subject at times of the user's choice, and those times.

        Args:
            times: numbers in the data set's unit; ``+1`` is one unit after the subject's last visit.
            setting: which visits are given: the first, a random part, or all.
            seed: of the missing setting.

        Raises:
            LongigenError: if a time is no number, not after the subject's first visit, or that of a given visit.
        """
        questions: list[Question] = []
        wanted: list[list[float]] = []
        for prepared in self.subjects:
            known = list(prepared.subject.times)
            made = sorted({_time(text, known[-1]) for text in times})
            given = tuple(range(len(known)))
            if setting != "full" and len(known) > 1:
                given = tasks(len(known), setting, subject=prepared.subject.id, seed=seed)[0].given
            for time in made:
                if time <= known[0] or time in [known[index] for index in given]:
                    raise LongigenError(
                        f"Time {time:g} cannot be made for subject {prepared.subject.id}: it must lie after the first "
                        f"visit ({known[0]:g}) and not be that of a given one; its visits are at "
                        f"{', '.join(f'{t:g}' for t in known)} {self.cohort.dataset.time_unit}."
                    )
            questions.append((prepared, Task(given, ())))
            wanted.append(made)
        return questions, wanted

    def answers(
        self,
        questions: Sequence[Question],
        settings: GenerationSettings,
        *,
        times: Sequence[Sequence[float]] | None = None,
        batch_size: int = 4,
        callback: Callable[[int, int], None] | None = None,
    ) -> Iterator[Answer]:
        """Yield an answer to each question, in batches; `callback` gets (questions answered, all questions)."""
        for start in range(0, len(questions), batch_size):
            batch = questions[start : start + batch_size]
            asked = None if times is None else times[start : start + batch_size]
            yield from answer(self.model, batch, settings=settings, times=asked)
            if callback is not None:
                callback(start + len(batch), len(questions))

    def write(self, given: Answer, folder: Path, setting: Setting, settings: GenerationSettings) -> list[Path]:
        """Write each visit of an answer as NIfTI with a JSON sidecar, in the subject's own space; return the paths."""
        subject, unit = given.prepared.subject, self.cohort.dataset.time_unit
        paths = []
        for time, image in zip(given.times, given.images, strict=True):
            name = f"{subject.id}_time-{time:g}_setting-{setting}_sample-{settings.sample}"
            path = folder / subject.id / f"{name}.nii.gz"
            description = f"synthetic: longigen, time {time:g} {unit}, sample {settings.sample}"
            write_volume(given.prepared.restore(image), path, description)
            write_json(self._sidecar(given, time, setting, settings), path.with_name(f"{name}.json"))
            paths.append(path)
        return paths

    def write_spread(
        self, given: Answer, samples: Sequence[Sequence[Path]], setting: Setting, settings: GenerationSettings
    ) -> float:
        """Write beside the samples of each visit of an answer their mean and standard deviation, voxel by voxel.

        Each sample is a whole trajectory, its later visits made from its own earlier ones, so a later visit's spread
        holds that of those before. What was written is read again, one volume at a time: the standard deviation is that
        of the files, in the subject's own space and intensities.

        Args:
            given: an answer to the question; which sample it is does not matter.
            samples: for each of K ≥ 2 samples, the paths that `write` returned.
            setting: of the question.
            settings: of the samples.

        Returns:
            The largest standard deviation.
        """
        subject, unit, widest = given.prepared.subject, self.cohort.dataset.time_unit, 0.0
        for time, *files in zip(given.times, *samples, strict=True):
            moments, affine = Moments(), None
            for file in files:
                volume = read_volume(file, subject.id)
                moments.add(volume.data)
                affine = volume.affine
            assert affine is not None
            stem = f"{subject.id}_time-{time:g}_setting-{setting}"
            widest = max(widest, float(moments.std.max()))
            for name, data, what in (
                ("mean", moments.mean, "mean of the samples"),
                ("std", moments.std, "standard deviation of the samples, divisor samples - 1"),
            ):
                path = files[0].with_name(f"{stem}_{name}.nii.gz")
                description = f"synthetic: longigen, time {time:g} {unit}, {name} of {len(files)} samples"
                write_volume(Volume(data, affine), path, description)
                content = self._sidecar(given, time, setting, settings)
                del content["sample"]
                write_json(
                    {
                        **content,
                        "statistic": what,
                        "samples": len(files),
                        "sample_files": [file.name for file in files],
                    },
                    path.with_name(f"{stem}_{name}.json"),
                )
        return widest

    def _sidecar(self, given: Answer, time: float, setting: Setting, settings: GenerationSettings) -> dict[str, Any]:
        """Return what is written beside a generated visit."""
        subject = given.prepared.subject
        return {
            "synthetic": True,
            "simulated_history": self.cohort.dataset.simulated,
            "subject": subject.id,
            "time": time,
            "time_unit": self.cohort.dataset.time_unit,
            "history": [
                {"time": subject.times[i], "source": Path(subject.visits[i].source).name}
                for i in given.task.given
                if subject.times[i] < time or not self.model.conditioner.causal
            ],
            "generated_before": [earlier for earlier in given.times if earlier < time],
            "setting": setting,
            "seed": settings.seed,
            "sample": settings.sample,
            "steps": settings.steps or (settings.sampler or self.model.sampler).steps,
            "guidance": self.model.settings.guidance if settings.guidance is None else settings.guidance,
            "model": self.provenance,
        }

    def write_explanations(self, given: Answer, paths: Sequence[Path]) -> None:
        """Write beside each visit of an answer, at the `paths` that `write` returned, where the conditioner looked.

        ``…_explain.nii.gz`` holds the shares of the visits along its fourth axis, in the subject's own space, 0 outside
        the model's grid; ``…_explain.json`` says which visits they are, and ``…_explain.png`` shows them.
        """
        from longigen.figure import write_explanation

        subject, unit = given.prepared.subject, self.cohort.dataset.time_unit
        for found, path in zip(explanations(self.model, given), paths, strict=True):
            name = f"{path.name.removesuffix('.nii.gz')}_explain"
            description = f"longigen: share of each visit in the one made at {found.time:g} {unit}"
            write_volume(found.volume, path.with_name(f"{name}.nii.gz"), description)
            write_json(
                {
                    "subject": subject.id,
                    "time": found.time,
                    "time_unit": unit,
                    "visits": [
                        {"time": time, "origin": origin, "mean_share_in_foreground": share}
                        for time, origin, share in zip(found.times, found.origins, found.means, strict=True)
                    ],
                    "simulated_history": self.cohort.dataset.simulated,
                    "model": self.provenance,
                },
                path.with_name(f"{name}.json"),
            )
            write_explanation(found, path.with_name(f"{name}.png"), title=path.name, unit=unit)

    @property
    def unseen(self) -> bool:
        """Whether training saw none of the subjects, as far as a model without its run can tell."""
        if (Path(self.source) / RECIPE).exists():
            split = Run(Path(self.source)).read()["split"]
            return not {p.subject.id for p in self.subjects} & {*split["train"], *split["validation"]}
        trained_on_it = fingerprint(self.cohort.subjects) == self.model.provenance.data.get("fingerprint")
        return self.part == "test" or not trained_on_it

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What is written of the model beside everything that it makes."""
        from longigen import __version__

        folder = Source(self.source, path=Path(self.source)).here()
        assert folder is not None
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
    return name, checked(known, config, f"The dataset '{name}'")


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


def _time(text: str, last: float) -> float:
    try:
        value = float(text)
    except ValueError:
        raise LongigenError(f"--times takes numbers such as 3.5 or +1, got '{text}'.") from None
    return round(last + value, 6) if text.strip().startswith("+") else value
