"""Each metric against an independent implementation: scikit-image, scikit-learn, SciPy, pandas, or plain NumPy."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.ndimage import correlate1d, laplace
from scipy.stats import linregress, pearsonr, spearmanr
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import polynomial_kernel
from torch import Tensor

from longigen_metrics import (
    CRPS,
    FID,
    KID,
    NRMSE,
    PSNR,
    SSIM,
    AUROCDistance,
    ChangeAUROC,
    ChangeCorrelation,
    CorrelationDistance,
    Coverage,
    DeltaRMAE,
    EdgeRMSE,
    Flicker,
    LaplacianError,
    Monotonicity,
    SlopeError,
    SpreadSkill,
    UnitRMSE,
)
from longigen_metrics.similarity import ssim_map

SHAPE = (16, 15, 14)
EXACT = 1e-9
"""The tolerance, relative: both sides compute in double precision."""


def volumes(*names: str, shape: tuple[int, ...] = SHAPE) -> list[Tensor]:
    """Return random volumes (1, W, H, D), float32, whose values repeat: multiples of 1/16 in [-1, 1]."""
    return [
        torch.randint(-16, 17, (1, *shape), generator=torch.Generator().manual_seed(seed)) / 16
        for seed, _ in enumerate(names)
    ]


@pytest.fixture(scope="module")
def visit() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return a generated, a true and the last given volume, of which half of the change is right; and a foreground."""
    noise, change, previous = volumes("noise", "change", "previous")
    return previous + 0.5 * change + 0.5 * noise, previous + change, previous, previous[0] > -0.5


