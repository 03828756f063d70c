"""The intensity range of a subject."""

from pathlib import Path

import numpy as np
import pytest

from helpers.files import ball, write_image
from longigen import LongigenError, LongigenWarning, PreprocessSettings, Volume
from longigen.data.intensity import IntensityRange, Padding, without_padding
from longigen.data.quality.inspect import examine
from longigen_csv import CSVDataset


def test_intensity_range_by_hand() -> None:
    scale = IntensityRange.from_percentiles(np.arange(1001.0), lower=0.0, upper=99.9, source="v", subject="s")
    assert (scale.low, scale.high) == pytest.approx((0.0, 999.0))
    array = np.array([-5, 0, 499.5, 999, 1000], dtype=np.float32)
    np.testing.assert_allclose(scale.to_model(array), [-1, -1, 0, 1, 1], atol=1e-6)
    np.testing.assert_allclose(scale.to_subject(scale.to_model(array)), [0, 0, 499.5, 999, 999], atol=1e-3)
    assert scale.to_model(array).dtype == scale.to_subject(array).dtype == np.float32


def test_constant_volume_is_refused() -> None:
    with pytest.raises(LongigenError, match=r"a\.nii \(subject s\) has the same intensity everywhere \(percentiles"):
        IntensityRange.from_percentiles(np.full((4, 4, 4), 3.0), lower=0, upper=99.9, source="a.nii", subject="s")
    dot = np.zeros(10_000)
    dot[0] = 1
    with pytest.raises(LongigenError, match="same intensity almost everywhere"):
        IntensityRange.from_percentiles(dot, lower=0, upper=99.9, source="a.nii", subject="s")


@pytest.mark.parametrize("largest", [1e-42, 3e38])
def test_a_range_that_float32_cannot_scale_is_refused(largest: float) -> None:
    array = np.linspace(-largest, largest, 100).astype(np.float32)
    with pytest.raises(LongigenError, match=r"has intensities from .*, which cannot be scaled in 32-bit numbers"):
        IntensityRange.from_percentiles(array, lower=0, upper=99.9, source="a.nii", subject="s")


def test_a_padding_value_takes_no_part_of_the_range() -> None:
    tissue = np.random.default_rng(0).uniform(0, 750, (10, 10, 10)).astype(np.float32)
    for value in (-32768.0, 65535.0):
        padded = tissue.copy()
        padded[:2] = value
        found = Padding.find(padded)
        assert found is not None
        assert (found.value, found.share) == (value, pytest.approx(0.2))
        cleaned = without_padding(Volume(padded, np.eye(4), form=4))
        assert (cleaned.data[:2] == tissue[2:].min()).all()
        np.testing.assert_array_equal(cleaned.data[2:], tissue[2:])
        assert cleaned.form == 4


@pytest.mark.parametrize(
    "data",
    [
        np.zeros((4, 4, 4)),
        np.where(np.arange(64) < 9, 0.0, 1000.0),  # a mask
        np.where(np.arange(64) < 9, -1.0, 30.0 + np.arange(64) / 64),  # background below tissue of few levels
        np.where(np.arange(6400) < 9, 0.0, 1000 + np.arange(6400) / 64),  # background of 0
        np.where(np.arange(6400) < 900, -1024.0, np.arange(6400) - 1000.0),  # air of a CT
        np.where(np.arange(6400) < 3, 1e5, np.arange(6400) / 64),  # single bright voxels
    ],
)
def test_what_is_no_padding(data: np.ndarray) -> None:
    if data.min() == -1:
        data = np.round(data)
    assert Padding.find(data.astype(np.float32)) is None


def test_a_padding_value_is_background_to_the_model_and_named_by_the_doctor(tmp_path: Path) -> None:
    lines = ["subject,time,path"]
    for subject in range(5):
        for visit in range(2):
            texture = np.random.default_rng(subject).uniform(0, 300, (12, 12, 10))
            data = np.rint(ball((12, 12, 10), 0.3 + 0.06 * subject + 0.025 * visit) + texture)
            data[:2] = -32768
            path = write_image(tmp_path / f"s{subject}_{visit}.nii.gz", data.astype(np.int16))
            lines.append(f"s{subject},{visit},{path.name}")
    (tmp_path / "visits.csv").write_text("\n".join(lines) + "\n")
    dataset = CSVDataset(path=tmp_path / "visits.csv")
    kinds = {finding.kind for finding in examine(dataset).findings}
    assert kinds == {"padding-value"}
    prepared = PreprocessSettings().pipeline(dataset.subjects()).subject(dataset.subjects()[0])
    with pytest.warns(LongigenWarning, match="padding value around the field of view, which is taken as background"):
        visit = prepared.visit(0)
    assert prepared.intensity.low >= 0
    assert visit[0, 4:].std() > 0.2
    assert (prepared.own(0).data[:2] == -32768).all()
