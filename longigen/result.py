"""Results: the numbers that are kept and published with a model's weights, ``metrics.json``."""

from pathlib import Path
from typing import Any

from longigen.assessment import Assessment
from longigen.errors import LongigenError
from longigen.files import read_json, write_json
from longigen.inquiry import Inquiry
from longigen.pretrained import WEIGHTS, checksum
from longigen.run import RECIPE, Run

METRICS = "metrics.json"
SCHEMA_VERSION = 1


def result_of(assessment: Assessment, inquiry: Inquiry) -> dict[str, Any]:
    """Return what ``metrics.json`` holds: an assessment's summary, whose data they are, and which way is better.

    It has the protocol and its hash, the SHA-256 of the weights, how the model generated, and a row per setting and
    method with each metric's mean and 95 % interval; copy-last is one of the methods, and the others have their paired
    gain on it. It has no subject's id and no path.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        **assessment.summary,
        "data": {
            "name": inquiry.cohort.name,
            "simulated": inquiry.cohort.dataset.simulated,
            "subjects": len(inquiry.subjects),
            "unseen": inquiry.unseen,
        },
        "arrows": {name: metric.arrow(assessment.protocol.samples) for name, metric in assessment.metrics.items()},
    }


def keep(result: dict[str, Any], source: str) -> Path | None:
    """Put a result into the model folder of the run that it is of; return where, or None.

    It replaces what was there. Nothing is kept where the source is not a run, where training saw some of the subjects,
    or where the run has been trained on since the model was loaded.
    """
    if not (Path(source) / RECIPE).exists() or not result["data"]["unseen"]:
        return None
    folder = Run(Path(source)).model
    if checksum(folder / WEIGHTS) != result["model"]["weights_sha256"]:
        return None
    write_json(result, folder / METRICS)
    return folder / METRICS


def read_result(folder: Path) -> dict[str, Any] | None:
    """Return the result that lies beside a model's weights, or None where there is none.

    Raises:
        LongigenError: if it is of other weights than those, or is not a result that this longigen reads.
    """
    path = folder / METRICS
    if not path.exists():
        return None
    result = read_json(path)
    version = result.get("schema_version")
    known = isinstance(result.get("model"), dict) and isinstance(result.get("rows"), list)
    if not isinstance(version, int) or not known:
        raise LongigenError(
            f"{path} is not what 'longigen evaluate' wrote; delete it, or evaluate again with 'longigen evaluate "
            f"{_model(folder)}'."
        )
    if version > SCHEMA_VERSION:
        raise LongigenError(
            f"{path} has schema_version {version}, which is newer than this longigen reads ({SCHEMA_VERSION}); "
            "upgrade longigen."
        )
    if result["model"].get("weights_sha256") != checksum(folder / WEIGHTS):
        raise LongigenError(
            f"{path} is of other weights than the {WEIGHTS} beside it; evaluate again with 'longigen evaluate "
            f"{_model(folder)}', or delete it."
        )
    return result


def _model(folder: Path) -> Path:
    """Return what to evaluate: the run, where the folder is a run's."""
    return folder.parent if (folder.parent / RECIPE).exists() else folder
