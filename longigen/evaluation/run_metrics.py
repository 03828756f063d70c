"""The ``metrics.json`` beside a run's weights: the results of all its evaluations by one protocol, merged."""

import warnings
from pathlib import Path
from typing import Any

from longigen.errors import LongigenError, LongigenWarning
from longigen.evaluation.protocol import protocol_hash
from longigen.hub.manifest import BEST_FOLDER, METRICS, MODEL_FOLDER, RUN_FILE, WEIGHTS, checksum
from longigen.hub.metrics_file import MetricsFile
from longigen.models.predict import recorded_generation
from longigen.models.tasks import SCENARIOS

PARTS = ("metrics", "settings")
"""The keys of a protocol in which evaluations that are merged may differ: each is a part of the same table."""


def save_to_run(result: MetricsFile, source: str) -> tuple[Path | None, str]:
    """Write results into ``metrics.json`` beside the weights of the evaluated run, and keep what it has.

    Results of the same weights by the same protocol, but for its metrics and scenarios, are merged. Results of another
    protocol are replaced, with a `LongigenWarning`, by results of all their metrics and scenarios, and not by fewer;
    the file then stays as it is, with a `LongigenWarning`. Results of other weights are replaced too.

    Args:
        result: the results.
        source: folder of the run that was evaluated, or of its best model.

    Returns:
        The path of the file and a sentence on what was merged, if anything was. The path is None if nothing is
        written: if the source is not a run, if training used some of the evaluated subjects, if the run's weights have
        changed since the model was loaded, or if the file stays as it is.
    """
    is_best = Path(source).name == BEST_FOLDER
    run = Path(source).parent if is_best else Path(source)
    folder = Path(source) if is_best else run / MODEL_FOLDER
    if not (run / RUN_FILE).exists() or result.content["data"]["unseen"] is False:
        return None, ""
    if checksum(folder / WEIGHTS) != result.content["model"]["weights_sha256"]:
        return None, ""
    path, note = folder / METRICS, ""
    try:
        earlier = MetricsFile.read(folder)
    except LongigenError:
        warnings.warn(
            f"Replaced {path}, which is of other weights or cannot be read by this version.",
            LongigenWarning,
            stacklevel=2,
        )
        earlier = None
    if earlier is not None:
        both = merged(earlier, result)
        ours, theirs = (_described(one) for one in (result, earlier))
        if both is not None:
            if both.content["protocol"] != result.content["protocol"]:
                note = f"{path} has the other metrics and settings of earlier evaluations by this protocol as well."
            result = both
        elif _covers(result, earlier):
            warnings.warn(f"In {path} {ours} replace {theirs}.", LongigenWarning, stacklevel=2)
        else:
            warnings.warn(
                f"{path} keeps {theirs}, since {ours} have fewer metrics or settings; delete it to save these there.",
                LongigenWarning,
                stacklevel=2,
            )
            return None, ""
    result.write(folder)
    return path, note


def merged(earlier: MetricsFile, later: MetricsFile) -> MetricsFile | None:
    """Return the results of two evaluations as those of one, or None if they differ in more than a table's parts.

    Weights, data, generation settings and protocol must be equal, but for the protocol's metrics and scenarios; a
    metric that both have must have one definition. Where both have a value, it is the later one.
    """
    one, two = earlier.content, later.content
    protocols = [content["protocol"] for content in (one, two)]
    definitions = [protocol["metrics"] for protocol in protocols]
    if (
        one["data"] != two["data"]
        or recorded_generation(one["generation"]) != recorded_generation(two["generation"])
        or one["model"]["weights_sha256"] != two["model"]["weights_sha256"]
        or _without_parts(protocols[0]) != _without_parts(protocols[1])
        or any(definitions[0][name] != definitions[1][name] for name in definitions[0].keys() & definitions[1].keys())
    ):
        return None
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for row in (*one["rows"], *two["rows"]):
        rows.setdefault((row["setting"], row["method"]), {}).update(row)
    settings = [name for name in SCENARIOS if any(name in protocol["settings"] for protocol in protocols)]
    protocol = {**protocols[1], "settings": settings, "metrics": definitions[0] | definitions[1]}
    return MetricsFile(
        {
            **two,
            "protocol": protocol,
            "protocol_hash": protocol_hash(protocol),
            "rows": [row for name in settings for (setting, _), row in rows.items() if setting == name],
            "arrows": {**one["arrows"], **two["arrows"]},
        }
    )


def _described(result: MetricsFile) -> str:
    generation = ", ".join(f"{name} {value}" for name, value in result.content["generation"].items())
    return f"those of protocol {result.content['protocol_hash']} ({generation})"


def _without_parts(protocol: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in protocol.items() if key not in PARTS}


def _covers(result: MetricsFile, earlier: MetricsFile) -> bool:
    """Return whether results have all metrics and scenarios that earlier ones have."""
    return all(set(earlier.content["protocol"][part]) <= set(result.content["protocol"][part]) for part in PARTS)
