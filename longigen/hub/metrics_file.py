"""``metrics.json``: the results of an evaluation, stored and published with a model's weights."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from shlex import quote
from typing import Any, Self

from longigen.errors import LongigenError
from longigen.hub.manifest import MAX_BYTES, METRICS, RUN_FILE, WEIGHTS, checksum
from longigen.utils.files import read_json, reason, write_json
from longigen.utils.intervals import Summary

METRICS_SCHEMA_VERSION = 1
COPY_LAST, MODEL = "copy-last", "model"
"""Two methods of every evaluation: repeating the last given visit, and the model's first sample."""
BLURRED = {f"{COPY_LAST} blurred {sigma:g}": sigma for sigma in (0.5, 1.0)}
"""Two more: copies smoothed by a Gaussian, with its standard deviation in voxels. A model whose gain is that of a
blurred copy has learnt that blur lowers errors, and nothing of the subject."""
COPIES = (COPY_LAST, *BLURRED)
SEGMENTED = "true, segmented"
"""And one where regions are scored: a segmenter's label maps of the true images, against the true label maps."""
CODED = "true, coded"
"""And one of a model with a codec: the true images, encoded and decoded, which no such model can be nearer to."""
CEILINGS = (SEGMENTED, CODED)
PLACES = {
    "subject": "in the subjects' own space",
    "model": "on the model's grid",
    "stored": "in the images' own voxels and intensities",
}
"""Where volumes are scored, by the name of the space in a protocol; a protocol that names none is of the model's grid.
"""
MEAN_PREFIX, GAIN_SUFFIX = f"{MODEL}, ", " gain"
NOT_SIGNIFICANT, TOO_FEW = "No significant difference from copy-last", "Too few subjects for an interval"
METRICS_KEYS = ("model", "generation", "protocol_hash", "protocol", "rows", "data", "arrows")
"""The keys of ``metrics.json`` beside ``schema_version``."""
MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What reading rows raises where they are of other types than `ResultRow.to_dict` writes."""


@dataclass(frozen=True)
class ResultRow:
    """The metrics of one method in one scenario, over subjects.

    Attributes:
        setting: the scenario (which visits were given): single, missing or full.
        method: one of `COPIES`, `MODEL`, `CEILINGS`, or the name of another method.
        visits: number of generated visits that were scored.
        values: mean and interval of each metric.
        gains: mean and interval of method minus copy-last, paired by subject, for each metric; empty for copy-last.
    """

    setting: str
    method: str
    visits: int
    values: Mapping[str, Summary]
    gains: Mapping[str, Summary]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: each metric under its name, and its gain under ``NAME gain``."""
        content: dict[str, Any] = {"setting": self.setting, "method": self.method, "visits": self.visits}
        for name, value in self.values.items():
            content[name] = value.to_dict()
            if name in self.gains:
                content[_gain_key(name)] = self.gains[name].to_dict()
        return content

    @property
    def label(self) -> str:
        """The scenario, and the method if it is not the model's first sample: ``full, mean of 8``."""
        return self.setting if self.method == MODEL else f"{self.setting}, {self.method.removeprefix(MEAN_PREFIX)}"

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], metrics: Collection[str] | None = None) -> Self:
        """Return the row that `to_dict` stored; only the given metrics, in their order, if `metrics` is not None."""
        if metrics is None:
            means = [name for name, value in content.items() if isinstance(value, Mapping)]
            metrics = [name for name in means if name.removesuffix(GAIN_SUFFIX) == name]
        return cls(
            str(content["setting"]),
            str(content["method"]),
            int(content.get("visits", 0)),
            {name: Summary.from_dict(content[name]) for name in metrics if name in content},
            {name: Summary.from_dict(content[key]) for name in metrics if (key := _gain_key(name)) in content},
        )


def mean_method(samples: int) -> str:
    """Return the name of the method that takes the mean of several samples of the model."""
    return f"{MEAN_PREFIX}mean of {samples}"


def _gain_key(metric: str) -> str:
    return f"{metric}{GAIN_SUFFIX}"


