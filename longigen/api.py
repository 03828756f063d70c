"""The Python interface: load, plan, train, generate, evaluate, benchmark and publish models; the command line calls it.

`longigen` re-exports everything here: ``longigen.load``, ``longigen.train`` … Importing this module does not import
torch; each function imports what it needs.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from functools import wraps
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal, ParamSpec, TypeVar

from longigen.components.base import Parameter
from longigen.components.changes import as_changes
from longigen.components.ranges import Count, Evaluations, GuidanceWeight, NoiseLevels, Range, Seed
from longigen.errors import LongigenError
from longigen.utils.processes import failing as failing
from longigen.utils.processes import is_first, launched, on_device
from longigen.utils.processes import says_first as says_first
from longigen.utils.progress import Progress, silent
from longigen.utils.progress import progress as show_progress
from longigen.utils.progress import transfer as show_transfer

if TYPE_CHECKING:
    import torch

    from longigen.components.sampler import Sampler
    from longigen.data.cohort import NewSubjects
    from longigen.data.dataset import Dataset
    from longigen.data.issues import Finding
    from longigen.data.quality.inspect import Examination
    from longigen.data.segmenter import Segmenter
    from longigen.data.split import Part
    from longigen.evaluation.benchmark_result import BenchmarkResult
    from longigen.evaluation.comparison import Space
    from longigen.evaluation.consistency import Consistency
    from longigen.evaluation.evaluate import Evaluation
    from longigen.evaluation.model_comparison import ModelComparison
    from longigen.evaluation.published import PublishedSpec
    from longigen.generation.session import GenerationSession
    from longigen.generation.writer import WrittenVisits
    from longigen.hub.model_summary import ModelSummary
    from longigen.hub.publish import Publication
    from longigen.hub.resolve import ModelSource, Pulled, Weights
    from longigen.models.batch_size import Size
    from longigen.models.compilation import Compile
    from longigen.models.layout import LayoutName
    from longigen.models.longitudinal import LongitudinalModel
    from longigen.models.network_codec import NetworkCodec
    from longigen.models.network_segmenter import NetworkSegmenter
    from longigen.models.settings import Order
    from longigen.models.tasks import Scenario, Targets
    from longigen.planning.plan import Plan
    from longigen.preparation.cohort import Preparation
    from longigen.preparation.settings import BiasChoice, MaskChoice
    from longigen.registry.new_plugin import PluginTemplate
    from longigen.reporting.report import Report
    from longigen.reporting.view import View
    from longigen.training.experiment import Experiment
    from longigen.training.recipe import Recipe
    from longigen.training.run import Run
    from longigen.utils.precision import Precision

__all__ = [
    "bench",
    "catalog",
    "compare",
    "consistency",
    "distill",
    "evaluate",
    "examine",
    "generate",
    "info",
    "list_models",
    "load",
    "new_plugin",
    "open_dataset",
    "plan",
    "prepare",
    "publication",
    "pull",
    "report",
    "train",
    "train_codec",
    "train_segmenter",
    "view",
]

log: logging.Logger = logging.getLogger("longigen")

ARGUMENTS: Mapping[str, Any] = {
    "samples": Count,
    "batch_size": Count | Literal["auto"],
    "steps": Evaluations,
    "teacher_steps": Evaluations,
    "visits": Annotated[int, Range(2)],
    "guidance": GuidanceWeight,
    "guidance_interval": NoiseLevels,
    "seed": Seed,
    "minutes": Annotated[float, Range(0.01)],
    "workers": Count,
}
"""Types of numeric arguments, with their ranges."""

STUDENT_LEVEL = 10.0
"""The largest |λ| of a student: beyond it a volume is noise, or clean, for the teacher too."""

DEFAULT_RECIPE = "sadm-tiny"
OTHER_SPLIT = "The data or the settings of the split are not those of the run, so its subjects are split anew."

SCORED_IN_TRAINING, BEST_BY = ("ssim", "psnr"), "psnr"
"""The metrics of validation visits while a model is trained, and the one whose gain over copy-last says which weights
are best."""

Changes = Mapping[str, Any] | Sequence[str]
"""Hyperparameters by ``section.key`` (or ``key`` if only one section has it), or strings ``section.key=value``."""

P = ParamSpec("P")
R = TypeVar("R")

Place = Path | str
Places = Place | Sequence[Place | tuple[str, Place]] | Mapping[str, Place | Sequence[Place]]
"""One or several results, also in pairs with the model's name, or by its name."""


