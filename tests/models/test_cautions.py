"""What is said of subjects, voxels and times that a model was not trained on."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import longigen
from helpers.files import write_image
from helpers.models import FIXTURE
from longigen import LongitudinalModel, Provenance, Subject
from longigen.data.preprocess import Prepared
from longigen.models.cautions import data_cautions, subject_cautions

HEART = {"name": "acdc", "simulated": False, "voxels": [[1.2, 1.2, 5], [1.5, 1.5, 8], [1.8, 1.8, 10]], "outside": 0.1}
BRAIN = {"name": "sim-brain", "simulated": True, "voxels": [[4, 4, 4]] * 3, "outside": 0, "intervals": [0.5, 6]}


@pytest.fixture(scope="module")
def base() -> LongitudinalModel:
    return longigen.load(FIXTURE)


def model_of(base: LongitudinalModel, shape: tuple[int, int, int], data: Mapping[str, Any]) -> LongitudinalModel:
    """The model, as if it had been trained with another grid and on other data."""
    base.provenance = Provenance({"shape": [*shape]}, data)
    return base


def scan(folder: Path, *size: float, times: tuple[float, ...] = (0.0,), unit: str = "years") -> Subject:
    path = write_image(folder / "scan.nii.gz", np.ones((4, 4, 4), np.float32), np.diag([*size, 1.0]))
    return Subject.from_files([path] * len(times), times, time_unit=unit)


def said(model: LongitudinalModel, subject: Subject, *, simulated: bool | None = None) -> list[str]:
    return [*data_cautions(model, [model.provenance.pipeline().subject(subject)], simulated=simulated)]


def test_a_fixed_grid_resamples_and_says_so(base: LongitudinalModel, tmp_path: Path) -> None:
    model = model_of(base, (4, 4, 4), {**BRAIN, "simulated": False})
    assert said(model, scan(tmp_path, 4, 4, 4.1)) == []
    (text,) = said(model, scan(tmp_path, 2, 2, 2))
    assert "trained on voxels of 4 × 4 × 4 mm, so visits are resampled to that from 2 × 2 × 2 mm of scan;" in text
    # A shape of the user's own does not change at which voxels the model works.
    whole = model.provenance.pipeline({"shape": (0, 0, 0)}).subject(scan(tmp_path, 2, 2, 2))
    assert whole.pipeline.grid.spacing == (4, 4, 4)


def test_a_grid_of_the_subjects_own_voxels_warns_of_far_ones(base: LongitudinalModel, tmp_path: Path) -> None:
    model = model_of(base, (100, 100, 0), HEART)
    assert said(model, scan(tmp_path, 1.0, 1.0, 12)) == []  # within a quarter
    (text,) = said(model, scan(tmp_path, 3, 3, 8))
    assert (
        "takes voxels as they are and was trained on 1.2 × 1.2 × 5 mm to 1.8 × 1.8 × 10 mm, which is far from" in text
    )
    assert "3 × 3 × 8 mm of scan" in text
    assert model.provenance.pipeline().subject(scan(tmp_path, 3, 3, 8)).pipeline.grid.spacing is None


def test_an_unknown_size_of_voxels_is_said(base: LongitudinalModel, tmp_path: Path) -> None:
    for shape in ((4, 4, 4), (100, 100, 0)):
        (text,) = said(model_of(base, shape, {"name": "bids", "simulated": False}), scan(tmp_path, 1, 1, 1))
        assert text.startswith("It is not recorded at which size of voxels the model was trained")
        assert "(1 × 1 × 1 mm of scan)" in text
    model = base
    model.provenance = replace(model.provenance, preprocess={"shape": [4, 4, 4], "spacing": [2, 2, 2]})
    assert said(model, scan(tmp_path, 1, 1, 1)) == []  # the model's spacing is its own


def test_real_scans_are_no_forecast_of_a_model_of_simulations(base: LongitudinalModel, tmp_path: Path) -> None:
    model = model_of(base, (4, 4, 4), BRAIN)
    subject = scan(tmp_path, 4, 4, 4)
    for simulated in (False, None):
        (text,) = said(model, subject, simulated=simulated)
        assert text.startswith("The model was trained on simulated images only")
    assert said(model, subject, simulated=True) == []


def prepared(model: LongitudinalModel, folder: Path, unit: str, factor: float) -> Prepared:
    subject = scan(folder, 4, 4, 4, times=(0.0, 1.0 / factor), unit=unit)
    return model.provenance.pipeline().subject(subject, time_factor=factor)


@pytest.mark.parametrize(("unit", "factor"), [("years", 1.0), ("days", 1 / 365.25)])
def test_times_far_and_near_are_compared_in_the_models_unit(
    base: LongitudinalModel, tmp_path: Path, unit: str, factor: float
) -> None:
    model = model_of(base, (4, 4, 4), BRAIN)
    subject = prepared(model, tmp_path, unit, factor)

    def kinds(*years: float, direct: bool = False, given: tuple[int, ...] = (0, 1)) -> list[str]:
        times = [year / factor for year in years]
        return [kind for kind, _ in subject_cautions(model, subject, given, times, direct=direct)]

    assert kinds(2, 3, 9) == []
    assert kinds(9.1) == ["far"]
    assert kinds(1.2) == ["near"]  # the last given visit is at 1
    assert kinds(1.2, given=(0,)) == []
    assert kinds(2, 2.1) == ["near"]
    assert kinds(2, 2.1, direct=True) == []  # each is generated from the given visits alone
    (_, text), *_ = subject_cautions(model, subject, (0, 1), [1.2 / factor], direct=True)
    assert "is 0.2 years after the visit before it of subject scan, but the training visits were at least 0.5" in text
