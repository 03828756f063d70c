"""``longigen train-codec``: train an autoencoder, on whose codes models are then trained."""

from pathlib import Path
from shlex import quote
from typing import Annotated

from longigen import api
from longigen_cli.console import Changes, TrainedData, TrainedFolder, say, trained


def train_codec(
    codec: Annotated[str, trained("codec")] = "kl",
    data: TrainedData = "sim-brain",
    out: TrainedFolder = Path("codec"),
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
        say(f"next: longigen train --codec {quote(str(out))}")
