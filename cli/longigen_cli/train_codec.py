"""``longigen train-codec``: train an autoencoder, on whose codes models are then trained."""

from pathlib import Path
from typing import Annotated

import typer

from longigen import api
from longigen_cli.completion import names_in
from longigen_cli.console import Changes, say


def train_codec(
    codec: Annotated[
        str,
        typer.Option(
            "--codec",
            help="Codec to train, a network (see 'longigen list codecs').",
            autocompletion=names_in("codecs"),
        ),
    ] = "kl",
    data: Annotated[
        str,
        typer.Option(
            "--data",
            help="Data set to train on: a name, a file or folder, or NAME:PATH.",
            autocompletion=names_in("datasets"),
        ),
    ] = "sim-brain",
    out: Annotated[Path, typer.Option("--out", help="New folder of the codec.")] = Path("codec"),
    changes: Changes = None,
) -> None:
    """Train a codec on the images of a data set, and say the error of its round trip in validation."""
    trained = api.train_codec(data, out, name=codec, changes=changes or [])
    if api.is_main_process():
        errors = trained.training_record["training"]["errors"]
        say(
            f"round trip: root mean square error {errors['rmse']:.4f} of intensities from -1 to 1 in validation (of an "
            f"image that is its mean everywhere: {errors['mean']:.4f})"
        )
        say(f"next: longigen train --codec {out}")
