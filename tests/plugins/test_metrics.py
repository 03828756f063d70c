"""Metrics of single volumes, compared with closed forms and other implementations."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d, gaussian_filter
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from longigen import Metric
from longigen_metrics import NRMSE, PSNR, SSIM, ChangeCorrelation, ForegroundSSIM, Sharpness, SliceSSIM
from longigen_metrics.error import DIVISORS
from longigen_metrics.similarity import ssim_map, window_matrix

ALL: list[Metric] = [SSIM(), ForegroundSSIM(), SliceSSIM(), PSNR(), NRMSE(), ChangeCorrelation()]
SHAPES = [(24, 24, 24), (24, 20, 5), (5, 24, 20), (12, 4, 20), (24, 20, 1), (1, 14, 12), (2, 3, 4), (10, 11, 12)]


def pair(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    true = torch.rand(1, *shape, generator=generator) * 2 - 1
    return (true + 0.3 * torch.randn(1, *shape, generator=generator)).clamp(-1, 1), true


def everywhere(volume: Tensor) -> Tensor:
    return torch.ones(volume.shape[1:], dtype=torch.bool)


def reference_ssim(generated: Tensor, true: Tensor) -> np.ndarray:
    """Wang et al. (2004), Eq. 13, with separable windows and mirrored borders, on intensities from 0 to 2."""
    x, y = (volume[0].double().numpy() + 1 for volume in (generated, true))

    def mean(volume: np.ndarray) -> np.ndarray:
        for axis, size in enumerate(volume.shape):
            width = max(odd for odd in range(1, 12, 2) if odd <= size)
            positions = np.arange(width) - (width - 1) / 2
            weights = np.exp(-0.5 * (positions / (1.5 * width / 11)) ** 2)
            volume = correlate1d(volume, weights / weights.sum(), axis=axis, mode="mirror")
        return volume

    mean_x, mean_y = mean(x), mean(y)
    var_x, var_y, covariance = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2, mean(x * y) - mean_x * mean_y
    c1, c2 = 0.02**2, 0.06**2
    return (2 * mean_x * mean_y + c1) * (2 * covariance + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))


@pytest.mark.parametrize("shape", SHAPES)
def test_ssim_is_as_defined_by_wang_et_al_also_on_thin_axes(shape: tuple[int, int, int]) -> None:
    generated, true = pair(*shape)
    np.testing.assert_allclose(ssim_map(generated, true)[0].numpy(), reference_ssim(generated, true), atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_ssim_is_that_of_torchmetrics_in_double_precision(shape: tuple[int, int, int]) -> None:
    generated, true = pair(*shape)
    windows = [min(11, size if size % 2 else size - 1) for size in shape]
    expected, image = structural_similarity_index_measure(
        generated[None].double() + 1,
        true[None].double() + 1,
        sigma=[1.5 * window / 11 for window in windows],
        kernel_size=windows,
        data_range=2.0,
        return_full_image=True,
    )
    torch.testing.assert_close(ssim_map(generated, true), image[0], atol=1e-12, rtol=0)
    assert SSIM()(generated, true, true, everywhere(true)) == pytest.approx(float(expected), abs=1e-12)


def test_the_window_by_hand() -> None:
    assert window_matrix(1).tolist() == [[1.0]]
    three = window_matrix(3)
    side = math.exp(-0.5 * (11 / 4.5) ** 2)
    total = 1 + 2 * side
    torch.testing.assert_close(three[1], torch.tensor([side, 1, side], dtype=torch.float64) / total)
    torch.testing.assert_close(three[0], torch.tensor([1, 2 * side, 0], dtype=torch.float64) / total)
    torch.testing.assert_close(window_matrix(30).sum(dim=1), torch.ones(30, dtype=torch.float64))


@pytest.mark.parametrize(("a", "b"), [(-1.0, -0.9), (0.05, -0.05), (1.0, 0.5)])
def test_ssim_of_two_constants(a: float, b: float) -> None:
    x, y = torch.full((1, 12, 13, 7), a), torch.full((1, 12, 13, 7), b)
    mean_x, mean_y = a + 1, b + 1  # intensities above the background
    closed = (2 * mean_x * mean_y + 4e-4) / (mean_x**2 + mean_y**2 + 4e-4)
    assert SSIM()(x, y, y, everywhere(y)) == pytest.approx(closed, abs=1e-6)


def test_identical_volumes() -> None:
    true = torch.full((1, 40, 40, 12), -1.0)  # mostly background
    true[:, 10:20, 10:20, 3:6] = pair(10, 10, 3)[1]
    foreground = true[0] > -1
    assert SSIM()(true, true, true, foreground) == 1.0
    assert ForegroundSSIM()(true, true, true, foreground) == 1.0
    assert PSNR()(true, true, true, foreground) == math.inf
    assert NRMSE()(true, true, true, foreground) == 0.0
    assert math.isnan(ChangeCorrelation()(true, true, true, foreground))


def test_foreground_ssim_is_the_mean_of_the_map_there() -> None:
    generated, true = pair(14, 13, 12)
    foreground = torch.zeros(14, 13, 12, dtype=torch.bool)
    foreground[3:6, 4:9, 2:5] = True
    expected = reference_ssim(generated, true)[3:6, 4:9, 2:5].mean()
    assert ForegroundSSIM()(generated, true, true, foreground) == pytest.approx(expected, abs=1e-12)
    assert math.isnan(ForegroundSSIM()(generated, true, true, ~everywhere(true)))


@pytest.mark.parametrize(("shape", "across"), [((24, 20, 5), 2), ((5, 24, 20), 0), ((12, 12, 12), 2), ((12, 4, 4), 2)])
def test_slice_ssim_is_the_mean_over_the_slices(shape: tuple[int, int, int], across: int) -> None:
    generated, true = pair(*shape)
    expected = [
        reference_ssim(generated.narrow(across + 1, place, 1), true.narrow(across + 1, place, 1)).mean()
        for place in range(shape[across])
    ]
    assert SliceSSIM()(generated, true, true, everywhere(true)) == pytest.approx(np.mean(expected), abs=1e-12)


@pytest.mark.parametrize(
    ("shape", "axes"), [((12, 10, 8), (0, 1, 2)), ((24, 20, 7), (0, 1)), ((7, 24, 20), (1, 2)), ((9, 6, 1), (0, 1))]
)
def test_sharpness_is_the_ratio_of_the_gradients_lengths(shape: tuple[int, int, int], axes: tuple[int, ...]) -> None:
    generated, true = pair(*shape)
    lengths = [
        np.linalg.norm(np.stack(np.gradient(volume[0].double().numpy(), axis=axes)), axis=0).mean()
        for volume in (generated, true)
    ]
    metric, whole = Sharpness(), everywhere(true)
    assert metric(generated, true, true, whole) == pytest.approx(lengths[0] / lengths[1])
    assert metric(true, true, generated, whole) == 1.0
    assert metric(0.5 * true, true, true, whole) == pytest.approx(0.5)
    blurred = torch.from_numpy(gaussian_filter(true.numpy(), (0, 1, 1, 0)))
    assert metric(blurred, true, true, whole) < 0.7
    assert metric.aim(1) == 1.0
    assert math.isnan(metric(generated, torch.zeros_like(true), true, whole))
    assert "\n" not in metric.definition


@pytest.mark.parametrize("shape", [(6, 5, 4), (6, 5, 1)])
def test_psnr_and_nrmse_by_hand(shape: tuple[int, int, int]) -> None:
    true = torch.full((1, *shape), -1.0)
    true[0, 0, 0, 0] = 0.5  # the range is 1.5
    generated = true + 0.1
    assert PSNR()(generated, true, true, everywhere(true)) == pytest.approx(10 * math.log10(4 / 0.01), abs=1e-5)
    assert NRMSE()(generated, true, true, everywhere(true)) == pytest.approx(0.1 / 1.5, abs=1e-7)


@pytest.mark.parametrize(("normalisation", "scale"), [("range", 0.6), ("mean", 0.4), ("euclidean", math.sqrt(0.25))])
def test_nrmse_by_each_scale(normalisation: Any, scale: float) -> None:
    true = 2 * torch.tensor([0.1, 0.7]).expand(1, 3, 5, 2) - 1  # 0.1 and 0.7 of [0, 1]
    metric = NRMSE(normalisation=normalisation)
    assert metric(true + 0.2, true, true, everywhere(true)) == pytest.approx(0.1 / scale, rel=1e-5)
    assert metric.definition.count(DIVISORS[normalisation]) == 1
    assert metric.variant == ("" if normalisation == "range" else normalisation)


@pytest.mark.parametrize("normalisation", ["range", "mean", "euclidean"])
def test_nrmse_is_not_defined_where_there_is_nothing_to_divide_by(normalisation: Any) -> None:
    generated, true = pair(4, 4, 4)
    metric = NRMSE(normalisation=normalisation)
    assert math.isnan(metric(generated, torch.full_like(true, -1.0), true, everywhere(true)))


def test_nrmse_takes_strided_volumes() -> None:
    generated, true = pair(6, 5, 4)
    turned = NRMSE()(generated.transpose(1, 3), true.transpose(1, 3), true, everywhere(true))
    assert turned == pytest.approx(NRMSE()(generated, true, true, everywhere(true)))


def test_change_correlation_is_pearsons_inside_the_foreground() -> None:
    generated, true = pair(8, 8, 8)
    _, previous = pair(8, 8, 8, seed=1)
    foreground = true[0] > 0
    generated_change = (generated - previous)[0][foreground].double().numpy()
    true_change = (true - previous)[0][foreground].double().numpy()
    metric = ChangeCorrelation()
    assert metric(generated, true, previous, foreground) == pytest.approx(
        np.corrcoef(generated_change, true_change)[0, 1], abs=1e-6
    )
    assert metric(previous + 0.5 * (true - previous), true, previous, foreground) == pytest.approx(1, abs=1e-6)
    assert metric(previous - 2 * (true - previous), true, previous, foreground) == pytest.approx(-1, abs=1e-6)


def test_change_correlation_of_a_tiny_change() -> None:
    _, previous = pair(8, 8, 8)
    change = 1e-3 * torch.randn(previous.shape, generator=torch.Generator().manual_seed(2))
    correlation = ChangeCorrelation()(previous + 0.1 * change, previous + change, previous, everywhere(previous))
    assert correlation == pytest.approx(1, abs=1e-3)


def test_change_correlation_is_not_defined_for_a_copy() -> None:
    generated, true = pair(8, 8, 8)
    metric, whole = ChangeCorrelation(), everywhere(true)
    assert math.isnan(metric(generated, true, generated, whole))  # the generated volume is the last visit
    assert math.isnan(metric(generated, true, true, whole))  # the true volume did not change
    assert math.isnan(metric(generated, true, true - 0.1, ~whole))


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: type(metric).__name__)
def test_contracts_of_every_metric(metric: Metric) -> None:
    generated, true = pair(12, 11, 6)
    _, previous = pair(12, 11, 6, seed=1)
    foreground = true[0] > -0.5
    before = [volume.clone() for volume in (generated, true, previous)]
    value = metric(generated, true, previous, foreground)
    assert isinstance(value, float)
    assert math.isfinite(value)
    for volume, original in zip((generated, true, previous), before, strict=True):
        assert torch.equal(volume, original)
    worse = metric(-true, true, previous, foreground)
    assert (value > worse) == metric.higher_is_better
    assert metric(generated.half(), true.half(), previous.half(), foreground) == pytest.approx(value, rel=0.01)
    assert metric.definition
    assert "\n" not in metric.definition
