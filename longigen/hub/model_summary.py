"""`ModelSummary`: the parts, training data, size and metrics of a model or a segmenter, read without loading it."""

import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from longigen.errors import LongigenError, LongigenWarning
from longigen.hub.description import description_of, read_description
from longigen.hub.manifest import ALL_FILES, CARD, MAX_BYTES, METRICS, SEGMENTER, WEIGHTS
from longigen.hub.metrics_file import COPY_LAST, MALFORMED, MODEL, ResultRow
from longigen.hub.model_config import is_codec, parts_text
from longigen.hub.safetensors_header import number_count, read_header
from longigen.hub.zoo import ZooModel
from longigen.utils.files import read_json, read_text, reason

MetricTable = Mapping[str, Mapping[str, tuple[float, float]]]
"""For each scenario and metric, the means of the model and of copy-last."""
LICENCE = re.compile(r"^license:[ \t]*([^\[{&*|>#\s][^\n]{0,199})$", re.MULTILINE)
"""The licence in the metadata of a card, which is text: no list, no alias and no block."""
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
        regions: what a segmenter marks; empty for a model.
        is_codec: whether it is a codec alone, which generates nothing.
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
    regions: tuple[str, ...] = ()
    is_codec: bool = False

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
        """Return the summary of a model or a segmenter from the files in its folder.

        Raises:
            LongigenError: if a required file is missing or invalid.
        """
        config = read_description(folder)
        is_segmenter = description_of(folder) == SEGMENTER
        parts = config["segmenter"]["name"] if is_segmenter else parts_text(config)
        data = config.get("training" if is_segmenter else "data", {})
        trained_on = str(data.get("data" if is_segmenter else "name") or "unknown data")
        simulated = ", simulated" if data.get("simulated") else ""
        names = config.get("statistics", {}).get("channel_names", [])
        channels = f", channels {', '.join(map(str, names))}" if names else ""
        protocol, metrics = _read_means(folder / METRICS)
        return cls(
            name="",
            summary=f"{parts}, trained on {trained_on}",
            parts=parts,
            data=f"{trained_on}{simulated}{channels}",
            parameters=number_count(read_header(folder / WEIGHTS)),
            size=sum((folder / name).stat().st_size for name in ALL_FILES if (folder / name).is_file()),
            licence=card_licence(folder / CARD),
            protocol=protocol,
            metrics=metrics,
            regions=tuple(config["regions"]) if is_segmenter else (),
            is_codec=is_codec(config),
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
        """Regions, parameters, size, data, metrics and licence in one line."""
        marked = f"marks {', '.join(self.regions)}" if self.regions else ""
        count = f"{self.parameters / 1e6:.2f} M" if self.parameters >= 1e5 else f"{self.parameters:,}"
        texts = [marked, f"{count} parameters", megabytes(self.size), self.data, self.measured]
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
        content |= {"regions": list(self.regions)} if self.regions else {}
        return content | ({"metrics": {"protocol": self.protocol, **metrics}} if metrics else {})


def card_licence(card: Path) -> str:
    """Return the licence in the metadata at the head of a model card; empty if it states none.

    A `LongigenWarning` says why a card cannot be read. A card may be from anybody, so its YAML is not parsed: aliases
    and nesting take exponential time.
    """
    if not card.exists():
        return ""
    try:
        text = read_text(card, MAX_BYTES[CARD])
    except (OSError, ValueError) as error:
        _say_ignored(f"The model card {card}", error)
        return ""
    mark, _, rest = text.partition("---\n")
    line = LICENCE.search(rest.partition("\n---")[0])
    return line[1].strip().strip("\"'") if line and not mark.strip() else ""


def _say_ignored(what: str, error: Exception) -> None:
    warnings.warn(f"{what} is ignored ({reason(error)}).", LongigenWarning, stacklevel=3)


def megabytes(size: int) -> str:
    """Return a size in bytes as text, in MB or kB."""
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def _read_means(path: Path) -> tuple[str, dict[str, dict[str, tuple[float, float]]]]:
    """Return the protocol's hash and the means in a ``metrics.json``; empty if there is none.

    A `LongigenWarning` says why a file cannot be read.
    """
    if not path.exists():
        return "", {}
    try:
        content = read_json(path, MAX_BYTES[METRICS])
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
    except (LongigenError, *MALFORMED) as error:
        _say_ignored(f"The file {path}", error)
        return "", {}
