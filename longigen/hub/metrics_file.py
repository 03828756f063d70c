"""``metrics.json``: the numbers that are kept and published with a model's weights."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from longigen.errors import LongigenError
from longigen.hub.manifest import METRICS, MODEL_FOLDER, RUN_FILE, WEIGHTS, checksum
from longigen.utils.files import read_json, write_json
from longigen.utils.intervals import Summary

SCHEMA_VERSION = 1
COPY_LAST, MODEL = "copy-last", "model"
"""Two methods of every evaluation: repeat the last given visit, and the model's first sample."""
MEAN_PREFIX, GAIN = f"{MODEL}, ", " gain"
KEYS = ("model", "generation", "protocol_hash", "protocol", "rows", "data", "arrows")


@dataclass(frozen=True)
class ResultRow:
    """The metrics of one method in one scenario, over subjects.

    Attributes:
        setting: the scenario: which visits were given.
        method: `COPY_LAST`, `MODEL`, or the name of another one.
        visits: how many generated visits were scored.
        values: by metric, its mean and interval.
        gains: by metric, method minus copy-last, paired by subject; empty for copy-last.
    """

    setting: str
    method: str
    visits: int
    values: Mapping[str, Summary]
    gains: Mapping[str, Summary]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: each metric under its name, and its gain under ``NAME gain``."""
        content: dict[str, Any] = {"setting": self.setting, "method": self.method, "visits": self.visits}
        for name, value in self.values.items():
            content[name] = value.to_dict()
            if name in self.gains:
                content[_gain_key(name)] = self.gains[name].to_dict()
        return content

    @property
    def label(self) -> str:
        """The scenario, and the method where it is not the model's first sample: ``full, mean of 8``."""
        return self.setting if self.method == MODEL else f"{self.setting}, {self.method.removeprefix(MEAN_PREFIX)}"

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], metrics: Collection[str] | None = None) -> Self:
        """Return the row that `to_dict` gave; only some of its metrics, in their order, if they are named."""
        if metrics is None:
            means = [name for name, value in content.items() if isinstance(value, Mapping)]
            metrics = [name for name in means if name.removesuffix(GAIN) == name]
        return cls(
            str(content["setting"]),
            str(content["method"]),
            int(content.get("visits", 0)),
            {name: Summary.of_dict(content[name]) for name in metrics if name in content},
            {name: Summary.of_dict(content[key]) for name in metrics if (key := _gain_key(name)) in content},
        )


def mean_of(samples: int) -> str:
    """Return the name of the method that is the mean of several samples of the model."""
    return f"{MEAN_PREFIX}mean of {samples}"


def _gain_key(metric: str) -> str:
    return f"{metric}{GAIN}"


@dataclass(frozen=True)
class MetricsFile:
    """What an evaluation found, as ``metrics.json`` holds it.

    Its `content` is the summary of an evaluation (protocol and hash, SHA-256 of the weights, how the model generated,
    and a row per setting and method with each metric's mean and 95 % interval; copy-last is one of the methods, and the
    others have their paired gain on it), whose ``data`` they are, and in ``arrows`` which way each metric is better. It
    has no subject's id and no path.
    """

    content: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path, *, weights: Path | None = None) -> "MetricsFile | None":
        """Return the result that lies in a model's folder, or None where there is none.

        Args:
            folder: of the model.
            weights: what it must be of; by default the weights beside it.

        Raises:
            LongigenError: if it is of other weights than those, or is not a result that this longigen reads.
        """
        path = folder / METRICS
        if not path.exists():
            return None
        source = folder.parent if (folder.parent / RUN_FILE).exists() else folder
        mend = f"evaluate again with 'longigen evaluate {source}', or delete it"
        content = read_json(path)
        version = content.get("schema_version")
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise LongigenError(
                f"{path} has schema_version {version}, which is newer than this longigen reads ({SCHEMA_VERSION}); "
                "upgrade longigen."
            )
        if not isinstance(version, int) or any(key not in content for key in KEYS):
            raise LongigenError(f"{path} is not what 'longigen evaluate' wrote; {mend}.")
        if content["model"].get("weights_sha256") != checksum(weights or folder / WEIGHTS):
            raise LongigenError(f"{path} is of other weights than the {WEIGHTS} beside it; {mend}.")
        return cls({key: content[key] for key in ("schema_version", *KEYS)})

    def write(self, folder: Path) -> None:
        """Write ``metrics.json``."""
        write_json(self.content, folder / METRICS)

    def keep(self, source: str) -> Path | None:
        """Put the result into the model folder of the run that it is of; return where, or None.

        It replaces what was there. Nothing is kept where the source is not a run, where training saw some of the
        subjects, or where the run was trained on since the model was loaded.
        """
        if not (Path(source) / RUN_FILE).exists() or not self.content["data"]["unseen"]:
            return None
        folder = Path(source) / MODEL_FOLDER
        if checksum(folder / WEIGHTS) != self.content["model"]["weights_sha256"]:
            return None
        self.write(folder)
        return folder / METRICS

    @property
    def arrows(self) -> Mapping[str, str]:
        """Which way each metric is better."""
        return self.content["arrows"]

    @property
    def rows(self) -> list[ResultRow]:
        """One row per scenario and method, copy-last first."""
        return [ResultRow.from_dict(row, list(self.arrows)) for row in self.content["rows"]]

    def gains(self) -> Iterator[tuple[ResultRow, str, Summary]]:
        """Give each row that is not copy-last's, each metric that it has, and copy-last's value of it."""
        copied = {row.setting: row for row in self.rows if row.method == COPY_LAST}
        for row in self.rows:
            for name, value in row.values.items() if row.method != COPY_LAST else ():
                if value.subjects:
                    base = copied[row.setting].values.get(name) if row.setting in copied else None
                    yield row, name, base or Summary.of_dict(None)

    def verdict(self) -> dict[str, list[str]]:
        """Return the metrics in which the model is better than copy-last, worse, or not told apart (the interval of its
        gain holds 0), each with its scenarios.
        """
        said: dict[str, dict[str, list[str]]]
        said = {"Better than copy-last": {}, "Worse than copy-last": {}, "Not told apart from copy-last": {}}
        better, worse, neither = said.values()
        for row, name, _ in self.gains():
            arrow, gain = self.arrows[name], row.gains.get(name)
            if row.method == MODEL and arrow in ("↑", "↓") and gain is not None and gain.subjects:
                low, high = (gain.low, gain.high) if arrow == "↑" else (-gain.high, -gain.low)
                (better if low > 0 else worse if high < 0 else neither).setdefault(name, []).append(row.setting)
        return {
            word: [f"{name} ({', '.join(settings)})" for name, settings in found.items()]
            for word, found in said.items()
            if found
        }
