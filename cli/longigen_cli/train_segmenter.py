"""``longigen train-segmenter``: train a network that marks regions, to score them in generated visits."""

from pathlib import Path
from shlex import quote
from typing import Annotated

from longigen import api
from longigen_cli.console import Changes, TrainedData, TrainedFolder, say, trained


def train_segmenter(
    segmenter: Annotated[str, trained("segmenter")] = "unet",
    data: TrainedData = "sim-heart",
    out: TrainedFolder = Path("segmenter"),
    changes: Changes = None,
) -> None:
    """Train a segmenter on the true label maps of a data set, and say the Dice of each region in validation."""
    trained = api.train_segmenter(data, out, name=segmenter, changes=changes or [])
    if api.is_main_process():
        for region, dice in trained.training_record["dice"].items():
            value = "no validation visit has it" if dice is None else f"Dice {dice:.3f} in validation"
            say(f"{region}: {value}")
        say(f"next: longigen evaluate MODEL --segmenter {quote(str(out))}")
