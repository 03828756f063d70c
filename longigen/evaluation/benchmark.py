"""A benchmark: the rows of a table, trained where they are missing, and scored by one protocol."""

import json
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from longigen._version import __version__
from longigen.components.metric import Metric, notes_of_sets
from longigen.data.cohort import Cohort
from longigen.data.split import fingerprint
from longigen.errors import LongigenError
from longigen.evaluation.benchmark_run import BUDGET, BenchmarkRun, begun_steps, require_shared, require_unchanged
from longigen.evaluation.benchmark_spec import BenchmarkSpec
from longigen.evaluation.evaluate import SCORES, TABLE, Evaluation, load_cached_scores, protocol_of, write_csv
from longigen.evaluation.scoring import Protocol, Score, summarise
from longigen.evaluation.tables import benchmark_tables, cost_table
from longigen.generation.session import GenerationSession
from longigen.hub.manifest import CONFIG
from longigen.hub.metrics_file import COPY_LAST, ResultRow
from longigen.hub.resolve import LOCAL
from longigen.models.figures import write_comparison
from longigen.models.longitudinal import LongitudinalModel
from longigen.models.predict import Generated, GenerationSettings
from longigen.models.tasks import SCENARIOS, Scenario, Targets, last_only
from longigen.training.experiment import Experiment
from longigen.training.recipe import Recipe
from longigen.training.run import Run
from longigen.utils.files import atomic, read_json, writable_folder, write_json
from longigen.utils.memory import peak, peak_kind, process_device, start_peak
from longigen.utils.optional import optional_import
from longigen.utils.progress import Progress, Update, silent

if TYPE_CHECKING:
    import pandas

EVALUATION, PICTURES = "evaluation", "pictures.png"
PICTURED = 2
"""Subjects in the picture."""
TIMED_STEPS = 8
"""From which the speed of training is told; the first warms up, and after the last comes the checkpoint."""
SETTING_SEED = 0
"""Of which visits are missing: the same for all rows and seeds."""


@dataclass(frozen=True)
class BenchmarkResult:
    """The numbers of a benchmark.

    Attributes:
        protocol: by which all rows were scored.
        rows: one for each scenario and method, copy-last first. A subject's seeds are averaged first.
        by_seed: for each of the rows but copy-last's, by metric and seed, the mean.
        costs: one for each method: ``parameters``, ``nfe`` (network evaluations per visit), ``steps`` of training;
            ``training_seconds``, ``seconds_per_visit``, ``training_bytes`` and ``generation_bytes``: means over seeds.
        scores: of every generated visit.
        content: what ``table.json`` holds.
        text: the tables, and what each method costs.
    """

    protocol: Protocol
    rows: list[ResultRow]
    by_seed: list[Mapping[str, Mapping[int, float]]]
    costs: list[dict[str, Any]]
    scores: list[dict[str, Any]]
    content: Mapping[str, Any]
    text: str

    def table(self) -> str:
        """Return the results as text: a block per scenario, then what each method costs."""
        return self.text

    def save(self, folder: Path | str) -> None:
        """Write ``table.txt``, ``table.json`` and ``subjects.csv``."""
        folder = Path(folder)
        write_csv(self.scores, folder / SCORES)
        write_json(self.content, folder / "table.json")
        with atomic(folder / TABLE) as part:
            part.write_text(self.text + "\n", encoding="utf-8")

    def to_pandas(self) -> "pandas.DataFrame":
        """Return one row per generated visit, method and seed, with a column per metric; needs the package pandas.

        Raises:
            LongigenError: if pandas is not installed.
        """
        return optional_import("pandas", "BenchmarkResult.to_pandas").DataFrame(self.scores)


