"""A cohort's training part: the statistics of its residuals, and what a model records of it."""

from pathlib import Path

import numpy as np
import pytest

from longigen import LongigenError
from longigen.data.cohort import Cohort
from longigen.data.open_dataset import open_dataset
from longigen.data.preprocess import PreprocessSettings
from longigen.data.split import SplitSettings
from longigen.data.statistics import fit_residual_variance


def test_residual_variance_fit_recovers_parameters() -> None:
    """Mean squares s² + (p Δ)² give s and p, also if one of them is 0."""
    gaps = np.array([1.0, 1.0, 2.0, 3.0, 5.0])
    for still, pace in ((0.02, 0.05), (0.0, 0.1), (0.3, 0.0)):
        found = fit_residual_variance(gaps, still**2 + (pace * gaps) ** 2)
        assert found == pytest.approx((still, pace), abs=1e-6)


def test_equal_gaps_give_the_standard_deviation() -> None:
    still, pace = fit_residual_variance(np.full(4, 2.0), np.full(4, 0.09))
    assert still**2 + (2 * pace) ** 2 == pytest.approx(0.09)


def test_a_model_records_the_voxels_and_the_gaps_of_its_training(manifest: Path) -> None:
    name, dataset = open_dataset(manifest)
    cohort = Cohort(name, dataset, PreprocessSettings(shape=(4, 12, 10)), SplitSettings())
    recorded = cohort.provenance
    assert recorded["voxels"] == [[2.0, 2.0, 3.0]] * 3
    assert recorded["intervals"] == [1.1, 3.3]
    training = cohort.part("train")
    assert recorded["outside"] == pytest.approx(max(prepared.outside for prepared in training), abs=1e-4)
    assert 0.1 < recorded["outside"] < 0.5


def test_another_split_of_the_same_data_shares_what_was_prepared(manifest: Path) -> None:
    name, dataset = open_dataset(manifest)
    first = Cohort(name, dataset, PreprocessSettings(shape=(4, 12, 10)), SplitSettings(folds=2, fold=0))
    second = first.with_split(SplitSettings(folds=2, fold=1))
    tested = [{subject.id for subject in cohort.split.test} for cohort in (first, second)]
    assert len(tested[0] | tested[1]) == len(first.subjects) == sum(map(len, tested))
    assert {p.subject.id: p for p in first.part("all")} == {p.subject.id: p for p in second.part("all")}
    assert second.provenance["split"]["fold"] == 1


def test_a_split_that_cannot_be_is_refused_before_any_volume_is_read(manifest: Path) -> None:
    name, dataset = open_dataset(manifest)
    cohort = Cohort(name, dataset, PreprocessSettings(shape=(4, 12, 10)), SplitSettings(test=50))
    read: list[int] = []
    with pytest.raises(LongigenError, match="test = 50 of 8 subjects leave none to train on"):
        cohort.require(cohort.part("all"), lambda done, total: read.append(done))
    assert not read
