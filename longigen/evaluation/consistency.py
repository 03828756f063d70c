"""Consistency: does the state at a time depend on which other times are asked for with it?"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longigen.components.metric import Metric
from longigen.data.intensity import foreground_mask
from longigen.evaluation.result_table import WIDTH, ResultTable
from longigen.generation.session import GenerationSession
from longigen.models.batch_size import Size
from longigen.models.predict import Generated, GenerationSettings, generation_metadata
from longigen.models.settings import Order
from longigen.models.tasks import Scenario, last_only
from longigen.utils.files import write_json
from longigen.utils.processes import processes
from longigen.utils.progress import Progress, silent

NUMBERS = (1, 2, 5, 10, 20)
"""Numbers of evenly spaced times that end at the last one; 1 is to ask for the last time alone."""
MAX_DEVIATION = 0.15
"""Largest deviation of the relative change from 1 of a consistent model."""
MIN_SIMILARITY = 0.99
"""Smallest SSIM to the state that was asked for alone of a consistent model."""
CONSISTENCY = "consistency.json"


@dataclass(frozen=True)
class ConsistencyRow:
    """The state at the last time, asked for as the last of several times.

    Attributes:
        number: number of evenly spaced times between the last given visit and the last time, which is one of them.
        change: mean over subjects of the change magnitude, the mean of |generated - last given| in the foreground, in
            model intensities from -1 to 1.
        relative: the change magnitude divided by that of asking for the last time alone; NaN if both are 0.
        ssim: mean over subjects of the SSIM to the state that was asked for alone.
    """

    number: int
    change: float
    relative: float
    ssim: float

    @property
    def passes(self) -> bool:
        """Whether the state is that of asking alone, within `MAX_DEVIATION` and `MIN_SIMILARITY`."""
        close = math.isnan(self.relative) or abs(self.relative - 1) <= MAX_DEVIATION
        return close and self.ssim >= MIN_SIMILARITY


@dataclass(frozen=True)
class Consistency:
    """How much the state at one time depends on which other times are asked for with it; see `ConsistencyRow`.

    Attributes:
        data: name of the data set.
        subjects: number of subjects.
        setting: which visits are given.
        order: the order of generation.
        rows: one row per number of times, from asking alone.
    """

    data: str
    subjects: int
    setting: Scenario
    order: Order
    rows: tuple[ConsistencyRow, ...]

    @classmethod
    def of(
        cls,
        session: GenerationSession,
        generation: GenerationSettings,
        scenario: Scenario,
        similarity: Metric,
        *,
        batch_size: Size = 4,
        progress: Progress = silent,
    ) -> "Consistency":
        """Generate the last visit of each subject, alone and as the last of several times.

        The times are evenly spaced from the last given visit to the subject's last visit, whose image is not used. The
        sampling noise is the same in all rows, as far as the order allows: in the order ``autoregressive`` the visits
        in between have noise of their own.

        Args:
            session: the model and its subjects; the model is moved to this process's device.
            generation: sampler, network evaluations, guidance weight, order and seed.
            scenario: which visits are given.
            similarity: the metric SSIM.
            batch_size: number of subjects generated in one batch.
            progress: progress bar.

        Raises:
            LongigenError: if a subject has fewer than two visits, or too much of it lies outside of the model's grid.
        """
        session.check_box()
        session.model.to(processes().device)
        chosen = session.tasks(scenario, seed=generation.seed, select=last_only)
        tasks = [(prepared, replace(task, targets=())) for prepared, task in chosen]
        spans = [(prepared.subject.times[task.given[-1]], prepared.subject.times[-1]) for prepared, task in tasks]
        alone: list[Tensor] = []
        rows = []
        with progress("consistency") as update:
            for number in NUMBERS:
                times = [_evenly(start, end, number) for start, end in spans]
                done = sum(NUMBERS[: NUMBERS.index(number)]) * len(tasks)
                generated = session.generate(
                    tasks,
                    generation,
                    times=times,
                    batch_size=batch_size,
                    callback=lambda part, _, done=done, n=number: update(done + n * part, sum(NUMBERS) * len(tasks)),
                )
                states = list(_states(generated))
                alone = alone or [state for state, _, _ in states]
                rows.append(_row(number, states, alone, similarity, rows[0].change if rows else None))
        order = generation_metadata(session.model, generation)["order"]
        return cls(session.cohort.name, len(tasks), scenario, order, tuple(rows))

    @property
    def passes(self) -> bool:
        """Whether all rows pass."""
        return all(row.passes for row in self.rows)

    @property
    def summary(self) -> dict[str, Any]:
        """The results as plain values for JSON."""
        rows = [
            {**vars(row), "relative": row.relative if math.isfinite(row.relative) else None, "passes": row.passes}
            for row in self.rows
        ]
        bounds = {"relative": [1 - MAX_DEVIATION, 1 + MAX_DEVIATION], "ssim": MIN_SIMILARITY}
        return {**vars(self), "rows": rows, "bounds": bounds, "passes": self.passes}

    def table(self, width: int = WIDTH) -> str:
        """Return the results as text, with at most `width` characters in a line."""
        lines = [
            [
                "alone" if row.number == 1 else f"as the last of {row.number}",
                f"{row.change:.4f}",
                "-" if math.isnan(row.relative) else f"{row.relative:.3f}",
                f"{row.ssim:.4f}",
                "" if row.number == 1 else "yes" if row.passes else "no",
            ]
            for row in self.rows
        ]
        low, high = 1 - MAX_DEVIATION, 1 + MAX_DEVIATION
        verdict = "does not depend" if self.passes else "depends"
        return ResultTable(
            ["last time, asked", "change", "relative", "SSIM to alone", "consistent"],
            lines,
            title=f"{self.data}: {self.subjects} subjects, setting {self.setting}, order {self.order}",
            notes=[
                "change: mean |generated - last given| in the foreground",
                "relative: the change divided by that of asking alone",
                f"consistent: relative {low:g} to {high:g}, SSIM at least {MIN_SIMILARITY:g}",
                f"The state {verdict} on the other times asked for.",
            ],
        ).text(width)

    def save(self, folder: Path | str) -> None:
        """Write ``consistency.json``.

        Raises:
            LongigenError: if the folder cannot be written.
        """
        write_json(self.summary, Path(folder) / CONSISTENCY)

    def __repr__(self) -> str:
        """Return one line: the data, the setting, the order, and whether all rows pass."""
        verdict = "passes" if self.passes else "does not pass"
        return f"Consistency({self.data}, {self.subjects} subjects, {self.setting}, {self.order}, {verdict})"


def _evenly(start: float, end: float, number: int) -> list[float]:
    """Return `number` evenly spaced times after `start`, of which the last is exactly `end`."""
    return [*(start + (end - start) * step / number for step in range(1, number)), end]


def _states(generated: Iterator[Generated]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield the last generated image of each subject and channel, the last given one, and the foreground.

    They are (1, W, H, D), (1, W, H, D) and (W, H, D).
    """
    for item in (part for whole in generated for part in whole.by_channel()):
        visit = item.prepared.visit
        yield item.images[-1], visit(item.given_before(len(item.times) - 1)), foreground_mask(visit(0))


def _row(
    number: int,
    states: Sequence[tuple[Tensor, Tensor, Tensor]],
    alone: Sequence[Tensor],
    similarity: Metric,
    change_alone: float | None,
) -> ConsistencyRow:
    # The ratio of means and not the mean of ratios: a subject that hardly changes would dominate the latter.
    changes = [(state - last)[:, mask].abs().mean() for state, last, mask in states]
    change = float(torch.stack(changes).mean())
    reference = change if change_alone is None else change_alone
    values = [similarity(state, other, last, mask) for (state, last, mask), other in zip(states, alone, strict=True)]
    relative = change / reference if reference else math.nan if change == 0 else math.inf
    return ConsistencyRow(number, change, relative, sum(values) / len(values))
