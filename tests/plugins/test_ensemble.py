"""Metrics of several samples and of sets of visits, compared with closed forms."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.stats import norm
from torch import Tensor
from torchmetrics.image.kid import maximum_mean_discrepancy, poly_kernel

from longigen import LongigenError, Metric, SetMetric
from longigen.evaluation.scoring import Score, summarise
from longigen.utils.intervals import Summary
from longigen_metrics import CRPS, FID, KID, Coverage, SpreadSkill

SHAPE = (40, 40, 40)


def gaussian(count: int, seed: int, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    return torch.randn(count, 1, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scored(metric: Metric, samples: Tensor, true: Tensor) -> float:
    return metric(samples, true, true, torch.ones(true.shape[1:], dtype=torch.bool))


@pytest.mark.parametrize("count", [2, 3, 10])
def test_expected_crps_of_gaussian_samples_does_not_depend_on_their_number(count: int) -> None:
    true = gaussian(1, 0)[0]
    # E CRPS of N(0, σ²) for a truth from N(0, 1): √((1 + σ²) 2/π) - σ/√π, which is 1/√π at σ = 1.
    for sigma in (1.0, 0.5, 2.0):
        expected = math.sqrt((1 + sigma**2) * 2 / math.pi) - sigma / math.sqrt(math.pi)
        assert scored(CRPS(), sigma * gaussian(count, 1), true) == pytest.approx(expected, abs=0.015)
    # For one truth y: σ (z (2 Φ(z) - 1) + 2 φ(z) - 1/√π), z = y/σ (Gneiting and Raftery, JASA 2007, Eq. 21).
    for y in (0.0, 1.3):
        expected = y * (2 * norm.cdf(y) - 1) + 2 * norm.pdf(y) - 1 / math.sqrt(math.pi)
        assert scored(CRPS(), gaussian(count, 2), torch.full((1, *SHAPE), y)) == pytest.approx(expected, abs=0.015)


def test_crps_by_hand_and_of_a_point_forecast() -> None:
    samples = torch.tensor([0.5, -0.25, 0.0]).view(3, 1, 1, 1, 1)
    true = torch.full((1, 1, 1, 1), 0.25)
    # Errors 0.25, 0.5, 0.25; distances 0.75, 0.5, 0.25, each counted twice and divided by 2 · 3 · 2.
    assert scored(CRPS(), samples, true) == pytest.approx(1 / 3 - 2 * 1.5 / 12)
    assert scored(CRPS(), samples[:1], true) == pytest.approx(0.25)
    empty = torch.zeros(1, 1, 1, dtype=torch.bool)
    for metric in (CRPS(), Coverage(), SpreadSkill()):
        assert math.isnan(metric(samples, true, true, empty))


@pytest.mark.parametrize("count", [2, 4, 9])
def test_coverage_is_nominal_for_exchangeable_samples(count: int) -> None:
    true = gaussian(1, 0)[0]
    nominal = (count - 1) / (count + 1)
    assert Coverage().aim(count) == nominal
    assert scored(Coverage(), gaussian(count, 1), true) == pytest.approx(nominal, abs=0.01)
    assert scored(Coverage(), 0.2 * gaussian(count, 1), true) < nominal - 0.1
    assert scored(Coverage(), true.expand(count, *true.shape), true) == 1.0
    assert math.isnan(scored(Coverage(), gaussian(1, 1), true))


@pytest.mark.parametrize("count", [2, 5])
def test_spread_skill_is_one_if_calibrated_also_for_errors_that_are_constant_in_space(count: int) -> None:
    metric = SpreadSkill()
    true = gaussian(1, 0)[0]
    assert scored(metric, gaussian(count, 1), true) == pytest.approx(1, abs=0.01)
    # For samples of N(0, σ²) the spread is σ² (K + 1)/K and the error 1 + σ²/K.
    expected = math.sqrt(0.25 * (count + 1) / count / (1 + 0.25 / count))
    assert scored(metric, 0.5 * gaussian(count, 1), true) == pytest.approx(expected, abs=0.01)
    assert math.isnan(scored(metric, gaussian(1, 1), true))
    # Constant volumes: the pooled ratio of 4000 visits is 1, but the mean of the ratios per visit is far above.
    levels = gaussian(count + 1, 2, (4000, 1, 1)).squeeze().T.reshape(4000, count + 1, 1, 1, 1, 1)
    levels = levels.expand(-1, -1, 1, 2, 1, 1)
    foreground = torch.ones(2, 1, 1, dtype=torch.bool)
    described = torch.stack([metric.describe(level[1:], level[0], true, foreground) for level in levels])
    assert metric.pooled(described) == pytest.approx(1, abs=0.04)
    assert np.mean([metric.pooled(each[None]) for each in described]) > 1.5


def features(count: int, mean: Tensor, scale: Tensor, seed: int) -> Tensor:
    noise = torch.randn(count, 3, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return mean + noise @ scale


@pytest.fixture(scope="module")
def two() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the means and mixing matrices of two Gaussians."""
    generator = torch.Generator().manual_seed(5)
    mixing = torch.randn(2, 4, 4, generator=generator, dtype=torch.float64)
    return torch.zeros(4, dtype=torch.float64), torch.tensor([1.0, 0, 0.5, 0]).double(), mixing[0], mixing[1]


