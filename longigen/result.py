"""Results: the numbers that are kept and published with a model's weights, ``metrics.json``."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longigen.errors import LongigenError
from longigen.evaluation import Summary
from longigen.files import read_json, write_json
from longigen.manifest import METRICS, WEIGHTS, checksum
from longigen.run import RECIPE, Run

if TYPE_CHECKING:
    from longigen.assessment import Assessment
    from longigen.inquiry import Inquiry

SCHEMA_VERSION = 1
KEYS = ("model", "generation", "protocol_hash", "protocol", "rows", "data", "arrows")


@dataclass(frozen=True)
class Result:
    """What an evaluation found, as ``metrics.json`` holds it.

    Its `content` is an assessment's summary (protocol and hash, SHA-256 of the weights, how the model generated, and a
    row per setting and method with each metric's mean and 95 % interval; copy-last is one of the methods, and the
    others have their paired gain on it), whose ``data`` they are, and in ``arrows`` which way each metric is better. It
    has no subject's id and no path.
    """

    content: Mapping[str, Any]

    @classmethod
    def of(cls, assessment: "Assessment", inquiry: "Inquiry") -> "Result":
        """Return the result of an assessment."""
        samples = assessment.protocol.samples
        return cls(
            {
                "schema_version": SCHEMA_VERSION,
                **assessment.summary,
                "data": {
                    "name": inquiry.cohort.name,
                    "simulated": inquiry.cohort.dataset.simulated,
                    "subjects": len(inquiry.subjects),
                    "unseen": inquiry.unseen,
                },
                "arrows": {name: metric.arrow(samples) for name, metric in assessment.metrics.items()},
            }
        )

    @classmethod
    def read(cls, folder: Path, *, weights: Path | None = None) -> "Result | None":
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
        source = folder.parent if (folder.parent / RECIPE).exists() else folder
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
        if not (Path(source) / RECIPE).exists() or not self.content["data"]["unseen"]:
            return None
        folder = Run(Path(source)).model
        if checksum(folder / WEIGHTS) != self.content["model"]["weights_sha256"]:
            return None
        self.write(folder)
        return folder / METRICS

    @property
    def arrows(self) -> Mapping[str, str]:
        """Which way each metric is better."""
        return self.content["arrows"]

    def gains(self) -> Iterator[tuple[str, str, str, Summary, Summary, Summary]]:
        """Give setting, method, metric, copy-last's value, the method's and its gain, for every metric it has."""
        rows = self.content["rows"]
        copied = {row["setting"]: row for row in rows if row["method"] == "copy-last"}
        for row in rows:
            for name in self.arrows if row["method"] != "copy-last" else ():
                base, value, gain = (
                    Summary.of_dict(kept)
                    for kept in (copied.get(row["setting"], {}).get(name), row.get(name), row.get(f"{name} gain"))
                )
                if value.subjects:
                    yield row["setting"], row["method"], name, base, value, gain

    def verdict(self) -> dict[str, list[str]]:
        """Return where the model is better than copy-last, where worse, and where its gain's interval holds 0: metrics,
        each with its settings.
        """
        said: dict[str, dict[str, list[str]]]
        said = {"Better than copy-last": {}, "Worse than copy-last": {}, "Not told apart from copy-last": {}}
        better, worse, neither = said.values()
        for setting, method, name, _, _, gain in self.gains():
            arrow = self.arrows[name]
            if method == "model" and arrow in ("↑", "↓") and gain.subjects:
                low, high = (gain.low, gain.high) if arrow == "↑" else (-gain.high, -gain.low)
                (better if low > 0 else worse if high < 0 else neither).setdefault(name, []).append(setting)
        return {
            word: [f"{name} ({', '.join(settings)})" for name, settings in found.items()]
            for word, found in said.items()
            if found
        }
