"""``longigen train``: compose, train, resume."""

import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from longigen import api
from longigen.components.changes import as_changes
from longigen.errors import LongigenError
from longigen_cli.completion import names_in
from longigen_cli.console import Changes, Data, SkipBad, say


def train(
    data: Data = None,
    conditioner: Annotated[
        str | None, typer.Option(help="The conditioner, e.g. sadm.", autocompletion=names_in("conditioners"))
    ] = None,
    denoiser: Annotated[
        str | None, typer.Option(help="The denoiser, e.g. unet3d.", autocompletion=names_in("denoisers"))
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(help="The sampler, e.g. continuous.", autocompletion=names_in("samplers"))
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="A named set of components and hyperparameters, which the other options change.",
            autocompletion=names_in("recipes"),
        ),
    ] = "sadm-tiny",
    changes: Changes = None,
    steps: Annotated[int | None, typer.Option(help="Number of optimiser steps.", min=1)] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; by default a new one under runs/.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    skip_bad: SkipBad = False,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Fine-tune this model (name, folder or hf-hub:org/repo): use its components, settings and grid.",
            autocompletion=names_in("models"),
        ),
    ] = None,
    init_conditioner: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Start the conditioner from the weights of this model.",
            autocompletion=names_in("models"),
        ),
    ] = None,
    init_denoiser: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Start the denoiser from the weights of this model.",
            autocompletion=names_in("models"),
        ),
    ] = None,
    freeze: Annotated[
        list[str] | None,
        typer.Option(metavar="PART", help="Do not train this part, conditioner or denoiser (may be repeated)."),
    ] = None,
) -> None:
    """Train a model. With no options: SADM on the embedded simulated brains, for two CPU cores."""
    if init is not None and (init_conditioner is not None or init_denoiser is not None):
        other = "conditioner" if init_conditioner is not None else "denoiser"
        raise LongigenError(
            f"--init {init} starts both parts, so --init-{other} cannot stand beside it; leave one out, or give "
            "--init-conditioner and --init-denoiser."
        )
    given: dict[str, Any] = {
        "init_conditioner": init_conditioner,
        "init_denoiser": init_denoiser,
        "freeze": freeze,
        "skip_bad": skip_bad,
    }
    options = {f"training.{key}": value for key, value in given.items() if value}
    if resume and (out is None or changes or data or conditioner or denoiser or sampler or options or init):
        raise LongigenError("--resume continues a run as it was: give --out RUN, and at most --steps beside it.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cluster's pre-emption: checkpoint, as for Ctrl-C
    run = api.train(
        data,
        recipe,
        changes=[*(changes or []), *as_changes(options | ({"training.steps": steps} if steps else {}))],
        out=out,
        resume=resume,
        conditioner=conditioner,
        denoiser=denoiser,
        sampler=sampler,
        init=init,
    )
    if api.is_main_process():
        say(f"The run is in {run.folder}; next: longigen evaluate {run.folder} --out {run.folder / 'evaluation'}")