def test_fid_is_the_frechet_distance_of_gaussians(two: tuple[Tensor, ...]) -> None:
    mean_x, mean_y, scale_x, scale_y = two
    described = torch.stack([features(20000, mean_x, scale_x, 1), features(20000, mean_y, scale_y, 2)], dim=1)
    x, y = (scale.T.numpy() @ scale.numpy() for scale in (scale_x, scale_y))
    expected = 1.25 + np.trace(x + y - 2 * np.real(sqrtm(x @ y)))
    assert FID().pooled(described) == pytest.approx(expected, rel=0.03)
    small = [FID().pooled(described[n * 8 : n * 8 + 8]) for n in range(100)]
    assert np.mean(small) > 1.2 * expected  # the bias that `caution` warns of


def test_kid_is_unbiased_for_pairs(two: tuple[Tensor, ...]) -> None:
    mean_x, mean_y, scale_x, scale_y = two
    described = torch.stack([features(3000, mean_x, scale_x, 1), features(3000, mean_y, scale_y, 2)], dim=1)
    whole = KID().pooled(described)
    small = [KID().pooled(described[n * 8 : n * 8 + 8]) for n in range(150)]
    assert np.mean(small) == pytest.approx(whole, abs=3 * np.std(small) / math.sqrt(len(small)))
    # The estimate for independent sets differs by the paired elements of the cross term.
    x, y = described[:200, 0, 0], described[:200, 1, 0]
    cross = poly_kernel(x, y)
    other = maximum_mean_discrepancy(poly_kernel(x, x), cross, poly_kernel(y, y))
    between = 2 * (cross.sum() / 200**2 - (cross.sum() - cross.trace()) / (200 * 199))
    assert KID().distance(x, y) == pytest.approx(float(other + between), rel=1e-9)


@pytest.mark.parametrize("metric", [FID(), KID()], ids=["fid", "kid"])
def test_identical_sets_have_distance_zero_and_one_visit_has_none(metric: SetMetric) -> None:
    volumes = gaussian(6, 0, (17, 9, 12)).clamp(-1, 1)
    described = torch.stack([metric.describe(v, v, v, v[0] > -2) for v in volumes])
    assert described.shape == (6, 2, 3, 64)
    assert metric.pooled(described) == pytest.approx(0, abs=1e-6)
    assert math.isnan(metric.pooled(described[:1]))


def test_random_features_are_reproducible_and_do_not_change_the_global_generator() -> None:
    volume = gaussian(1, 0, (17, 9, 12))[0].clamp(-1, 1)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    one, two, other = FID(), FID(), FID(seed=1)
    torch.testing.assert_close(one.features(volume), two.features(volume), rtol=0, atol=0)
    assert torch.equal(torch.rand(2), expected)
    assert not torch.allclose(one.features(volume), other.features(volume))
    assert one.definition == two.definition != other.definition
    assert one.note == "random resnet18, seed 0, stage 1 averaged, 3 planes"
    assert "64 dimensions" in str(one.caution(11))
    assert one.caution(65) is None


