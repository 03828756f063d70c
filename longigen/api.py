"""The Python front door: load a model, forecast, train, evaluate; what the command line is made of.

Everything here is re-exported by `longigen` itself: ``longigen.load``, ``longigen.train`` … Importing this module loads
no torch; each function imports what it needs.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from longigen.components.changes import as_changes
from longigen.errors import LongigenError
from longigen.utils.progress import Progress, silent
from longigen.utils.progress import progress as show_progress
from longigen.utils.progress import transfer as show_transfer

if TYPE_CHECKING:
    import torch

    from longigen.components.sampler import Sampler
    from longigen.data.dataset import Dataset
    from longigen.data.issues import Finding
    from longigen.data.quality.inspect import Examination
    from longigen.data.split import Part
    from longigen.evaluation.benchmark import BenchmarkResult
    from longigen.evaluation.evaluate import Evaluation
    from longigen.generation.session import GenerationSession
    from longigen.generation.writer import WrittenVisits
    from longigen.hub.model_summary import ModelSummary
    from longigen.hub.publish import Publication
    from longigen.hub.resolve import ModelSource, Pulled
    from longigen.models.longitudinal import LongitudinalModel
    from longigen.models.predict import GenerationSettings
    from longigen.models.tasks import Scenario, Targets
    from longigen.registry.new_plugin import PluginTemplate
    from longigen.training.recipe import Recipe
    from longigen.training.run import Run

__all__ = [
    "bench",
    "catalog",
    "evaluate",
    "examine",
    "generate",
    "info",
    "list_models",
    "load",
    "new_plugin",
    "open_dataset",
    "publication",
    "pull",
    "train",
]

log: logging.Logger = logging.getLogger("longigen")

Changes = Mapping[str, Any] | Sequence[str]
"""Hyperparameters by ``section.key`` (or ``key``, where only one section has it), or texts ``section.key=value``."""


def load(
    name_or_path: Path | str,
    device: "torch.device | str | None" = None,
    dtype: "torch.dtype | None" = None,
    *,
    revision: str | None = None,
    token: str | None = None,
    progress: bool = True,
) -> "LongitudinalModel":
    """Load a model, ready to generate; it is downloaded if it is not on this machine.

    Args:
        name_or_path: a published model's name (`list_models`), a run's or a model's folder, or ``hf-hub:org/repo``.
        device: to compute on, e.g. ``"cuda"``; CPU by default.
        dtype: of the weights, e.g. ``torch.bfloat16``; float32 by default.
        revision: branch, tag or commit of a Hub repository.
        token: for a private repository; by default the one that ``hf auth login`` or HF_TOKEN set.
        progress: show a progress bar while it is downloaded.

    Raises:
        LongigenError: if there is no such model, or it is damaged or of another version.
    """
    source = _source(str(name_or_path), revision=revision, token=token, progress=progress)

    from longigen.models.longitudinal import LongitudinalModel
    from longigen.models.pretrained import load_folder

    return load_folder(LongitudinalModel, source.find()).to(device=device, dtype=dtype)


def open_dataset(name_or_path: Path | str, **parameters: Any) -> "Dataset":
    """Open a data set; its volumes are read when they are asked for.

    Args:
        name_or_path: a name (``longigen list datasets``), a path that one of them reads, or ``NAME:PATH``.
        **parameters: of the data set; ``longigen info NAME`` shows them.

    Raises:
        LongigenError: if there is none, or a parameter is unknown or cannot have that value.
    """
    from longigen.data.open_dataset import open_dataset

    return open_dataset(name_or_path, as_changes(parameters))[1]


def train(
    data: Path | str | None = None,
    recipe: str = "sadm-tiny",
    *,
    changes: Changes = (),
    out: Path | str | None = None,
    resume: bool = False,
    conditioner: str | None = None,
    denoiser: str | None = None,
    sampler: str | None = None,
    init: str | None = None,
    progress: bool = True,
) -> "Run":
    """Train a model and return its run.

    A KeyboardInterrupt writes a checkpoint before it goes on.

    Args:
        data: a data set's name, a path that one reads, or ``NAME:PATH``; by default the recipe's.
        recipe: what to start from; the other arguments change it.
        changes: hyperparameters, e.g. ``{"denoiser.width": 32, "training.steps": 2000}``.
        out: the run's folder; by default a new one under ``runs/``.
        resume: continue the run in `out`; of `changes` only ``training.steps`` may then differ.
        conditioner: another one than the recipe's.
        denoiser: another one than the recipe's.
        sampler: another one than the recipe's.
        init: fine-tune this model: its parts, settings and grid take the place of the recipe's.
        progress: show progress bars.

    Raises:
        LongigenError: if data or hyperparameters cannot be used, or the loss is no longer a number.
    """
    from longigen.training.run import Run
    from longigen.utils.files import new_folder
    from longigen.utils.memory import keep_freed_memory

    chosen = {"conditioner": conditioner, "denoiser": denoiser, "sampler": sampler}
    if resume and (out is None or data or any(chosen.values()) or init):
        raise LongigenError(
            "resume continues a run as it was; give the run as out, and at most training.steps beside it."
        )
    if out is None and "RANK" in os.environ:
        raise LongigenError("Several processes need one folder; give it with out.")
    keep_freed_memory()
    leader = os.environ.get("RANK", "0") == "0"  # as accelerate launch and torchrun set it
    folder = Path(out) if out is not None else new_folder("runs", "-".join(filter(None, chosen.values())) or "run")
    run = (Run.open if resume else Run.create if leader else Run)(folder)

    from longigen.training.recipe import Recipe
    from longigen.training.warm_start import base_of, warm_starts

    changed = as_changes(changes)
    if resume:
        recorded = run.read()
        wanted = Recipe.from_dict(recorded["recipe"], changed, recorded.get("origin"))
    else:
        base = None
        if init is not None:
            started = base_of(_source(init, progress=progress))
            log.info(started.sentence)
            base, changed = started.config, [*changed, *started.changes]
        wanted = Recipe.resolve(
            recipe, components=chosen, data=None if data is None else str(data), changes=changed, model=base
        )
        for start in warm_starts(wanted.settings("training")):
            start.check(wanted.names[start.part])  # before data are read
    return _fit(wanted, run, resume=resume, progress=show_progress if progress else silent)


def _fit(recipe: "Recipe", run: "Run", *, resume: bool, progress: Progress) -> "Run":
    """Read the data of a recipe, and train until its last step."""
    from longigen.data.issues import BadData
    from longigen.training.experiment import Experiment

    try:
        with progress("reading") as update:
            experiment = Experiment.of(recipe, update)
            experiment.read(update)
    except BadData as error:
        doctor = f"longigen doctor {recipe.configs['data'].get('path') or recipe.names['data']}"
        raise LongigenError(f"{error} To leave out what is bad: --skip-bad; to see all of it: {doctor}") from error
    log_skipped(experiment.cohort.skipped)
    trainer = experiment.trainer(run, resume=resume)
    leads = trainer.accelerator.is_main_process
    if leads:
        log.info(experiment.summary(trainer.model))
    with progress("training") as update:

        def show(step: int, metrics: dict[str, Any]) -> None:
            if leads:
                validation = metrics.get("validation_loss")
                note = f"loss {metrics['loss']:.4f}" + (f"  validation {validation:.4f}" if validation else "")
                update(step, experiment.training.steps, note)

        try:
            trainer.fit(show)
        except KeyboardInterrupt:
            log.info(f"Stopped at step {trainer.step}; continue with: longigen train --resume --out {run.folder}")
            raise
    return run


def generate(
    model: "Path | str | Run",
    out: Path | str | None = None,
    *,
    data: Path | str | None = None,
    changes: Changes = (),
    setting: "Scenario" = "full",
    times: Sequence[str | float] | None = None,
    subjects: Sequence[str] = (),
    part: "Part | None" = None,
    samples: int = 1,
    sampler: "Sampler | str | None" = None,
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    explain: bool = False,
    batch_size: int = 4,
    skip_bad: bool = False,
    progress: bool = True,
) -> "WrittenVisits":
    """Generate visits for the subjects of a data set and write them as NIfTI, each with a JSON sidecar.

    For one subject of your own see `LongitudinalModel.forecast`.

    Args:
        model: a run's or a model's folder, a published model's name, or ``hf-hub:org/repo``.
        out: the folder to write; by default a new one under ``generated/``.
        data: by default the data that the model was trained on.
        changes: parameters of the data set.
        setting: what is given: the first visit (``single``), a random part (``missing``), or all before each target.
        times: to generate instead of the subjects' own, in the data set's unit; ``"+1"`` is one unit after the last.
        subjects: ids; all of the part by default.
        part: of the model's own data; by default what training never saw.
        samples: of each visit; of several, mean and standard deviation are written too.
        sampler: another one than the model's.
        steps: network evaluations per visit.
        guidance: weight of classifier-free guidance.
        seed: random seed of the sampling noise and of which visits are missing.
        explain: write which visits each was generated from, and where.
        batch_size: subjects that are generated together.
        skip_bad: leave out visits and subjects that cannot be used.
        progress: show progress bars.

    Raises:
        LongigenError: if model or data cannot be used or do not fit each other, or a file cannot be written.
    """
    from longigen.utils.files import new_folder, writable_folder
    from longigen.utils.memory import keep_freed_memory

    source = _source(model, progress=progress)
    folder = Path(out) if out is not None else new_folder("generated", source.stem)
    writable_folder(folder)
    keep_freed_memory()

    from longigen.generation.writer import write_cohort

    session = _session(source, data, changes, part, subjects, skip_bad, progress)
    log.info(f"{len(session.subjects)} subjects of {session.cohort.name} ({session.note})")
    with (show_progress if progress else silent)("generating") as update:
        written = write_cohort(
            session,
            folder,
            _settings(sampler, steps, guidance, seed),
            scenario=setting,
            times=None if times is None else [str(time) for time in times],
            samples=samples,
            explain=explain,
            batch_size=batch_size,
            callback=update,
        )
    if written.caution:
        log.info(written.caution)
    return written


def evaluate(
    model: "Path | str | Run | LongitudinalModel",
    *,
    data: Path | str | None = None,
    changes: Changes = (),
    out: Path | str | None = None,
    settings: "Sequence[Scenario]" = (),
    targets: "Targets" = "last",
    part: "Part | None" = None,
    metrics: Sequence[str] = (),
    samples: int = 1,
    sampler: "Sampler | str | None" = None,
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    batch_size: int = 4,
    skip_bad: bool = False,
    progress: bool = True,
) -> "Evaluation":
    """Score the visits that a model generates against the true ones, beside copy-last.

    Args:
        model: a run, a model's folder or name, ``hf-hub:org/repo``, or a loaded model.
        data: by default the data that the model was trained on.
        changes: parameters of the data set.
        out: the folder for table, CSV, JSON and picture; nothing is written by default, but for ``metrics.json``
            beside the weights of a run that was evaluated on subjects that training never saw.
        settings: which visits are given: ``single``, ``missing``, ``full``; all three by default.
        targets: score each subject's ``last`` visit, the same in all settings, or ``all``.
        part: of the model's own data; by default what training never saw.
        metrics: names, or ``name:key=value``; all of the default table by default.
        samples: of each visit; several are scored as a distribution, beside the first.
        sampler: another one than the model's.
        steps: network evaluations per visit.
        guidance: weight of classifier-free guidance.
        seed: random seed of the sampling noise and of which visits are missing.
        batch_size: subjects that are generated together.
        skip_bad: leave out visits and subjects that cannot be used.
        progress: show progress bars.

    Raises:
        LongigenError: if model or data cannot be used or do not fit each other.
    """
    from longigen.models.longitudinal import LongitudinalModel
    from longigen.utils.files import writable_folder

    with ExitStack() as stack:
        if isinstance(model, LongitudinalModel):
            loaded, model = model, stack.enter_context(TemporaryDirectory())
            loaded.save_pretrained(model)
        source = _source(model, progress=progress)
        if out is not None:
            writable_folder(Path(out))

        from longigen.evaluation.evaluate import Evaluation, protocol_of
        from longigen.evaluation.metrics import load_metrics
        from longigen.models.tasks import ordered
        from longigen.utils.memory import keep_freed_memory

        chosen = load_metrics(metrics, samples=samples)
        keep_freed_memory()
        session = _session(source, data, changes, part, (), skip_bad, progress)
        scenarios = ordered(settings)
        protocol = protocol_of(session, chosen, scenarios, targets, seed, samples)
        generation = _settings(sampler, steps, guidance, seed)
        shown = show_progress if progress else silent
        found = Evaluation.of(session, generation, protocol, chosen, batch_size=batch_size, progress=shown)
        if is_main_process():
            found = replace(found, kept_at=found.metrics_file.keep(found.source))
            if out is not None:
                found.save(out)
        return found


def bench(
    table: str,
    out: Path | str | None = None,
    *,
    data: Path | str | None = None,
    rows: Sequence[str] = (),
    recipe: str | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    seeds: Sequence[int] = (0,),
    settings: "Sequence[Scenario]" = (),
    targets: "Targets" = "last",
    metrics: Sequence[str] = (),
    changes: Changes = (),
    skip_bad: bool = False,
    progress: bool = True,
) -> "BenchmarkResult":
    """Train the rows of a table that are missing, score all by one protocol, and write the table into `out`.

    What is there already is not made again, so the same call continues after an interruption.

    Args:
        table: a name (``longigen list tables``).
        out: the folder of all runs; by default ``bench/TABLE``.
        data: by default that of the table's recipe.
        rows: only these; all by default.
        recipe: what all rows start from, instead of the table's recipe.
        steps: optimiser steps of each row.
        minutes: of training of each row, instead of steps.
        seeds: each row is trained once with each.
        settings: which visits are given: ``single``, ``missing``, ``full``; all three by default.
        targets: score each subject's ``last`` visit, the same in all settings, or ``all``.
        metrics: names, or ``name:key=value``; the table's by default.
        changes: hyperparameters, for every row that has them.
        skip_bad: leave out visits and subjects that cannot be used.
        progress: show progress bars.

    Raises:
        LongigenError: if rows would not be comparable, or a run in the folder was made with other options.
    """
    if steps is not None and minutes is not None:
        raise LongigenError("--steps and --minutes both say how long to train; give one of the two.")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise LongigenError("A benchmark is one process; start it without 'accelerate launch'.")

    from longigen.evaluation.benchmark_spec import BenchmarkSpec

    folder = Path(out) if out is not None else Path("bench") / table
    spec = BenchmarkSpec.of(table, recipe=recipe)
    spec.only(rows)

    from longigen.evaluation.benchmark import Benchmark
    from longigen.evaluation.metrics import load_metrics
    from longigen.models.tasks import ordered
    from longigen.utils.memory import keep_freed_memory

    chosen = load_metrics(metrics or spec.metrics)
    keep_freed_memory()
    benchmark = Benchmark(
        spec,
        folder,
        rows=rows,
        seeds=seeds,
        data=None if data is None else str(data),
        steps=steps,
        minutes=minutes,
        changes=as_changes(changes),
        skip_bad=skip_bad,
        progress=show_progress if progress else silent,
    )
    log_skipped(benchmark.cohort.skipped)
    for name, unused in benchmark.unused.items():
        if unused:
            log.info(f"'{name}' has no use for --set {', '.join(unused)}")
    scenarios = ordered(settings)
    result = benchmark.run(chosen, scenarios=scenarios, targets=targets)
    result.save(folder)
    benchmark.draw(result, folder)
    return result


def examine(
    data: Path | str,
    *,
    changes: Changes = (),
    workers: int | None = None,
    progress: bool = True,
) -> "Examination":
    """Read everything of a data set once and say what is wrong with it; what ``longigen doctor`` prints.

    Args:
        data: a data set's name, a path that one reads, or ``NAME:PATH``.
        changes: parameters of the data set.
        workers: subjects that are read at a time; as many as processors by default.
        progress: show a progress bar.

    Raises:
        LongigenError: if all of it cannot be used: there is no such folder, or no such column.
    """
    from longigen.data.open_dataset import open_dataset
    from longigen.data.quality.inspect import examine

    _, dataset = open_dataset(data, as_changes(changes))
    for caution in dataset.cautions:
        log.info(caution)
    with (show_progress if progress else silent)("reading visits") as update:
        return examine(dataset, workers=workers, callback=update)


def list_models() -> "list[ModelSummary]":
    """Return what is known of each published model; nothing is downloaded.

    A model whose entry in a ``registry.yaml`` is not right is left out; ``longigen list models`` says why.
    """
    from longigen.hub.model_summary import ModelSummary
    from longigen.hub.zoo import zoo_models

    return [ModelSummary.of_published(model) for model in zoo_models()]


def catalog(section: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """Return what there is by section: components, recipes, tables, data sets, models. Nothing is imported or fetched.

    Args:
        section: only this one, in the singular or the plural.

    Raises:
        LongigenError: if there is no such section.
    """
    from longigen.errors import did_you_mean
    from longigen.hub.inventory import list_section
    from longigen.registry.catalog import CATALOG_SECTIONS, Catalog

    chosen = list(CATALOG_SECTIONS)
    if section is not None:
        section = section if section.endswith("s") else f"{section}s"
        if section not in chosen:
            raise LongigenError(f"There is nothing called '{section}' to list.{did_you_mean(section, chosen)}")
        chosen = [section]
    merged = Catalog()
    found = {name: list_section(merged, name) for name in chosen}
    for distribution, problem in merged.problems.items():
        log.info(f"The registry.yaml of {distribution} is left out: {problem}")
    return found


def info(name: Path | str) -> dict[str, Any]:
    """Return what is known of a component, recipe, table, model, run or folder. Nothing is imported or fetched.

    Raises:
        LongigenError: if there is nothing of that name.
    """
    from longigen.hub.inventory import describe_name

    return describe_name(str(name))


def pull(name_or_path: str, *, token: str | None = None, progress: bool = True) -> "Pulled":
    """Bring a model to this machine, or up to date with its revision on the Hub, verified.

    Args:
        name_or_path: a published model's name or ``hf-hub:org/repo[@revision]``.
        token: for a private repository; by default the one that ``hf auth login`` or HF_TOKEN set.
        progress: show a progress bar.

    Raises:
        LongigenError: if it cannot be downloaded, or a file is not what it should be.
    """
    from huggingface_hub.utils import logging as hub_logging

    from longigen.hub.resolve import ModelSource

    hub_logging.set_verbosity_error()  # of its retries and its locks; what is left is said here
    source = ModelSource.of(name_or_path, token=token)
    with (show_transfer if progress else silent)("pulling") as update:
        return source.pull(update)


def publication(
    model: "Path | str | Run",
    repository: str,
    *,
    tag: str | None = None,
    private: bool | None = None,
    licence: str | None = None,
    token: str | None = None,
) -> "AbstractContextManager[Publication]":
    """Give a model as it would be published on the Hub, to look at; its method ``publish`` publishes it.

    `LongitudinalModel.push_to_hub` does it in one call.

    Args:
        model: a run, a model's folder or name.
        repository: ``org/name``.
        tag: name of the version; v1, v2 … by default.
        private: of a repository that does not exist yet, True by default; of one that does, what it must be.
        licence: of the weights, e.g. ``apache-2.0``.
        token: with the right to write; by default the one that ``hf auth login`` or HF_TOKEN set.

    Raises:
        LongigenError: if there is no such model, its metrics are of other weights, or what is private cannot be left
            out.
    """
    from longigen.hub.publish import publication
    from longigen.models.longitudinal import LongitudinalModel
    from longigen.models.pretrained import loader

    return publication(
        _name_of(model),
        repository,
        load=loader(LongitudinalModel),
        tag=tag,
        private=private,
        licence=licence,
        token=token,
    )


def new_plugin(name: str, kind: str, out: Path | str | None = None) -> "PluginTemplate":
    """Write a package with a working component, for its author to change.

    Args:
        name: of the component: lower-case letters, digits and hyphens.
        kind: conditioner, denoiser, sampler, dataset or metric.
        out: the folder to write; by default one of the component's name.

    Raises:
        LongigenError: if the name cannot be used or is taken, or the folder is not empty.
    """
    from longigen.registry.new_plugin import PluginTemplate

    template = PluginTemplate(name, kind)
    template.write(Path(out) if out is not None else Path(name))
    return template


def is_main_process() -> bool:
    """Say whether this process is the first of those that ``accelerate launch`` started, or the only one."""
    from accelerate import PartialState

    return PartialState().is_main_process


def log_skipped(findings: "Sequence[Finding]", most: int = 20) -> None:
    """Log which visits and subjects were left out, and why."""
    for finding in findings[:most]:
        log.info(f"Skipped: {finding}")
    if len(findings) > most:
        log.info(f"Skipped {len(findings) - most} more; 'longigen doctor' lists them all.")


def _name_of(model: "Path | str | Run") -> str:
    return str(model) if isinstance(model, str | Path) else f"local-dir:{model.folder}"


def _source(
    model: "Path | str | Run", *, revision: str | None = None, token: str | None = None, progress: bool = True
) -> "ModelSource":
    """Return where a model is, once it is on this machine: what is wrong with it is told before data are read."""
    from longigen.hub.resolve import ModelSource

    source = ModelSource.of(_name_of(model), revision, token=token)
    with (show_transfer if progress else silent)("pulling") as update:
        source.find(update)
    return source


def _session(
    source: "ModelSource",
    data: Path | str | None,
    changes: Changes,
    part: "Part | None",
    subjects: Sequence[str],
    skip_bad: bool,
    progress: bool,
) -> "GenerationSession":
    from longigen.generation.session import GenerationSession

    with (show_progress if progress else silent)("reading") as update:
        session = GenerationSession.open(
            source,
            data=None if data is None else str(data),
            changes=as_changes(changes),
            part=part,
            ids=subjects,
            skip_bad=skip_bad,
            callback=update,
        )
    log_skipped(session.cohort.skipped)
    return session


def _settings(
    sampler: "Sampler | str | None", steps: int | None, guidance: float | None, seed: int
) -> "GenerationSettings":
    from longigen.models.predict import GenerationSettings
    from longigen.registry.registry import registry

    chosen = registry.load("sampler", sampler)() if isinstance(sampler, str) else sampler
    return GenerationSettings(sampler=chosen, steps=steps, guidance=guidance, seed=seed)
