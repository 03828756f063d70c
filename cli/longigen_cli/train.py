"""``longigen train``: compose, train, resume."""

import json
import os
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from longigen.errors import LongigenError
from longigen.finding import BadData
from longigen_cli.console import Changes, Data, SkipBad, new_folder, progress, say, say_skipped, transfer


def train(
    data: Data = None,
    conditioner: Annotated[str | None, typer.Option(help="The conditioner, e.g. sadm.")] = None,
    denoiser: Annotated[str | None, typer.Option(help="The denoiser, e.g. unet3d.")] = None,
    sampler: Annotated[str | None, typer.Option(help="The sampler, e.g. continuous.")] = None,
    recipe: Annotated[str, typer.Option(help="What to start from; the other options change it.")] = "sadm-tiny",
    changes: Changes = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.", min=1)] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; by default a new one under runs/.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    skip_bad: SkipBad = False,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Fine-tune: start from this model, with its parts, settings and grid (what 'longigen pull' takes).",
        ),
    ] = None,
    init_conditioner: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Start only the conditioner from another model's, likewise.")
    ] = None,
    init_denoiser: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Start only the denoiser from another model's, likewise.")
    ] = None,
    freeze: Annotated[
        list[str] | None,
        typer.Option(metavar="PART", help="Do not train this part, conditioner or denoiser; may be repeated."),
    ] = None,
) -> None:
    """Train a model. With no options: SADM on the embedded simulated brains, for two CPU cores."""
    changed = [*(changes or []), *([f"training.steps={steps}"] if steps else [])]
    changed += ["training.skip_bad=true"] if skip_bad else []
    # As JSON, which is YAML, so that a path of digits stays text.
    starts = {"init_conditioner": init_conditioner, "init_denoiser": init_denoiser, "freeze": freeze}
    if init is not None and (init_conditioner is not None or init_denoiser is not None):
        other = "conditioner" if init_conditioner is not None else "denoiser"
        raise LongigenError(
            f"--init {init} starts both parts, so --init-{other} cannot stand beside it; leave one out, or give "
            "--init-conditioner and --init-denoiser."
        )
    begins = [f"training.{key}={json.dumps(value)}" for key, value in starts.items() if value not in (None, [])]
    changed += begins
    chosen = {"conditioner": conditioner, "denoiser": denoiser, "sampler": sampler}
    if resume and (out is None or changes or data or any(chosen.values()) or skip_bad or begins or init):
        raise LongigenError("--resume continues a run as it was: give --out RUN, and at most --steps beside it.")

    from longigen.heap import keep_freed_memory
    from longigen.run import Run

    keep_freed_memory()
    leader = os.environ.get("RANK", "0") == "0"  # as accelerate launch and torchrun set it
    if out is None and "RANK" in os.environ:
        raise LongigenError("Several processes need one folder; give it with --out.")
    folder = out or new_folder("runs", "-".join(filter(None, (conditioner, denoiser, sampler))) or "run")
    start = Run.open if resume else Run.create if leader else Run
    run = start(folder)

    from longigen.recipe import Recipe
    from longigen.study import Study

    if resume:
        recorded = run.read()
        wanted = Recipe.from_dict(recorded["recipe"], changed, recorded.get("origin"))
    else:
        base = None
        if init is not None:
            pinned, base = _base(init)
            changed += [f"training.init_{part}={json.dumps(pinned)}" for part in ("conditioner", "denoiser")]
        wanted = Recipe.resolve(recipe, components=chosen, data=data, changes=changed, model=base)
        for initialisation in wanted.settings("training").initialisations:
            initialisation.check(wanted.names[initialisation.part])  # before data are read
    try:
        with progress("reading") as update:
            study = Study.of(wanted, update)
            study.read(update)
    except BadData as error:
        doctor = f"longigen doctor {data or wanted.names['data']}"
        raise LongigenError(f"{error} To leave out what is bad: --skip-bad; to see all of it: {doctor}") from error
    say_skipped(study.cohort.skipped)
    trainer = study.trainer(run, resume=resume)
    if trainer.accelerator.is_main_process:
        say(study.summary(trainer.model))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cluster's pre-emption: checkpoint, as for Ctrl-C
    with progress("training") as update:

        def show(step: int, metrics: dict[str, Any]) -> None:
            if trainer.accelerator.is_main_process:
                validation = metrics.get("validation_loss")
                note = f"loss {metrics['loss']:.4f}" + (f"  validation {validation:.4f}" if validation else "")
                update(step, study.training.steps, note)

        try:
            trainer.fit(show)
        except KeyboardInterrupt:
            say(f"Stopped at step {trainer.step}; continue with: longigen train --resume --out {run.folder}")
            raise
    if trainer.accelerator.is_main_process:
        say(f"The run is in {run.folder}; next: longigen evaluate {run.folder} --out {run.folder / 'evaluation'}")


def _base(init: str) -> tuple[str, dict[str, Any]]:
    """Return what exactly to call a model that training goes on from, and its configuration; say what is taken."""
    from longigen.configuration import COMPONENTS, read_configuration, require_installed
    from longigen.source import Source

    source = Source.of(init)
    with transfer("pulling") as update:
        folder = source.find(update)
    config = read_configuration(folder)
    require_installed(config, folder)
    pipeline = config.get("preprocess", {})
    grid = " × ".join(map(str, pipeline["shape"])) if "shape" in pipeline else "of the data"
    say(
        f"From {source.pinned(folder)}: {' + '.join(config[kind]['name'] for kind in COMPONENTS)}, with its settings, "
        f"grid ({grid}) and intensities; --set changes any of them, as in --set preprocess.shape=64,80,64"
    )
    return source.pinned(folder), config