@dataclass(frozen=True)
class MetricsFile:
    """The content of ``metrics.json``: the results of an evaluation.

    `content` has the protocol and its hash, the SHA-256 of the weights, the settings of generation, and one row per
    scenario and method with each metric's mean, 95 % interval and paired gain over copy-last (itself one of the
    methods). ``data`` describes the data set, and ``arrows`` the direction of better values of each metric. It has no
    subject ids and no paths.
    """

    content: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path, *, weights: Path | None = None) -> "MetricsFile | None":
        """Read ``metrics.json`` from a model's folder; return None if there is none.

        Args:
            folder: the model's folder.
            weights: the weights that must have been evaluated; by default those in the folder.

        Raises:
            LongigenError: if other weights were evaluated, or the file is not a result that this longigen reads.
        """
        path = folder / METRICS
        if not path.exists():
            return None
        source = folder.parent if (folder.parent / RUN_FILE).exists() else folder
        advice = f"evaluate again with 'longigen evaluate {quote(str(source))}', or delete it"
        content = read_json(path, MAX_BYTES[METRICS])
        version = content.get("schema_version")
        if isinstance(version, int) and version > METRICS_SCHEMA_VERSION:
            raise LongigenError(
                f"{path} has schema_version {version}, which is newer than this longigen reads "
                f"({METRICS_SCHEMA_VERSION}); upgrade longigen."
            )
        tables = ("model", "generation", "protocol", "data", "arrows")
        if (
            not isinstance(version, int)
            or any(key not in content for key in METRICS_KEYS)
            or not all(isinstance(content[key], dict) for key in tables)
        ):
            raise LongigenError(f"{path} was not written by 'longigen evaluate'; {advice}.")
        if content["model"].get("weights_sha256") != checksum(weights or folder / WEIGHTS):
            raise LongigenError(f"{path} is of other weights than the {WEIGHTS} beside it; {advice}.")
        found = cls({key: content[key] for key in ("schema_version", *METRICS_KEYS)})
        try:
            _ = found.rows
        except MALFORMED as error:
            raise LongigenError(f"{path} is damaged ({reason(error)}); {advice}.") from error
        return found

    def write(self, folder: Path) -> None:
        """Write ``metrics.json``."""
        write_json(self.content, folder / METRICS)

    @property
    def arrows(self) -> Mapping[str, str]:
        """The direction of better values of each metric: ``↑``, ``↓`` or ``→ VALUE``."""
        return self.content["arrows"]

    @property
    def rows(self) -> list[ResultRow]:
        """One row per scenario and method, copy-last first."""
        return [ResultRow.from_dict(row, list(self.arrows)) for row in self.content["rows"]]

    @property
    def copies(self) -> list[str]:
        """The names of the copies among the methods: copy-last, and the blurred ones unless the file is older."""
        methods = {row.method for row in self.rows}
        return [name for name in COPIES if name in methods or name == COPY_LAST]

    @property
    def place(self) -> str:
        """Where the volumes were scored: one of `PLACES`, or the name of a space that this longigen does not know."""
        space = self.content["protocol"].get("space", "model")
        return PLACES.get(space, f"in the space '{space}'")

    def copied(self, setting: str, metric: str) -> dict[str, Summary]:
        """Return a metric of each of `copies` in a scenario; undefined (NaN, 0 subjects) where it is not known."""
        known = {row.method: row.values.get(metric) for row in self.rows if row.setting == setting}
        return {name: known.get(name) or Summary.from_dict(None) for name in self.copies}

    def gains(self) -> Iterator[tuple[ResultRow, str, Summary]]:
        """Yield each row (other than those of copies) and metric with copy-last's value of that metric."""
        for row in self.rows:
            for name, value in row.values.items() if row.method not in (*COPIES, *CEILINGS) else ():
                if value.subjects:
                    yield row, name, self.copied(row.setting, name)[COPY_LAST]

    def verdict(self) -> dict[str, list[str]]:
        """Return the metrics, with scenarios, in which the model is significantly better or worse than copy-last.

        The difference is significant if the 95 % interval of the gain does not contain 0.
        """
        verdicts: dict[str, dict[str, list[str]]]
        verdicts = {"Better than copy-last": {}, "Worse than copy-last": {}, NOT_SIGNIFICANT: {}, TOO_FEW: {}}
        better, worse, neither, unknown = verdicts.values()
        for row, name, _ in self.gains():
            arrow, gain = self.arrows[name], row.gains.get(name)
            if row.method == MODEL and arrow in ("↑", "↓") and gain is not None and gain.subjects:
                low, high = (gain.low, gain.high) if arrow == "↑" else (-gain.high, -gain.low)
                found = unknown if isnan(low) else better if low > 0 else worse if high < 0 else neither
                found.setdefault(name, []).append(row.setting)
        return {
            verdict: [f"{name} ({', '.join(settings)})" for name, settings in metrics.items()]
            for verdict, metrics in verdicts.items()
            if metrics
        }