def _on_its_device(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function compute on the device that its argument `device` names."""

    @wraps(function)
    def call(*arguments: P.args, **named: P.kwargs) -> R:
        device: Any = named.get("device")
        with on_device(device):
            return function(*arguments, **named)

    return call


def load(
    name_or_path: Path | str,
    device: "torch.device | str | None" = None,
    dtype: "torch.dtype | None" = None,
    *,
    revision: str | None = None,
    token: str | None = None,
    weights: "Weights" = "last",
    progress: bool = True,
) -> "LongitudinalModel":
    """Load a model in ``eval()`` mode; download it if it is not on this machine yet.

    Args:
        name_or_path: a published model's name (`list_models`), a run's or a model's folder, or ``hf-hub:org/repo``.
        device: device to compute on, e.g. ``"cuda"``; CPU by default.
        dtype: type of the weights, e.g. ``torch.bfloat16``; float32 by default.
        revision: branch, tag or commit of a Hub repository.
        token: access token for a private repository; by default the one set by ``hf auth login`` or HF_TOKEN.
        weights: which weights of a run: of its ``last`` step, or of the one with the ``best`` validation.
        progress: show a progress bar during the download.

    Raises:
        LongigenError: if there is no such model, or it is damaged or was saved by an incompatible version.
    """
    source = _source(str(name_or_path), revision=revision, token=token, weights=weights, progress=progress)

    from longigen.models.longitudinal import LongitudinalModel
    from longigen.models.pretrained import load_folder

    return load_folder(LongitudinalModel, source.find(), device=device, dtype=dtype)


def open_dataset(name_or_path: Path | str, **parameters: Any) -> "Dataset":
    """Open a data set; volumes are read lazily.

    Args:
        name_or_path: a name (``longigen list datasets``), a file or folder, or ``NAME:PATH``.
        **parameters: parameters of the data set; ``longigen info NAME`` shows them.

    Raises:
        LongigenError: if there is no such data set, or a parameter is unknown or has an invalid value.
    """
    from longigen.data.open_dataset import open_dataset

    return open_dataset(name_or_path, as_changes(parameters))[1]


@_on_its_device
def train(
    data: Path | str | None = None,
    recipe: str | None = None,
    *,
    changes: Changes = (),
    config: Path | str | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    conditioner: str | None = None,
    denoiser: str | None = None,
    sampler: str | None = None,
    codec: Path | str | None = None,
    init: str | None = None,
    size: str | None = None,
    new_subjects: "NewSubjects | None" = None,
    device: str | None = None,
    progress: bool = True,
) -> "Run":
    """Train a model and return its run.

    Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP complete the step, write a checkpoint and raise a KeyboardInterrupt. A second
    Ctrl-C raises it at once.

    Args:
        data: a data set's name, a file or folder, or ``NAME:PATH``; by default the recipe's data set.
        recipe: name of the recipe, which the other arguments change; by default that of `config`, or ``sadm-tiny``.
        changes: hyperparameters, e.g. ``{"denoiser.width": 32, "training.steps": 2000}``.
        config: file of hyperparameters in YAML or JSON, such as the ``run.json`` of a run to repeat; what `changes` and
            the other arguments say replaces them.
        out: the run's folder; by default a new one under ``runs/``.
        resume: continue the run in `out`; ``training.steps`` is the only hyperparameter that `changes` may then hold.
        conditioner: name of a conditioner to use instead of the recipe's.
        denoiser: name of a denoiser to use instead of the recipe's.
        sampler: name of a sampler to use instead of the recipe's.
        codec: the codec on whose codes the model works: a name such as ``haar``, a folder that `train_codec` wrote, or
            a model that has one; by default the recipe's, or none.
        init: model to fine-tune; its components, settings and grid replace those of the recipe.
        size: name of one of the recipe's sizes (``longigen info RECIPE``), which `changes` may change further.
        new_subjects: with `resume` or `config`, what becomes of subjects that were added to the data since: ``train``
            adds them to the training part, ``leave-out`` leaves them out; by default they are an error. The others keep
            their part.
        device: ``cpu``, ``cuda``, ``cuda:1`` or ``mps``; by default a GPU, if there is one.
        progress: show progress bars.

    Raises:
        LongigenError: if data or hyperparameters cannot be used, or the loss becomes NaN.
    """
    from longigen.training.run import Run
    from longigen.utils.files import new_folder
    from longigen.utils.memory import keep_freed_memory

    components = {"conditioner": conditioner, "denoiser": denoiser, "sampler": sampler}
    if resume and (out is None or data or any(components.values()) or codec or init or size or config or recipe):
        raise LongigenError(
            "resume continues a run with its own options; give only the run's folder as out, and training.steps."
        )
    if new_subjects is not None and not (resume or config):
        raise LongigenError("new_subjects is for a run that is continued or repeated; give it with resume or config.")
    _require_folder(out)
    keep_freed_memory()
    folder = Path(out) if out is not None else new_folder("runs", "-".join(filter(None, components.values())) or "run")
    run = (Run.open if resume else Run.create if is_first() else Run)(folder)

    from longigen.training.recipe import Recipe

    changed, split = as_changes(changes), None
    if resume:
        recorded = run.read()
        split = recorded["split"]
        resolved = Recipe.from_dict(recorded["recipe"], changed, recorded.get("origin"))
    else:
        resolved, split = _recipe(recipe, components, data, changed, init, size, config, progress, codec)
        if resolved.settings("training").init_codec is None:  # weights that are missing are said before data are read
            resolved.component("codec").compose(1).initialise()
    resolved.settings("training").batch_of(launched())
    with run.locked() if is_first() else nullcontext():
        return _fit(resolved, run, resume=resume, split=split, new=new_subjects, progress=_bars(progress))


def plan(
    recipe: str | None = None,
    data: Path | str | None = None,
    *,
    changes: Changes = (),
    config: Path | str | None = None,
    device: str | None = None,
    visits: int | None = None,
    out: Path | str | None = None,
    conditioner: str | None = None,
    denoiser: str | None = None,
    sampler: str | None = None,
    codec: Path | str | None = None,
    init: str | None = None,
    size: str | None = None,
    read: bool = False,
    progress: bool = True,
) -> "Plan":
    """Return what a training needs: memory by part, time, disk, and settings that make it fit; nothing is trained.

    On this machine a step and a visit are measured, if they take less than a minute and the memory that is free. Of
    another device they are predicted.

    Args:
        recipe: name of the recipe, which the other arguments change as those of `train` do; by default ``sadm-tiny``.
        data: a data set's name, a file or folder, or ``NAME:PATH``, of which headers are read; by default the recipe's
            data set, or the recipe's own numbers if that needs a path.
        changes: as for `train`.
        config: as for `train`.
        device: a device's name, e.g. ``NVIDIA A100 40GB``, or its memory, speed in 16 bits and bandwidth, as in
            ``24GB,165TFLOP/s,1008GB/s``; by default this machine's.
        visits: visits of a subject, instead of those of the data.
        out: the run's folder, which must be empty.
        conditioner: as for `train`.
        denoiser: as for `train`.
        sampler: as for `train`.
        codec: as for `train`.
        init: as for `train`.
        size: as for `train`.
        read: do all that `train` does before its first step: read and check every visit (which fills the cache of
            preprocessed visits), split, compose and initialise. No run is written.
        progress: show progress bars.

    Raises:
        LongigenError: if data, hyperparameters or the device cannot be used, the model has no weights, or its grid
            follows from data that are not given.
    """
    from longigen.planning.device import Device
    from longigen.planning.plan import make_plan, stand_in
    from longigen.training.experiment import Experiment
    from longigen.training.run import Run

    _require(visits=visits)
    chosen = None if device is None else Device.parse(device)
    if out is not None:
        Run.require_empty(Path(out))
    components = {"conditioner": conditioner, "denoiser": denoiser, "sampler": sampler}
    absent = None
    if data is None and init is None and config is None and not read:
        absent = stand_in(recipe or DEFAULT_RECIPE)
    resolved, _ = _recipe(recipe, components, absent or data, as_changes(changes), init, size, config, progress, codec)
    bars = _bars(progress)
    experiment = None
    if read:
        experiment = _experiment(resolved, bars)
        model = experiment.compose()
        for note in filter(None, [start.apply(model) for start in experiment.warm_starts]):
            log.info(note)
        log.info(experiment.summary(model))
    elif absent is None:
        experiment = Experiment.of(resolved)
    with bars("planning") as update:
        return make_plan(resolved, experiment, device=chosen, visits=visits, read=read, update=update)


def config_text(
    recipe: str | None = None,
    data: Path | str | None = None,
    *,
    changes: Changes = (),
    config: Path | str | None = None,
    conditioner: str | None = None,
    denoiser: str | None = None,
    sampler: str | None = None,
    codec: Path | str | None = None,
    init: str | None = None,
    size: str | None = None,
    progress: bool = True,
) -> str:
    """Return all hyperparameters of a training as YAML, which `train` reads as its `config`; nothing is trained.

    Args:
        recipe: as for `train`.
        data: as for `train`.
        changes: as for `train`.
        config: as for `train`.
        conditioner: as for `train`.
        denoiser: as for `train`.
        sampler: as for `train`.
        codec: as for `train`.
        init: as for `train`.
        size: as for `train`.
        progress: show a progress bar.

    Raises:
        LongigenError: if hyperparameters cannot be used.
    """
    from longigen.training.run_config import config_text

    components = {"conditioner": conditioner, "denoiser": denoiser, "sampler": sampler}
    resolved, _ = _recipe(recipe, components, data, as_changes(changes), init, size, config, progress, codec)
    return config_text(resolved)


def _recipe(
    recipe: str | None,
    components: Mapping[str, str | None],
    data: Path | str | None,
    changes: Sequence[str],
    init: str | None,
    size: str | None,
    file: Path | str | None,
    progress: bool,
    codec: Path | str | None = None,
) -> "tuple[Recipe, Mapping[str, Sequence[str]] | None]":
    """Return a recipe of the catalog with the user's choices, as `train` takes them, and the split of a run to repeat.

    A split of other data, or by other settings, is not returned, which is logged.
    """
    from longigen.training.recipe import Recipe
    from longigen.training.run_config import RunConfig
    from longigen.training.warm_start import FineTuning, warm_starts

    read = None if file is None else RunConfig.read(file)
    origin = {} if read is None else read.origin
    named = origin.get("recipe")
    if recipe is not None and named not in (None, recipe):
        raise LongigenError(
            f"{file} is of the recipe '{named}', so --recipe {recipe} does not go with it; leave it out."
        )
    if init is None and read is not None and origin.get("init"):
        init = read.recipe.get("training", {}).get("init_denoiser")  # the model that the run was fine-tuned from
    model = None
    if init is not None:
        fine_tuning = FineTuning.of(_source(init, progress=progress))
        log.info(fine_tuning.summary)
        model, changes = fine_tuning.config, [*changes, *fine_tuning.changes]
    if codec is not None:
        from longigen.models.open_codec import codec_choice

        named_codec, of_codec = codec_choice(str(codec))
        components, changes = {**components, "codec": named_codec}, [*of_codec, *changes]
    chosen = recipe or named or DEFAULT_RECIPE
    resolved = Recipe.resolve(
        chosen,
        components=components,
        data=None if data is None else str(data),
        changes=changes,
        model=model,
        size=size,
        config=read,
    )
    if resolved.overruled:
        log.info(
            f"Where the recipe '{chosen}' differs, the values of {init} hold: {', '.join(resolved.overruled)}; "
            "--set KEY=VALUE changes them."
        )
    for start in warm_starts(resolved.settings("training")):
        start.check(resolved.names[start.part])  # before the data are read
    split = None if read is None else read.split_for(resolved)
    for note in () if read is None else filter(None, (read.note, read.split and not split and OTHER_SPLIT)):
        log.info(note)
    return resolved, split


def _fit(
    recipe: "Recipe",
    run: "Run",
    *,
    resume: bool,
    split: Mapping[str, Sequence[str]] | None,
    new: "NewSubjects | None",
    progress: Progress,
) -> "Run":
    """Read the data of a recipe and train its model to the last step; a `split` is kept as it was recorded."""
    from longigen.evaluation.metrics import load_metrics
    from longigen.evaluation.validation import ValidationScores
    from longigen.training.tracking import tracking_note

    training = recipe.settings("training")
    note = tracking_note(training.track, run.folder)  # before data are read, since a tracker may not be installed
    experiment = _experiment(recipe, progress, split=split, new=new)
    trainer = experiment.trainer(run, resume=resume)
    trainer.scorer = ValidationScores.of(experiment.cohort, training, load_metrics(SCORED_IN_TRAINING), BEST_BY)
    is_main = trainer.accelerator.is_main_process
    if is_main:
        log.info(experiment.summary(trainer.model))
        log.info(note)
    with progress("training") as update:

        def show(step: int, metrics: dict[str, Any]) -> None:
            if is_main:
                validation = metrics.get(trainer.validated)
                label = "validation" if trainer.validated == "validation_loss" else "fixed pairs of training subjects"
                text = f"loss {metrics['loss']:.4f}" + (f"  {label} {validation:.4f}" if validation else "")
                update(step, experiment.training.steps, text)

        try:
            trainer.fit(show)
        except KeyboardInterrupt:
            log.info(
                f"Stopped at step {trainer.step}; continue with: longigen train --resume --out {quote(str(run.folder))}"
            )
            raise
    if is_main and trainer.best is not None:
        best = trainer.best
        others = "; the last weights are used, unless --weights best (weights='best') says otherwise"
        log.info(
            f"The best validation was that of step {best.step}: {BEST_BY.upper()} {best.score:+.3g} over copy-last"
            f"{others if best.step < trainer.step else ''}"
        )
    return run


def _experiment(
    recipe: "Recipe",
    progress: Progress,
    *,
    split: Mapping[str, Sequence[str]] | None = None,
    new: "NewSubjects | None" = None,
) -> "Experiment":
    """Return a recipe with its data, every visit of which is read and checked."""
    from longigen.data.issues import BadData
    from longigen.training.experiment import Experiment

    try:
        with progress("reading") as update:
            experiment = Experiment.of(recipe, update, split=split, new=new)
            experiment.read(update)
    except BadData as error:
        data = recipe.configs["data"].get("path") or recipe.names["data"]
        doctor = f"longigen doctor {quote(str(data))}"
        raise LongigenError(
            f"{error} To leave out bad visits and subjects, add --skip-bad; to list them all, run '{doctor}'."
        ) from error
    log_skipped(experiment.cohort.skipped)
    return experiment


@_on_its_device
def distill(
    model: "Path | str | Run",
    out: Path | str | None = None,
    *,
    steps: int = 4,
    teacher_steps: int = 8,
    data: Path | str | None = None,
    changes: Changes = (),
    recipe: str | None = None,
    device: str | None = None,
    progress: bool = True,
) -> "Run":
    """Train a student that generates in a few steps what a model generates in many; return its run.

    The student begins with the model's weights, and learns its guided predictions, so it needs no guidance of its own.
    A run that was stopped continues with `train` and `resume`.

    Args:
        model: the teacher: a run, a run's or a model's folder, a published model's name, or ``hf-hub:org/repo``.
        out: the run's folder; by default a new one under ``runs/``.
        steps: network evaluations of the student per visit.
        teacher_steps: the teacher's steps for one of the student's.
        data: a data set's name, a file or folder, or ``NAME:PATH``; by default the data the model was trained on, with
            the settings of its run.
        changes: hyperparameters, e.g. ``{"training.steps": 2000}``.
        recipe: the recipe of the training settings; by default the one that the model was trained with.
        device: ``cpu``, ``cuda``, ``cuda:1`` or ``mps``; by default a GPU, if there is one.
        progress: show progress bars.

    Raises:
        LongigenError: if the model has one noise level only or learns by losses of its own, or cannot be trained.
    """
    from longigen.hub.model_config import read_config
    from longigen.models.longitudinal import LongitudinalModel
    from longigen.models.pretrained import load_folder
    from longigen.training.run import Run

    _require(steps=steps, teacher_steps=teacher_steps)
    source = _source(model, progress=progress)
    folder = source.find()
    teacher = load_folder(LongitudinalModel, folder)
    low, high = teacher.sampler.trained_range
    if not low < high:
        raise LongigenError(
            f"{source.stem} generates in one evaluation already, so there is nothing to distil; choose a diffusion "
            "model."
        )
    student = {
        "training.teacher": source.pinned_name(folder),
        "sampler.steps": steps,
        "sampler.teacher_steps": teacher_steps,
        "sampler.prediction": teacher.prediction,
        "sampler.log_snr_min": max(low, -STUDENT_LEVEL),
        "sampler.log_snr_max": min(high, STUDENT_LEVEL),
        "model.guidance": 0.0,
        "model.p_uncond": 0.0,
    }
    if data is None and source.run:
        settings = Run(source.run).read()["recipe"]["data"]
        data = settings["name"]
        student |= {f"data.{key}": value for key, value in settings.items() if key != "name" and value is not None}
    return train(
        data,
        recipe or read_config(folder).get("training", {}).get("recipe") or DEFAULT_RECIPE,
        changes=[*as_changes(student), *as_changes(changes)],
        out=out,
        sampler="distilled",
        init=_name_of(model),
        device=device,
        progress=progress,
    )


@_on_its_device
def generate(
    model: "Path | str | Run",
    out: Path | str | None = None,
    *,
    weights: "Weights" = "last",
    data: Path | str | None = None,
    changes: Changes = (),
    setting: "Scenario" = "full",
    times: Sequence[str | float] | str | float | None = None,
    subjects: Sequence[str] = (),
    part: "Part | None" = None,
    share: str | None = None,
    samples: int = 1,
    sampler: "Sampler | str | None" = None,
    steps: int | None = None,
    guidance: float | None = None,
    guidance_interval: tuple[float, float] | None = None,
    order: "Order | None" = None,
    precision: "Precision" = "auto",
    compile: "Compile" = "none",
    seed: int = 0,
    detail: bool = True,
    explain: bool = False,
    overwrite: bool = False,
    animate: bool = False,
    video: bool = False,
    series: bool = False,
    layout: "LayoutName | None" = None,
    batch_size: "Size" = 4,
    skip_bad: bool = False,
    device: str | None = None,
    progress: bool = True,
) -> "WrittenVisits":
    """Generate visits for the subjects of a data set and write them as NIfTI files, each with a JSON sidecar.

    The folder is a BIDS data set of derivatives, which `train`, `examine` and `evaluate` read (or see `layout`).
    ``visits.csv`` lists the visits, and ``contact-sheet.png`` shows the first subjects in three planes. Visits that are
    in `out` already, whole and of the same model, settings and inputs, stay as they are, so that the same call goes on
    after an interruption. For one subject of your own see `LongitudinalModel.forecast`.

    Args:
        model: a run, a run's or a model's folder, a published model's name, or ``hf-hub:org/repo``.
        out: the folder to write to; by default a new one under ``generated/``.
        weights: which weights of a run: of its ``last`` step, or of the one with the ``best`` validation.
        data: a data set's name, a file or folder, or ``NAME:PATH``; by default the data the model was trained on.
        changes: parameters of the data set, by name or as strings ``name=value``; ``preprocess.shape`` in voxels or
            ``preprocess.extent`` in mm chooses the model's grid, 0 for all of each subject along an axis.
        setting: which visits are given: the first (``single``), a random part (``missing``), or all visits before each
            target (``full``).
        times: times to generate instead of the subjects' own visits, in the data set's unit; ``"+1"`` is one unit
            after the subject's last visit.
        subjects: ids of the subjects; by default all of the part.
        part: part of the training data set's split; by default ``test``, and ``all`` for other data.
        share: generate for a share of these subjects, as in ``"3/64"``, the third of 64; for jobs that run side by
            side and write into one folder.
        samples: number of samples of each visit; with several, their mean and standard deviation are written too.
        sampler: sampler, or its name, to use instead of the model's own.
        steps: network evaluations per visit; by default the sampler's own number.
        guidance: weight w ≥ 0 of classifier-free guidance; by default the model's own.
        guidance_interval: the lowest and the highest λ (log-SNR) with guidance; by default the model's own.
        order: generate each time from the given visits alone (``direct``), or let each generated visit join the history
            of the next (``autoregressive``); by default the model's own.
        precision: the type that the networks compute in: ``fp32``, ``bf16``, ``fp16``, or ``auto``, which is bf16 on a
            GPU that has it and fp32 elsewhere.
        compile: compile the networks with `torch.compile`: ``full``, ``regional`` (the blocks that repeat) or ``none``.
            The first visit then takes minutes.
        seed: random seed of the sampling noise and of the choice of missing visits.
        detail: keep the own voxels of the last given visit, moved and changed as the model says; otherwise the volumes
            are the model's images, interpolated from its grid.
        explain: also write maps of how much each earlier visit contributed.
        overwrite: replace files of the same visits that are in `out` already, instead of keeping those of the same
            model, settings and inputs and refusing others.
        animate: also write each subject's visits in order of time as a GIF, with the true ones beside them.
        video: the same as an MP4 video; needs ``longigen[video]``.
        series: also write each subject's generated visits as one 4D NIfTI file, such as the frames of a heart.
        layout: how the folder is laid out: ``bids``, as BIDS derivatives, or ``flat``, with one folder for each
            subject; by default that of the visits that it holds already, or else ``bids``.
        batch_size: number of volumes generated in one batch, samples of subjects; ``auto`` for as many as memory holds.
        skip_bad: leave out visits and subjects that cannot be used.
        device: ``cpu``, ``cuda``, ``cuda:1`` or ``mps``; by default a GPU, if there is one.
        progress: show progress bars.

    Raises:
        LongigenError: if the model or the data cannot be used or do not fit each other, or a file cannot be written.
    """
    from longigen.utils.files import new_folder, writable_folder
    from longigen.utils.memory import keep_freed_memory

    _require(
        samples=samples,
        batch_size=batch_size,
        steps=steps,
        guidance=guidance,
        guidance_interval=guidance_interval,
        seed=seed,
    )
    one_of = _share(share)
    source = _source(model, weights=weights, progress=progress)
    _require_folder(out)
    folder = Path(out) if out is not None else new_folder("generated", source.stem)
    writable_folder(folder)
    keep_freed_memory()

    from longigen.generation.writer import write_cohort
    from longigen.models.predict import GenerationSettings

    listed = [times] if isinstance(times, str | float | int) else times or ()
    generation = GenerationSettings.among(locals())
    session = _session(source, data, changes, part, subjects, skip_bad, progress, one_of)
    log.info(f"{len(session.subjects)} subjects of {session.cohort.name} ({session.note})")
    _log_processes("subjects")
    with _bars(progress)("generating") as update:
        written = write_cohort(
            session,
            folder,
            generation,
            scenario=setting,
            times=None if times is None else [str(time) for time in listed],
            samples=samples,
            detail=detail,
            explain=explain,
            overwrite=overwrite,
            animate=animate,
            video=video,
            series=series,
            layout=layout,
            batch_size=batch_size,
            callback=update,
        )
    if written.kept:
        log.info(f"{written.kept} visits were there already, of this model and these settings, and stay as they are")
    if written.caution:
        log.info(written.caution)
    return written


@_on_its_device
def evaluate(
    model: "Path | str | Run | LongitudinalModel",
    *,
    weights: "Weights" = "last",
    data: Path | str | None = None,
    changes: Changes = (),
    out: Path | str | None = None,
    settings: "Sequence[Scenario] | Scenario" = (),
    targets: "Targets" = "last",
    space: "Space" = "subject",
    part: "Part | None" = None,
    metrics: Sequence[str] = (),
    protocol: str | None = None,
    segmenter: "Segmenter | str | None" = None,
    regions: Sequence[str] = (),
    samples: int = 1,
    sampler: "Sampler | str | None" = None,
    steps: int | None = None,
    guidance: float | None = None,
    guidance_interval: tuple[float, float] | None = None,
    order: "Order | None" = None,
    precision: "Precision" = "auto",
    compile: "Compile" = "none",
    seed: int = 0,
    batch_size: "Size" = 4,
    skip_bad: bool = False,
    device: str | None = None,
    progress: bool = True,
) -> "Evaluation":
    """Score the visits that a model generates against the true ones, beside copy-last and blurred copies.

    Args:
        model: a loaded model, a run, a run's or a model's folder, a published model's name, or ``hf-hub:org/repo``.
        weights: which weights of a run: of its ``last`` step, or of the one with the ``best`` validation.
        data: a data set's name, a file or folder, or ``NAME:PATH``; by default the data the model was trained on.
        changes: parameters of the data set, by name or as strings ``name=value``; ``preprocess.shape`` in voxels or
            ``preprocess.extent`` in mm chooses the model's grid, 0 for all of each subject along an axis.
        out: the folder for the table, scores and figure; by default only ``metrics.json`` is written, beside the
            weights, unless training used some of the subjects. There, other metrics and settings by the same protocol
            are kept.
        settings: which visits are given: ``single``, ``missing``, ``full`` (see `generate`); by default all three.
        targets: visits to score: each subject's ``last`` one, which is the same in all settings, or ``all``.
        space: where volumes are compared: ``subject`` for the last given visit's own voxels, with the generated visits
            as they are written for a user; ``model`` for the model's grid, as papers do that shrink their data.
        part: part of the training data set's split; by default ``test``, and ``all`` for other data.
        metrics: names of metrics, or ``name:key=value``; by default those of the default table.
        protocol: name of a published protocol (``longigen list protocols``), which sets settings, targets, space and
            metrics as its authors have them, and the preparation of its data set; nothing is then written beside the
            weights, and regions are not scored.
        segmenter: marks regions in images, which are then scored: a folder that `train_segmenter` wrote,
            ``hf-hub:org/repo``, the name of a segmenter, ``NAME:VALUE``, such as ``command:PROGRAM --i {image} --o
            {labels}``, or a `Segmenter`.
        regions: the regions of the segmenter's labels, each as ``NAME=LABELS``; by default its own, or the data set's.
        samples: number of samples of each visit; with several, their distribution is scored too.
        sampler: sampler, or its name, to use instead of the model's own.
        steps: network evaluations per visit; by default the sampler's own number.
        guidance: weight w ≥ 0 of classifier-free guidance; by default the model's own.
        guidance_interval: the lowest and the highest λ (log-SNR) with guidance; by default the model's own.
        order: generate each time from the given visits alone (``direct``), or let each generated visit join the history
            of the next (``autoregressive``); by default the model's own.
        precision: the type that the networks compute in: ``fp32``, ``bf16``, ``fp16``, or ``auto``, which is bf16 on a
            GPU that has it and fp32 elsewhere.
        compile: which parts of the networks to compile (see `generate`).
        seed: random seed of the sampling noise and of the choice of missing visits.
        batch_size: number of volumes generated in one batch, samples of subjects; ``auto`` for as many as memory holds.
        skip_bad: leave out visits and subjects that cannot be used.
        device: ``cpu``, ``cuda``, ``cuda:1`` or ``mps``; by default a GPU, if there is one.
        progress: show progress bars.

    Raises:
        LongigenError: if the model or the data cannot be used or do not fit each other.
    """
    _require(
        samples=samples,
        batch_size=batch_size,
        steps=steps,
        guidance=guidance,
        guidance_interval=guidance_interval,
        seed=seed,
    )
    with ExitStack() as stack:
        others = {"segmenter": segmenter, "region": regions}
        published = _published(protocol, setting=settings, targets=targets, space=space, metric=metrics, **others)
        source = _scored_source(model, out, stack, weights=weights, progress=progress)

        from longigen.components.metric import RegionMetric
        from longigen.data.regions import parse_regions
        from longigen.evaluation.evaluate import Evaluation, protocol_of
        from longigen.evaluation.metrics import load_metrics, of_channels
        from longigen.evaluation.regions import Regions
        from longigen.evaluation.run_metrics import save_to_run
        from longigen.models.open_segmenter import open_segmenter
        from longigen.models.predict import GenerationSettings
        from longigen.models.tasks import ordered
        from longigen.utils.memory import keep_freed_memory

        chosen = load_metrics(published.metrics if published else metrics, samples=samples)
        marks = open_segmenter(segmenter) if isinstance(segmenter, str) else segmenter
        named = parse_regions(regions, "--region")
        keep_freed_memory()
        generation = GenerationSettings.among(locals())
        if published:
            published.require_data(_data_name(source, data))
            changes = published.changes(as_changes(changes))
        session = _session(source, data, changes, part, (), skip_bad, progress)
        _log_processes("subjects")
        regional = None
        if marks is not None or named or any(isinstance(metric, RegionMetric) for metric in chosen.values()):
            subjects = [prepared.subject for prepared in session.subjects]
            regional = Regions.of(session.cohort.dataset, subjects, marks, named)
            chosen = regional.metrics(chosen)
            regional.check_unseen(session.cohort.subjects, session.subjects)
            if regional.caution and is_main_process():
                log.info(regional.caution)
        chosen = of_channels(chosen, session.cohort.channels)
        if published:
            scored = published.protocol(session, chosen, seed, samples)
        else:
            scored = protocol_of(session, chosen, ordered(settings), targets, seed, samples, space, regional)
        bars = _bars(progress)
        evaluation = Evaluation.of(
            session, generation, scored, chosen, regions=regional, batch_size=batch_size, progress=bars
        )
        if is_main_process():
            if not published:  # others' protocols are for comparison, and are not what a model is published with
                path, note = save_to_run(evaluation.metrics_file, evaluation.source)
                if note:
                    log.info(note)
                evaluation = replace(evaluation, metrics_path=path)
            if out is not None:
                evaluation.save(out)
        return evaluation


def train_codec(
    data: Path | str,
    out: Path | str,
    *,
    name: str = "kl",
    changes: Changes = (),
    progress: bool = True,
) -> "NetworkCodec":
    """Train a codec on the images of a data set, on whose codes models are then trained (see `train`).

    Args:
        data: a data set's name, a file or folder, or ``NAME:PATH``.
        out: the folder for the weights, new or empty.
        name: name of the codec, a network (``longigen list codecs``).
        changes: hyperparameters by ``section.key`` or strings ``section.key=value``, where the section is ``codec``,
            ``training``, ``preprocess``, ``split`` or ``data``.
        progress: show a progress bar.

    Raises:
        LongigenError: if the data cannot be read, or an option is invalid.
    """
    from longigen.data.cohort import Cohort
    from longigen.data.preprocess import PreprocessSettings
    from longigen.data.split import SplitSettings
    from longigen.models.network_codec import NetworkCodec
    from longigen.registry.registry import registry
    from longigen.training.codec_training import CodecSettings, fit

    found, config, network, given = _to_train(
        "codec", name, data, changes, CodecSettings, preprocess=PreprocessSettings
    )
    if not issubclass(network, NetworkCodec):
        raise LongigenError(f"The codec '{name}' has no weights, so there is nothing to train; use it as it is.")
    cohort = Cohort(
        found,
        registry.make("dataset", found, {**config, **given["data"]}),
        PreprocessSettings.from_config(given["preprocess"], "preprocess"),
        SplitSettings.from_config(given["split"], "split"),
    )
    settings = CodecSettings.from_config(given["training"], "training")
    return fit(registry.make("codec", name, given["codec"]), cohort, settings, Path(out), progress=_bars(progress))


def _to_train(
    kind: str, name: str, data: Path | str, changes: Changes, training: type[Any], **others: type[Any]
) -> tuple[str, dict[str, Any], type[Any], dict[str, dict[str, Any]]]:
    """Return what a component is trained on and with: data set, its configuration, the class, changes by section.

    The sections are `kind`, ``training``, ``split``, ``data`` and `others`, each with its settings class.
    """
    from longigen.components.base import parameters
    from longigen.components.changes import parse_change
    from longigen.data.open_dataset import find_dataset
    from longigen.data.split import SplitSettings
    from longigen.registry.registry import registry

    found, config = find_dataset(str(data))
    reader, network = registry.load("dataset", found), registry.load(kind, name)
    sections = {kind: network, "training": training, "split": SplitSettings, "data": reader, **others}
    known = {section: parameters(cls) for section, cls in sections.items()}
    given: dict[str, dict[str, Any]] = {section: {} for section in sections}
    for section, key, value in (parse_change(change, known) for change in as_changes(changes)):
        given[section][key] = value
    return found, config, network, given


def train_segmenter(
    data: Path | str,
    out: Path | str,
    *,
    name: str = "unet",
    changes: Changes = (),
    progress: bool = True,
) -> "NetworkSegmenter":
    """Train a segmenter on the true label maps of a data set, to score regions in generated visits (see `evaluate`).

    Args:
        data: a data set's name, a file or folder, or ``NAME:PATH``, whose visits have label maps.
        out: the folder for the weights, new or empty.
        name: name of the segmenter, a network (``longigen list segmenters``).
        changes: hyperparameters by ``section.key`` or strings ``section.key=value``, where the section is
            ``segmenter``, ``training``, ``split`` or ``data``.
        progress: show a progress bar.

    Raises:
        LongigenError: if the data have no label maps or cannot be read, or an option is invalid.
    """
    from longigen.data.split import SplitSettings
    from longigen.models.network_segmenter import NetworkSegmenter
    from longigen.registry.registry import registry
    from longigen.training.segmenter_training import SegmenterSettings, fit

    found, config, network, given = _to_train("segmenter", name, data, changes, SegmenterSettings)
    if not issubclass(network, NetworkSegmenter):
        raise LongigenError(f"The segmenter '{name}' is no network, so there is nothing to train; use it as it is.")
    return fit(
        registry.make("segmenter", name, given["segmenter"]),
        found,
        registry.make("dataset", found, {**config, **given["data"]}),
        SplitSettings.from_config(given["split"], "split"),
        SegmenterSettings.from_config(given["training"], "training"),
        Path(out),
        progress=_bars(progress),
    )


@_on_its_device
def consistency(
    model: "Path | str | Run | LongitudinalModel",
    *,
    weights: "Weights" = "last",
    data: Path | str | None = None,
    changes: Changes = (),
    out: Path | str | None = None,
    setting: "Scenario" = "single",
    part: "Part | None" = None,
    sampler: "Sampler | str | None" = None,
    steps: int | None = None,
    guidance: float | None = None,
    guidance_interval: tuple[float, float] | None = None,
    order: "Order | None" = None,
    precision: "Precision" = "auto",
    compile: "Compile" = "none",
    seed: int = 0,
    batch_size: "Size" = 4,
    skip_bad: bool = False,
    device: str | None = None,
    progress: bool = True,
) -> "Consistency":
    """Compare the state that a model generates for one time alone with the same time as the last of 2, 5, 10 and 20.

    Args:
        model: a loaded model, a run, a run's or a model's folder, a published model's name, or ``hf-hub:org/repo``.
        weights: which weights of a run: of its ``last`` step, or of the one with the ``best`` validation.
        data: a data set's name, a file or folder, or ``NAME:PATH``; by default the data the model was trained on.
        changes: parameters of the data set, by name or as strings ``name=value``; ``preprocess.shape`` in voxels or
            ``preprocess.extent`` in mm chooses the model's grid, 0 for all of each subject along an axis.
        out: the folder for ``consistency.json``; by default nothing is written.
        setting: which visits are given: ``single``, ``missing`` or ``full`` (see `generate`).
        part: part of the training data set's split; by default ``test``, and ``all`` for other data.
        sampler: sampler, or its name, to use instead of the model's own.
        steps: network evaluations per visit; by default the sampler's own number.
        guidance: weight w ≥ 0 of classifier-free guidance; by default the model's own.
        guidance_interval: the lowest and the highest λ (log-SNR) with guidance; by default the model's own.
        order: generate each time from the given visits alone (``direct``), or let each generated visit join the history
            of the next (``autoregressive``); by default the model's own.
        precision: the type that the networks compute in: ``fp32``, ``bf16``, ``fp16``, or ``auto``, which is bf16 on a
            GPU that has it and fp32 elsewhere.
        compile: which parts of the networks to compile (see `generate`).
        seed: random seed of the sampling noise and of the choice of missing visits.
        batch_size: number of volumes generated in one batch, samples of subjects; ``auto`` for as many as memory holds.
        skip_bad: leave out visits and subjects that cannot be used.
        device: ``cpu``, ``cuda``, ``cuda:1`` or ``mps``; by default a GPU, if there is one.
        progress: show progress bars.

    Raises:
        LongigenError: if the model or the data cannot be used or do not fit each other.
    """
    _require(batch_size=batch_size, steps=steps, guidance=guidance, guidance_interval=guidance_interval, seed=seed)
    with ExitStack() as stack:
        source = _scored_source(model, out, stack, weights=weights, progress=progress)

        from longigen.evaluation.consistency import Consistency
        from longigen.evaluation.metrics import load_metrics
        from longigen.models.predict import GenerationSettings
        from longigen.models.tasks import ordered
        from longigen.utils.memory import keep_freed_memory

        (similarity,) = load_metrics(["ssim"]).values()
        (scenario,) = ordered(setting)
        generation = GenerationSettings.among(locals())
        keep_freed_memory()
        session = _session(source, data, changes, part, (), skip_bad, progress)
        bars = _bars(progress)
        found = Consistency.of(session, generation, scenario, similarity, batch_size=batch_size, progress=bars)
        if out is not None and is_main_process():
            found.save(out)
        return found


@_on_its_device
def bench(
    table: str,
    out: Path | str | None = None,
    *,
    data: Path | str | None = None,
    rows: Sequence[str] = (),
    recipe: str | None = None,
    size: str | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    seeds: Sequence[int] = (0,),
    folds: int | None = None,
    settings: "Sequence[Scenario] | Scenario" = (),
    targets: "Targets" = "last",
    space: "Space" = "subject",
    metrics: Sequence[str] = (),
    protocol: str | None = None,
    fold: int | None = None,
    segmenter: "Segmenter | str | None" = None,
    regions: Sequence[str] = (),
    changes: Changes = (),
    precision: "Precision" = "auto",
    skip_bad: bool = False,
    device: str | None = None,
    progress: bool = True,
) -> "BenchmarkResult":
    """Train the rows of a benchmark table, score them by one protocol, and write the results into `out`.

    Rows that are already trained and scored are reused, so the same call continues after an interruption.

    Args:
        table: name of the benchmark table (``longigen list tables``).
        out: the folder of the runs and the results; by default ``bench/TABLE``.
        data: a data set's name, a file or folder, or ``NAME:PATH``; by default that of the table's recipe.
        rows: names of the rows to train and score; by default all.
        recipe: name of a recipe to use instead of the table's own, for the size and the data of all rows; rows whose
            method it would change are left out.
        size: one of the table's sizes, for a table that has them (``longigen info TABLE``); by default the first.
        steps: optimiser steps of each row.
        minutes: minutes of training of each row, instead of `steps`.
        seeds: random seeds; each row is trained once with each.
        folds: number of folds of a cross-validation, at least 2: each row is trained and tested once for each fold, and
            every subject is scored once per seed, in one table.
        settings: which visits are given: ``single``, ``missing``, ``full`` (see `generate`); by default all three.
        targets: visits to score: each subject's ``last`` one, which is the same in all settings, or ``all``.
        space: where volumes are compared: ``subject`` or ``model`` (see `evaluate`).
        metrics: names of metrics, or ``name:key=value``; by default the table's.
        protocol: name of a published protocol to train and score by (see `evaluate`).
        fold: number of one of the folds that the protocol's authors have, from 0: its subjects are the validation part.
        segmenter: marks regions in images, which are then scored (see `evaluate`).
        regions: the regions of the segmenter's labels, each as ``NAME=LABELS``.
        changes: hyperparameters, applied to every row that has them.
        precision: the type that the networks compute in when visits are generated for the scores (see `generate`); in
            training it is the hyperparameter ``mixed_precision``.
        skip_bad: leave out visits and subjects that cannot be used.
        device: ``cpu``, ``cuda``, ``cuda:1`` or ``mps``; by default a GPU, if there is one.
        progress: show progress bars.

    Raises:
        LongigenError: if the rows would not be comparable, or a run in the folder was trained with other options.
    """
    _require(minutes=minutes)
    if folds is not None and folds < 2:
        raise LongigenError(f"--folds must be a whole number of at least 2, got {folds}.")
    if fold is not None and (protocol is None or folds is not None):
        raise LongigenError(
            "--fold is one of the folds of a published protocol, so give it with --protocol; --folds trains and tests "
            "each of our own folds."
        )
    if steps is not None and minutes is not None:
        raise LongigenError("--steps and --minutes both set the length of training; give only one of the two.")
    if launched() > 1:
        raise LongigenError("A benchmark runs in one process; start it without torchrun or 'accelerate launch'.")

    from longigen.evaluation.benchmark_spec import BenchmarkSpec

    folder = Path(out) if out is not None else Path("bench") / table
    others = {"segmenter": segmenter, "region": regions}
    published = _published(protocol, setting=settings, targets=targets, space=space, metric=metrics, **others)
    spec = BenchmarkSpec.of(table, recipe=recipe, size=size)
    chosen_rows = spec.only(rows)
    if published:
        resolved, _ = chosen_rows[0].resolve(data=None if data is None else str(data), changes=(), forced=())
        published.require_data(resolved.names["data"])
        changes = published.changes(as_changes(changes), "data.", fold)

    from longigen.components.metric import RegionMetric
    from longigen.data.regions import parse_regions
    from longigen.evaluation.benchmark import Benchmark
    from longigen.evaluation.metrics import load_metrics, of_channels
    from longigen.evaluation.regions import Regions
    from longigen.models.open_segmenter import open_segmenter
    from longigen.models.tasks import ordered
    from longigen.utils.memory import keep_freed_memory

    chosen = load_metrics(published.metrics if published else metrics or spec.metrics)
    marks = open_segmenter(segmenter) if isinstance(segmenter, str) else segmenter
    named = parse_regions(regions, "--region")
    keep_freed_memory()
    benchmark = Benchmark(
        spec,
        folder,
        rows=rows,
        seeds=seeds,
        folds=folds,
        data=None if data is None else str(data),
        steps=steps,
        minutes=minutes,
        changes=as_changes(changes),
        skip_bad=skip_bad,
        precision=precision,
        progress=show_progress if progress else silent,
    )
    if published:
        published.require_masks(benchmark.tested)  # before anything is trained
    log_skipped(benchmark.cohort.skipped)
    for name, unused in benchmark.unused.items():
        if unused:
            log.info(f"Row '{name}' does not have these hyperparameters of --set: {', '.join(unused)}")
    regional = None
    if marks is not None or named or any(isinstance(metric, RegionMetric) for metric in chosen.values()):
        regional = Regions.of(benchmark.cohort.dataset, benchmark.tested, marks, named)
        chosen = regional.metrics(chosen)
        regional.check_unseen(benchmark.cohort.subjects, benchmark.cohort.prepared(benchmark.tested))
        if regional.caution:
            log.info(regional.caution)
    chosen = of_channels(chosen, benchmark.cohort.channels)
    result = benchmark.run(
        chosen, scenarios=ordered(settings), targets=targets, space=space, published=published, regions=regional
    )
    result.save(folder)
    benchmark.draw(result, folder)
    return result


def compare(
    results: Places,
    *,
    against: str | None = None,
    settings: "Sequence[Scenario] | Scenario" = (),
    metrics: Sequence[str] = (),
) -> "ModelComparison":
    """Put results of `evaluate` and `bench` beside each other, with tests of their differences, paired by subject.

    Results of different protocols are refused, but for settings and metrics that not all have, which are left out.

    Args:
        results: folders that `evaluate` or `bench` wrote, of a run or a model with a ``metrics.json`` (means alone, so
            without tests), of a row of a benchmark (``BENCH/ROW``), or a published model's name. A pair names the
            model, ``("mine", "eval-0")``; several of one name are seeds of its training. As a mapping:
            ``{"mine": ["eval-0", "eval-1"], "theirs": "eval-2"}``.
        against: name of the model, or of a copy such as ``copy-last``, that all are compared with; by default the
            first, or copy-last if there is only one.
        settings: settings to compare; by default all that the results have in common.
        metrics: names of metrics to compare; by default all that the results have in common.

    Raises:
        LongigenError: if there is no result, or the results are not of one protocol; the message says what differs.
    """
    from longigen.evaluation.model_comparison import ModelComparison
    from longigen.evaluation.results import distinct, read_results
    from longigen.utils.files import user_path

    named: list[tuple[str | None, Path | str]] = []
    if isinstance(results, str | Path):
        named.append((None, results))
    elif isinstance(results, Mapping):
        for name, places in results.items():
            named += [(name, place) for place in ([places] if isinstance(places, str | Path) else places)]
    else:
        named += [each if isinstance(each, tuple) else (None, each) for each in results]
    found = []
    for name, place in named:
        path = user_path(place)
        if not path.exists():  # perhaps a published model
            path, name = _source(place, progress=False).find(), name or str(place)
        found.append((name, read_results(path, name)))
    chosen = [settings] if isinstance(settings, str) else settings
    return ModelComparison.of(distinct(found), against=against, settings=chosen, metrics=metrics)


def examine(
    data: Path | str,
    *,
    model: "Path | str | Run | None" = None,
    changes: Changes = (),
    workers: int | None = None,
    progress: bool = True,
) -> "Examination":
    """Read every visit of a data set and return its problems, as ``longigen doctor`` prints them.

    An error is what `train` refuses, or `generate` if a model is given.

    Args:
        data: a data set's name, a file or folder, or ``NAME:PATH``.
        model: a run, a run's or a model's folder, a published model's name, or ``hf-hub:org/repo``, that the data
            should be fit for; by default they are examined for training.
        changes: parameters of the data set, by name or as strings ``name=value``.
        workers: number of subjects read in parallel; by default one per processor. Not with a model.
        progress: show a progress bar.

    Raises:
        LongigenError: if the data set cannot be opened, for example for want of the folder or of a column; or if the
            model cannot be loaded, or `generate` refuses all of the data; or if both `model` and `workers` are given.
    """
    _require(workers=workers)
    shown = show_progress if progress else silent
    if model is not None:
        if workers is not None:
            raise LongigenError("For a model, one worker per processor reads the data; leave workers out.")
        source = _source(model, progress=progress)

        from longigen.generation.suitability import examine_for

        with shown("reading visits") as update:
            return examine_for(source, str(data), as_changes(changes), update)

    from longigen.data.open_dataset import open_dataset
    from longigen.data.quality.inspect import examine

    _, dataset = open_dataset(data, as_changes(changes))
    for caution in dataset.cautions:
        log.info(caution)
    with shown("reading visits") as update:
        return examine(dataset, workers=workers, callback=update)


def prepare(
    raw: Path | str,
    out: Path | str,
    *,
    mask: "MaskChoice" = "auto",
    bias: "BiasChoice" = "n4",
    spacing: float | str | Sequence[float] | None = None,
    images: str | None = None,
    changes: Changes = (),
    progress: bool = True,
) -> "Preparation":
    """Prepare scans for training: register each subject's visits, correct and mask them, bring them onto one grid.

    The visits of a subject are registered rigidly to a space midway between them, which favours none, and each is
    interpolated once. `out` becomes a data set of BIDS derivatives, which `train` and `examine` read, with a transform
    for each visit and a picture for each subject. Subjects that are in it already, of the same images and settings, are
    kept. A subject that fails does not stop the others.

    Args:
        raw: a data set's name, a file or folder, or ``NAME:PATH``; or a plain folder tree SUBJECT/VISIT of NIfTI; or a
            folder of DICOM files, which dcm2niix converts.
        out: the folder to write to.
        mask: where the mask of each visit comes from: ``given`` (brain masks that come with the images),
            ``synthstrip``, ``hd-bet``, ``nonzero`` (the voxels other than 0), ``none``, or ``auto`` for what is at
            hand. A subject has one mask, the union of its visits'.
        bias: correct the bias field of each visit with N4 (``n4``), or not (``none``).
        spacing: size of the voxels in mm, one number or one for each axis, from 0.05 to 100; by default the median of
            all visits along each axis, or that of the folder.
        images: pattern of the images' names in a plain folder tree, such as ``*T1*``.
        changes: parameters of the data set, by name or as strings ``name=value``.
        progress: show a progress bar.

    Raises:
        LongigenError: if SimpleITK is not installed, the data cannot be opened, or `out` was prepared with other
            settings.
    """
    from longigen.preparation.cohort import prepare_cohort
    from longigen.preparation.settings import BiasChoice, MaskChoice, spacing_of
    from longigen.utils.files import user_path

    Parameter("mask", MaskChoice).check(mask)
    Parameter("bias", BiasChoice).check(bias)
    size = None if spacing is None else spacing_of(spacing)
    folder = user_path(out)
    with (show_progress if progress else silent)("preparing") as update:
        return prepare_cohort(
            str(raw),
            folder,
            changes=as_changes(changes),
            images=images,
            mask=mask,
            bias=bias,
            spacing=size,
            say=log.info,
            update=update,
        )


def report(
    folders: Path | str | Sequence[Path | str],
    out: Path | str | None = None,
    *,
    data: Path | str | None = None,
    changes: Changes = (),
    progress: bool = True,
) -> "Report":
    """Write one HTML page of runs, results and generated visits; it is complete in itself and loads nothing.

    It has the scores beside copy-last with their intervals and protocol, curves of training, pictures of each subject
    in three planes, the worst first, and a viewer of the volumes. `Report.left_out` says what is missing and why.

    Args:
        folders: folders that `train`, `evaluate`, `bench` and `generate` wrote, or folders that hold such folders.
        out: path of the page; by default ``report.html`` in the first folder.
        data: data set with the given and true visits of the generated ones: a name, a file or folder, or ``NAME:PATH``;
            by default that of a run among the folders, or the one that the generated visits name if it needs no files.
        changes: parameters of the data set, by name or as strings ``name=value``.
        progress: show a progress bar.

    Raises:
        LongigenError: if a folder holds nothing to report on, a file is damaged, the data set cannot be opened, or the
            page cannot be written.
    """
    from longigen.reporting.report import default_path, write_report
    from longigen.reporting.sources import KnownSubjects, Sources
    from longigen.utils.files import user_path

    given = [folders] if isinstance(folders, str | Path) else list(folders)
    sources = Sources.find(given)
    path = default_path(sources, given) if out is None else user_path(out)
    subjects = KnownSubjects(None if data is None else str(data), as_changes(changes), sources.runs)
    return write_report(sources, subjects, path, progress=_bars(progress))


def view(
    paths: Path | str | Sequence[Path | str],
    *,
    data: Path | str | None = None,
    changes: Changes = (),
    progress: bool = True,
) -> "View":
    """Open generated visits or image files in a viewer: three planes, a slider over visits, a wipe, differences.

    `View.serve` shows it in the browser until Ctrl-C, and `View.save` writes it as one HTML file.

    Args:
        paths: folders that `generate` wrote, or image files; the frames of a 4D image are shown one by one.
        data: data set with the given and true visits, for folders; see `report`.
        changes: parameters of the data set, by name or as strings ``name=value``.
        progress: show a progress bar.

    Raises:
        LongigenError: if a path is neither, an image cannot be read, or the data set cannot be opened.
    """
    from longigen.reporting.view import View

    given = [paths] if isinstance(paths, str | Path) else list(paths)
    opened = View.open(
        given, data=None if data is None else str(data), changes=as_changes(changes), progress=_bars(progress)
    )
    for note in opened.notes:
        log.info(note)
    return opened


def list_models() -> "list[ModelSummary]":
    """Return a summary of each published model; nothing is downloaded.

    A model with an invalid entry in a ``registry.yaml`` is left out; ``longigen list models`` says why.
    """
    from longigen.hub.model_summary import ModelSummary
    from longigen.hub.zoo import zoo_models

    return [ModelSummary.from_entry(model) for model in zoo_models()]


def catalog(section: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """Return components, recipes, benchmark tables, data sets and models by section, without importing them.

    Args:
        section: name of the one section to return, in the singular or the plural; by default all.

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
            raise LongigenError(
                f"There is no section '{section}' to list.{did_you_mean(section, chosen)} "
                f"Sections: {', '.join(chosen)}."
            )
        chosen = [section]
    merged = Catalog()
    sections = {name: list_section(merged, name) for name in chosen}
    for distribution, problem in merged.problems.items():
        log.info(f"The registry.yaml of {distribution} is left out: {problem}")
    return sections


def info(name: Path | str) -> dict[str, Any]:
    """Return the description of a component, recipe, benchmark table, model or run, without importing it.

    Args:
        name: its name, the folder of a run or a model, or ``hf-hub:org/repo``.

    Raises:
        LongigenError: if nothing has that name.
    """
    from longigen.hub.inventory import describe_name

    return describe_name(str(name))


def pull(name_or_path: str, *, token: str | None = None, progress: bool = True) -> "Pulled":
    """Download a model or a segmenter, or update it to its revision on the Hub, and verify its files.

    Args:
        name_or_path: a published model's name or ``hf-hub:org/repo[@revision]``.
        token: access token for a private repository; by default the one set by ``hf auth login`` or HF_TOKEN.
        progress: show a progress bar.

    Raises:
        LongigenError: if the model cannot be downloaded, or a file does not have its SHA-256.
    """
    from huggingface_hub.utils import logging as hub_logging

    from longigen.hub.manifest import DESCRIPTIONS
    from longigen.hub.resolve import ModelSource

    hub_logging.set_verbosity_error()  # without messages about retries and locks; failures are raised as errors
    source = ModelSource.parse(name_or_path, token=token, accepted=tuple(DESCRIPTIONS))
    with (show_transfer if progress and is_first() else silent)("pulling") as update:
        return source.pull(update)


def publication(
    model: "Path | str | Run",
    repository: str,
    *,
    tag: str | None = None,
    private: bool | None = None,
    licence: str | None = None,
    notes: str = "",
    weights: "Weights" = "last",
    token: str | None = None,
) -> "AbstractContextManager[Publication]":
    """Prepare a model or a segmenter for publication on the Hub; the result's ``publish`` method uploads it.

    `LongitudinalModel.push_to_hub` does both in one call.

    Args:
        model: a run, a run's or a model's folder, a published model's name, or a folder of `train_segmenter`.
        repository: the repository, ``org/name``.
        tag: tag of the version; by default v1, v2 …
        private: visibility of a new repository, by default True; for an existing one, the visibility to require.
        licence: licence of the weights, e.g. ``apache-2.0``.
        notes: Markdown that is added to the model card, such as how the data were collected.
        weights: which weights of a run: of its ``last`` step, or of the one with the ``best`` validation.
        token: access token with write permission; by default the one set by ``hf auth login`` or HF_TOKEN.

    Raises:
        LongigenError: if there is no such model, its metrics belong to other weights, or private values of its
            configuration cannot be removed.
    """
    from longigen.hub.manifest import DESCRIPTIONS, SEGMENTER
    from longigen.hub.publish import publication
    from longigen.hub.resolve import LOCAL
    from longigen.models.network_segmenter import load_segmenter
    from longigen.models.open_codec import load_any

    def load(folder: Path) -> "LongitudinalModel | NetworkCodec | NetworkSegmenter":
        return load_segmenter(folder) if (folder / SEGMENTER).exists() else load_any(folder)

    source = _source(model, weights=weights, token=token, accepted=tuple(DESCRIPTIONS))
    return publication(
        _name_of(model) if weights == "last" else f"{LOCAL}{source.find()}",
        repository,
        load=load,
        tag=tag,
        private=private,
        licence=licence,
        notes=notes,
        token=token,
    )


def new_plugin(name: str, kind: str, out: Path | str | None = None) -> "PluginTemplate":
    """Write a new plugin package with a working component, its tests and its entry point.

    Args:
        name: name of the component: lower-case letters, digits and hyphens.
        kind: conditioner, denoiser, sampler, dataset or metric.
        out: the folder to write to; by default ``./NAME``.

    Raises:
        LongigenError: if the name cannot be used or is taken, or the folder is not empty.
    """
    from longigen.registry.new_plugin import PluginTemplate

    template = PluginTemplate(name, kind)
    template.write(Path(out) if out is not None else Path(name))
    return template


def is_main_process() -> bool:
    """Return whether this process is the only one, or the first of those that a launcher started."""
    return is_first()


def join_processes() -> None:
    """Let the processes that a launcher started find each other, if there are several.

    Raises:
        LongigenError: if there are not as many as the launcher says.
    """
    if launched() > 1:
        from longigen.utils.processes import processes

        processes()


def _bars(progress: bool) -> Progress:
    """Return what shows progress; of several processes the first does."""
    return show_progress if progress and is_first() else silent


def _require_folder(out: Path | str | None) -> None:
    if out is None and launched() > 1:
        raise LongigenError("Several processes need one folder to write to; give it with --out (out=FOLDER).")


def _log_processes(work: str) -> None:
    if launched() > 1:
        log.info(f"{launched()} processes share the {work}")


def log_skipped(findings: "Sequence[Finding]", limit: int = 20) -> None:
    """Log which visits and subjects were left out, and why; at most `limit` of them."""
    for finding in findings[:limit]:
        log.info(f"Skipped: {finding}")
    if len(findings) > limit:
        log.info(f"Skipped {len(findings) - limit} more; 'longigen doctor' lists them all.")


def _require(**arguments: float | str | tuple[float, float] | None) -> None:
    """Check that numeric arguments are None or within their ranges, before anything is loaded.

    Raises:
        LongigenError: if one is not; the message names the argument.
    """
    for name, value in arguments.items():
        if value is not None:
            Parameter(name, ARGUMENTS[name]).check(value)


def _share(text: str | None) -> tuple[int, int]:
    """Return the number of a share and how many there are, from a text such as ``3/64``.

    Raises:
        LongigenError: if it is not such a text.
    """
    if text is None:
        return 1, 1
    number, slash, shares = text.partition("/")
    if not (slash and number.isdecimal() and shares.isdecimal() and 1 <= int(number) <= int(shares)):
        raise LongigenError(f"--share (share) must be a number and how many there are, such as 3/64, got {text!r}.")
    return int(number), int(shares)


def _name_of(model: "Path | str | Run") -> str:
    return str(model) if isinstance(model, str | Path) else f"local-dir:{model.folder}"


def _source(
    model: "Path | str | Run",
    *,
    revision: str | None = None,
    token: str | None = None,
    weights: "Weights | None" = None,
    accepted: tuple[str, ...] | None = None,
    progress: bool = True,
) -> "ModelSource":
    """Return the source of a model, or of what else is `accepted`, downloaded first if need be, with its errors.

    If the caller lets the user choose a run's `weights` and there is a choice, which they are is logged.
    """
    from longigen.hub.manifest import CONFIG
    from longigen.hub.resolve import ModelSource

    source = ModelSource.parse(
        _name_of(model), revision, token=token, accepted=accepted or (CONFIG,), weights=weights or "last"
    )
    if weights is not None and source.note:
        log.info(source.note)
    with (show_transfer if progress and is_first() else silent)("pulling") as update:
        source.find(update)
    return source


def _published(
    name: str | None, *, setting: Sequence[str], targets: str, space: str, metric: Sequence[str], **others: Any
) -> "PublishedSpec | None":
    """Return the published protocol of a name, None without one, after checking that nothing else sets what it sets."""
    if name is None:
        return None
    from longigen.evaluation.published import PublishedSpec

    spec = PublishedSpec.of(name)
    spec.require_alone(setting=setting, targets=targets != "last", space=space != "subject", metric=metric, **others)
    return spec


def _data_name(source: "ModelSource", data: Path | str | None) -> str:
    """Return the name of the chosen data set, or of the one that a model was trained on."""
    from longigen.data.open_dataset import find_dataset
    from longigen.hub.manifest import CONFIG
    from longigen.utils.files import read_json

    if data is not None:
        return find_dataset(str(data))[0]
    return str(read_json(source.find() / CONFIG).get("data", {}).get("name"))


def _scored_source(
    model: "Path | str | Run | LongitudinalModel",
    out: Path | str | None,
    stack: ExitStack,
    *,
    weights: "Weights",
    progress: bool,
) -> "ModelSource":
    """Return the source of a model to score, after checking that `out` can be written.

    A loaded model is saved into a temporary folder of `stack`.
    """
    from longigen.models.longitudinal import LongitudinalModel
    from longigen.utils.files import writable_folder

    if isinstance(model, LongitudinalModel):
        loaded, model = model, stack.enter_context(TemporaryDirectory())
        loaded.save_pretrained(model)
    source = _source(model, weights=weights, progress=progress)
    if out is not None:
        writable_folder(Path(out))
    return source


def _session(
    source: "ModelSource",
    data: Path | str | None,
    changes: Changes,
    part: "Part | None",
    subjects: Sequence[str],
    skip_bad: bool,
    progress: bool,
    one_of: tuple[int, int] = (1, 1),
) -> "GenerationSession":
    from longigen.generation.session import GenerationSession

    with _bars(progress)("reading") as update:
        session = GenerationSession.open(
            source,
            data=None if data is None else str(data),
            changes=as_changes(changes),
            part=part,
            ids=subjects,
            one_of=one_of,
            skip_bad=skip_bad,
            callback=update,
        )
    log_skipped(session.cohort.skipped)
    return session
