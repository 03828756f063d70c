"""A run: the folder that training writes."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longigen.errors import LongigenError
from longigen.hub.manifest import MODEL_FOLDER, RUN_FILE
from longigen.training.recipe import Recipe
from longigen.utils.files import atomic, read_json, writable_folder, write_errors, write_json


@dataclass(frozen=True)
class Run:
    """The folder of a run.

    - ``run.json``: the complete recipe, its origin, and the subject ids of the split; ``--resume`` reads it.
    - ``metrics.jsonl``: training metrics, one JSON object per line.
    - ``checkpoints/step-NNNNNNN/``: the last two checkpoints.
    - ``samples/step-NNNNNNN.png``: figures of a generated visit of a validation subject.
    - ``model/``: the exported model, with the moving average of the weights, and its ``metrics.json`` once evaluated.
    """

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> "Run":
        """Create the folder of a new run.

        Raises:
            LongigenError: if the folder is not empty, or cannot be written.
        """
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise LongigenError(
                f"{folder} is not empty; continue it with --resume, or give another --out (nothing was changed)."
            )
        writable_folder(folder)
        return cls(folder)

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """Open the folder of a run to continue it.

        Raises:
            LongigenError: if the folder holds no run.
        """
        if not (folder / RUN_FILE).exists():
            raise LongigenError(f"{folder} holds no run ({RUN_FILE} is missing); start one without --resume.")
        return cls(folder)

    @property
    def model(self) -> Path:
        """The folder of the exported model."""
        return self.folder / MODEL_FOLDER

    @property
    def metrics(self) -> Path:
        """The file of the training metrics."""
        return self.folder / "metrics.jsonl"

    def write(self, recipe: Recipe, split: Mapping[str, list[str]]) -> None:
        """Write ``run.json``: the recipe, its origin, and the subject ids of each part of the split."""
        content = {"recipe": recipe.to_dict(), "origin": dict(recipe.origin), "split": dict(split)}
        write_json(content, self.folder / RUN_FILE)

    def read(self) -> dict[str, Any]:
        """Return the content of ``run.json``: ``recipe``, ``origin`` and ``split``."""
        return read_json(self.folder / RUN_FILE)

    def log(self, line: Mapping[str, Any]) -> None:
        """Append one line to the training metrics."""
        with write_errors(self.metrics), self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def rewind(self, step: int) -> None:
        """Delete the metrics of steps after `step`, which a resumed run will write again."""
        if not self.metrics.exists():
            return
        lines = [line for line in self.metrics.read_text(encoding="utf-8").splitlines() if _step(line) <= step]
        with atomic(self.metrics) as part:
            part.write_text("".join(line + "\n" for line in lines), encoding="utf-8")

    def sample(self, step: int) -> Path:
        """Return the path of the figure of a generated visit at a step."""
        return self.folder / "samples" / f"step-{step:07d}.png"

    def checkpoints(self) -> list[Path]:
        """Return the complete checkpoints, oldest first."""
        return sorted((self.folder / "checkpoints").glob("step-*[0-9]"))

    def checkpoint(self, step: int) -> tuple[Path, Path]:
        """Return the temporary folder to write a checkpoint to, and its final folder; see `finish_checkpoint`."""
        final = self.folder / "checkpoints" / f"step-{step:07d}"
        return final.with_suffix(".part"), final

    def finish_checkpoint(self, part: Path, final: Path, keep: int = 2) -> None:
        """Move a complete checkpoint to its final folder, and delete all but the last `keep` checkpoints."""
        if final.exists():
            shutil.rmtree(final)
        part.rename(final)
        for old in self.checkpoints()[:-keep]:
            shutil.rmtree(old)


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # a truncated line of an interrupted process; the step will be written again
