"""The intensity range of a subject."""

import numpy as np
import pytest

from longigen import LongigenError, Volume
from longigen.data.intensity import IntensityRange, Padding, without_padding


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
