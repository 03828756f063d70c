"""What a model records of its grid in training: the size of the voxels, and what lay outside."""

import json

import numpy as np
import pytest
from nibabel.affines import from_matvec

from longigen import LongigenError, Preprocess, Subject, Visit, Volume
from longigen.data.grid import Grid
from longigen.data.trained_grid import TrainedGrid
from longigen.hub.model_config import CHECKED_PARAMETERS, read_config
from longigen.hub.zoo import zoo_model


def subject(size: float, shape: tuple[int, int, int] = (8, 8, 4), bright: int = 6) -> Subject:
    """A subject with cubic voxels, of which the first slabs across x are bright."""
    data = np.zeros(shape, np.float32)
    data[:bright] = 10 + np.arange(bright, dtype=np.float32)[:, None, None]
    volume = Volume(data, from_matvec(np.diag([size] * 3)))
    visit = Visit(0.0, lambda: volume, shape, (size, size, size), "scan", f"{size} {bright} {shape}")
    return Subject(f"of {size}", (visit,))


def test_the_voxels_and_the_largest_part_outside_are_recorded() -> None:
    pipeline = Preprocess(Grid((4, 8, 4)))
    found = TrainedGrid.of([pipeline.subject(subject(size)) for size in (1.0, 1.2, 2.0)])
    assert (found.smallest, found.median, found.largest) == ((1.0,) * 3, (1.2,) * 3, (2.0,) * 3)
    assert found.outside == pytest.approx(2 / 6, abs=1e-4)
    assert TrainedGrid.recorded(json.loads(json.dumps(found.record))) == found


def test_voxels_of_a_stretched_grid_are_those_of_the_grid() -> None:
    stretched = Preprocess(Grid((4, 4, 4), fit="resize")).subject(subject(2.0))
    assert TrainedGrid.of([stretched]).median == (4.0, 4.0, 2.0)


def test_sizes_within_five_per_cent_are_equal() -> None:
    trained = TrainedGrid((1.0, 1.0, 5.0), (1.4, 1.4, 8.0), (2.0, 2.0, 10.0))
    assert trained.contains((0.96, 2.09, 7.0))
    assert not trained.contains((0.94, 1.5, 7.0))
    assert not trained.contains((1.5, 1.5, 10.6))
    assert trained.contains((0.85, 1.5, 12.0), tolerance=0.25)


def test_subjects_of_other_voxels_are_resampled_and_others_are_not() -> None:
    trained = TrainedGrid((1.9,) * 3, (2.0,) * 3, (2.2,) * 3)
    pipeline = Preprocess(Grid((6, 8, 4)), trained=trained)
    for size, voxels in ((1.0, 2.0), (1.85, 1.85), (2.3, 2.3), (2.4, 2.0)):
        placement = pipeline.subject(subject(size)).placement
        assert np.abs(np.diag(placement.affine)[:3]) == pytest.approx(voxels)
        assert placement.shape == (6, 8, 4)
    assert pipeline.config == Preprocess(Grid((6, 8, 4))).config  # so that no protocol changes
    assert Preprocess(Grid((6, 8, 4))).subject(subject(1.0)).pipeline.grid.spacing is None


def test_the_part_outside_is_that_of_the_bright_voxels() -> None:
    whole = Preprocess(Grid((8, 8, 4))).subject(subject(1.0, bright=4))
    middle = Preprocess(Grid((2, 8, 4))).subject(subject(1.0, bright=4))
    assert (whole.outside, middle.outside) == (0.0, pytest.approx(3 / 4))
    first, second, third = middle.placement.box_in(middle.own(0))
    assert (first, second, third) == ((3, 5), (0, 8), (0, 4))


def test_voxels_of_a_model_of_an_earlier_version_are_those_of_its_simulation() -> None:
    recorded = read_config(zoo_model("sadm-sim-heart").folder())["data"]
    found = TrainedGrid.of_simulation({key: value for key, value in recorded.items() if key != "voxels"})
    assert found == TrainedGrid.recorded(recorded)
    data = {**recorded, "fingerprint": "5d1c4b3a"}
    assert TrainedGrid.of_simulation(data) is None  # other subjects
    assert TrainedGrid.of_simulation({"name": "bids", "fingerprint": ""}) is None
    assert TrainedGrid.of_simulation({"name": "nobody's", "fingerprint": ""}) is None


@pytest.mark.parametrize("value", [[1, 1, 1], [[1, 1, 1]] * 2, [[1, 1, 0]] * 3, "many", None])
def test_a_damaged_record_is_refused(value: object) -> None:
    (parameter,) = (each for each in CHECKED_PARAMETERS["data"] if each.name == "voxels")
    with pytest.raises(LongigenError, match="voxels must be"):
        parameter.check(value)
