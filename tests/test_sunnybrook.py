"""The journey on real hearts: end systole from end diastole, through a manifest."""

import csv
from pathlib import Path

import nibabel
import numpy as np
import pytest
from conftest import Longigen

from longigen.testing import run_check


@pytest.fixture(scope="module")
def hearts(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a manifest of six patients, two frames each."""
    lines = ["subject,time,path,frame"]
    for path in sorted((shared / "sunnybrook").glob("*_ED_ES.nii.gz"))[:6]:
        name = path.name.removesuffix("_ED_ES.nii.gz")
        lines += [f"{name},{frame},{path},{frame}" for frame in (0, 1)]
    table = tmp_path_factory.mktemp("hearts") / "hearts.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


def test_journey(hearts: Path, longigen: Longigen, tmp_path: Path) -> None:
    run, made, scored = tmp_path / "run", tmp_path / "made", tmp_path / "scored"
    longigen("train", "--data", hearts, "--set", "time_unit=cycle", "--set", "shape=64,64,8",
             "--set", "denoiser.width=8", "--set", "denoiser.heads=2", "--set", "sampler.steps=2",
             "--steps", 2, "--out", run)  # fmt: skip
    longigen("generate", run, "--out", made)
    paths = sorted(made.glob("*/*.nii.gz"))
    assert paths
    with hearts.open() as file:
        sources = {row["subject"]: row["path"] for row in csv.DictReader(file)}
    for path in paths:
        image, source = nibabel.load(path), nibabel.load(sources[path.parent.name])
        np.testing.assert_array_equal(image.affine, source.affine)
        assert image.shape == source.shape[:3]
    longigen("evaluate", run, "--setting", "full", "--out", scored)
    assert "copy-last" in (scored / "table.txt").read_text()


@pytest.mark.parametrize("label", ["has subjects with ascending times", "loads volumes as it describes them"])
def test_conformance(hearts: Path, label: str) -> None:
    run_check("dataset", label, "csv", {"path": str(hearts), "time_unit": "cycle"})
