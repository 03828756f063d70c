"""Volumes of regions in a report: written by an evaluation, read back, averaged over subjects, drawn by visit."""

import base64
import math
from pathlib import Path

import pytest

from longigen.evaluation.evaluate import write_csv
from longigen.evaluation.scoring import Score
from longigen.evaluation.volumes import VOLUMES, RegionVolume, read_volumes
from longigen.hub.metrics_file import COPY_LAST, MODEL
from longigen.reporting.charts import volumes_of_regions
from longigen.reporting.results import TRUE, Result

HEART = "left ventricle"


def result(folder: Path, visits: range) -> Result:
    """Return a result of two subjects, whose true volumes fall by 10 mL a visit from 100 and 60; the model's by 5."""
    scores = [
        Score("single", method, subject, visit, float(visit), {"dice": 0.5}, volumes={HEART: volume})
        for subject, start in (("a", 100_000), ("b", 60_000))
        for visit in visits
        for method, made in ((COPY_LAST, start), (MODEL, start - 5_000 * visit))
        for volume in (RegionVolume(made if visit != 2 or subject == "a" else math.nan, start - 10_000 * visit),)
    ]
    write_csv([row for score in scores for row in score.to_volume_rows()], folder / VOLUMES)
    read = read_volumes(folder / VOLUMES)
    assert len(read) == len(scores)
    rows = [{"setting": "single", "method": method, "visits": 2} for method in (COPY_LAST, MODEL)]
    content = {"protocol": {"metrics": {}, "samples": 1}, "rows": rows}
    return Result(folder, content, scores, read)


def test_volumes_are_averaged_over_subjects_by_visit(tmp_path: Path) -> None:
    curves = result(tmp_path, range(1, 4)).volumes_by_visit("single", HEART)
    means = {method: {visit: summary.mean for visit, summary in of.items()} for method, of in curves.items()}
    assert means == {
        TRUE: {1: 70, 2: 60, 3: 50},
        COPY_LAST: {1: 80, 2: 100, 3: 80},  # the second visit of b is not known
        MODEL: {1: 75, 2: 90, 3: 65},
    }


def test_trajectories_are_drawn_where_there_are_several_visits(tmp_path: Path) -> None:
    several = result(tmp_path, range(1, 4))
    assert several.volume_settings == ["single"]
    kind, _, data = volumes_of_regions(several, "single").partition(";base64,")
    assert kind == "data:image/svg+xml"
    picture = base64.b64decode(data).decode()
    for text in (HEART, TRUE, COPY_LAST, MODEL, "volume in mL"):
        assert f"<!-- {text} -->" in picture or text in picture
    assert result(tmp_path, range(3, 4)).volume_settings == []
    assert read_volumes(tmp_path / "none.csv") == ()


def test_a_damaged_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / VOLUMES).write_text("setting,method\nsingle,model\n")
    with pytest.raises(KeyError):
        read_volumes(tmp_path / VOLUMES)