def inside(visit: tuple[Tensor, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the generated and the true change inside the foreground."""
    generated, true, previous, foreground = (each.double().numpy() for each in visit)
    mask = foreground.astype(bool)
    return (generated - previous)[0][mask], (true - previous)[0][mask]


def test_ssim_is_scikit_images_where_no_window_meets_a_border(visit: tuple[Tensor, ...]) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    x, y = (volume[0].double().numpy() + 1 for volume in visit[:2])
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 2.0}
    _, image = metrics.structural_similarity(x, y, full=True, **settings)
    inner = (slice(5, -5),) * 3  # at the borders scikit-image repeats the outer voxel
    np.testing.assert_allclose(ssim_map(*visit[:2])[0].numpy()[inner], image[inner], rtol=EXACT)


@pytest.mark.parametrize("normalisation", ["range", "mean", "euclidean"])
def test_psnr_and_nrmse_are_scikit_images(visit: tuple[Tensor, ...], normalisation: Any) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    x, y = (volume.double().numpy() for volume in visit[:2])
    expected = metrics.peak_signal_noise_ratio(y, x, data_range=2.0)
    assert PSNR()(*visit) == pytest.approx(expected, rel=1e-6)  # of a sum in single precision
    name = {"range": "min-max"}.get(normalisation, normalisation)
    expected = metrics.normalized_root_mse((y + 1) / 2, (x + 1) / 2, normalization=name)
    assert NRMSE(normalisation=normalisation)(*visit) == pytest.approx(expected, rel=EXACT)


def test_the_change_correlations_are_scipys_and_pandas(visit: tuple[Tensor, ...]) -> None:
    generated, true = inside(visit)
    assert len(np.unique(true)) < len(true) / 10  # many ties
    assert ChangeCorrelation()(*visit) == pytest.approx(pearsonr(generated, true).statistic, rel=EXACT)
    ranked = pd.Series(generated).corr(pd.Series(true), method="spearman")
    assert ChangeCorrelation(coefficient="spearman")(*visit) == pytest.approx(ranked, rel=EXACT)


def test_the_ranks_do_not_mind_how_large_a_change_is(visit: tuple[Tensor, ...]) -> None:
    _, true, previous, foreground = visit
    skewed = previous + (true - previous) ** 3
    assert ChangeCorrelation(coefficient="spearman")(skewed, *visit[1:]) == pytest.approx(1.0, abs=1e-6)
    assert ChangeCorrelation()(skewed, true, previous, foreground) < 0.95
    assert math.isnan(ChangeCorrelation(coefficient="spearman")(previous, true, previous, foreground))


def test_delta_rmae_is_the_ratio_of_two_mean_errors(visit: tuple[Tensor, ...]) -> None:
    generated, true, previous, foreground = visit
    change, aim = inside(visit)
    metric = DeltaRMAE()
    assert metric(*visit) == pytest.approx(np.abs(change - aim).mean() / np.abs(aim).mean(), rel=EXACT)
    assert metric(true, true, previous, foreground) == 0.0
    assert metric(previous, true, previous, foreground) == 1.0
    half = previous + 0.5 * (true - previous)
    assert metric(half, true, previous, foreground) == pytest.approx(0.5, abs=1e-6)
    assert math.isnan(metric(generated, previous, previous, foreground))
    assert math.isnan(metric(generated, true, previous, foreground & False))


@pytest.mark.parametrize(("direction", "signs"), [("increase", (1,)), ("decrease", (-1,)), ("both", (1, -1))])
def test_change_auroc_is_scikit_learns(visit: tuple[Tensor, ...], direction: Any, signs: tuple[int, ...]) -> None:
    generated, true = inside(visit)
    areas = [roc_auc_score(sign * true >= np.quantile(sign * true, 0.95), sign * generated) for sign in signs]
    metric = ChangeAUROC(direction=direction)
    assert metric(*visit) == pytest.approx(np.mean(areas), rel=EXACT)
    _, image, previous, foreground = visit
    assert metric(image, image, previous, foreground) == 1.0
    assert metric(previous, image, previous, foreground) == 0.5  # a copy
    assert metric(2 * previous - image, image, previous, foreground) == 0.0  # the opposite change


def test_change_auroc_where_there_is_change_in_one_direction_or_none() -> None:
    previous = torch.zeros(1, 10, 10, 1)
    true = previous.clone()
    true[0, 0, :2] = 0.5  # 2 % of the voxels, and no decrease
    everywhere = torch.ones(10, 10, 1, dtype=torch.bool)
    generated = previous.clone()
    generated[0, 0, 0] = 0.1  # one of the two
    assert ChangeAUROC()(generated, true, previous, everywhere) == 0.75
    assert math.isnan(ChangeAUROC(direction="decrease")(generated, true, previous, everywhere))
    for undefined in (previous, previous + 0.5):  # no change, or the same everywhere
        assert math.isnan(ChangeAUROC()(generated, undefined, previous, everywhere))
    assert math.isnan(ChangeAUROC()(generated, true, previous, ~everywhere))


@pytest.mark.parametrize(("shape", "axes"), [(SHAPE, (0, 1, 2)), ((18, 16, 5), (0, 1)), ((12, 9, 1), (0, 1))])
def test_the_laplacian_error_is_of_scipys_laplacian(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    generated, true, mask = volumes("generated", "true", "mask", shape=shape)
    foreground = mask[0] > -0.5

    def size(volume: Tensor) -> float:
        values = volume[0].double().numpy()
        total = sum(correlate1d(values, [1, -2, 1], axis=axis, mode="nearest") for axis in axes)
        if len(axes) == 3:
            np.testing.assert_allclose(total, laplace(values, mode="nearest"))
        return float(np.abs(total)[foreground.numpy()].mean())

    metric = LaplacianError()
    assert metric(generated, true, true, foreground) == pytest.approx(abs(size(generated) / size(true) - 1), rel=EXACT)
    assert metric(true, true, true, foreground) == 0.0
    assert metric(0.25 * true, true, true, foreground) == pytest.approx(0.75)
    assert math.isnan(metric(generated, torch.zeros_like(true), true, foreground))


def test_crps_coverage_and_spread_skill_by_loops_over_samples(visit: tuple[Tensor, ...]) -> None:
    samples = torch.stack(volumes("a", "b", "c", "d"))
    _, true, previous, foreground = visit
    x, y = (each.double().numpy()[..., foreground.numpy()] for each in (samples, true))
    count = len(x)
    pairs = sum(np.abs(x[i] - x[j]).mean() for i in range(count) for j in range(count))
    crps = np.abs(x - y).mean() - pairs / (2 * count * (count - 1))
    assert CRPS()(samples, true, previous, foreground) == pytest.approx(crps, rel=EXACT)
    assert Coverage()(samples, true, previous, foreground) == ((x.min(0) <= y) & (y <= x.max(0))).mean()
    spread = math.sqrt((np.var(x, axis=0, ddof=1) * (count + 1) / count).mean() / ((x.mean(0) - y) ** 2).mean())
    assert SpreadSkill()(samples, true, previous, foreground) == pytest.approx(spread, rel=EXACT)


@pytest.fixture(scope="module")
def described() -> Tensor:
    """Return the features of 40 visits (40, 2, 3, 6): generated and true, of three planes."""
    return torch.randn(40, 2, 3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.3


def test_fid_is_by_scipys_matrix_root(described: Tensor) -> None:
    def frechet(x: np.ndarray, y: np.ndarray) -> float:
        covariances = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
        root = np.real(sqrtm(covariances[0] @ covariances[1]))
        return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(sum(covariances) - 2 * root))

    expected = np.mean([frechet(*(described[:, part, plane].numpy() for part in (0, 1))) for plane in range(3)])
    assert FID().pooled(described) == pytest.approx(expected, rel=1e-6)


def test_kid_is_by_scikit_learns_kernel_without_pairs(described: Tensor) -> None:
    def discrepancy(x: np.ndarray, y: np.ndarray) -> float:
        kernel = polynomial_kernel(np.concatenate([x, y]), degree=3, gamma=1 / x.shape[1], coef0=1)
        count, total = len(x), 0.0
        for i in range(count):
            for j in range(count):
                if i != j:
                    total += kernel[i, j] + kernel[count + i, count + j] - 2 * kernel[i, count + j]
        return total / (count * (count - 1))

    expected = np.mean([discrepancy(*(described[:, part, plane].numpy() for part in (0, 1))) for plane in range(3)])
    assert KID().pooled(described) == pytest.approx(expected, rel=1e-6)


TIMES = (0.0, 0.5, 2.0, 3.5)


@pytest.fixture(scope="module")
def series() -> tuple[Tensor, Tensor, Tensor]:
    """Return a generated and a true series (4, 1, 5, 4, 3) that begin with the same visit, and a foreground."""
    generated, true = (
        torch.randn(4, 1, 5, 4, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for seed in (0, 1)
    )
    generated[0] = true[0]
    return generated, true, true[0, 0] > -0.5


def test_the_slope_error_is_by_scipys_regression(series: tuple[Tensor, Tensor, Tensor]) -> None:
    generated, true, foreground = series

    def slopes(of: Tensor) -> np.ndarray:
        values = of[:, 0][:, foreground].numpy()
        return np.array([linregress(TIMES, voxel).slope for voxel in values.T])

    expected = np.abs(slopes(generated) - slopes(true)).sum() / np.abs(slopes(true)).sum()
    metric = SlopeError()
    assert metric.of_series(generated, true, foreground, TIMES) == pytest.approx(expected, rel=EXACT)
    assert metric.of_series(true, true, foreground, TIMES) == 0.0
    copies = true[:1].expand(4, -1, -1, -1, -1)
    assert metric.of_series(copies, true, foreground, TIMES) == pytest.approx(1.0)
    assert math.isnan(metric.of_series(generated, copies, foreground, TIMES))


def test_monotonicity_and_flicker_by_loops_over_visits(series: tuple[Tensor, Tensor, Tensor]) -> None:
    generated, true, foreground = series

    def straight(values: np.ndarray) -> float:
        way = sum(np.abs(values[i + 1] - values[i]).sum() for i in range(3))
        return np.abs(values[3] - values[0]).sum() / way

    def curved(values: np.ndarray) -> float:
        # The coefficient of t² of the parabola through three visits is their second divided difference.
        return sum(np.abs(np.polyfit(TIMES[i : i + 3], values[i : i + 3], 2)[0]).sum() for i in range(2))

    made, aim = (of[:, 0][:, foreground].numpy() for of in (generated, true))
    found = Monotonicity().of_series(generated, true, foreground, TIMES)
    assert found == pytest.approx(straight(made) / straight(aim), rel=EXACT)
    found = Flicker().of_series(generated, true, foreground, TIMES)
    assert found == pytest.approx(curved(made) / curved(aim), rel=1e-6)
    copies = true[:1].expand(4, -1, -1, -1, -1)
    assert Flicker().of_series(copies, true, foreground, TIMES) == 0.0
    assert math.isnan(Monotonicity().of_series(copies, true, foreground, TIMES))
    assert math.isnan(Monotonicity()(true[1], true[1], true[0], foreground))  # one visit


# The protocol cronos-acdc


def test_ssim_of_the_images_own_range_is_torchmetrics(visit: tuple[Tensor, ...]) -> None:
    from torchmetrics.functional.image import structural_similarity_index_measure

    generated, true = (0.4 * volume + 0.1 for volume in visit[:2])
    for x, y in ((generated, true), (true, generated)):
        expected = structural_similarity_index_measure(((x + 1) / 2)[None].double(), ((y + 1) / 2)[None].double())
        assert SSIM(data_range="images")(x, y, *visit[2:]) == pytest.approx(float(expected), rel=1e-5)


def test_rmse_and_edge_rmse_are_those_of_numpy_and_scipy(visit: tuple[Tensor, ...]) -> None:
    x, y = ((volume[0].double().numpy() + 1) / 2 for volume in visit[:2])
    assert UnitRMSE()(*visit) == pytest.approx(np.sqrt(np.mean((x - y) ** 2)), rel=1e-6)
    edges = laplace(x, mode="constant") - laplace(y, mode="constant")
    assert EdgeRMSE()(*visit) == pytest.approx(np.sqrt(np.mean(edges**2)), rel=1e-6)


def test_distances_of_correlation_and_auroc_are_those_of_scipy_and_scikit_learn(visit: tuple[Tensor, ...]) -> None:
    generated, true, previous = (volume[0].numpy().ravel() / 2 for volume in visit[:3])
    made, change = generated - previous, true - previous
    chosen = np.abs(change) > 0.02
    assert chosen.sum() < 5000
    rho = spearmanr(made[chosen], change[chosen]).statistic
    assert CorrelationDistance()(*visit) == pytest.approx((1 - rho) / 2, rel=1e-6)
    areas = []
    for sign in (1, -1):
        moved = sign * change
        largest = moved >= np.percentile(moved[moved > 0], 95)
        areas.append(roc_auc_score(largest, sign * made))
    assert AUROCDistance()(*visit) == pytest.approx(1 - np.mean(areas), rel=1e-6)
