"""The additive conditioner (Dao, Yang and Kim 2024, Equation 11): source visit, interval and covariates."""

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from longigen import Batch, Conditioning, Covariate, LongigenError, LongitudinalModel, Routes, VisitSequence
from longigen.data.statistics import Statistics
from longigen.models.settings import ModelSettings
from longigen.registry.catalog import Catalog
from longigen.training.recipe import Recipe
from longigen_additive import AdditiveConditioner
from longigen_additive.encoding import CovariateEncoding
from longigen_baselines import RegressionSampler
from longigen_unet3d import UNet3D

SIZE = (6, 5, 4)
TIMES = torch.tensor([[0.0, 1.0, 2.5], [0.5, 2.0, 3.0]])
TARGET = torch.tensor([4.0, 3.5])


def visits(seed: int = 0) -> VisitSequence:
    images = torch.rand(2, 3, 1, *SIZE, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    every = torch.ones(2, 3, dtype=torch.bool)
    return VisitSequence(images, TIMES, every, every)


def built(*, covariates: tuple[str, ...] = (), scale: float = 1.0, stem: int = 4, **config: Any) -> AdditiveConditioner:
    torch.manual_seed(0)
    conditioner = AdditiveConditioner(covariates=covariates, **config)
    conditioner.build(channels=1, stem_features=stem, time_scale=scale, covariates=("age", "sex", "diagnosis"))
    return conditioner.eval()


def stem(given: Conditioning) -> Tensor:
    assert given.stem is not None
    return given.stem


def without_term(conditioner: AdditiveConditioner, part: str) -> AdditiveConditioner:
    """Set the last layer of H or P to zero, so that the term is zero."""
    last = conditioner.image[-1] if part == "H" else conditioner.interval.output
    for parameter in last.parameters():
        torch.nn.init.zeros_(parameter)
    return conditioner


def test_the_stem_is_h_of_the_source_plus_p_of_the_interval() -> None:
    history = visits()
    both = stem(built()(history, TARGET))
    only_h = stem(without_term(built(), "P")(history, TARGET))
    only_p = stem(without_term(built(), "H")(history, TARGET))
    assert torch.allclose(both, only_h + only_p, atol=1e-6)
    assert torch.equal(only_p, only_p[:, :, :1, :1, :1].expand_as(only_p))
    assert only_h.std(dim=(2, 3, 4)).min() > 0
    # H does not depend on the interval, nor P on the image.
    assert torch.equal(only_h, stem(without_term(built(), "P")(history, TARGET + 5)))
    assert torch.equal(only_p, stem(without_term(built(), "H")(visits(seed=1), TARGET)))
    assert not torch.allclose(only_p, stem(without_term(built(), "H")(history, TARGET + 5)))


def test_the_denoiser_adds_it_to_its_first_features() -> None:
    """Check F(x_t) + H(S) + P(Δ) at full resolution by the input of the second layer."""
    denoiser = UNet3D(width=8, multipliers=(1, 2), blocks=1, heads=2, patch=1)
    conditioner = built(stem=denoiser.stem_features)
    denoiser.build(channels=1, routes=conditioner.routes)
    seen: list[Tensor] = []
    denoiser.down[0][0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))  # type: ignore[index]
    x = torch.randn(2, 1, 8, 6, 4)
    history = VisitSequence(torch.rand(2, 3, 1, 8, 6, 4), TIMES, torch.ones(2, 3) > 0, torch.ones(2, 3) > 0)
    given = conditioner(history, TARGET)
    denoiser(x, torch.zeros(2), given)
    assert torch.allclose(seen[0], denoiser.stem(x) + stem(given), atol=1e-5)


