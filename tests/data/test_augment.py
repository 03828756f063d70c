"""Tests of augmentation: one transform per subject, the same for all of its visits."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from longigen import BACKGROUND, Batch, LongigenError, VisitSequence
from longigen.data.augment import Augment, AugmentSettings
from longigen.data.training_pairs import TrainingPairs
from longigen.training.experiment import Experiment
from longigen.training.recipe import Recipe
from longigen.training.run import Run

SIZE = (12, 10, 8)


def smooth(*widths: float) -> torch.Tensor:
    """A Gaussian blob per width, in [-1, 1], (L, 1, W, H, D); off-centre, so that flips and shifts change it."""
    axes = torch.meshgrid(*(torch.arange(n) - (n - 1) / 2 for n in SIZE), indexing="ij")
    distance = (axes[0] - 1) ** 2 + (axes[1] + 1) ** 2 + axes[2] ** 2
    return torch.stack([2 * torch.exp(-distance / (2 * width**2)) - 1 for width in widths])[:, None]


def batch_of(images: torch.Tensor, target: torch.Tensor, rows: int = 1, observed: list[bool] | None = None) -> Batch:
    length = len(images)
    seen = torch.tensor([observed or [True] * length]).expand(rows, -1)
    history = VisitSequence(
        images[None].expand(rows, *images.shape),
        torch.arange(length, dtype=torch.float32)[None].expand(rows, -1),
        seen,
        torch.ones(rows, length, dtype=torch.bool),
    )
    return Batch(history, target[None].expand(rows, *target.shape), torch.full((rows,), float(length)))


GEOMETRY = {"flip": (True, True, True), "rotate": (10, 10, 30), "scale": 0.2, "shift": 0.1}
EVERYTHING = AugmentSettings(**GEOMETRY, gamma=1.5, elastic=0.05, bias=0.3, blur=1, noise=0.2)  # type: ignore[arg-type]
ONE_BY_ONE = [
    AugmentSettings(flip=(True, False, True)),
    AugmentSettings(rotate=(0, 0, 45)),
    AugmentSettings(scale=0.3),
    AugmentSettings(shift=0.2),
    AugmentSettings(gamma=2.0),
    AugmentSettings(elastic=0.1),
    AugmentSettings(bias=0.5),
    AugmentSettings(blur=2.0),
    AugmentSettings(noise=0.2),
    EVERYTHING,
]


def test_a_crop_is_the_same_box_of_every_visit_and_of_several_places() -> None:
    places = torch.arange(12 * 10 * 8, dtype=torch.float32).view(1, 1, *SIZE)
    batch = batch_of(torch.cat([places, places + 1]), places[0] + 2)
    crop = Augment(AugmentSettings(crop=(6, 0, 20)))  # 20 is more than there is
    starts = set()
    for seed in range(20):
        cropped = crop(batch, seed=seed)
        assert cropped.target.shape == (1, 1, 6, 10, 8)
        assert cropped.history.images.shape == (1, 2, 1, 6, 10, 8)
        assert torch.equal(cropped.history.images[0, 1], cropped.target[0] - 1)
        starts.add(int(cropped.history.images[0, 0, 0, 0, 0, 0]) // 80)
        assert torch.equal(cropped.target, crop(batch, seed=seed).target)
    assert starts <= set(range(7))
    assert len(starts) > 3


@pytest.mark.parametrize("settings", ONE_BY_ONE, ids=str)
def test_all_visits_of_a_subject_get_the_same_transform(settings: AugmentSettings) -> None:
    images = smooth(2.0, 1.5, 2.0)
    batch = batch_of(images, images[1])
    augment = Augment(settings)
    changed = 0
    for seed in range(6):
        augmented = augment(batch, seed=seed)
        visits, target = augmented.history.images[0], augmented.target[0]
        assert torch.equal(visits[0], visits[2])  # the same visit at two times stays the same
        assert torch.equal(visits[1], target)
        assert visits.min() >= -1
        assert visits.max() <= 1
        changed += not torch.equal(visits[0], images[0])
        assert torch.equal(augment(batch, seed=seed).target, augmented.target)
    assert changed >= 4
    assert augmented.history.times.equal(batch.history.times)


def test_change_between_visits_is_transformed_with_them() -> None:
    images = smooth(2.0, 1.5)
    augment = Augment(AugmentSettings(**GEOMETRY, elastic=0.05))  # type: ignore[arg-type]
    batch = batch_of(images[:1], images[1])
    change = batch_of((images[1:] - images[:1]) / 2 - 1, images[1])  # the change itself as an image, less background
    for seed in range(5):
        augmented, moved = augment(batch, seed=seed), augment(change, seed=seed)
        expected = 2 * (moved.history.images[0, 0] + 1)  # a geometric transform is linear in the image
        torch.testing.assert_close(augmented.target[0] - augmented.history.images[0, 0], expected, atol=1e-5, rtol=0)


def test_subjects_of_a_batch_get_different_transforms() -> None:
    images = smooth(2.0, 1.5)
    augmented = Augment(EVERYTHING)(batch_of(images, images[0], rows=3), seed=0)
    assert not torch.equal(augmented.target[0], augmented.target[1])
    assert not torch.equal(augmented.target[1], augmented.target[2])


def test_missing_images_stay_background() -> None:
    images = smooth(2.0, 1.5)
    images[1] = BACKGROUND
    augmented = Augment(EVERYTHING)(batch_of(images, images[0], observed=[True, False]), seed=3)
    assert (augmented.history.images[0, 1] == BACKGROUND).all()


def test_shift_rotation_and_scaling_by_hand() -> None:
    from longigen.data.augment import _resample_affine, _rotation_matrix

    image = torch.full((1, 1, 9, 9, 3), -1.0)
    image[0, 0, 6, 4, 1] = 1
    shifted = _resample_affine(image, torch.eye(3), torch.tensor([2 / 9, 0, 0]))
    assert shifted[0, 0, 4, 4, 1] == pytest.approx(1, abs=1e-5)  # the voxel at +2 is now in the middle
    turned = _resample_affine(image, _rotation_matrix(torch.tensor([0, 0, torch.pi / 2])), torch.zeros(3))
    assert turned[0, 0, 4, 2, 1] == pytest.approx(1, abs=1e-5)
    grown = _resample_affine(image, torch.eye(3) / 2, torch.zeros(3))
    assert grown[0, 0, 8, 4, 1] == pytest.approx(1, abs=1e-5)  # twice as far from the middle
    assert float((turned + 1).sum()) == pytest.approx(2, abs=1e-4)


def test_default_is_no_augmentation_and_invalid_values_are_refused() -> None:
    assert AugmentSettings().augment is None
    assert AugmentSettings(shift=0.1).augment is not None
    for given in (
        {"rotate": (0, 0, 181)},
        {"scale": -0.1},
        {"shift": 1.5},
        {"gamma": 0.5},
        {"elastic": 0.2},
        {"bias": -1},
    ):
        with pytest.raises(LongigenError, match=f"AugmentSettings: {next(iter(given))} must be .* from"):
            AugmentSettings(**given)  # type: ignore[arg-type]


def test_recipe_sets_augmentation(manifest: Path) -> None:
    changes = [
        "augment.flip=true,false,false",
        "rotate=0,0,15",
        "gamma=1.3",
        "augment.elastic=0.05",
        "augment.bias=0.3",
    ]
    recipe = Recipe.resolve("sadm-tiny", data=str(manifest), changes=changes)
    study = Experiment.of(recipe)
    augment = recipe.settings("augment").augment
    training = study.cohort.part("train")
    drawn = [TrainingPairs(training, length=8, seed=0, causal=True, augment=each) for each in (augment, None)]
    assert any(not torch.equal(drawn[0][k].target, drawn[1][k].target) for k in range(8))
    assert all(torch.equal(drawn[0][k].target_time, drawn[1][k].target_time) for k in range(8))
    assert all(torch.equal(drawn[0][k].target, drawn[0][k].target) for k in range(8))
    assert Experiment.of(Recipe.resolve("sadm-tiny", data=str(manifest))).recipe.settings("augment").augment is None


def test_trainer_uses_augmentation(manifest: Path, tmp_path: Path) -> None:
    small = ["denoiser.width=8", "denoiser.heads=2", "conditioner.dim=16", "training.steps=1", "preprocess.shape=8,8,8"]
    recipe = Recipe.resolve("sadm-tiny", data=str(manifest), changes=[*small, "augment.shift=0.1"])
    trainer = Experiment.of(recipe).trainer(Run.create(tmp_path / "run"))
    assert trainer.augment is not None
    assert trainer.augment.settings.shift == 0.1


def test_what_is_moved_in_follows_the_padding_of_preprocessing() -> None:
    from longigen.data.augment import _resample_affine

    image = torch.arange(1.0, 10.0)[:, None, None].expand(1, 1, 9, 9, 3) / 10
    shift = torch.tensor([4 / 9, 0, 0])
    for pad, outside in (("background", -1.0), ("edge", 0.9)):
        moved = _resample_affine(image, torch.eye(3), shift, pad)  # type: ignore[arg-type]
        torch.testing.assert_close(moved[0, 0, -3:], torch.full((3, 9, 3), outside))
        torch.testing.assert_close(moved[0, 0, :5, 4, 1], image[0, 0, 4:, 4, 1])


def test_only_the_history_is_corrupted() -> None:
    """Noise and blur have the sizes asked for, and change neither target, background nor missing images."""
    images = torch.rand(40, 1, 16, 16, 16) - 0.5
    images[..., :3] = -1
    batch = batch_of(images, images[0], observed=[True, False, *[True] * 38])
    history, observed = batch.history, batch.history.observed
    noisy = Augment(AugmentSettings(history_noise=0.2))(batch, seed=3)
    assert torch.equal(noisy.target, batch.target)
    assert torch.equal(noisy.history.images[..., :3], history.images[..., :3])
    assert (noisy.history.images[0, 1] == -1).all()
    assert noisy.history.images.abs().max() <= 1
    levels = (noisy.history.images - history.images)[0, observed[0], ..., 3:].flatten(1).std(dim=1)
    assert levels.max() < 0.21
    assert levels.mean().item() == pytest.approx(0.1, abs=0.04)  # uniform from 0 to 0.2
    assert levels.min() < 0.03
    again = Augment(AugmentSettings(history_noise=0.2))(batch, seed=3)
    assert torch.equal(again.history.images, noisy.history.images)

    blurred = Augment(AugmentSettings(history_blur=2.0))(batch, seed=3).history.images[0, observed[0]]
    assert torch.equal(blurred[..., :3], torch.full_like(blurred[..., :3], -1))
    roughness = blurred[..., 5:].diff(dim=2).square().flatten(1).mean(dim=1)
    sharp = history.images[0, observed[0], ..., 5:].diff(dim=2).square().flatten(1).mean(dim=1)
    assert (roughness <= 1.001 * sharp).all()
    assert (roughness / sharp).min() < 0.1 < 0.9 < (roughness / sharp).max()


def anatomy_and_background() -> tuple[Batch, torch.Tensor]:
    """Return a pair and a missing visit, of anatomy with a box of background, and where all visits are background."""
    images = torch.rand(4, 1, *SIZE, generator=torch.Generator().manual_seed(0)) * 1.9 - 0.9
    images[..., :3] = BACKGROUND
    images[3, ..., 4:6] = BACKGROUND  # what is lost by the last visit
    return batch_of(images[:3], images[3], observed=[True, True, False]), (images == BACKGROUND).all(dim=0)


def shades(**settings: float) -> list[tuple[Batch, Batch]]:
    """Return a pair, before and after augmentation with several seeds."""
    batch, background = anatomy_and_background()
    found = [(batch, Augment(AugmentSettings(**settings))(batch, seed=seed)) for seed in range(20)]  # type: ignore[arg-type]
    for _, after in found:
        for image in (*after.history.images[0], after.target[0]):
            assert (image[background] == BACKGROUND).all()
            assert image.abs().max() <= 1
        assert (after.target[batch.target == BACKGROUND] == BACKGROUND).all()
        assert (after.history.images[0, 2] == BACKGROUND).all()
    return found


def test_a_bias_field_is_a_polynomial_and_multiplies_all_visits_alike() -> None:
    largest = []
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in SIZE), indexing="ij")
    system = np.polynomial.legendre.legvander3d(*axes, (3, 3, 3))
    degree = np.indices((4, 4, 4)).sum(axis=0).ravel()
    for before, after in shades(bias=0.5):
        given, made = (torch.cat([b.history.images[0, :2], b.target]).double() + 1 for b in (before, after))
        field, shown = made[0] / given[0], given[0] > 0.1
        for was, now in zip(given, made, strict=True):
            torch.testing.assert_close(now[shown], (field * was)[shown], atol=1e-5, rtol=0)
        inside = shown[0].numpy()
        fitted, *_ = np.linalg.lstsq(system[inside], field[0][inside].log().numpy(), rcond=None)
        assert np.abs(fitted[degree > 3]).max() < 1e-4
        assert np.abs(fitted[(degree > 0) & (degree <= 3)]).max() < 0.501
        assert fitted[0] < 1e-4  # what exceeds 1 is scaled, so no intensity is clipped
        largest.append(np.abs(fitted[(degree > 0) & (degree <= 3)]).max())
    assert max(largest) > 0.45


def test_noise_is_one_image_for_all_visits_and_only_where_none_is_background() -> None:
    levels = []
    for before, after in shades(noise=0.2):
        added = torch.cat([after.history.images[0, :2], after.target]) - torch.cat(
            [before.history.images[0, :2], before.target]
        )
        assert (added[..., 4:6] == 0).all()  # there the target is background
        unclipped = (torch.cat([after.history.images[0, :2], after.target]).abs() < 1).all(dim=0) & (added[0] != 0)
        torch.testing.assert_close(added[1][unclipped], added[0][unclipped], atol=1e-6, rtol=0)
        torch.testing.assert_close(added[2][unclipped], added[0][unclipped], atol=1e-6, rtol=0)
        levels.append(float(added[0][unclipped].std()))
    assert max(levels) < 0.21
    assert min(levels) < 0.05


def test_a_missing_channel_stays_background_and_keeps_no_noise_from_the_others() -> None:
    """Of two visits and a target with two channels, the first visit lacks the second one."""
    grey = torch.zeros(2, 2, *SIZE)
    batch = batch_of(grey, grey[0])
    given = torch.tensor([[[True, False], [True, True]]])
    batch = replace(
        batch, history=replace(batch.history, observed_channels=given), target_channels=torch.tensor([[True, True]])
    )
    after = Augment(AugmentSettings(noise=0.2))(batch, seed=1)
    assert (after.history.images[0, 0, 1] == BACKGROUND).all()
    for channel in range(2):
        assert (after.target[0, channel] != 0).any()
        assert torch.equal(after.history.images[0, 1, channel], after.target[0, channel])
    assert torch.equal(after.history.images[0, 0, 0], after.target[0, 0])


def test_blur_keeps_the_mean_and_has_one_width_for_all_visits() -> None:
    impulse = torch.full((1, 1, 25, 25, 25), -0.9)
    impulse[0, 0, 12, 12, 12] = 1
    widths = []
    for seed in range(20):
        batch = batch_of(impulse, impulse[0])
        after = Augment(AugmentSettings(blur=2.0))(batch, seed=seed)
        assert torch.equal(after.target, after.history.images[:, 0])
        mass = after.target[0, 0].double() + 0.9
        assert float(mass.sum()) == pytest.approx(1.9, rel=1e-3)
        place = torch.arange(25.0, dtype=torch.float64) - 12
        widths.append(float((mass.sum(dim=(1, 2)) * place**2).sum() / mass.sum()) ** 0.5)
    assert 1.6 < max(widths) < 2.01
    assert min(widths) < 0.4
    shades(blur=2.0)


def test_a_deformation_is_smooth_bounded_and_does_not_fold() -> None:
    augment = Augment(AugmentSettings(elastic=0.1))
    largest = []
    for seed in range(10):
        field = augment._deformation((20, 16, 12), torch.Generator().manual_seed(seed))
        assert field is not None
        jacobian = np.stack(
            [np.stack(np.gradient(axis * n)) for axis, n in zip(field.numpy(), (20, 16, 12), strict=True)]
        ).transpose(2, 3, 4, 0, 1) + np.eye(3)
        assert np.linalg.det(jacobian).min() > 0
        largest.append(float(field.abs().max()))
    assert 0.04 < max(largest) <= 0.1
    thin = augment._deformation((20, 16, 1), torch.Generator().manual_seed(0))
    assert thin is not None
    assert (thin[2] == 0).all()
    from longigen.data.augment import _resample_affine

    images, shift = smooth(2.0), torch.tensor([0.1, -0.05, 0.02])
    moved = _resample_affine(
        images, torch.eye(3), torch.zeros(3), deformation=shift[:, None, None, None].expand(3, *SIZE)
    )
    torch.testing.assert_close(moved, _resample_affine(images, torch.eye(3), shift))  # a constant one is a shift


def test_each_transform_is_the_same_whatever_the_others_are() -> None:
    batch, _ = anatomy_and_background()
    alone = Augment(AugmentSettings(noise=0.2))(batch, seed=1).target - batch.target
    gained = (
        Augment(AugmentSettings(noise=0.2, crop=(12, 10, 8), history_blur=1.0))(batch, seed=1).target - batch.target
    )
    assert torch.equal(alone, gained)
    moved = Augment(AugmentSettings(**GEOMETRY))(batch, seed=1).target  # type: ignore[arg-type]
    noisy = Augment(AugmentSettings(**GEOMETRY, noise=1e-9))(batch, seed=1).target  # type: ignore[arg-type]
    torch.testing.assert_close(noisy, moved, atol=1e-6, rtol=0)


def test_corruption_does_not_change_the_transforms() -> None:
    batch = batch_of(smooth(1.0, 2.0, 3.0), smooth(4.0)[0])
    moved = {"flip": (True, True, True), "shift": 0.2, "rotate": (10.0, 10.0, 10.0)}
    for seed in range(4):
        plain, noisy = (
            Augment(AugmentSettings(**moved, **extra))(batch, seed=seed)  # type: ignore[arg-type]
            for extra in ({}, {"history_noise": 0.1})
        )
        assert torch.equal(plain.target, noisy.target)
        assert not torch.equal(plain.history.images, noisy.history.images)
