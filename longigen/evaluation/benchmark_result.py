"""Results of a benchmark: rows of a table, costs of the methods, and files."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longigen.evaluation.evaluate import SCORES, TABLE, write_csv
from longigen.evaluation.protocol import Protocol
from longigen.evaluation.result_table import ResultTable, Tabular
from longigen.evaluation.scoring import Score
from longigen.evaluation.tables import row_records
from longigen.hub.metrics_file import MODEL, ResultRow
from longigen.utils.files import atomic, write_json
from longigen.utils.optional import optional_import

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class BenchmarkResult(Tabular):
    """The results of a benchmark.

    Attributes:
        protocol: protocol by which all rows were scored.
        rows: one row per scenario and method, the copies first. Seeds are averaged within each subject first.
        by_seed: for each row, the mean of each metric by seed; empty for the copies.
        by_fold: for each row, the mean of each metric over the subjects of each fold of a cross-validation.
        costs: costs of each method: ``parameters``, ``nfe`` (network evaluations per visit), ``steps`` of training,
            and the means over seeds of ``training_seconds``, ``seconds_per_visit``, ``training_bytes`` and
            ``generation_bytes``.
        scores: scores of every generated visit, one mapping per visit, method and seed, with its ``fold`` if there are
            folds.
        content: content of ``table.json``.
        parts: the tables of results and costs, and the prose between them.
    """

    protocol: Protocol
    rows: list[ResultRow]
    by_seed: list[Mapping[str, Mapping[int, float]]]
    by_fold: list[Mapping[str, Mapping[int, float]]]
    costs: list[dict[str, Any]]
    scores: list[dict[str, Any]]
    content: Mapping[str, Any]
    parts: Sequence[ResultTable | str]

    @property
    def blocks(self) -> Sequence[ResultTable | str]:
        """One table per scenario, then the costs of each method."""
        return self.parts

    @property
    def records(self) -> list[dict[str, Any]]:
        """The values of `rows`, one record per row and metric."""
        return row_records(self.rows)

    def save(self, folder: Path | str) -> None:
        """Write ``table.txt``, ``table.json`` and ``subjects.csv``."""
        folder = Path(folder)
        write_csv(self.scores, folder / SCORES)
        write_json(self.content, folder / "table.json")
        with atomic(folder / TABLE) as part:
            part.write_text(self.table() + "\n", encoding="utf-8")

    def to_pandas(self) -> "pandas.DataFrame":
        """Return one row per generated visit, method and seed, with a column per metric; needs the package pandas.

        Raises:
            LongigenError: if pandas is not installed.
        """
        return optional_import("pandas", "BenchmarkResult.to_pandas").DataFrame(self.scores)


def csv_rows(scores: Mapping[tuple[str, int], Sequence[Score]], fold_of: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return the scores as rows of a CSV; those of the copies, equal for all rows and seeds, only once.

    Args:
        scores: scores by row and seed.
        fold_of: the fold of each subject, by its id; empty without folds.
    """
    return [
        {
            "seed": seed,
            **({"fold": fold_of[score.subject]} if fold_of else {}),
            **score.to_row(),
            "method": row if score.method == MODEL else score.method,
        }
        for place, ((row, seed), of_run) in enumerate(scores.items())
        for score in of_run
        if not place or score.method == MODEL
    ]


def json_values(by_seed: Mapping[str, Mapping[int, float]]) -> dict[str, dict[str, float | None]]:
    """Return values as JSON allows them: None for NaN, and keys that are strings."""
    return {
        name: {str(seed): mean if math.isfinite(mean) else None for seed, mean in means.items()}
        for name, means in by_seed.items()
    }