class Benchmark:
    """The rows of a table on one cohort, one split and one budget, each a run in a folder of its own.

    ``FOLDER/ROW/seed-S`` is a run as `longigen train` writes it, with ``cost.json`` and ``evaluation/`` beside. What is
    there is not made again: a finished run is not trained, an interrupted one continues from its last checkpoint, and
    an evaluation is kept as long as model and protocol are the same. A model without parameters has nothing to train.

    Args:
        table: which rows there are.
        folder: where the runs are.
        rows: names of those to do; all by default.
        seeds: each row is trained once with each.
        data: a data set's name or a path; that of the table's recipe by default.
        steps: of training; the recipe's by default.
        minutes: of training, instead of steps: each run gets as many steps as it makes in that time, counted from the
            speed of its first ones. A run that was begun keeps its number.
        changes: ``key=value``, for every row that has such a hyperparameter.
        skip_bad: leave out visits and subjects that cannot be used.
        progress: shows how far the work is.

    Raises:
        LongigenError: if rows would not be comparable, or a run in the folder was made with other options. Nothing
            was changed then.
    """

    def __init__(
        self,
        table: BenchmarkSpec,
        folder: Path,
        *,
        rows: Sequence[str] = (),
        seeds: Sequence[int] = (0,),
        data: str | None = None,
        steps: int | None = None,
        minutes: float | None = None,
        changes: Sequence[str] = (),
        skip_bad: bool = False,
        progress: Progress = silent,
    ) -> None:
        self.table: BenchmarkSpec = table
        self.folder: Path = folder
        self.changes: tuple[str, ...] = tuple(changes)
        self.progress: Progress = progress
        self.minutes = minutes
        self.runs: list[BenchmarkRun] = []
        self.unused: dict[str, list[str]] = {}  # by row, the changes that do not concern it
        forced = [f"training.steps={steps}"] if steps else []
        forced += ["training.skip_bad=true"] if skip_bad else []
        for row in table.only(rows):
            for seed in dict.fromkeys(seeds):
                output = Run(folder / row.folder / f"seed-{seed}")
                own = [*forced, f"training.seed={seed}"]
                if minutes and (begun := begun_steps(output)):
                    own.append(f"training.steps={begun}")
                recipe, useless = row.resolve(data=data, changes=changes, forced=own)
                self.unused[row.name] = useless
                self.runs.append(BenchmarkRun(row, seed, recipe, output))
        for change in (c for c in changes if all(c in useless for useless in self.unused.values())):
            # A row that is not done now may have a use for it; what no row knows is told by the recipe.
            if all(change in row.resolve(data=data, changes=[change], forced=[])[1] for row in table.rows):
                Recipe.resolve(table.rows[0].recipe, data=data, changes=[change])
                raise LongigenError(f"--set {change} concerns no row of the table '{table.name}'; leave it out.")
        first = self.runs[0]
        for run in self.runs:
            require_shared(first, run, [name for name in BUDGET if not (minutes and name == "steps")])
            require_unchanged(run)
        writable_folder(folder)
        with progress("reading") as update:
            self.cohort: Cohort = Experiment.of(first.recipe, update).cohort
            for run in self.runs:
                self._require_same_data(run)
            if not self.cohort.split.test:
                raise LongigenError(f"The data set '{self.cohort.name}' has no test subjects to score; set split.test.")
            if not all(run.finished for run in self.runs):
                self.cohort.read(self.cohort.part("all"), update)

    @cached_property
    def device(self) -> torch.device:
        """Where all rows compute."""
        return process_device()

    @property
    def device_name(self) -> str:
        """The device, in words."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else str(self.device)

    @property
    def memory_kind(self) -> str:
        """What the peaks of memory count."""
        return peak_kind(self.device)

    @property
    def budget(self) -> dict[str, Any]:
        """The training that each row gets."""
        training = self.runs[0].recipe.configs["training"]
        shared = {name: training[name] for name in BUDGET}
        return shared if self.minutes is None else {**shared, "steps": None, "minutes": self.minutes}

    def run(
        self, metrics: dict[str, Metric], *, scenarios: Sequence[Scenario] = SCENARIOS, targets: Targets = "last"
    ) -> BenchmarkResult:
        """Train what is missing, score what is not scored, and return the table.

        A KeyboardInterrupt leaves everything so that the same call continues.

        Raises:
            LongigenError: if a row cannot be trained, or rows were scored by different protocols.
        """
        protocols: list[Protocol] = []
        scores: dict[tuple[str, int], Sequence[Score]] = {}
        for run in self.runs:
            if not run.finished:
                self._train(run)
            session = self._session(run)
            protocols.append(protocol_of(session, metrics, scenarios, targets, SETTING_SEED))
            if protocols[-1].hash != protocols[0].hash:
                raise LongigenError(
                    f"'{run.name}' would be scored by protocol {protocols[-1].hash} and '{self.runs[0].name}' by "
                    f"{protocols[0].hash}, so they cannot stand in one table."
                )
            scores[run.row.name, run.seed] = self._score(run, session, protocols[0], metrics)
        return self._result(protocols[0], scores, metrics)

    def generate(self, scenario: Scenario, *, subjects: int) -> dict[str, list[Generated]]:
        """Return, by row, the last visits of some test subjects as the row's first seed generates them, after `run`."""
        found = {}
        first_seed = [run for run in self.runs if run.seed == self.runs[0].seed]
        with self.progress("drawing") as update:
            for done, run in enumerate(first_seed, start=1):
                session = self._session(run)
                asked = session.tasks(scenario, seed=SETTING_SEED, select=last_only)[:subjects]
                session.model.to(self.device).eval()
                found[run.row.name] = list(session.generate(asked, GenerationSettings(seed=run.seed)))
                update(done, len(first_seed), run.row.name)
        return found

    def draw(self, result: BenchmarkResult, folder: Path) -> None:
        """Write ``pictures.png``: what each row generates for the first test subjects in the first scenario."""
        scenario = result.protocol.settings[0]
        simulated = ", simulated" if self.cohort.dataset.simulated else ""
        title = f"{self.table.name} on {self.cohort.name}{simulated}, setting {scenario}"
        write_comparison(self.generate(scenario, subjects=PICTURED), folder / PICTURES, title=title)

    @property
    def seeds(self) -> list[int]:
        """The seeds that each row is trained with."""
        return list(dict.fromkeys(run.seed for run in self.runs))

    def _session(self, run: BenchmarkRun) -> GenerationSession:
        return GenerationSession(
            str(run.output.folder),
            LongitudinalModel.from_pretrained(f"{LOCAL}{run.output.folder}"),
            self.cohort,
            self.cohort.part("test"),
            "test",
            "subjects that training never saw",
        )

    def _train(self, run: BenchmarkRun) -> None:
        recipe = run.recipe
        if self.minutes and not run.started:
            recipe = _with_steps(recipe, self._steps_in(self.minutes, recipe))
        experiment = Experiment(recipe, self.cohort)
        resume = run.started
        output = Run.open(run.output.folder) if resume else Run.create(run.output.folder)
        start_peak(self.device)
        model = experiment.compose()
        parameters = model.parameter_count
        if not parameters:
            experiment.record(output)
            model.eval().save_pretrained(output.model)
            run.spend(finished=True, parameters=0, steps=0, training_seconds=0.0, training_bytes=None)
            return
        trainer = experiment.trainer(output, resume=resume, model=model)
        before, began = run.cost, time.perf_counter()
        steps = experiment.training.steps
        spent = before.get("training_seconds", None if trainer.step else 0.0)  # unknown if `train` began the run

        def spend(*, finished: bool) -> None:
            run.spend(
                finished=finished,
                parameters=parameters,
                steps=trainer.step,
                training_seconds=None if spent is None else spent + time.perf_counter() - began,
                training_bytes=max(before.get("training_bytes") or 0, peak(self.device) or 0) or None,
            )

        with self.progress(f"training {run.name}") as update:

            def show(step: int, metrics: dict[str, Any]) -> None:
                update(step, steps, f"loss {metrics['loss']:.4f}")
                if step % experiment.training.checkpoint_every == 0:
                    spend(finished=False)

            complete = trainer.step == steps
            try:
                trainer.fit(show)
            except BaseException:
                spend(finished=False)
                raise
            if complete:  # killed after its last checkpoint, and perhaps before the model was exported
                trainer.checkpoint()
        spend(finished=True)
        trainer.accelerator.free_memory()

    def _steps_in(self, minutes: float, recipe: Recipe) -> int:
        """Return how many steps training makes in some minutes, by the median time of a few."""
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
        self, run: BenchmarkRun, session: GenerationSession, protocol: Protocol, metrics: dict[str, Metric]
    ) -> Sequence[Score]:
        generation = GenerationSettings(seed=run.seed)
        folder = run.output.folder / EVALUATION
        found = load_cached_scores(folder, session, generation, protocol)
        if found is not None and "nfe" in run.cost:
            return found
        start_peak(self.device)

        def progress(scenario: str) -> AbstractContextManager[Update]:
            return self.progress(f"scoring {run.name}, {scenario}")

        evaluation = Evaluation.of(session, generation, protocol, metrics, progress=progress)
        run.spend(
            nfe=evaluation.generation["steps"],
            guidance=evaluation.generation["guidance"],
            # The median of the batches: the first of all warms up.
            seconds_per_visit=float(np.median(evaluation.seconds)),
            generation_bytes=peak(self.device),
        )
        evaluation.write_scores(folder)
        return evaluation.scores

    def _result(
        self, protocol: Protocol, scores: Mapping[tuple[str, int], Sequence[Score]], metrics: dict[str, Metric]
    ) -> BenchmarkResult:
        rows: list[ResultRow] = []
        by_seed: list[Mapping[str, Mapping[int, float]]] = []
        for scenario in protocol.settings:
            for place, name in enumerate(dict.fromkeys(run.row.name for run in self.runs)):
                own = {
                    seed: [s for s in each if s.setting == scenario] for (r, seed), each in scores.items() if r == name
                }
                copied, made = summarise([score for each in own.values() for score in each], metrics)
                means = {seed: summarise(each, metrics)[1] for seed, each in own.items()}
                if not place:
                    rows.append(copied)
                    by_seed.append({})
                rows.append(replace(made, method=name))
                by_seed.append({m: {seed: mean.values[m].mean for seed, mean in means.items()} for m in metrics})
        costs = self._costs()
        content = {
            "table": self.table.name,
            "paper": self.table.paper,
            "longigen": __version__,
            "protocol_hash": protocol.hash,
            "protocol": protocol.to_dict(),
            "simulated": self.cohort.dataset.simulated,
            "seeds": self.seeds,
            "training": self.budget,
            "device": self.device_name,
            "methods": {run.row.name: dict(vars(run.row)) for run in self.runs},
            "changes": list(self.changes),
            "rows": [
                {**row.to_dict(), **({"by_seed": _plain(seeds)} if seeds else {})}
                for row, seeds in zip(rows, by_seed, strict=True)
            ],
            "costs": costs,
        }
        text = self._text(protocol, rows, costs, metrics)
        return BenchmarkResult(protocol, rows, by_seed, costs, _lines(scores), content, text)

    def _text(
        self, protocol: Protocol, rows: Sequence[ResultRow], costs: Sequence[dict[str, Any]], metrics: dict[str, Metric]
    ) -> str:
        """Return the tables as text, `WIDTH` columns at most: a block per scenario, then what each method costs."""
        simulated = ", simulated" if self.cohort.dataset.simulated else ""
        budget, seeds = self.budget, self.seeds
        batch = budget["batch_size"] * budget["gradient_accumulation"]
        length = f"{self.minutes:g} minutes, in steps" if self.minutes else f"{budget['steps']} steps"
        head = [
            f"{self.table.name}: {self.table.summary}",
            f"{self.cohort.name}{simulated}: {protocol.subjects} subjects that training never saw, target: "
            f"{protocol.targets}; protocol {protocol.hash}",
            f"each row trained for {length} of {batch} pairs, "
            f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}, on {self.device_name}",
        ]
        notes = (
            "means over subjects"
            + (", each averaged over seeds first," if len(seeds) > 1 else "")
            + " [95 % bootstrap interval]\n"
            "▲ better, ▼ worse than copy-last: the interval of the paired gain, subject by subject, leaves out 0\n"
            "(and the gain is not too small for the digits shown)"
        )
        notes = "\n".join([notes, *notes_of_sets(metrics)])
        return "\n\n".join(
            ["\n".join(head), *benchmark_tables(rows, metrics), notes, cost_table(costs, self.memory_kind)]
        )

    def _costs(self) -> list[dict[str, Any]]:
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
        """Refuse a run of other subjects or visits than the cohort has now."""
        same = not run.started or run.output.read()["split"] == self.cohort.split.ids
        if same and run.finished:
            config = read_json(run.output.model / CONFIG)
            same = config["data"].get("fingerprint") == fingerprint(self.cohort.subjects)
            same &= config["preprocess"] == json.loads(json.dumps(self.cohort.pipeline.config))
        if not same:
            raise LongigenError(
                f"{run.output.folder} was trained when '{self.cohort.name}' held other subjects or visits; give "
                "another --out (nothing was changed)."
            )


def _with_steps(recipe: Recipe, steps: int) -> Recipe:
    return Recipe.from_dict(recipe.to_dict(), [f"training.steps={steps}"], recipe.origin)


def _lines(scores: Mapping[tuple[str, int], Sequence[Score]]) -> list[dict[str, Any]]:
    """Return scores as lines of a CSV; copy-last is the same for all rows and seeds, so only the first's is kept."""
    return [
        {"seed": seed, **score.to_row(), "method": score.method if score.method == COPY_LAST else row}
        for place, ((row, seed), own) in enumerate(scores.items())
        for score in own
        if not place or score.method != COPY_LAST
    ]


def _plain(by_seed: Mapping[str, Mapping[int, float]]) -> dict[str, dict[str, float | None]]:
    """Return values for JSON, which has no NaN and no numbers for keys."""
    return {
        name: {str(seed): mean if math.isfinite(mean) else None for seed, mean in means.items()}
        for name, means in by_seed.items()
    }