def test_matching_weights_are_read_and_others_refused(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(7)
    network = timm.create_model("resnet10t")  # with its classifier, as in timm's files
    file = tmp_path / "network.safetensors"
    save_file(network.state_dict(), file)
    metric = FID(extractor="resnet10t", weights=file)
    volume = gaussian(1, 0, (17, 9, 12))[0].clamp(-1, 1)
    slices = [volume[0, 8], volume[0, :, 4], volume[0, :, :, 6]]
    mean, std = (torch.tensor(network.pretrained_cfg[k]).view(3, 1, 1) for k in ("mean", "std"))
    with torch.inference_mode():
        for plane, image in enumerate(slices):
            batch = (((image.float() + 1) / 2).expand(3, -1, -1) - mean) / std
            (expected,) = network.eval().forward_intermediates(batch[None], indices=[1], intermediates_only=True)
            torch.testing.assert_close(metric.features(volume)[plane].float(), expected[0].mean(dim=(1, 2)))
    assert "network.safetensors" in metric.definition
    for wrong, message in (
        (FID(weights=file), "do not fit 'resnet18'"),
        (FID(weights=file.with_name("none")), "do not exist"),
        (FID(extractor="resnet"), "no network 'resnet'"),
        (FID(layer=9), "no stage 9; choose one of its stages 0 to 4"),
    ):
        with pytest.raises(LongigenError, match=message):
            wrong.features(volume)


class Centre(SetMetric):
    """A set metric with a simple closed form: the squared distance of the means."""

    @property
    def definition(self) -> str:
        return "squared distance of the means"

    def describe(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> Tensor:
        return torch.stack([generated.mean(), true.mean()])

    def pooled(self, described: Tensor) -> float:
        return float((described[:, 0] - described[:, 1]).mean() ** 2)


def test_a_set_metric_is_pooled_and_has_a_jackknife_interval_over_subjects() -> None:
    def of(method: str, subject: str, visit: int, value: float) -> Score:
        return Score("full", method, subject, visit, 0.0, {"m": math.nan}, {"m": torch.tensor([value, 0.0])})

    values = {"a": [1.0, 2.0], "b": [4.0], "c": [0.0]}
    scores = [of("copy-last", s, v, 1.0) for s, all_ in values.items() for v, _ in enumerate(all_)]
    scores += [of("model", s, v, value) for s, all_ in values.items() for v, value in enumerate(all_)]
    copied, model = summarise(scores, {"m": Centre()})
    assert copied.values["m"].mean == copied.values["m"].low == copied.values["m"].high == 1.0
    assert model.visits == 4
    without = [2.0**2, 1.0**2, (7 / 3) ** 2]
    half = 4.302652729911275 * math.sqrt(2 * np.var(without))  # Student's t with two degrees of freedom
    assert model.values["m"] == Summary(
        pytest.approx(1.75**2), pytest.approx(1.75**2 - half), pytest.approx(1.75**2 + half), 3
    )
    assert model.gains["m"].mean == pytest.approx(1.75**2 - 1)
    # With two seeds the value is the mean of two distances, not the distance of all visits together.
    again = [of("model", s, v, -value) for s, all_ in values.items() for v, value in enumerate(all_)]
    assert summarise([*scores, *again], {"m": Centre()})[1].values["m"] == model.values["m"]
    assert math.isnan(Summary.jackknife(2.0, [math.nan]).low)
    assert Summary.jackknife(math.nan, [1.0, 1.0]).subjects == 0


def test_the_jackknife_interval_of_a_mean_is_that_of_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=30)
    without = [float(np.delete(values, i).mean()) for i in range(30)]
    summary = Summary.jackknife(float(values.mean()), without)
    half = 2.0452296421 * values.std(ddof=1) / math.sqrt(30)
    assert (summary.low, summary.high) == pytest.approx((values.mean() - half, values.mean() + half))
