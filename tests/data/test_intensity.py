"""The intensity range of a subject."""

import numpy as np
import pytest

from longigen import LongigenError
from longigen.data.intensity import IntensityRange


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
