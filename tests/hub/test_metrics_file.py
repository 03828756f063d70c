"""The verdict on a model's published metrics."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from helpers.models import config_of
from longigen import LongigenError
from longigen.hub.metrics_file import MetricsFile
from longigen.hub.model_card import Card


def test_verdict_reports_where_a_model_is_worse() -> None:
    def row(mean: float, low: float, high: float) -> dict[str, Any]:
        return {"mean": mean, "low": low, "high": high, "subjects": 20}

    none = {"mean": None, "low": None, "high": None, "subjects": 0}
    copied = {"setting": "full", "method": "copy-last", "psnr": row(30, 29, 31), "nrmse": row(1, 0, 2), "corr": none}
    model = {"setting": "full", "method": "model", "psnr": row(31, 30, 32), "nrmse": row(2, 1, 3)}
    model |= {"psnr gain": row(1, -0.5, 2), "nrmse gain": row(1, 0.5, 2), "corr": row(0.5, 0.4, 0.6), "corr gain": none}
    content = {
        "rows": [copied, model],
        "arrows": {"psnr": "↑", "nrmse": "↓", "corr": "↑"},
        "data": {"name": "acdc", "simulated": False, "subjects": 20, "unseen": True},
        "protocol": {"part": "test", "targets": "last"},
        "protocol_hash": "abc",
        "generation": {"steps": 3},
    }
    result = MetricsFile(content)
    assert result.verdict() == {
        "Worse than copy-last": ["nrmse (full)"],
        "No significant difference from copy-last": ["psnr (full)"],
    }
    assert (result.copies, result.place) == (["copy-last"], "on the model's grid")  # as before there was a choice
    text = Card("b", "hf-hub:lab/b@v2", config_of(), 1, result).text
    assert "| full | psnr ↑ | 30.00 [29.00, 31.00] | 31.00 [30.00, 32.00] | +1.0000 [-0.5000, +2.0000] |" in text
    assert "|  | corr ↑ | - | 0.5000 [0.4000, 0.6000] | - |" in text
    assert "- Worse than copy-last: nrmse (full)." in text
    assert "3 network evaluations per visit" in text
    assert "scored on the model's grid" in text


def test_a_gain_of_too_few_subjects_is_not_called_insignificant() -> None:
    none = {"mean": 30.0, "low": None, "high": None, "subjects": 2}
    rows = [{"setting": "full", "method": method, "psnr": none, "psnr gain": none} for method in ("copy-last", "model")]
    result = MetricsFile({"rows": rows, "arrows": {"psnr": "↑"}})
    assert result.verdict() == {"Too few subjects for an interval": ["psnr (full)"]}


def test_blurred_copies_stand_beside_the_copy() -> None:
    def row(method: str, mean: float) -> dict[str, Any]:
        return {"setting": "full", "method": method, "psnr": {"mean": mean, "low": 0.0, "high": 99.0, "subjects": 20}}

    rows = [row("copy-last", 18.0), row("copy-last blurred 0.5", 18.25), row("copy-last blurred 1", 18.5)]
    content = {
        "rows": [*rows, row("model", 18.75)],
        "arrows": {"psnr": "↑"},
        "protocol": {"part": "test", "targets": "last", "space": "subject"},
    }
    result = MetricsFile(content)
    assert result.place == "in the subjects' own space"
    assert result.copies == ["copy-last", "copy-last blurred 0.5", "copy-last blurred 1"]
    assert [value.mean for value in result.copied("full", "psnr").values()] == [18.0, 18.25, 18.5]
    ((made, name, copied),) = result.gains()
    assert (made.method, name, copied.mean) == ("model", "psnr", 18.0)


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("rows", True, "is damaged"),
        ("rows", [{"setting": "full", "method": "model", "psnr": 1}], "is damaged"),
        ("rows", [{"setting": "full", "method": "model", "psnr": {"mean": [1]}}], "is damaged"),
        ("protocol", 3, "was not written by 'longigen evaluate'"),
    ],
)
def test_values_of_other_types_are_a_sentence(key: str, value: Any, problem: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    model = {"weights_sha256": hashlib.sha256(b"").hexdigest()}
    content = {"schema_version": 1, "model": model, "generation": {}, "protocol_hash": "", "protocol": {}, "rows": []}
    content |= {"data": {}, "arrows": {"psnr": "↑"}}
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    assert MetricsFile.read(tmp_path) is not None
    (tmp_path / "metrics.json").write_text(json.dumps(content | {key: value}))
    with pytest.raises(LongigenError, match=f"metrics.json {problem}.*evaluate again"):
        MetricsFile.read(tmp_path)
