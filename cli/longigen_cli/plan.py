"""``longigen plan``: what a training needs, and whether it fits."""

from typing import Annotated

import typer

from longigen import api
from longigen_cli.completion import names_in
from longigen_cli.console import (
    AsJSON,
    Changes,
    Codec,
    Conditioner,
    Data,
    Denoiser,
    Size,
    TrainedSampler,
    print_json,
    show_table,
)


def plan(
    recipe: Annotated[
        str, typer.Argument(help="Recipe, as for 'longigen train --recipe'.", autocompletion=names_in("recipes"))
    ] = "sadm-tiny",
    data: Data = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            help="Device to plan for, e.g. 'NVIDIA A100 40GB', or its memory, speed in 16 bits and bandwidth, as in "
            "24GB,165TFLOP/s,1008GB/s; by default this machine's, where a step is measured.",
        ),
    ] = None,
    visits: Annotated[
        int | None, typer.Option("--visits", help="Number of visits of a subject, instead of those of the data.")
    ] = None,
    conditioner: Conditioner = None,
    denoiser: Denoiser = None,
    sampler: TrainedSampler = None,
    codec: Codec = None,
    size: Size = None,
    changes: Changes = None,
    as_json: AsJSON = False,
) -> None:
    """Say what a training needs: memory by part, time to the end, disk, and the options that make it fit.

    Nothing is trained. Without --data it plans by the recipe's own numbers, where they say what the grid is.
    """
    found = api.plan(
        recipe,
        data,
        changes=changes or [],
        device=device,
        visits=visits,
        conditioner=conditioner,
        denoiser=denoiser,
        sampler=sampler,
        codec=codec,
        size=size,
    )
    print_json(found.to_dict()) if as_json else show_table(found)
