"""Benchmarks: train every method of a benchmark table and score all of them by one protocol."""

import json
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from longigen._version import __version__
from longigen.components.metric import Metric, metric_notes
from longigen.data.cohort import Cohort
from longigen.data.dataset import Subject
from longigen.data.seen import seen_hashes
from longigen.data.split import fingerprint
from longigen.errors import LongigenError, LongigenWarning
from longigen.evaluation.benchmark_result import BenchmarkResult, csv_rows, json_values
from longigen.evaluation.benchmark_run import BUDGET, BenchmarkRun, require_shared, require_unchanged, steps_of_started
from longigen.evaluation.benchmark_spec import BenchmarkSpec
from longigen.evaluation.comparison import Space
from longigen.evaluation.evaluate import Evaluation, load_cached_scores, protocol_of
from longigen.evaluation.protocol import Protocol
from longigen.evaluation.published import PublishedSpec
from longigen.evaluation.regions import Regions, labels_digest
from longigen.evaluation.result_table import ResultTable
from longigen.evaluation.scoring import Score, summarise
from longigen.evaluation.tables import benchmark_tables, cost_table, fold_tables, means_note
from longigen.generation.session import UNSEEN, GenerationSession
from longigen.hub.manifest import CONFIG
from longigen.hub.metrics_file import CODED, MODEL, PLACES, ResultRow
from longigen.hub.resolve import LOCAL
from longigen.models.figures import write_comparison
from longigen.models.longitudinal import LongitudinalModel
from longigen.models.predict import Generated, GenerationSettings
from longigen.models.tasks import SCENARIOS, Scenario, Targets
from longigen.training.experiment import Experiment
from longigen.training.recipe import Recipe
from longigen.training.run import Run
from longigen.utils.files import read_json, writable_folder
from longigen.utils.memory import peak_memory, peak_memory_kind, process_device, reset_peak_memory
from longigen.utils.precision import Precision
from longigen.utils.progress import Progress, Update, silent

EVALUATION, PICTURES = "evaluation", "pictures.png"
FIGURE_SUBJECTS = 2
"""Number of subjects in the figure."""
TIMED_STEPS = 8
"""Number of training steps whose time is measured; the first and the last are left out of the median."""
SETTING_SEED = 0
"""Random seed of the choice of missing visits, the same for all rows and seeds."""


