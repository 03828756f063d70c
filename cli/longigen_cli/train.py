"""``longigen train``: train a model, resume its training or fine-tune another model."""

from pathlib import Path
from shlex import quote
from typing import Annotated, Any, Literal

import typer

from longigen import api
from longigen.components.changes import as_changes
from longigen.errors import Interruption, LongigenError
from longigen_cli.completion import names_in
from longigen_cli.console import (
    Changes,
    Codec,
    Conditioner,
    Data,
    Denoiser,
    Device,
    Size,
    SkipBad,
    TrainedSampler,
    say,
    show,
    show_table,
    size_of,
)


def train(
    data: Data = None,
    conditioner: Conditioner = None,
    denoiser: Denoiser = None,
    sampler: TrainedSampler = None,
    codec: Codec = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Named set of components and hyperparameters, which the other options change; by default that of "
            "--config, or sadm-tiny.",
            autocompletion=names_in("recipes"),
        ),
    ] = None,
    size: Size = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="YAML or JSON with hyperparameters, as the run.json of a run, which is then repeated. It changes the "
            "recipe, --set changes what it says, and the other options change that.",
        ),
    ] = None,
    print_config: Annotated[
        bool,
        typer.Option("--print-config", help="Print all hyperparameters, as --config reads them, and train nothing."),
    ] = False,
    changes: Changes = None,
    steps: Annotated[int | None, typer.Option(help="Number of optimiser steps to train for.")] = None,
    batch_size: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER|auto",
            help="Training pairs in a batch; auto for those of the recipe, as many of them at once as memory holds.",
        ),
    ] = None,
    fold: Annotated[
        int | None,
        typer.Option(help="Test on this fold, from 0, of the split's folds (of a recipe, or --set split.folds=10)."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; by default a new one under runs/.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue training the run in --out.")] = False,
    new_subjects: Annotated[
        Literal["train", "leave-out"] | None,
        typer.Option(
            help="With --resume or --config: train on subjects that were added to the data since, or leave them out."
        ),
    ] = None,
    device: Device = None,
    skip_bad: SkipBad = False,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Fine-tune this model (name, folder or hf-hub:org/repo), with its components, settings and grid.",
            autocompletion=names_in("models"),
        ),
    ] = None,
    init_conditioner: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Initialise the conditioner with the weights of this model.",
            autocompletion=names_in("models"),
        ),
    ] = None,
    init_denoiser: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Initialise the denoiser with the weights of this model.",
            autocompletion=names_in("models"),
        ),
    ] = None,
    freeze: Annotated[
        list[str] | None,
        typer.Option(metavar="PART", help="Keep the weights of this part, conditioner or denoiser, fixed in training."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Do everything up to the first step, and print what the training needs, as 'longigen plan' does; no "
            "run is written, and the visits that are read are cached.",
        ),
    ] = False,
) -> None:
    """Train a model; with no options, a small SADM on the simulated brains that longigen generates itself."""
    if init is not None and (init_conditioner is not None or init_denoiser is not None):
        other = "conditioner" if init_conditioner is not None else "denoiser"
        raise LongigenError(
            f"--init {init} initialises both parts, so it cannot be combined with --init-{other}; leave one of them "
            "out, or give --init-conditioner and --init-denoiser."
        )
    given: dict[str, Any] = {
        "init_conditioner": init_conditioner,
        "init_denoiser": init_denoiser,
        "freeze": freeze or None,
        "skip_bad": skip_bad or None,
    }
    options = {f"training.{key}": value for key, value in given.items() if value is not None}
    options |= {} if fold is None else {"split.fold": fold}
    if batch_size is not None:
        given_size = size_of(batch_size)
        options |= {"training.micro_batch": "auto"} if given_size == "auto" else {"training.batch_size": given_size}
    chosen: dict[str, Any] = {
        "config": config,
        "conditioner": conditioner,
        "denoiser": denoiser,
        "sampler": sampler,
        "codec": codec,
        "init": init,
        "size": size,
    }
    if resume and (out is None or changes or data or options or recipe or any(chosen.values())):
        raise LongigenError(
            "--resume continues a run with the options that it was started with; give only --out RUN, --steps and "
            "--new-subjects."
        )
    changed = [*(changes or []), *as_changes(options | ({"training.steps": steps} if steps is not None else {}))]
    if dry_run or print_config:
        if resume:
            option = "--dry-run" if dry_run else "--print-config"
            raise LongigenError(
                f"{option} is for a new training, so it cannot be combined with --resume; leave it out."
            )
        if print_config:
            show(api.config_text(recipe, data, changes=changed, **chosen).rstrip())
        else:
            show_table(api.plan(recipe, data, changes=changed, out=out, read=True, **chosen))
        return
    try:
        run = api.train(
            data,
            recipe,
            changes=changed,
            out=out,
            resume=resume,
            new_subjects=new_subjects,
            device=device,
            **chosen,
        )
    except Interruption as stop:
        raise typer.Exit(stop.status) from stop
    if api.is_main_process():
        say(f"Trained; the run is in {run.folder}")
        parts = run.read()["split"]
        part = next(part for part in ("test", "validation", "train") if parts[part])
        if part != "test":
            say(f"No subject was set apart for testing; scores of the {part} part are not of unseen subjects")
        other_part = "" if part == "test" else f" --part {part}"
        folder, scores = quote(str(run.folder)), quote(str(run.folder / "evaluation"))
        say(f"next: longigen evaluate {folder}{other_part} --out {scores}")
