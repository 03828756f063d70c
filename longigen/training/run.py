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
from longigen.utils.files import atomic, read_json, unwritable, writable_folder, write_json


@dataclass(frozen=True)
class Run:
    """The folder of a run.

    - ``run.json``: the recipe, complete, what was asked for to get it, and the split's subject ids; what `--resume`
      continues from.
    - ``metrics.jsonl``: one JSON object per line.
    - ``checkpoints/step-NNNNNNN/``: the state of training; the last two are kept.
    - ``samples/step-NNNNNNN.png``: strips of a validation subject.
    - ``model/``: the exported model, the moving average of the weights; and its ``metrics.json`` once it is evaluated.
    """

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> "Run":
        """Make the folder of a new run.

        Raises:
            LongigenError: if it holds something already, or cannot be written.
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
            LongigenError: if it is none.
        """
        if not (folder / RUN_FILE).exists():
            raise LongigenError(f"{folder} holds no run ({RUN_FILE} is not there); start one without --resume.")
        return cls(folder)

    @property
    def model(self) -> Path:
        return self.folder / MODEL_FOLDER

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    def write(self, recipe: Recipe, split: Mapping[str, list[str]]) -> None:
        content = {"recipe": recipe.to_dict(), "origin": dict(recipe.origin), "split": dict(split)}
        write_json(content, self.folder / RUN_FILE)

    def read(self) -> dict[str, Any]:
        """Return what `write` wrote."""
        return read_json(self.folder / RUN_FILE)

    def log(self, line: Mapping[str, Any]) -> None:
        """Append one line to the metrics."""
        with unwritable(self.metrics), self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def rewind(self, step: int) -> None:
        """Drop metrics of steps after `step`, which a resumed run will write again."""
        if not self.metrics.exists():
            return
        lines = [line for line in self.metrics.read_text(encoding="utf-8").splitlines() if _step(line) <= step]
        with atomic(self.metrics) as part:
            part.write_text("".join(line + "\n" for line in lines), encoding="utf-8")

    def sample(self, step: int) -> Path:
        return self.folder / "samples" / f"step-{step:07d}.png"

    def checkpoints(self) -> list[Path]:
        """Return the complete checkpoints, oldest first."""
        return sorted((self.folder / "checkpoints").glob("step-*[0-9]"))

    def checkpoint(self, step: int) -> tuple[Path, Path]:
        """Return where to write a checkpoint, and the name that `finish_checkpoint` gives it when it is complete."""
        final = self.folder / "checkpoints" / f"step-{step:07d}"
        return final.with_suffix(".part"), final

    def finish_checkpoint(self, part: Path, final: Path, keep: int = 2) -> None:
        """Give a complete checkpoint its name and drop the oldest beyond `keep`."""
        if final.exists():
            shutil.rmtree(final)
        part.rename(final)
        for old in self.checkpoints()[:-keep]:
            shutil.rmtree(old)


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # cut off by a kill: written again