class Benchmark:
    """The rows of a benchmark table, trained on one data set and split with equal budgets, each in its own run folder.

    ``FOLDER/ROW/seed-S`` is a run as ``longigen train`` writes it, with ``cost.json`` and ``evaluation/`` added. In a
    cross-validation it is ``FOLDER/ROW/fold-K/seed-S``, and each subject is scored by the models of its fold.
    Existing results are reused: a finished run is not trained again, an interrupted one continues from its last
    checkpoint, and an evaluation is reused as long as model and protocol are the same. A model without parameters is
    not trained.

    Args:
        table: the benchmark table.
        folder: folder of the runs.
        rows: names of the rows to train and score; by default all.
        seeds: random seeds; each row is trained once with each.
        folds: number of folds of a cross-validation, at least 2: each row is trained once for each, and all subjects
            are in one table. None for the test part of one split.
        data: a data set's name or a path; by default that of the table's recipe.
        steps: optimiser steps; by default the recipe's.
        minutes: training time instead of `steps`: each run gets as many steps as fit into it, by a measurement of its
            speed. A run that was started before keeps its number of steps.
        changes: changes ``key=value``, applied to every row that has the hyperparameter.
        skip_bad: leave out visits and subjects that cannot be used.
        precision: the type that the networks compute in when visits are generated.
        progress: progress bars.

    Raises:
        LongigenError: if the rows would not be comparable, two of them are the same model, or a run in the folder was
            trained with other options. No file is changed then.
    """

    def __init__(
        self,
        table: BenchmarkSpec,
        folder: Path,
        *,
        rows: Sequence[str] = (),
        seeds: Sequence[int] = (0,),
        folds: int | None = None,
        data: str | None = None,
        steps: int | None = None,
        minutes: float | None = None,
        changes: Sequence[str] = (),
        skip_bad: bool = False,
        precision: Precision = "auto",
        progress: Progress = silent,
    ) -> None:
        self.table: BenchmarkSpec = table
        self.folder: Path = folder
        self.changes: tuple[str, ...] = tuple(changes)
        self.progress: Progress = progress
        self.precision: Precision = precision
        self.minutes = minutes
        self.runs: list[BenchmarkRun] = []
        self.unused: dict[str, list[str]] = {}  # by row, the changes of hyperparameters that it does not have
        forced = [f"training.steps={steps}"] if steps is not None else []
        forced += ["training.skip_bad=true"] if skip_bad else []
        if folds is not None:
            _require_no_folds(changes, folds)
        numbers = (None,) if folds is None else range(folds)
        for row in table.only(rows):
            for fold, seed in product(numbers, dict.fromkeys(seeds)):
                output = Run(folder / row.folder / ("" if fold is None else f"fold-{fold}") / f"seed-{seed}")
                required = [*forced, f"training.seed={seed}"]
                required += [] if fold is None else [f"split.folds={folds}", f"split.fold={fold}"]
                if minutes and (started_steps := steps_of_started(output)):
                    required.append(f"training.steps={started_steps}")
                recipe, unused = row.resolve(data=data, changes=changes, forced=required)
                self.unused[row.name] = unused
                self.runs.append(BenchmarkRun(row, seed, fold, recipe, output))
        _require_distinct(self.runs)
        for reason in () if rows else table.unavailable.values():
            warnings.warn(f"{reason}; it is left out.", LongigenWarning, stacklevel=2)
        for change in (c for c in changes if all(c in unused for unused in self.unused.values())):
            # A row that was not chosen may have the hyperparameter. If no row has, the recipe's own error is raised.
            if all(change in row.resolve(data=data, changes=[change], forced=[])[1] for row in table.rows):
                Recipe.resolve(table.rows[0].recipe, data=table.rows[0].data(data), changes=[change])
                raise LongigenError(f"--set {change} applies to no row of the table '{table.name}'; leave it out.")
        first = self.runs[0]
        first_of = {run.fold: run for run in reversed(self.runs)}
        for run in self.runs:
            require_shared(first_of[run.fold], run, [name for name in BUDGET if not (minutes and name == "steps")])
            require_unchanged(run)
        writable_folder(folder)
        with progress("reading") as update:
            self.cohort: Cohort = Experiment.of(first.recipe, update).cohort
            self.cohorts: dict[int | None, Cohort] = {
                fold: self.cohort if run is first else self.cohort.with_split(run.recipe.settings("split"))
                for fold, run in first_of.items()
            }
            for run in self.runs:
                self._require_same_data(run)
            if not self.cohort.split.test:
                raise LongigenError(
                    f"The data set '{self.cohort.name}' has no test subjects to score; raise split.test with --set."
                )
            if not all(run.finished for run in self.runs):
                self.cohort.require(self.cohort.part("all"), update)
                for cohort in self.cohorts.values():
                    cohort.require_apart(cohort.part("all"))

    @cached_property
    def device(self) -> torch.device:
        """The device that all rows compute on."""
        return process_device()

    @property
    def device_name(self) -> str:
        """The name of the device, such as that of the GPU."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else str(self.device)

    @property
    def memory_kind(self) -> str:
        """The kind of memory whose peak is reported."""
        return peak_memory_kind(self.device)

    @property
    def budget(self) -> dict[str, Any]:
        """The training settings that all rows share, and the minutes of training if those were given."""
        training = self.runs[0].recipe.configs["training"]
        shared = {name: training[name] for name in BUDGET}
        return shared if self.minutes is None else {**shared, "steps": None, "minutes": self.minutes}

    def run(
        self,
        metrics: dict[str, Metric],
        *,
        scenarios: Sequence[Scenario] = SCENARIOS,
        targets: Targets = "last",
        space: Space = "subject",
        published: PublishedSpec | None = None,
        regions: Regions | None = None,
    ) -> BenchmarkResult:
        """Train the runs that are not finished, score those that are not scored, and return the results.

        After a KeyboardInterrupt the same call continues where it stopped.

        Args:
            metrics: metrics by name.
            scenarios: which visits are given.
            targets: visits to score: each subject's ``last`` one, or ``all``.
            space: where volumes are compared: ``subject`` or ``model``.
            published: a published protocol that sets scenarios, targets and space instead.
            regions: the regions of the metrics that are of regions.

        Raises:
            LongigenError: if a row cannot be trained, there is no such space, or rows would be scored by different
                protocols.
        """
        protocols: dict[int | None, Protocol] = {}
        scores: dict[tuple[str, int], list[Score]] = {}
        for run in self.runs:
            if not run.finished:
                self._train(run)
            session = self._session(run)
            if published:
                protocol = published.protocol(session, metrics, SETTING_SEED)
            else:
                protocol = protocol_of(session, metrics, scenarios, targets, SETTING_SEED, space=space, regions=regions)
            first = protocols.setdefault(run.fold, protocol)
            if protocol.hash != first.hash:
                other = next(each.name for each in self.runs if each.fold == run.fold)
                raise LongigenError(
                    f"'{run.name}' would be scored by protocol {protocol.hash} and '{other}' by "
                    f"{first.hash}, so they cannot be compared in one table; train both again in a new --out."
                )
            scores.setdefault((run.row.name, run.seed), []).extend(self._score(run, session, first, metrics, regions))
        return self._result(self._together(protocols, regions), scores, metrics)

    @property
    def tested(self) -> list[Subject]:
        """The subjects that are scored: those of the test part, or of the test parts of all folds."""
        return [subject for cohort in self.cohorts.values() for subject in cohort.split.test]

    def _together(self, protocols: Mapping[int | None, Protocol], regions: Regions | None) -> Protocol:
        """Return the protocol of all folds, which scores the subjects of all their test parts."""
        first, *others = protocols.values()
        if not others:
            return first
        tested = self.tested
        prepared = self.cohort.prepared(tested)
        return replace(
            first,
            part=f"test parts of {len(protocols)} folds",
            subjects=len(tested),
            fingerprint=fingerprint(tested),
            images=self.cohort.images(prepared),
            regions=regions and regions.to_dict([] if self.cohort.dataset.simulated else prepared),
            masks=first.masks and labels_digest(prepared),
        )

    def generate(self, protocol: Protocol, scenario: str, *, subjects: int) -> dict[str, list[Generated]]:
        """Return the last visits of the first test subjects as generated by the first run of each row, by row.

        All runs must be finished, see `run`.

        Args:
            protocol: protocol of the evaluation.
            scenario: which visits are given, one of the protocol's settings.
            subjects: number of subjects.
        """
        generated = {}
        shown = [run for run in self.runs if (run.fold, run.seed) == (self.runs[0].fold, self.runs[0].seed)]
        with self.progress("drawing") as update:
            for done, run in enumerate(shown, start=1):
                session = self._session(run)
                # Of several tasks of a subject, the last one generates its last visit.
                tasks = {each.subject.id: (each, task) for each, task in protocol.tasks(session, scenario)}
                subject_tasks = [*tasks.values()][:subjects]
                session.model.to(self.device).eval()
                generated[run.row.name] = list(session.generate(subject_tasks, self._generation(run)))
                update(done, len(shown), run.row.name)
        return generated

    def draw(self, result: BenchmarkResult, folder: Path) -> None:
        """Write ``pictures.png``: the visits that each row generates for the first test subjects."""
        scenario = result.protocol.settings[0]
        simulated = ", simulated" if self.cohort.dataset.simulated else ""
        title = f"{self.table.name} on {self.cohort.name}{simulated}, setting {scenario}"
        generated = self.generate(result.protocol, scenario, subjects=FIGURE_SUBJECTS)
        write_comparison(generated, folder / PICTURES, title=title)

    @property
    def seeds(self) -> list[int]:
        """The random seeds that each row is trained with."""
        return list(dict.fromkeys(run.seed for run in self.runs))

    @property
    def folds(self) -> list[int]:
        """The numbers of the folds of a cross-validation; empty without one."""
        return [fold for fold in self.cohorts if fold is not None]

    @cached_property
    def _fold_of(self) -> dict[str, int]:
        """The fold of each tested subject, by its id."""
        return {subject.id: fold for fold in self.folds for subject in self.cohorts[fold].split.test}

    def _generation(self, run: BenchmarkRun) -> GenerationSettings:
        return GenerationSettings(precision=self.precision, seed=run.seed)

    def _session(self, run: BenchmarkRun) -> GenerationSession:
        cohort = self.cohorts[run.fold]
        return GenerationSession(
            str(run.output.folder),
            LongitudinalModel.from_pretrained(f"{LOCAL}{run.output.folder}"),
            cohort,
            cohort.part("test"),
            "test",
            UNSEEN,
        )

    def _train(self, run: BenchmarkRun) -> None:
        """Train a run to its last step, or continue it."""
        recipe = run.recipe
        if self.minutes and not run.started:
            recipe = _with_steps(recipe, self._steps_in(self.minutes, recipe))
        experiment = Experiment(recipe, self.cohorts[run.fold])
        resume = run.started
        output = Run.open(run.output.folder) if resume else Run.create(run.output.folder)
        with output.locked():
            self._fit(run, experiment, output, resume=resume)

    def _fit(self, run: BenchmarkRun, experiment: Experiment, output: Run, *, resume: bool) -> None:
        """Train an experiment into the folder of a run, which is locked, and record the costs."""
        reset_peak_memory(self.device)
        model = experiment.compose()
        parameters = model.parameter_count
        if not parameters:
            experiment.record(output)
            model.eval().save_pretrained(output.model)
            run.record_cost(finished=True, parameters=0, steps=0, training_seconds=0.0, training_bytes=None)
            return
        trainer = experiment.trainer(output, resume=resume, model=model)
        before, started = run.cost, time.perf_counter()
        steps = experiment.training.steps
        # The time of earlier processes is unknown if `longigen train` started the run.
        earlier = before.get("training_seconds", None if trainer.step else 0.0)

        def record_cost(*, finished: bool) -> None:
            run.record_cost(
                finished=finished,
                parameters=parameters,
                steps=trainer.step,
                training_seconds=None if earlier is None else earlier + time.perf_counter() - started,
                training_bytes=max(before.get("training_bytes") or 0, peak_memory(self.device) or 0) or None,
            )

        with self.progress(f"training {run.name}") as update:

            def show(step: int, metrics: dict[str, Any]) -> None:
                update(step, steps, f"loss {metrics['loss']:.4f}")
                if step % experiment.training.checkpoint_every == 0:
                    record_cost(finished=False)

            complete = trainer.step == steps
            try:
                trainer.fit(show)
            except BaseException:
                record_cost(finished=False)
                raise
            if complete:  # interrupted after its last checkpoint, perhaps before the model was exported
                trainer.checkpoint()
        record_cost(finished=True)
        trainer.accelerator.free_memory()

    def _steps_in(self, minutes: float, recipe: Recipe) -> int:
        """Return the number of training steps that fit into the minutes, by the median time of a few steps."""
        experiment = Experiment(_with_steps(recipe, TIMED_STEPS), self.cohort)
        model, times = experiment.compose(), []
        if not model.parameter_count:
            return TIMED_STEPS  # nothing to train
        with tempfile.TemporaryDirectory() as folder:
            trainer = experiment.trainer(Run.create(Path(folder) / "timed"), model=model)
            trainer.fit(lambda step, metrics: times.append(time.perf_counter()))
            trainer.accelerator.free_memory()
        return max(1, int(60 * minutes / float(np.median(np.diff(times)[1:-1]))))

    def _score(
        self,
        run: BenchmarkRun,
        session: GenerationSession,
        protocol: Protocol,
        metrics: dict[str, Metric],
        regions: Regions | None,
    ) -> Sequence[Score]:
        """Return the scores of a run, cached ones if model and protocol are the same, and record the costs."""
        session.model.to(self.device)  # an automatic precision is that of the device
        generation = self._generation(run)
        folder = run.output.folder / EVALUATION
        cached = load_cached_scores(folder, session, generation, protocol)
        if cached is not None and "nfe" in run.cost:
            return _of_methods(cached)
        reset_peak_memory(self.device)

        def progress(scenario: str) -> AbstractContextManager[Update]:
            return self.progress(f"scoring {run.name}, {scenario}")

        evaluation = Evaluation.of(session, generation, protocol, metrics, regions=regions, progress=progress)
        run.record_cost(
            nfe=evaluation.generation["steps"],
            guidance=evaluation.generation["guidance"],
            # The median over batches is not affected by the slow first one.
            seconds_per_visit=float(np.median(evaluation.seconds)),
            generation_bytes=peak_memory(self.device),
        )
        evaluation.write_scores(folder)
        return _of_methods(evaluation.scores)

    def _result(
        self, protocol: Protocol, scores: Mapping[tuple[str, int], Sequence[Score]], metrics: dict[str, Metric]
    ) -> BenchmarkResult:
        average = protocol.averaging
        rows: list[ResultRow] = []
        by_seed: list[Mapping[str, Mapping[int, float]]] = []
        by_fold: list[Mapping[str, Mapping[int, float]]] = []
        for scenario in protocol.settings:
            for place, name in enumerate(dict.fromkeys(run.row.name for run in self.runs)):
                of_seed = {
                    seed: [score for score in of_run if score.setting == scenario]
                    for (row, seed), of_run in scores.items()
                    if row == name
                }
                together = [score for of_run in of_seed.values() for score in of_run]
                *others, model = _model_last(summarise(together, metrics, average))
                of_fold = {
                    fold: _model_last(
                        summarise(
                            [score for score in together if self._fold_of[score.subject] == fold], metrics, average
                        )
                    )
                    for fold in self.folds
                }
                new = [model] if place else [*others, model]
                by_fold += [
                    {
                        name: {fold: found[index].values[name].mean for fold, found in of_fold.items()}
                        for name in metrics
                    }
                    for index in range(-len(new), 0)
                ]
                means = {seed: _model_last(summarise(of_run, metrics, average))[-1] for seed, of_run in of_seed.items()}
                if not place:
                    rows += others
                    by_seed += [{} for _ in others]
                rows.append(replace(model, method=name))
                by_seed.append({m: {seed: mean.values[m].mean for seed, mean in means.items()} for m in metrics})
        costs = self._costs()
        content = {
            "table": self.table.name,
            **({"size": self.table.size} if self.table.size else {}),
            "paper": self.table.paper,
            "longigen": __version__,
            "protocol_hash": protocol.hash,
            "protocol": protocol.to_dict(),
            "simulated": self.cohort.dataset.simulated,
            "seeds": self.seeds,
            **({"folds": len(self.folds)} if self.folds else {}),
            "training": self.budget,
            "device": self.device_name,
            "methods": {run.row.name: run.row.to_dict() for run in self.runs},
            "changes": list(self.changes),
            "arrows": {name: metric.arrow() for name, metric in metrics.items()},
            "rows": [
                {
                    **row.to_dict(),
                    **({"by_seed": json_values(seeds)} if seeds else {}),
                    **({"by_fold": json_values(folds)} if self.folds else {}),
                }
                for row, seeds, folds in zip(rows, by_seed, by_fold, strict=True)
            ],
            "costs": costs,
        }
        parts = self._parts(protocol, rows, by_fold, costs, metrics)
        scored = csv_rows(scores, self._fold_of)
        return BenchmarkResult(protocol, rows, by_seed, by_fold, costs, scored, content, parts)

    def _parts(
        self,
        protocol: Protocol,
        rows: Sequence[ResultRow],
        by_fold: Sequence[Mapping[str, Mapping[int, float]]],
        costs: Sequence[dict[str, Any]],
        metrics: dict[str, Metric],
    ) -> list[ResultTable | str]:
        """Return a table per scenario, then each method's costs.

        In a cross-validation each table is followed by the averages of the folds.
        """
        simulated = ", simulated" if self.cohort.dataset.simulated else ""
        budget, seeds = self.budget, self.seeds
        batch = budget["batch_size"] * budget["gradient_accumulation"]
        length = f"{self.minutes:g} minutes, in steps" if self.minutes else f"{budget['steps']} steps"
        folds = f"subjects in {len(self.folds)} folds, each scored by models that were not trained on it"
        head = [
            f"{self.table.name}: {self.table.summary}",
            f"{self.cohort.name}{simulated}: {protocol.subjects} {folds if self.folds else UNSEEN}, target: "
            f"{protocol.targets}, {PLACES[protocol.space]}; protocol {protocol.hash}",
            f"each row trained for {length} of {batch} pairs, "
            f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}, on {self.device_name}",
        ]
        if self.table.size:
            head.append(
                f"size {self.table.size}, each row from its own recipe: subjects, preprocessing, split, steps and "
                "pairs per step are equal; network, loss, learning rate, augmentation, choice of pairs and "
                "evaluations are the recipe's own, and so are the parameters and seconds below"
            )
        notes = (
            means_note(rows, protocol.averaging)
            + ("\neach subject is averaged over seeds first" if len(seeds) > 1 else "")
            + (
                "\nby fold: mean ± standard deviation of the averages of the folds, [lowest, highest]"
                if self.folds
                else ""
            )
            + "\nblurred: a copy smoothed by a Gaussian, with its standard deviation in voxels\n"
            "▲ better, ▼ worse than copy-last: the interval of the gain, paired by subject, excludes 0\n"
            "(and the gain is large enough for the digits shown)"
        )
        notes = "\n".join([notes, *metric_notes(metrics)])
        return [
            "\n".join(head),
            *benchmark_tables(rows, metrics),
            *(fold_tables(rows, by_fold, metrics) if self.folds else []),
            notes,
            cost_table(costs, self.memory_kind),
            *protocol.remarks,
        ]

    def _costs(self) -> list[dict[str, Any]]:
        """Return the costs of each row: means over its seeds."""
        rows = []
        for row in dict.fromkeys(run.row.name for run in self.runs):
            costs = [run.cost for run in self.runs if run.row.name == row]
            line = {"method": row, **{key: costs[0][key] for key in ("parameters", "nfe", "guidance", "steps")}}
            for key in ("training_seconds", "seconds_per_visit", "training_bytes", "generation_bytes"):
                known = [cost[key] for cost in costs if cost[key] is not None]
                line[key] = float(np.mean(known)) if known else None
            rows.append(line)
        return rows

    def _require_same_data(self, run: BenchmarkRun) -> None:
        """Raise a `LongigenError` if a run was trained on other subjects, visits or images than there are now."""
        cohort = self.cohorts[run.fold]
        same = not run.started or run.output.read()["split"] == cohort.split.ids
        if same and run.started and (run.output.model / CONFIG).exists():
            config = read_json(run.output.model / CONFIG)
            data, mark = config["data"], fingerprint(self.cohort.subjects)
            same = data.get("fingerprint") == mark
            same &= config["preprocess"] == json.loads(json.dumps(self.cohort.pipeline.config))
            if same and "seen" in data and not self.cohort.dataset.simulated:
                same = data["seen"] == seen_hashes([*cohort.part("train"), *cohort.part("validation")], mark)
        if not same:
            raise LongigenError(
                f"{run.output.folder} was trained when '{self.cohort.name}' held other subjects, visits or images; "
                "give another --out (nothing was changed)."
            )


def _of_methods(scores: Sequence[Score]) -> list[Score]:
    """Return the scores of the copies and of the model: in a table a run is a row, and its codec's ceiling is not."""
    return [score for score in scores if score.method != CODED]


