"""``longigen distill``: train a student that generates in a few steps what a model generates in many."""

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from longigen import api
from longigen.errors import Interruption
from longigen_cli.completion import names_in
from longigen_cli.console import Changes, Data, Device, Model, say


def distill(
    model: Model,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run; by default a new one under runs/.")
    ] = None,
    data: Data = None,
    steps: Annotated[int, typer.Option(help="Network evaluations of the student per generated visit.")] = 4,
    teacher_steps: Annotated[int, typer.Option(help="Steps of the model for one of the student's.")] = 8,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Recipe of the training settings; by default the one that the model was trained with.",
            autocompletion=names_in("recipes"),
        ),
    ] = None,
    device: Device = None,
    changes: Changes = None,
) -> None:
    """Train a student that generates in a few steps what a model generates in many, for training.steps steps."""
    try:
        run = api.distill(
            model,
            out,
            steps=steps,
            teacher_steps=teacher_steps,
            data=data,
            changes=changes or [],
            recipe=recipe,
            device=device,
        )
    except Interruption as stop:
        raise typer.Exit(stop.status) from stop
    if api.is_main_process():
        say(f"Trained; the run is in {run.folder}")
        say(f"next: longigen evaluate {quote(str(run.folder))}, and the same of {model}")
