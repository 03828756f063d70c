"""`ModelSummary`: a model's components, training data, size and metrics, read without loading it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from longigen.errors import LongigenError
from longigen.hub.manifest import CARD, FILES, METRICS, WEIGHTS
from longigen.hub.metrics_file import COPY_LAST, MODEL, ResultRow
from longigen.hub.model_config import COMPONENTS, read_config
from longigen.hub.safetensors_header import number_count, read_header
from longigen.hub.zoo import ZooModel
from longigen.utils.files import read_json

MetricTable = Mapping[str, Mapping[str, tuple[float, float]]]
"""For each scenario and metric, the means of the model and of copy-last."""
PREFERRED_SCENARIOS = ("full", "missing", "single")
"""The order in which a scenario is chosen where the metrics of only one are shown."""


@dataclass(frozen=True)
class ModelSummary:
    """A summary of a model, for lists and pages.

    Attributes:
        name: name of a published model; empty for the model in a folder.
        summary: a short description.
        parts: conditioner, denoiser and sampler; empty if the model's files are not read.
        data: the data set that it was trained on.
        parameters: number of parameters in the weights.
        size: size of all files, in bytes.
        licence: licence of the weights; empty if it is not stated.
        protocol: hash of the protocol of the metrics; empty if there are no metrics.
        metrics: means of the model and of copy-last.
    """

    name: str
    summary: str
    parts: str
    data: str
    parameters: int
    size: int
    licence: str
    protocol: str = ""
    metrics: MetricTable = field(default_factory=dict)

    @classmethod
    def from_entry(cls, model: ZooModel) -> "ModelSummary":
        """Return the summary of a published model from its entry in a ``registry.yaml``."""
        return cls(
            name=model.name,
            summary=model.summary,
            parts="",
            data=model.data,
            parameters=model.parameters,
            size=model.size,
            licence=model.licence,
            protocol=model.protocol,
            metrics=model.metrics,
        )

    @classmethod
    def from_folder(cls, folder: Path) -> "ModelSummary":
        """Return the summary of a model from the files in its folder.

        Raises:
            LongigenError: if a required file is missing or invalid.
        """
        config = read_config(folder)
        parts = " + ".join(config[kind]["name"] for kind in COMPONENTS)
        data = config.get("data", {})
        trained_on = str(data.get("name") or "unknown data")
        simulated = ", simulated" if data.get("simulated") else ""
        protocol, metrics = _read_means(folder / METRICS)
        return cls(
            name="",
            summary=f"{parts}, trained on {trained_on}",
            parts=parts,
            data=f"{trained_on}{simulated}",
            parameters=number_count(read_header(folder / WEIGHTS)),
            size=sum((folder / name).stat().st_size for name in FILES if (folder / name).is_file()),
            licence=str(front_matter(folder / CARD).get("license") or ""),
            protocol=protocol,
            metrics=metrics,
        )

    @property
    def measured(self) -> str:
        """Two metrics of one scenario, with copy-last's, such as ``full: psnr 43.43 (copy-last 41.44)``."""
        scenario = next((name for name in (*PREFERRED_SCENARIOS, *self.metrics) if self.metrics.get(name)), None)
        if scenario is None:
            return ""
        texts = [
            f"{name} {model:.4g} (copy-last {copied:.4g})" for name, (model, copied) in self.metrics[scenario].items()
        ]
        return f"{scenario}: {', '.join(texts[:2])}"

    @property
    def line(self) -> str:
        """Parameters, size, data, metrics and licence in one line."""
        count = f"{self.parameters / 1e6:.2f} M" if self.parameters >= 1e5 else f"{self.parameters:,}"
        texts = [f"{count} parameters", megabytes(self.size), self.data, self.measured]
        return ", ".join(filter(None, [*texts, self.licence or "licence not stated"]))

    def __repr__(self) -> str:
        """Return one line: the name, and `line`."""
        return f"ModelSummary({self.name or self.parts}: {self.line})"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; metrics only if there are some."""
        metrics = {
            setting: {name: list(pair) for name, pair in table.items()} for setting, table in self.metrics.items()
        }
        content: dict[str, Any] = {"summary": self.summary, "parameters": self.parameters, "size": self.size}
        content |= {"data": self.data, "licence": self.licence or None}
        return content | ({"metrics": {"protocol": self.protocol, **metrics}} if metrics else {})


def front_matter(card: Path) -> dict[str, Any]:
    """Return the YAML metadata at the head of a model card; empty if there is none or it cannot be read."""
    try:
        text = card.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return {}
    mark, _, rest = text.partition("---\n")
    if mark.strip():
        return {}
    try:
        content = yaml.safe_load(rest.partition("\n---")[0])
    except (yaml.YAMLError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def megabytes(size: int) -> str:
    """Return a size in bytes as text, in MB or kB."""
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def _read_means(path: Path) -> tuple[str, dict[str, dict[str, tuple[float, float]]]]:
    """Return the protocol's hash and the means in a ``metrics.json``; empty if there is none or it cannot be read."""
    try:
        content = read_json(path)
        rows = [ResultRow.from_dict(row) for row in content["rows"]]
        copied = {row.setting: row.values for row in rows if row.method == COPY_LAST}
        means: dict[str, dict[str, tuple[float, float]]] = {}
        for row in rows:
            for name, value in row.values.items() if row.method == MODEL else ():
                base = copied.get(row.setting, {}).get(name)
                # NaN: change-correlation is not defined for copy-last
                if base is not None and not math.isnan(value.mean + base.mean):
                    means.setdefault(row.setting, {})[name] = (value.mean, base.mean)
        return str(content["protocol_hash"]), means
    except (LongigenError, KeyError, TypeError, ValueError, AttributeError):
        return "", {}
