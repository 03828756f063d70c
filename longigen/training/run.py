"""A run: the folder that training writes."""

import json
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longigen.errors import LongigenError, LongigenWarning
from longigen.hub.manifest import BEST_FOLDER, CONFIG, MODEL_FOLDER, RUN_FILE
from longigen.training.recipe import Recipe
from longigen.utils.files import (
    atomic,
    read_json,
    reason,
    regular_size,
    user_path,
    writable_folder,
    write_errors,
    write_json,
)

LOCK = ".lock"
TENSORBOARD = "tensorboard"
PARTS = ("train", "validation", "test")
CHECKPOINT = re.compile(r"step-(\d+)")


@dataclass(frozen=True)
class Run:
    """The folder of a run.

    - ``run.json``: the complete recipe, its origin, and the subject ids of the split; ``--resume`` reads it. If the
      number of steps was changed on the way, ``schedule`` lists from which step on the learning rate fell to which.
      With ``training.micro_batch=auto``, ``micro_batch`` is how many pairs memory was found to hold at once.
    - ``metrics.jsonl``: training metrics, one JSON object per line.
    - ``checkpoints/step-NNNNNNN/``: the last two checkpoints; see `longigen.training.checkpoint`.
    - ``samples/step-NNNNNNN.png``: figures of a generated visit of a validation subject.
    - ``model/``: the exported model, with the moving average of the weights, and its ``metrics.json`` once evaluated.
    - ``best/``: the same of the step whose scores on validation visits were best, if the run has any.
    - ``tensorboard/``: the files of TensorBoard, if it tracks the training.
    - ``.lock``: held by the process that trains, see `locked`.
    """

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> "Run":
        """Create the folder of a new run.

        Raises:
            LongigenError: if the folder is not empty, or cannot be written.
        """
        folder = user_path(folder)
        cls.require_empty(folder)
        writable_folder(folder)
        return cls(folder)

    @staticmethod
    def require_empty(folder: Path) -> None:
        """Check that a folder may become that of a new run, without writing to it.

        Raises:
            LongigenError: if it is not empty, or a file.
        """
        folder = user_path(folder)
        if folder.is_file():
            raise LongigenError(f"{folder} is a file; give another --out (nothing was changed).")
        if folder.exists() and (not folder.is_dir() or any(path.name != LOCK for path in folder.iterdir())):
            raise LongigenError(
                f"{folder} is not empty; continue it with --resume, or give another --out (nothing was changed)."
            )

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """Open the folder of a run to continue it.

        Raises:
            LongigenError: if the folder holds no run.
        """
        folder = user_path(folder)
        if not (folder / RUN_FILE).exists():
            raise LongigenError(f"{folder} holds no run ({RUN_FILE} is missing); start one without --resume.")
        return cls(folder)

    @property
    def model(self) -> Path:
        """The folder of the exported model."""
        return self.folder / MODEL_FOLDER

    @property
    def best(self) -> Path:
        """The folder of the exported model with the best scores on validation visits."""
        return self.folder / BEST_FOLDER

    @property
    def metrics(self) -> Path:
        """The file of the training metrics."""
        return self.folder / "metrics.jsonl"

    def best_step(self) -> int | None:
        """Return the step of the exported model with the best scores; None if there is none.

        Raises:
            LongigenError: if its configuration is damaged.
        """
        path = self.best / CONFIG
        step = read_json(path).get("training", {}).get("steps") if path.exists() else None
        return step if isinstance(step, int) else None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run's lock inside the context; a process that is killed releases it.

        Raises:
            LongigenError: if another process holds it.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.folder / LOCK, mode=0o664)
        with write_errors(self.folder):
            try:
                lock.acquire(blocking=False)
            except Timeout:
                raise LongigenError(
                    f"Another process is training the run {self.folder}; wait for its end, or give another --out."
                ) from None
        try:
            yield
        finally:
            lock.release()

    def write(
        self,
        recipe: Recipe,
        split: Mapping[str, list[str]],
        schedule: Sequence[Mapping[str, int]] = (),
        micro_batch: int | None = None,
    ) -> None:
        """Write ``run.json``: the recipe, its origin, the ids of each part of the split, and what else was chosen."""
        content: dict[str, Any] = {"recipe": recipe.to_dict(), "origin": dict(recipe.origin), "split": dict(split)}
        content |= {"schedule": list(schedule)} if schedule else {}
        content |= {} if micro_batch is None else {"micro_batch": micro_batch}
        write_json(content, self.folder / RUN_FILE)

    def record_micro_batch(self, pairs: int) -> None:
        """Add to ``run.json`` how many training pairs memory holds at once."""
        write_json({**self.read(), "micro_batch": pairs}, self.folder / RUN_FILE)

    def read(self) -> dict[str, Any]:
        """Return the content of ``run.json``: ``recipe``, ``origin``, ``split``, perhaps ``schedule``, ``micro_batch``.

        Raises:
            LongigenError: if the file is damaged.
        """
        path = self.folder / RUN_FILE
        content = read_json(path)
        recipe, split, schedule = content.get("recipe"), content.get("split"), content.get("schedule", [])
        intact = (
            isinstance(recipe, dict)
            and all(isinstance(config, dict) for config in recipe.values())
            and isinstance(recipe.get("training", {}).get("steps"), int)
            and isinstance(content.get("origin", {}), dict)
            and isinstance(content.get("origin", {}).get("changes", {}), dict)
            and isinstance(split, dict)
            and all(isinstance(split.get(part), list) for part in PARTS)
            and all(isinstance(name, str) for names in split.values() for name in names)
            and isinstance(schedule, list)
            and all(isinstance(change, dict) and set(change) == {"step", "steps"} for change in schedule)
            and type(micro_batch := content.get("micro_batch", 1)) is int
            and micro_batch > 0
        )
        if not intact:
            raise LongigenError(
                f"{path} is damaged: it must hold the 'recipe' and the 'split' of the run; restore it from a copy, or "
                "use the exported model in the folder 'model'."
            )
        return content

    def log(self, line: Mapping[str, Any]) -> None:
        """Append one line to the training metrics."""
        with write_errors(self.metrics), self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def rewind(self, step: int) -> None:
        """Delete the metrics of steps after `step`, which a resumed run will write again, and damaged lines.

        A `LongigenWarning` says how many lines were damaged, other than the last, which a killed process leaves.
        """
        if not self.metrics.exists():
            return
        try:
            regular_size(self.metrics)
            lines = self.metrics.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            raise LongigenError(f"{self.metrics} cannot be read ({reason(error)}); move it away.") from error
        steps = [_step(line) for line in lines]
        if damaged := steps[:-1].count(None):
            warnings.warn(
                f"{damaged} of the {len(lines)} lines of {self.metrics} are damaged, and were deleted.",
                LongigenWarning,
                stacklevel=2,
            )
        kept = [line for line, at in zip(lines, steps, strict=True) if at is not None and at <= step]
        with atomic(self.metrics) as part:
            part.write_text("".join(line + "\n" for line in kept), encoding="utf-8")

    def sample(self, step: int) -> Path:
        """Return the path of the figure of a generated visit at a step."""
        return self.folder / "samples" / f"step-{step:07d}.png"

    def checkpoints(self) -> list[Path]:
        """Return the complete checkpoints, oldest first."""
        folders = (self.folder / "checkpoints").glob("step-*")
        steps = {int(match[1]): path for path in folders if (match := CHECKPOINT.fullmatch(path.name))}
        return [steps[step] for step in sorted(steps)]

    def checkpoint(self, step: int) -> tuple[Path, Path]:
        """Return the temporary folder to write a checkpoint to, and its final folder; see `finish_checkpoint`."""
        final = self.folder / "checkpoints" / f"step-{step:07d}"
        return final.with_suffix(".part"), final

    def finish_checkpoint(self, part: Path, final: Path, keep: int = 2) -> None:
        """Move a complete checkpoint to its final folder, and delete all others but the `keep` - 1 before it.

        Later ones are damaged, since training continued from an earlier one.
        """
        if final.exists():
            shutil.rmtree(final)
        part.rename(final)
        checkpoints = self.checkpoints()
        last = checkpoints.index(final) + 1
        for other in (*checkpoints[: max(last - keep, 0)], *checkpoints[last:]):
            shutil.rmtree(other)


def _step(line: str) -> float | None:
    """Return the step of a line of the metrics; None if the line is damaged."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
