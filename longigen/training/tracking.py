"""Tracking of a training: its metrics and pictures, written by one of Accelerate's trackers, such as TensorBoard's."""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import Any

from longigen.errors import LongigenError, LongigenWarning
from longigen.training.recipe import Recipe
from longigen.training.run import TENSORBOARD, Run
from longigen.training.settings import Track
from longigen.utils.files import reason

PROJECT = "longigen"
"""The project or experiment in which services list runs, each by the name of its folder."""
PICTURE = "sample"
"""The name of the figures of a generated visit."""


@dataclass(frozen=True)
class _Service:
    """How one of Accelerate's trackers is started for a run, and how it shows a picture.

    Attributes:
        start: from the run's folder and the step that training goes on from to the arguments of the tracker's class.
        configure: hands over the recipe, without paths and free text, which may be of persons.
        picture: shows the PNG file of a step.
    """

    start: Callable[[Path, int], Mapping[str, Any]]
    configure: Callable[[Any, Mapping[str, Any]], None]
    picture: Callable[[Any, Path, int], None]


def _configure(tracker: Any, recipe: Mapping[str, Any]) -> None:
    flat = {f"{section}.{key}": value for section, config in recipe.items() for key, value in config.items()}
    tracker.store_init_configuration(
        {key: value if isinstance(value, bool | int | float | str) else str(value) for key, value in flat.items()}
    )


def _configure_tensorboard(tracker: Any, recipe: Mapping[str, Any]) -> None:
    # As text: Accelerate would store hyperparameters in a folder of their own for each start of the training.
    tracker.log({"recipe": "\n".join(f"    {line}" for line in json.dumps(recipe, indent=2).splitlines())}, step=0)


def _tensorboard_picture(tracker: Any, path: Path, step: int) -> None:
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        tracker.log_images({PICTURE: np.asarray(image.convert("RGB"))[None]}, step=step, dataformats="NHWC")


def _wandb_picture(tracker: Any, path: Path, step: int) -> None:
    from PIL import Image

    with Image.open(path) as image:
        tracker.log_images({PICTURE: [image.convert("RGB")]}, step=step)


def _trackio_picture(tracker: Any, path: Path, step: int) -> None:
    import trackio  # pyright: ignore[reportMissingImports]

    tracker.log({PICTURE: trackio.Image(str(path))}, step=step)


def _mlflow_picture(tracker: Any, path: Path, step: int) -> None:
    tracker.log_artifact(str(path), "samples")


SERVICES: Mapping[str, _Service] = {
    "tensorboard": _Service(
        # What a process wrote that was killed after its last checkpoint is written again, and the old is not shown.
        lambda folder, step: {"run_name": TENSORBOARD, "logging_dir": str(folder), "purge_step": step + 1},
        _configure_tensorboard,
        _tensorboard_picture,
    ),
    "wandb": _Service(
        lambda folder, step: {"run_name": PROJECT, "name": folder.name, "dir": str(folder)}, _configure, _wandb_picture
    ),
    "trackio": _Service(lambda folder, step: {"run_name": PROJECT, "name": folder.name}, _configure, _trackio_picture),
    "mlflow": _Service(
        lambda folder, step: {"experiment_name": PROJECT, "run_name": folder.name}, _configure, _mlflow_picture
    ),
}


def installed_tracker(track: Track) -> str | None:
    """Return the name of the tracker that a setting chooses; None for none.

    Raises:
        LongigenError: if it is not installed.
    """
    if track == "none" or (track == "auto" and not _is_installed("tensorboard")):
        return None
    name = "tensorboard" if track == "auto" else track
    if not _is_installed(name):
        raise LongigenError(
            f"training.track={name} needs {name}, which is not installed; install it with 'pip install {name}', or set "
            "training.track=none."
        )
    return name


def _is_installed(package: str) -> bool:
    spec = find_spec(package)
    return spec is not None and spec.origin is not None  # a folder of that name, such as its output, has no origin


class Tracking:
    """The tracker of one training, on its first process; without a tracker, it does nothing.

    A tracker that fails while training goes on is left, with a `LongigenWarning`: ``metrics.jsonl`` has all metrics.

    Args:
        track: which tracker.
        run: the run.
        step: the step that the training goes on from.

    Raises:
        LongigenError: if the tracker is not installed, or cannot be started.
    """

    def __init__(self, track: Track, run: Run, step: int) -> None:
        self._tracker: Any = None
        self.name: str | None = installed_tracker(track)
        if self.name is None:
            return
        from accelerate import tracking

        make = tracking.LOGGER_TYPE_TO_CLASS.get(self.name)
        if make is None:
            raise LongigenError(
                f"This version of accelerate has no tracker {self.name}; update it with 'pip install -U accelerate', "
                "or choose another with training.track."
            )
        self._service = SERVICES[self.name]
        try:
            self._tracker = make(**self._service.start(run.folder.resolve(), step))
            if hasattr(self._tracker, "start"):  # in earlier versions of Accelerate it has started already
                self._tracker.start()
            self._service.configure(self._tracker, Recipe.from_dict(run.read()["recipe"]).public)
        except Exception as error:  # of any package, such as for want of a login
            raise LongigenError(
                f"The tracker {self.name} cannot be started ({reason(error)}); correct that, or set "
                "training.track=none."
            ) from error

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Write the metrics of a step."""
        self._try(lambda: self._tracker.log(dict(metrics), step=step))

    def picture(self, path: Path, step: int) -> None:
        """Show a PNG file of a step."""
        self._try(lambda: self._service.picture(self._tracker, path, step))

    def finish(self) -> None:
        """End the tracking."""
        self._try(lambda: self._tracker.finish())

    def _try(self, work: Callable[[], None]) -> None:
        if self._tracker is None:
            return
        try:
            work()
        except Exception as error:  # a training of days does not end with a service
            self._tracker = None
            warnings.warn(
                f"Tracking by {self.name} failed ({reason(error)}) and has ended; training goes on, and metrics.jsonl "
                "has its metrics.",
                LongigenWarning,
                stacklevel=3,
            )


@contextmanager
def tracked(track: Track, run: Run, step: int) -> Iterator[Tracking]:
    """Track a training inside the context; see `Tracking`."""
    tracking = Tracking(track, run, step)
    try:
        yield tracking
    finally:
        tracking.finish()


def tracking_note(track: Track, folder: Path) -> str:
    """Return in a sentence where the curves of a training can be seen.

    Raises:
        LongigenError: if the chosen tracker is not installed.
    """
    name = installed_tracker(track)
    curves = f"'longigen report {quote(str(folder))}' draws its curves"
    if name == "tensorboard":
        return f"Training is tracked by tensorboard: tensorboard --logdir {quote(str(folder))}"
    if name is not None:
        return f"Training is tracked by {name}, as the run '{folder.resolve().name}' of the project '{PROJECT}'"
    if track == "auto":
        return f"Training is not tracked, as tensorboard is not installed (pip install tensorboard); {curves}"
    return f"Training is not tracked; {curves}"
