"""The results of an evaluation or a benchmark, read from the files in its folder; nothing is computed again."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from longigen.errors import LongigenError
from longigen.evaluation.evaluate import read_rows
from longigen.evaluation.results import TABLE_FILE, arrows_of
from longigen.evaluation.scoring import Score
from longigen.evaluation.volumes import VOLUMES, VolumeRow, read_volumes
from longigen.hub.manifest import METRICS, MODEL_FOLDER
from longigen.hub.metrics_file import COPIES, COPY_LAST, MALFORMED, PLACES, ResultRow
from longigen.utils.files import read_json, reason
from longigen.utils.intervals import Summary

TRUE = "true"
"""What the volumes of the true label maps are called beside those of methods."""
MM3_PER_ML = 1000
PREFERRED = ("ssim", "psnr")
"""The metrics by which subjects are ranked and visits compared, the first that a result has."""


@dataclass(frozen=True)
class Result:
    """What the files of a result say.

    Attributes:
        folder: its folder.
        content: the content of ``metrics.json`` or ``table.json``.
        scores: the score of every visit and method, of ``subjects.csv``; none if there is no such file.
        volumes: the volumes of regions, of ``volumes.csv``; none if there is no such file.
    """

    folder: Path
    content: Mapping[str, Any]
    scores: Sequence[Score]
    volumes: Sequence[VolumeRow] = ()

    @classmethod
    def read(cls, folder: Path) -> "Result":
        """Read a result.

        Raises:
            LongigenError: if a file is damaged.
        """
        path = folder / (TABLE_FILE if (folder / TABLE_FILE).is_file() else METRICS)
        content = read_json(path)
        try:
            result = cls(folder, content, [score for _, score in read_rows(folder)], read_volumes(folder / VOLUMES))
            _ = result.rows, result.protocol["data"], content["protocol_hash"]
        except (*MALFORMED, csv.Error) as error:
            raise LongigenError(
                f"{folder} is not a whole result ({type(error).__name__}: {reason(error)}); score again with 'longigen "
                "evaluate' or 'bench'."
            ) from error
        return result

    @cached_property
    def rows(self) -> list[ResultRow]:
        """One row per scenario and method."""
        return [ResultRow.from_dict(row, self.metrics) for row in self.content["rows"]]

    @cached_property
    def metrics(self) -> list[str]:
        """The names of the metrics."""
        return list(self.protocol["metrics"])

    @property
    def protocol(self) -> Mapping[str, Any]:
        """The protocol of the scores."""
        return self.content["protocol"]

    @property
    def protocol_hash(self) -> str:
        """The hash of the protocol."""
        return str(self.content["protocol_hash"])

    @property
    def samples(self) -> int:
        """The number of samples of each visit."""
        return int(self.protocol.get("samples", 1))

    @property
    def name(self) -> str:
        """The name of the folder; of scores beside a run's weights, that of the run."""
        folder = self.folder.resolve()
        return folder.parent.name if folder.name == MODEL_FOLDER else folder.name

    @property
    def title(self) -> str:
        """One line on the data, its subjects, the scored visits and the space in which they are scored."""
        protocol = self.protocol
        simulated = self.content.get("data", {}).get("simulated", self.content.get("simulated"))
        place = PLACES.get(protocol.get("space", "model"), "")
        table = f"{self.content['table']} on " if "table" in self.content else ""
        return (
            f"{table}{protocol['data']}{', simulated' if simulated else ''}: {protocol['subjects']} subjects, part "
            f"{protocol['part']}, target: {protocol['targets']}, {place}"
        )

    @cached_property
    def arrows(self) -> Mapping[str, str]:
        """The direction of better values of each metric, see `arrows_of`."""
        return arrows_of(self.content)

    def settings(self) -> list[str]:
        """The scenarios, in the order of the rows."""
        return list(dict.fromkeys(row.setting for row in self.rows))

    def of_setting(self, setting: str) -> list[ResultRow]:
        """Return the rows of a scenario, those of copies first."""
        return sorted((row for row in self.rows if row.setting == setting), key=lambda row: row.method not in COPIES)

    @property
    def ranking(self) -> str | None:
        """The metric by which subjects are ranked; None if no metric is better for being larger."""
        larger = [name for name in self.metrics if self.arrows.get(name) == "↑"]
        of_channels = [name for base in PREFERRED for name in larger if name.rpartition("-")[0] == base]
        return next((name for name in (*PREFERRED, *of_channels, *larger) if name in larger), None)

    def of_channel(self, metric: str, channel: str) -> str | None:
        """Return the metric like one of some channel, such as ``ssim-T1w``, of another; itself without channels."""
        name = f"{metric.rpartition('-')[0]}-{channel}" if channel else metric
        return name if name in self.metrics else None

    @property
    def methods(self) -> list[str]:
        """The methods other than copies, in the order of the rows."""
        return [name for name in dict.fromkeys(row.method for row in self.rows) if name not in COPIES]

    def by_visit(self, setting: str, method: str, metric: str) -> dict[int, Summary]:
        """Return the mean and interval over subjects of a metric, by index of the visit (frame)."""
        grouped: dict[int, dict[str, list[float]]] = {}
        for score in self.scores:
            if score.setting == setting and score.method == method and metric in score.values:
                grouped.setdefault(score.visit, {}).setdefault(score.subject, []).append(score.values[metric])
        return {
            visit: Summary.of([sum(values) / len(values) for values in subjects.values()])
            for visit, subjects in sorted(grouped.items())
        }

    @property
    def regions(self) -> list[str]:
        """The regions whose volumes are known."""
        return list(dict.fromkeys(row.region for row in self.volumes))

    @property
    def volume_settings(self) -> list[str]:
        """The scenarios in which some region has volumes of several visits."""
        return [
            setting
            for setting in self.settings()
            if any(self.volumes_by_visit(setting, region) for region in self.regions)
        ]

    def volumes_by_visit(self, setting: str, region: str) -> dict[str, dict[int, Summary]]:
        """Return the mean and interval over subjects of a region's volume in mL, by method and index of the visit.

        The method ``true`` is of the true label maps. Without several visits in the setting there is none.
        """
        grouped: dict[str, dict[int, dict[str, float]]] = {}
        for row in self.volumes:
            if row.setting == setting and row.region == region:
                for method, volume in ((TRUE, row.volume.true), (row.method, row.volume.made)):
                    if not math.isnan(volume):
                        grouped.setdefault(method, {}).setdefault(row.visit, {})[row.subject] = volume / MM3_PER_ML
        if len({visit for visits in grouped.values() for visit in visits}) < 2:
            return {}
        return {
            method: {visit: Summary.of(list(of.values())) for visit, of in sorted(visits.items())}
            for method, visits in grouped.items()
            if method in (TRUE, COPY_LAST, *self.methods)
        }

    def gains(self, setting: str, method: str, metric: str) -> dict[str, float]:
        """Return a metric's gain over copy-last by subject, the mean over its visits, the lowest first."""
        values: dict[str, dict[str, list[float]]] = {}
        for score in self.scores:
            if score.setting == setting and score.method in (method, COPY_LAST) and metric in score.values:
                values.setdefault(score.subject, {}).setdefault(score.method, []).append(score.values[metric])
        gains = {
            subject: sum(of[method]) / len(of[method]) - sum(of[COPY_LAST]) / len(of[COPY_LAST])
            for subject, of in values.items()
            if method in of and COPY_LAST in of
        }
        known = {subject: gain for subject, gain in gains.items() if not math.isnan(gain)}
        return dict(sorted(known.items(), key=lambda item: item[1]))