def _require_no_folds(changes: Sequence[str], folds: int) -> None:
    """Raise a `LongigenError` if a change chooses folds too."""
    for change in changes:
        if change.partition("=")[0].strip().removeprefix("split.") in ("folds", "fold"):
            raise LongigenError(
                f"--folds {folds} trains and tests every fold, so --set {change} cannot be given with it; leave one of "
                "the two out."
            )


def _require_distinct(runs: Sequence[BenchmarkRun]) -> None:
    """Raise a `LongigenError` if two rows are one model, of which one would pass for another method."""
    for place, run in enumerate(runs):
        for other in runs[:place]:
            if (other.fold, other.seed) == (run.fold, run.seed) and other.recipe.to_dict() == run.recipe.to_dict():
                raise LongigenError(
                    f"The rows '{other.row.name}' and '{run.row.name}' have equal components and hyperparameters, so "
                    "they are one method; leave one of them out with --row, or change what makes them equal."
                )


def _with_steps(recipe: Recipe, steps: int) -> Recipe:
    return Recipe.from_dict(recipe.to_dict(), [f"training.steps={steps}"], recipe.origin)


def _model_last(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """Return the rows of one scenario with the model's last, after those that all rows of a table share."""
    return sorted(rows, key=lambda row: row.method == MODEL)