@pytest.mark.parametrize("size", [(8, 4, 4), (7, 4, 3)])
def test_on_patches_it_is_equation_11_too(size: tuple[int, int, int]) -> None:
    """Check F(x_t) + H(S) + P(Δ) in closed form: F and H are convolutions of stride 2, P is one vector.

    The kernel of 3×3×3 patches is one of 6×6×6 voxels, whose padding of one patch is one of two voxels.
    """
    denoiser = UNet3D(width=8, multipliers=(1, 2), blocks=1, heads=2, patch=2)
    conditioner = built(stem=denoiser.stem_features, layers=1, source_patch=2)
    denoiser.build(channels=1, routes=conditioner.routes)
    seen: list[Tensor] = []
    denoiser.down[0][0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))  # type: ignore[index]
    x, every = torch.randn(2, 1, 8, 4, 4), torch.ones(2, 3, dtype=torch.bool)
    images = torch.rand(2, 3, 1, *size) * 2 - 1
    given = conditioner(VisitSequence(images, TIMES, every, every), TARGET)
    assert stem(given).shape == (2, 1, *size)
    denoiser(x[:, :, : size[0], : size[1], : size[2]], torch.zeros(2), given)

    def strided(layer: torch.nn.Conv3d, volume: Tensor) -> Tensor:
        kernel = layer.weight.reshape(8, 1, 2, 2, 2, 3, 3, 3).permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(8, 1, 6, 6, 6)
        return torch.nn.functional.conv3d(volume, kernel, layer.bias, stride=2, padding=2)

    def padded(volume: Tensor, value: float | None) -> Tensor:
        missing = [side for n, m in zip((4, 4, 8), reversed(size), strict=True) for side in (0, n - m)]
        mode = "replicate" if value is None else "constant"
        return torch.nn.functional.pad(volume, missing, mode=mode, value=value)

    first = conditioner.image[0]
    assert isinstance(first, torch.nn.Conv3d)
    interval = (TARGET - TIMES[:, 0])[:, None]
    f = strided(denoiser.stem, padded(x[:, :, : size[0], : size[1], : size[2]], None))
    h = strided(first, padded(images[:, 0] + 1, 0.0))
    p = conditioner.interval(interval, torch.ones_like(interval).bool())[:, :, None, None, None]
    whole = tuple(slice(0, n // 2) for n in size)  # patches that are not cut by the border
    torch.testing.assert_close(seen[0][:, :, *whole], (f + h + p)[:, :, *whole], atol=1e-5, rtol=1e-5)


def test_dao_adni_is_equation_11_on_patches_and_literally() -> None:
    """Nothing but F reads x_t, and H and P reach the network through F's features alone."""
    for size, patch in ((None, 2), ("literal", 1)):
        recipe = Recipe.resolve("dao-adni", size=size, changes=["data.path=."])
        denoiser, conditioner = recipe.configs["denoiser"], recipe.configs["conditioner"]
        assert (denoiser["patch"], conditioner["source_patch"], denoiser["refine"]) == (patch, patch, 0)


def test_h_is_a_convolutional_network_at_full_resolution() -> None:
    """Check translation equivariance and the size of the receptive field."""
    conditioner = without_term(built(layers=2), "P")
    image = torch.full((1, 1, 1, 12, 9, 9), -1.0)
    image[..., 4, 4, 4] = 1.0
    moved = torch.roll(image, 3, dims=3)
    one = torch.ones(1, 1, dtype=torch.bool)
    first, second, nothing = (
        stem(conditioner(VisitSequence(each, torch.zeros(1, 1), one, one), torch.ones(1)))
        for each in (image, moved, torch.full_like(image, -1.0))
    )
    changed = (first - nothing).abs().amax(dim=(0, 1)) > 0
    assert changed[2:7, 2:7, 2:7].any()
    changed[2:7, 2:7, 2:7] = False
    assert not changed.any()
    assert torch.allclose((second - nothing)[:, :, 5:10], (first - nothing)[:, :, 2:7], atol=1e-5)


@pytest.mark.parametrize(("source", "place"), [("first", 0), ("last", 2)])
def test_the_source_is_an_observed_visit_before_the_target(source: Any, place: int) -> None:
    conditioner, history = built(source=source), visits()
    before = stem(conditioner(history, TARGET))
    for index in range(3):
        images = history.images.clone()
        images[:, index] *= -1
        same = torch.allclose(stem(conditioner(replace(history, images=images), TARGET)), before)
        assert same == (index != place)
    early = stem(conditioner(history, torch.tensor([1.5, 2.5])))
    alone = replace(history, observed=torch.tensor([[True, place > 0, False]] * 2))
    assert torch.allclose(stem(conditioner(alone, torch.tensor([1.5, 2.5]))), early)
    missing = replace(history, observed=torch.tensor([[False, True, True], [False, True, True]]))
    third = conditioner(missing, TARGET)
    expected = conditioner(history.select(torch.tensor([[1, 2]] * 2)), TARGET)
    assert torch.allclose(stem(third), stem(expected))


def test_the_interval_is_real_time_whatever_its_unit() -> None:
    history = visits()
    years = stem(built(scale=0.5)(history, TARGET))
    days = stem(built(scale=0.5 * 365.25)(replace(history, times=history.times * 365.25), TARGET * 365.25))
    assert torch.allclose(years, days, atol=1e-4)
    later = stem(built(scale=0.5)(replace(history, times=history.times + 7), TARGET + 7))
    assert torch.allclose(years, later, atol=1e-4)
    # Times matter, not only the number of visits.
    assert not torch.allclose(years, stem(built(scale=0.5)(replace(history, times=history.times * 0.9), TARGET)))


def test_several_sources_in_order_and_fewer_than_configured() -> None:
    history = visits()
    conditioner = built(source="first", visits=2)
    before = stem(conditioner(history, TARGET))
    for index, matters in enumerate((True, True, False)):
        images = history.images.clone()
        images[:, index] *= -1
        changed = stem(conditioner(replace(history, images=images), TARGET))
        assert torch.allclose(changed, before) != matters
    swapped = history.images[:, [1, 0, 2]]
    assert not torch.allclose(stem(conditioner(replace(history, images=swapped), TARGET)), before)
    alone = stem(conditioner(history.select(torch.zeros(2, 1, dtype=torch.long)), TARGET))
    assert alone.isfinite().all()
    assert not torch.allclose(alone, before)


def with_covariates(present: list[list[bool]], values: list[list[float]]) -> VisitSequence:
    given = Covariate(torch.tensor(values), torch.tensor(present))
    return replace(visits(), covariates={"age": given})


def test_a_covariate_is_added_and_one_that_is_missing_is_learned() -> None:
    conditioner = built(covariates=("age",))
    plain = built()
    plain.load_state_dict({k: v for k, v in conditioner.state_dict().items() if not k.startswith("covariates")})
    without = stem(plain(visits(), TARGET))
    absent = stem(conditioner(visits(), TARGET))
    (encoding,) = conditioner.covariates
    assert isinstance(encoding, CovariateEncoding)
    learned = encoding.missing
    assert torch.allclose(absent - without, learned[:, None, None, None].expand_as(without), atol=1e-6)
    ages = [[70.0, 71.0, 72.5], [60.0, 61.5, 62.5]]
    known = stem(conditioner(with_covariates([[True] * 3, [False] * 3], ages), TARGET))
    assert not torch.allclose(known[0], absent[0])
    assert torch.allclose(known[1], absent[1])
    older = [[age + 10 for age in row] for row in ages]
    assert not torch.allclose(stem(conditioner(with_covariates([[True] * 3] * 2, older), TARGET))[0], known[0])
    # Values of covariates that were not recorded have no effect, NaN included.
    masked = stem(conditioner(with_covariates([[True] * 3, [False] * 3], [ages[0], [float("nan")] * 3]), TARGET))
    assert torch.equal(masked, known)
    without_grad = stem(conditioner(visits(), TARGET)).sum()
    without_grad.backward()
    assert learned.grad is not None
    assert learned.grad.abs().min() > 0


def test_a_covariate_is_the_last_one_recorded_before_the_target() -> None:
    conditioner = built(covariates=("age",))
    time = torch.tensor([2.5, 3.0])  # of the last visit
    ages = [[70.0, 71.0, 72.5], [60.0, 61.5, 62.5]]
    given = stem(conditioner(with_covariates([[True, True, True]] * 2, ages), time))
    future = [[70.0, 71.0, 90.0], [60.0, 61.5, 90.0]]
    assert torch.equal(given, stem(conditioner(with_covariates([[True] * 3] * 2, future), time)))
    earlier = [[0.0, 71.0, 72.5], [0.0, 61.5, 62.5]]
    assert torch.equal(given, stem(conditioner(with_covariates([[True] * 3] * 2, earlier), time)))
    older = stem(conditioner(with_covariates([[True, False, True]] * 2, ages), time))
    assert not torch.allclose(given, older)


def test_where_the_denoiser_has_no_stem_it_is_concatenated() -> None:
    conditioner = built(stem=0, features=5)
    assert conditioner.routes == Routes(concat=5)
    given = conditioner(visits(), TARGET)
    assert given.concat is not None
    assert given.routes == conditioner.routes
    assert given.concat.shape == (2, 5, *SIZE)


def test_unknown_covariates_and_sizes_are_refused() -> None:
    with pytest.raises(LongigenError, match=r"no covariate 'sexx'\. Did you mean 'sex'\? It has: age, sex, diagnosis"):
        built(covariates=("sexx",))
    with pytest.raises(LongigenError, match="must be a whole number of at least 1"):
        AdditiveConditioner(visits=0)


def test_it_learns_that_longer_intervals_change_more() -> None:
    """Trained on intensities that rise with time, the model predicts the right difference between two intervals."""
    torch.manual_seed(0)
    model = LongitudinalModel(
        AdditiveConditioner(width=4, layers=2),
        UNet3D(width=8, multipliers=(1, 2), blocks=1, heads=2, patch=1),
        RegressionSampler(),
        settings=ModelSettings(target="image", p_uncond=0.0, guidance=0.0),
        statistics=Statistics(),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    one = torch.ones(8, 1, dtype=torch.bool)
    for _ in range(60):
        time = torch.rand(8, generator=generator) * 4 + 0.5
        history = VisitSequence(torch.zeros(8, 1, 1, 4, 4, 4), torch.zeros(8, 1), one, one)
        target = (0.2 * time - 0.5)[:, None, None, None, None].expand(-1, 1, 4, 4, 4)
        loss = model.loss(Batch(history, target, time), generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    history = VisitSequence(torch.zeros(1, 1, 1, 4, 4, 4), torch.zeros(1, 1), one[:1], one[:1])
    generated = [model.eval().generate(history, torch.tensor([[time]]), steps=1).mean().item() for time in (1.0, 4.0)]
    assert abs(generated[1] - generated[0] - 0.6) < 0.2


PAPER = (
    ("conditioner", "source", "first"),
    ("conditioner", "visits", 1),
    ("conditioner", "covariates", ()),
    ("sampler", "prediction", "epsilon"),
    ("sampler", "schedule", "linear"),
    ("sampler", "train_steps", 1000),
    ("sampler", "steps", 1000),
    ("sampler", "beta_min", 1e-4),
    ("sampler", "beta_max", 0.02),
    ("preprocess", "shape", (128, 160, 128)),
    ("model", "target", "image"),
    ("model", "guidance", 0.0),
    ("training", "learning_rate", 1e-3),
    ("training", "lr_schedule", "constant"),
    ("training", "warmup", 0),
    ("training", "betas", (0.9, 0.999)),
    ("training", "weight_decay", 0.0),
    ("training", "batch_size", 1),
    ("training", "steps", 300_000),
    ("split", "validation", 0.0),
    ("split", "test", 0.092),
)


@pytest.mark.parametrize(("section", "key", "value"), PAPER)
def test_the_papers_numbers(section: str, key: str, value: Any) -> None:
    assert Recipe.resolve("dao-adni", changes=["data.path=."]).configs[section][key] == value


@pytest.mark.parametrize("name", ["dao-adni", "med-ddpm"])
def test_every_number_has_a_source_and_a_setting(name: str) -> None:
    recipe = Recipe.resolve(name, changes=["data.path=."])
    for line in Catalog().recipe(name).content["numbers"]:
        assert re.search(r": (paper|code|ours|as in dao-adni)", line), line
        for section, key in re.findall(r"\b([a-z]+)\.([a-z_]+)\b(?!\.)", re.sub(r"\w+\.py", "", line)):
            assert key in recipe.configs.get(section, ()) or (key == "name" and section in recipe.names), line
