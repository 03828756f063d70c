"""A bench: the rows of a table, trained where they are missing, and scored by one protocol."""

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from longigen.assessment import Assessment, Progress, kept, protocol_of, silent
from longigen.entry import BUDGET, Entry, begun_steps, require_shared, require_unchanged
from longigen.errors import LongigenError
from longigen.evaluation import Protocol, Score, summarise
from longigen.files import read_json, writable_folder
from longigen.generation import Answer, GenerationSettings
from longigen.inquiry import Inquiry
from longigen.memory import peak, peak_kind, start_peak
from longigen.metric import Metric
from longigen.pretrained import CONFIG, load
from longigen.recipe import Recipe
from longigen.run import Run
from longigen.setting import SETTINGS, Setting, Targets, last_only
from longigen.split import fingerprint
from longigen.study import Study
from longigen.table import COPY_LAST, Table

EVALUATION = "evaluation"
TIMED_STEPS = 8
"""From which the speed of training is told; the first warms up, and after the last comes the checkpoint."""
SETTING_SEED = 0
"""Of which visits are missing: the same for all rows and seeds."""


@dataclass(frozen=True)
class Result:
    """The numbers of a table.

    Attributes:
        protocol: by which all rows were scored.
        rows: one for each setting and method, copy-last first: a `longigen.evaluation.Summary` per metric and, but for
            copy-last, of its paired gain on copy-last, ``NAME gain``. A subject's seeds are averaged first;
            ``by_seed`` has the mean of each.
        costs: one for each method: ``parameters``, ``nfe`` (network evaluations per visit), ``steps`` of training;
            ``training_seconds``, ``seconds_per_visit``, ``training_bytes`` and ``generation_bytes``: means over seeds.
        scores: of every generated visit.
    """

    protocol: Protocol
    rows: list[dict[str, Any]]
    costs: list[dict[str, Any]]
    scores: list[dict[str, Any]]


