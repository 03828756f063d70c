"""The training of a run: its recipe, and its metrics by step, read from the run's files."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longigen.errors import LongigenError
from longigen.training.run import Run
from longigen.utils.files import reason

Series = tuple[list[float], list[float]]
"""Steps, and the values of a metric at them."""


@dataclass(frozen=True)
class Training:
    """What the files of a run say.

    Attributes:
        run: the run.
        recorded: the content of ``run.json``.
        lines: the lines of ``metrics.jsonl``, in order of the step.
        damaged: number of lines that cannot be read.
    """

    run: Run
    recorded: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]]
    damaged: int

    @classmethod
    def read(cls, folder: Path) -> "Training":
        """Read a run.

        Raises:
            LongigenError: if ``run.json`` is damaged, or the metrics cannot be read.
        """
        run = Run.open(folder)
        lines: dict[float, Mapping[str, Any]] = {}
        damaged = 0
        try:
            texts = run.metrics.read_text("utf-8", "replace").splitlines() if run.metrics.exists() else []
        except OSError as error:
            raise LongigenError(f"{run.metrics} cannot be read ({reason(error)}).") from error
        for text in texts:
            try:
                line = json.loads(text)
                lines[float(line["step"])] = line
            except (ValueError, KeyError, TypeError, RecursionError):
                damaged += 1
        return cls(run, run.read(), [lines[step] for step in sorted(lines)], damaged)

    def series(self, prefix: str) -> dict[str, Series]:
        """Return the steps and values of each metric whose name begins so; values that are no numbers are left out."""
        found: dict[str, Series] = {}
        for line in self.lines:
            for name, value in line.items():
                if name.startswith(prefix) and isinstance(value, int | float) and math.isfinite(value):
                    steps, values = found.setdefault(name, ([], []))
                    steps.append(float(line["step"]))
                    values.append(float(value))
        return found

    @property
    def facts(self) -> dict[str, str]:
        """The recipe in a few lines: what, and its value."""
        recipe, split = self.recorded["recipe"], self.recorded["split"]
        parts = {
            kind: str(recipe[kind].get("name")) for kind in ("conditioner", "denoiser", "sampler") if kind in recipe
        }
        subjects = ", ".join(f"{len(ids)} {part}" for part, ids in split.items())
        done = f"{self.lines[-1]['step']} of {recipe['training']['steps']}" if self.lines else "none recorded"
        best = self.run.best_step()
        return {
            "data": str(recipe["data"].get("name")),
            "subjects": subjects,
            **parts,
            "steps": done,
            **({} if best is None else {"best validation": f"at step {best}"}),
            "batch size": str(recipe["training"].get("batch_size")),
            "learning rate": str(recipe["training"].get("learning_rate")),
            "seed": str(recipe["training"].get("seed")),
        }
