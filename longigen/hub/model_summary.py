"""Overviews: what is known of a model without loading it, and without a network."""

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

Table = Mapping[str, Mapping[str, tuple[float, float]]]
"""By setting and metric, the model's mean and copy-last's."""
FIRST = ("full", "missing", "single")
"""The setting whose numbers are shown where there is room for one."""


@dataclass(frozen=True)
class ModelSummary:
    """What is shown of a model.

    Attributes:
        name: by which the model is found; empty of a folder.
        summary: one line.
        parts: conditioner, denoiser and sampler; empty where only an index tells of the model.
        data: what it was trained on.
        parameters: how many numbers the weights hold.
        size: of all its files, in bytes.
        licence: of the weights; empty where none is said.
        protocol: the hash of the protocol of the metrics; empty where there are none.
        metrics: the model's means beside copy-last's.
    """

    name: str
    summary: str
    parts: str
    data: str
    parameters: int
    size: int
    licence: str
    protocol: str = ""
    metrics: Table = field(default_factory=dict)

    @classmethod
    def of_published(cls, model: ZooModel) -> "ModelSummary":
        """Return what a ``registry.yaml`` says of a model."""
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
    def of_folder(cls, folder: Path) -> "ModelSummary":
        """Return what the files of a model say of it.

        Raises:
            LongigenError: if a file that it needs is missing or is not what it should be.
        """
        config = read_config(folder)
        parts = " + ".join(config[kind]["name"] for kind in COMPONENTS)
        data = config.get("data", {})
        trained_on = str(data.get("name") or "unknown data")
        simulated = ", simulated" if data.get("simulated") else ""
        protocol, metrics = _measured(folder / METRICS)
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
        """The numbers of one setting, each beside copy-last's, as in ``full: psnr 43.43 (copy-last 41.44)``."""
        setting = next((name for name in (*FIRST, *self.metrics) if self.metrics.get(name)), None)
        if setting is None:
            return ""
        told = [
            f"{name} {model:.4g} (copy-last {copied:.4g})" for name, (model, copied) in self.metrics[setting].items()
        ]
        return f"{setting}: {', '.join(told[:2])}"

    @property
    def line(self) -> str:
        """Size, data, numbers and licence in one line."""
        count = f"{self.parameters / 1e6:.2f} M" if self.parameters >= 1e5 else f"{self.parameters:,}"
        known = [f"{count} parameters", megabytes(self.size), self.data, self.measured]
        return ", ".join(filter(None, [*known, self.licence or "no licence said"]))

    def __repr__(self) -> str:
        """Return one line: name, and what `line` says."""
        return f"ModelSummary({self.name or self.parts}: {self.line})"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, without those that are not known."""
        metrics = {
            setting: {name: list(pair) for name, pair in table.items()} for setting, table in self.metrics.items()
        }
        told: dict[str, Any] = {"summary": self.summary, "parameters": self.parameters, "size": self.size}
        told |= {"data": self.data, "licence": self.licence or None}
        return told | ({"metrics": {"protocol": self.protocol, **metrics}} if metrics else {})


def front_matter(card: Path) -> dict[str, Any]:
    """Return the YAML at the head of a model card; empty where there is none that can be read."""
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
    """Say a size."""
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def _measured(path: Path) -> tuple[str, dict[str, dict[str, tuple[float, float]]]]:
    """Return the protocol's hash and the means of a ``metrics.json``; nothing where there is none that can be read."""
    try:
        content = read_json(path)
        rows = [ResultRow.from_dict(row) for row in content["rows"]]
        copied = {row.setting: row.values for row in rows if row.method == COPY_LAST}
        found: dict[str, dict[str, tuple[float, float]]] = {}
        for row in rows:
            for name, value in row.values.items() if row.method == MODEL else ():
                base = copied.get(row.setting, {}).get(name)
                if base is not None and not math.isnan(
                    value.mean + base.mean
                ):  # change-correlation: none for copy-last
                    found.setdefault(row.setting, {})[name] = (value.mean, base.mean)
        return str(content["protocol_hash"]), found
    except (LongigenError, KeyError, TypeError, ValueError, AttributeError):
        return "", {}