class Bench:
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
        table: Table,
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
        self.table, self.folder, self.changes, self.progress = table, folder, tuple(changes), progress
        self.minutes = minutes
        self.entries: list[Entry] = []
        self.unused: dict[str, list[str]] = {}  # by row, the changes that do not concern it
        forced = [f"training.steps={steps}"] if steps else []
        forced += ["training.skip_bad=true"] if skip_bad else []
        for row in table.only(rows):
            for seed in dict.fromkeys(seeds):
                run = Run(folder / row.folder / f"seed-{seed}")
                own = [*forced, f"training.seed={seed}"]
                if minutes and (begun := begun_steps(run)):
                    own.append(f"training.steps={begun}")
                recipe, useless = row.resolve(data=data, changes=changes, forced=own)
                self.unused[row.name] = useless
                self.entries.append(Entry(row, seed, recipe, run))
        for change in (c for c in changes if all(c in useless for useless in self.unused.values())):
            # A row that is not done now may have a use for it; what no row knows is told by the recipe.
            if all(change in row.resolve(data=data, changes=[change], forced=[])[1] for row in table.rows):
                Recipe.resolve(table.rows[0].recipe, data=data, changes=[change])
                raise LongigenError(f"--set {change} concerns no row of the table '{table.name}'; leave it out.")
        first = self.entries[0]
        for entry in self.entries:
            require_shared(first, entry, [name for name in BUDGET if not (minutes and name == "steps")])
            require_unchanged(entry)
        writable_folder(folder)
        with progress("reading") as update:
            self.cohort = Study.of(first.recipe, update).cohort
            for entry in self.entries:
                self._require_same_data(entry)
            if not self.cohort.split.test:
                raise LongigenError(f"The data set '{self.cohort.name}' has no test subjects to score; set split.test.")
            if not all(entry.finished for entry in self.entries):
                self.cohort.read(self.cohort.part("all"), update)

    @property
    def device(self) -> torch.device:
        """Where all rows compute."""
        from accelerate import PartialState

        device = PartialState().device
        assert device is not None
        return device

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
        training = self.entries[0].recipe.configs["training"]
        shared = {name: training[name] for name in BUDGET}
        return shared if self.minutes is None else {**shared, "steps": None, "minutes": self.minutes}

    def run(
        self, metrics: dict[str, Metric], *, settings: Sequence[Setting] = SETTINGS, targets: Targets = "last"
    ) -> Result:
        """Train what is missing, score what is not scored, and return the table.

        A KeyboardInterrupt leaves everything so that the same call continues.

        Raises:
            LongigenError: if a row cannot be trained, or rows were scored by different protocols.
        """
        protocol: Protocol | None = None
        scores: dict[tuple[str, int], Sequence[Score]] = {}
        for entry in self.entries:
            if not entry.finished:
                self._train(entry)
            inquiry = self._inquiry(entry)
            found = protocol_of(inquiry, metrics, settings, targets, SETTING_SEED)
            protocol = protocol or found
            if found.hash != protocol.hash:
                raise LongigenError(
                    f"'{entry.name}' would be scored by protocol {found.hash} and '{self.entries[0].name}' by "
                    f"{protocol.hash}, so they cannot stand in one table."
                )
            scores[entry.row.name, entry.seed] = self._score(entry, inquiry, protocol, metrics)
        assert protocol is not None
        rows = [row for setting in settings for row in self._rows(scores, setting, metrics)]
        return Result(protocol, rows, self._costs(), _lines(scores))

    def answers(self, setting: Setting, *, subjects: int) -> dict[str, list[Answer]]:
        """Return what each row's first seed makes of the last visit of the first test subjects, after `run`."""
        found = {}
        entries = [entry for entry in self.entries if entry.seed == self.entries[0].seed]
        with self.progress("drawing") as update:
            for done, entry in enumerate(entries, start=1):
                inquiry = self._inquiry(entry)
                asked = inquiry.questions(setting, seed=SETTING_SEED, select=last_only)[:subjects]
                inquiry.model.to(self.device).eval()
                found[entry.row.name] = list(inquiry.answers(asked, GenerationSettings(seed=entry.seed)))
                update(done, len(entries), entry.row.name)
        return found

    def _inquiry(self, entry: Entry) -> Inquiry:
        return Inquiry(
            str(entry.run.folder),
            load(str(entry.run.folder)),
            self.cohort,
            self.cohort.part("test"),
            "test",
            "subjects that training never saw",
        )

    def _train(self, entry: Entry) -> None:
        recipe = entry.recipe
        if self.minutes and not entry.started:
            recipe = _with_steps(recipe, self._steps_in(self.minutes, recipe))
        study = Study(recipe, self.cohort)
        resume = entry.started
        run = Run.open(entry.run.folder) if resume else Run.create(entry.run.folder)
        start_peak(self.device)
        model = study.compose()
        parameters = model.parameter_count
        if not parameters:
            study.record(run)
            model.eval().save_pretrained(run.model)
            entry.spend(finished=True, parameters=0, steps=0, training_seconds=0.0, training_bytes=None)
            return
        trainer = study.trainer(run, resume=resume, model=model)
        before, began = entry.cost, time.perf_counter()
        steps = study.training.steps
        spent = before.get("training_seconds", None if trainer.step else 0.0)  # unknown if `train` began the run

        def spend(*, finished: bool) -> None:
            entry.spend(
                finished=finished,
                parameters=parameters,
                steps=trainer.step,
                training_seconds=None if spent is None else spent + time.perf_counter() - began,
                training_bytes=max(before.get("training_bytes") or 0, peak(self.device) or 0) or None,
            )

        with self.progress(f"training {entry.name}") as update:

            def show(step: int, metrics: dict[str, Any]) -> None:
                update(step, steps, f"loss {metrics['loss']:.4f}")
                if step % study.training.checkpoint_every == 0:
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
        study = Study(_with_steps(recipe, TIMED_STEPS), self.cohort)
        model, times = study.compose(), []
        if not model.parameter_count:
            return TIMED_STEPS  # nothing to train
        with tempfile.TemporaryDirectory() as folder:
            trainer = study.trainer(Run.create(Path(folder) / "timed"), model=model)
            trainer.fit(lambda step, metrics: times.append(time.perf_counter()))
            trainer.accelerator.free_memory()
        return max(1, int(60 * minutes / float(np.median(np.diff(times)[1:-1]))))

    def _score(self, entry: Entry, inquiry: Inquiry, protocol: Protocol, metrics: dict[str, Metric]) -> Sequence[Score]:
        generation = GenerationSettings(seed=entry.seed)
        folder = entry.run.folder / EVALUATION
        found = kept(folder, inquiry, generation, protocol)
        if found is not None and "nfe" in entry.cost:
            return found
        start_peak(self.device)

        def progress(setting: str) -> Any:
            return self.progress(f"scoring {entry.name}, {setting}")

        made = Assessment.of(inquiry, generation, protocol, metrics, progress=progress)
        entry.spend(
            nfe=made.generation["steps"],
            guidance=made.generation["guidance"],
            # The median of the batches: the first of all warms up.
            seconds_per_visit=float(np.median(made.seconds)),
            generation_bytes=peak(self.device),
        )
        made.write(folder)
        return made.scores

    def _rows(
        self, scores: Mapping[tuple[str, int], Sequence[Score]], setting: Setting, metrics: dict[str, Metric]
    ) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for row in dict.fromkeys(entry.row.name for entry in self.entries):
            by_seed = {seed: [s for s in own if s.setting == setting] for (r, seed), own in scores.items() if r == row}
            copied, made = summarise([score for own in by_seed.values() for score in own], metrics)
            means = {seed: summarise(own, metrics)[1] for seed, own in by_seed.items()}
            made["by_seed"] = {name: {seed: mean[name].mean for seed, mean in means.items()} for name in metrics}
            if not rows:
                rows.append({**copied, "method": COPY_LAST})
            rows.append({**made, "method": row})
        return rows

    def _costs(self) -> list[dict[str, Any]]:
        rows = []
        for row in dict.fromkeys(entry.row.name for entry in self.entries):
            costs = [entry.cost for entry in self.entries if entry.row.name == row]
            line = {"method": row, **{key: costs[0][key] for key in ("parameters", "nfe", "guidance", "steps")}}
            for key in ("training_seconds", "seconds_per_visit", "training_bytes", "generation_bytes"):
                known = [cost[key] for cost in costs if cost[key] is not None]
                line[key] = float(np.mean(known)) if known else None
            rows.append(line)
        return rows

    def _require_same_data(self, entry: Entry) -> None:
        """Refuse a run of other subjects or visits than the cohort has now."""
        same = not entry.started or entry.run.read()["split"] == self.cohort.split.ids
        if same and entry.finished:
            config = read_json(entry.run.model / CONFIG)
            same = config["data"].get("fingerprint") == fingerprint(self.cohort.subjects)
            same &= config["preprocess"] == json.loads(json.dumps(self.cohort.pipeline.config))
        if not same:
            raise LongigenError(
                f"{entry.run.folder} was trained when '{self.cohort.name}' held other subjects or visits; give another "
                "--out (nothing was changed)."
            )


def _with_steps(recipe: Recipe, steps: int) -> Recipe:
    return Recipe.from_dict(recipe.to_dict(), [f"training.steps={steps}"], recipe.origin)


def _lines(scores: Mapping[tuple[str, int], Sequence[Score]]) -> list[dict[str, Any]]:
    """Return scores as lines of a CSV; copy-last is the same for all rows and seeds, so only the first's is told."""
    return [
        {"seed": seed, **score.to_row(), "method": score.method if score.method == COPY_LAST else row}
        for place, ((row, seed), own) in enumerate(scores.items())
        for score in own
        if not place or score.method != COPY_LAST
    ]
