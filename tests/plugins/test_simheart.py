"""Simulated hearts: volumes and motion compared with closed forms, and their images."""

import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion

from longigen import LongigenError
from longigen_simheart import SimHeart
from longigen_simheart.cohort import VERSION
from longigen_simheart.frame import from_heart_frame, septum_cosine, to_heart_frame
from longigen_simheart.grid import FIELD, Grid
from longigen_simheart.heart import Heart
from longigen_simheart.motion import Motion, displace_surroundings, moving_limit, restore_surroundings, transform
from longigen_simheart.subject import Traits
from longigen_simheart.texture import SIZE, SPACING, soft_edge, texture

FINE = (128, 128, 72)
"""Voxels of 1.25 × 1.25 × 1.5 mm."""

THIN = (96, 96, 216)
"""Voxels of 1.7 × 1.7 × 0.5 mm, for counting: the base, where ventricles end, may lie anywhere in a slice."""

RIGHT, MUSCLE, LEFT = 1, 2, 3


def strongest(data: SimHeart) -> str:
    """Return the subject whose left ventricle empties most."""
    return max((subject.id for subject in data.subjects()), key=lambda name: data.traits(name).ejection_fraction)


def counted_volume(data: SimHeart, name: str, visit: int, label: int) -> float:
    """Return the volume of a label in mm³, by counting voxels."""
    return float((data.labels(name, visit) == label).sum()) * math.prod(Grid(data.shape).spacing)


# Closed forms


def test_volumes_are_those_of_voxels_as_the_grid_gets_finer():
    coarse, fine = SimHeart(), SimHeart(shape=THIN)
    for name in ("heart-0000", "heart-0003"):
        for visit in (0, 11):
            truth = coarse.truth(name, visit)
            for label, volume in (
                (RIGHT, truth.rv_volume),
                (MUSCLE, truth.myocardium_volume),
                (LEFT, truth.lv_volume),
            ):
                assert counted_volume(coarse, name, visit, label) == pytest.approx(volume, rel=0.12)
                assert counted_volume(fine, name, visit, label) == pytest.approx(volume, rel=0.01)


def test_the_left_cavity_is_a_truncated_ellipsoid():
    traits = Traits.draw(0, 4)
    r, a, cap = traits.radius, traits.semi_axis, 0.88 * traits.semi_axis
    whole = 4 / 3 * math.pi * r**2 * a
    # A cap of height h of an ellipsoid of revolution has the volume π (r/a)² h² (3a - h) / 3.
    cut = math.pi * (r / a) ** 2 * cap**2 * (3 * a - cap) / 3
    assert Heart(traits).lv_volume == pytest.approx(whole - cut, rel=1e-9)


def test_ejection_fractions_are_those_of_the_traits():
    data = SimHeart(shape=THIN)
    for name in ("heart-0001", strongest(data)):
        traits = data.traits(name)
        for label, expected in ((LEFT, traits.ejection_fraction), (RIGHT, traits.rv_ejection_fraction)):
            left = counted_volume(data, name, 11, label) / counted_volume(data, name, 0, label)
            assert 1 - left == pytest.approx(expected, abs=0.01)
        truth = data.truth(name, 11)
        assert truth.ejection_fraction == pytest.approx(traits.ejection_fraction)
        assert truth.lv_volume == data.lv_volume(name, 11)
        assert 1 - truth.lv_volume / data.lv_volume(name, 0) == pytest.approx(traits.ejection_fraction)


def test_muscle_keeps_its_volume_and_thickens():
    data = SimHeart(shape=THIN)
    name = strongest(data)
    volumes = [counted_volume(data, name, visit, MUSCLE) for visit in range(0, 12, 3)]
    np.testing.assert_allclose(volumes, volumes[0], rtol=0.01)
    assert len({SimHeart().truth(name, visit).myocardium_volume for visit in range(12)}) == 1

    # An incompressible tube: its length is multiplied by λ, and its inner cross-section by k.
    traits, heart = data.traits(name), Heart(data.traits(name))
    for visit in (0, 11):
        motion = Motion(heart, visit / 11)
        inner = math.sqrt(motion.lv_share / motion.shrink) * traits.radius
        tube = ((traits.radius + traits.wall) ** 2 - traits.radius**2) / motion.shrink
        expected = math.sqrt(inner**2 + tube) - inner
        level = traits.apex + motion.shrink * heart.equator
        slice_ = data.labels(name, visit)[:, :, int((level / FIELD[2] + 0.5) * THIN[2])]
        pixel = (FIELD[0] / THIN[0]) ** 2
        radii = [math.sqrt((slice_ >= label).sum() * pixel / math.pi) for label in (MUSCLE, LEFT)]
        assert radii[0] - radii[1] == pytest.approx(expected, rel=0.05)
        if visit == 11:
            assert expected > 1.3 * traits.wall


def test_the_base_descends_by_the_shortening():
    data = SimHeart(shape=(64, 64, 108))  # slices of 1 mm
    name = strongest(data)
    traits = data.traits(name)
    tops = [np.flatnonzero((data.labels(name, visit) == LEFT).any((0, 1))).max() for visit in (0, 11)]
    assert tops[0] - tops[1] == pytest.approx(traits.shortening * traits.base, abs=1)


@pytest.mark.parametrize("rate", [0.8, 1.5, 2.4])
def test_contraction_goes_from_zero_to_one_at_the_rate(rate: float):
    traits = Traits.draw(0, 0)
    traits = Traits(**{**vars(traits), "rate": rate})
    done = np.array([traits.contraction(time) for time in np.linspace(0, 1, 101)])
    assert done[0] == 0
    assert done[-1] == 1
    assert (np.diff(done) > 0).all()
    assert traits.contraction(1e-6) / 1e-6 == pytest.approx(rate, rel=1e-4)
    assert 1 - traits.contraction(1 - 1e-4) < 1e-6


# The motion


@pytest.fixture(scope="module")
def motion() -> Motion:
    data = SimHeart()
    return Motion(Heart(data.traits(strongest(data))), 1.0)


@pytest.fixture(scope="module")
def positions() -> tuple[torch.Tensor, torch.Tensor]:
    """Return positions (2, N) in the heart's frame, and heights (N,)."""
    random = torch.rand(3, 20000, generator=torch.Generator().manual_seed(0))
    return (random[:2] - 0.5) * 150, random[2] * 115 - 8


def test_every_map_has_its_inverse(motion: Motion, positions: tuple[torch.Tensor, torch.Tensor]):
    position, height = positions
    torch.testing.assert_close(motion.inverse_height(motion.forward_height(height)), height, atol=1e-4, rtol=0)
    level = motion.level(height)
    square, window = position.square().sum(0), motion.heart.window(septum_cosine(position))
    inside = (square < Motion(motion.heart, 0.0).outline(window, level)) & (height > 0)
    forward_squares, _ = motion.forward_radius(square, window, level)
    back = motion.inverse_radius(forward_squares, window, level)
    torch.testing.assert_close(back[inside].sqrt(), square[inside].sqrt(), atol=2e-2, rtol=0)
    before, after = (torch.linspace(0, 60, 20000) ** 2, torch.linspace(0, 55, 20000) ** 2)
    outside = square > before
    pushed_out, _ = displace_surroundings(square, before, after)
    torch.testing.assert_close(
        restore_surroundings(pushed_out, before, after)[outside].sqrt(), square[outside].sqrt(), atol=1e-2, rtol=0
    )
    traits = motion.heart.traits
    x, y, z = from_heart_frame(traits, position, height)
    again, level_again = to_heart_frame(traits, x, y, z)
    torch.testing.assert_close(again, position, atol=1e-4, rtol=0)
    torch.testing.assert_close(level_again, height, atol=1e-4, rtol=0)


def test_jacobian_is_the_determinant_of_the_derivative(motion: Motion, positions: tuple[torch.Tensor, torch.Tensor]):
    position, height = (part.double() for part in positions)
    step = 1e-4

    def forward(position: torch.Tensor, height: torch.Tensor) -> torch.Tensor:
        moved, raised, _ = transform(motion, position, height)
        return torch.stack([*moved, raised])

    columns = []
    for axis in range(3):
        shift = torch.zeros(3, 1, dtype=torch.float64)
        shift[axis] = step
        ahead = forward(position + shift[:2], height + shift[2])
        behind = forward(position - shift[:2], height - shift[2])
        columns.append((ahead - behind) / (2 * step))
    finite = torch.linalg.det(torch.stack(columns).permute(2, 1, 0))
    jacobian = transform(motion, position, height)[2]
    agree = (finite - jacobian).abs() < 1e-3 * jacobian + 1e-3
    assert float(agree.double().mean()) > 0.995  # except on surfaces where the derivative jumps
    assert float(jacobian.min()) > 0


def test_jacobian_is_one_in_muscle_and_empties_the_cavities():
    data = SimHeart(shape=FINE)
    for name in ("heart-0002", strongest(data)):
        first, truth, start = data.labels(name, 0), data.truth(name, 11), data.truth(name, 0)
        np.testing.assert_allclose(truth.jacobian[first == MUSCLE], 1, atol=1e-3)
        assert truth.jacobian[first == LEFT].mean() == pytest.approx(truth.lv_volume / start.lv_volume, rel=0.02)
        assert truth.jacobian[first == RIGHT].mean() == pytest.approx(truth.rv_volume / start.rv_volume, rel=0.02)


def test_displacement_maps_labels_and_image_to_the_last_visit():
    data = SimHeart(shape=FINE, noise=0.0)
    name = strongest(data)
    visits = data.subjects()[int(name[6:])].visits
    first, last = data.labels(name, 0), data.labels(name, 11)
    displacement = data.truth(name, 11).displacement
    spacing = np.array(Grid(FINE).spacing).reshape(3, 1, 1, 1)
    target_voxels = np.rint(np.indices(FINE) + displacement / spacing).astype(int)
    target_voxels = tuple(np.clip(axis, 0, size - 1) for axis, size in zip(target_voxels, FINE, strict=True))
    for label, least in ((RIGHT, 0.9), (MUSCLE, 0.93), (LEFT, 0.93)):
        expected = first == label
        mapped, unmoved = last[target_voxels] == label, last == label
        dice, before = (2 * (expected & mask).sum() / (expected.sum() + mask.sum()) for mask in (mapped, unmoved))
        assert dice > least
        assert before < dice - 0.1
    images = [visit.load().data for visit in (visits[0], visits[11])]
    heart = first > 0
    error, change = (np.abs(moved - images[0])[heart].mean() for moved in (images[1][target_voxels], images[1]))
    assert error < 0.35 * change
    # The texture of the muscle is displaced too, including the twist.
    muscle = np.asarray(binary_erosion(first == MUSCLE, iterations=3), dtype=bool)
    assert muscle.sum() > 1000
    followed, stayed = (
        np.corrcoef(moved[muscle], images[0][muscle])[0, 1] for moved in (images[1][target_voxels], images[1])
    )
    assert followed > 0.96
    assert stayed < 0.5


def test_the_apex_rotates_against_the_base(motion: Motion):
    heart, traits = motion.heart, motion.heart.traits
    # In the middle of the muscle, near the apex and near the base, at a right angle to the septum.
    height = torch.tensor([0.2, 0.95]) * heart.base
    section = heart.section(height)
    position = torch.stack([torch.zeros(2), ((section.outside + section.cavity) / 2).sqrt()])
    moved, _, _ = transform(motion, position, height)
    turn = -torch.atan2(moved[0], moved[1])
    assert float(turn[0] - turn[1]) == pytest.approx(0.75 * traits.twist, rel=1e-3)


def test_truth_of_the_first_visit_is_no_change():
    truth = SimHeart().truth("heart-0003", 0)
    np.testing.assert_allclose(truth.displacement, 0, atol=1e-3)
    np.testing.assert_allclose(truth.jacobian, 1, atol=1e-4)
    assert truth.ejection_fraction == 0


# Textures and edges


def test_texture_is_smooth_repeats_and_has_unit_variance():
    positions = torch.rand(3, 50000, generator=torch.Generator().manual_seed(1)) * 300 - 150
    zero = np.zeros(3)
    noise = texture(0, zero, *positions)
    np.testing.assert_allclose(noise.std(1), 1, atol=0.2)
    again = texture(0, zero, positions[0] + SIZE * SPACING, positions[1], positions[2])
    torch.testing.assert_close(again, noise, atol=1e-3, rtol=0)
    moved = texture(0, np.array([0.1, 0, 0]), *positions)
    assert float((moved - noise).abs().mean()) < 0.1
    assert float((texture(1, zero, *positions) - noise).abs().mean()) > 0.5


def test_soft_edges_are_symmetric_and_have_the_given_width():
    distance = torch.linspace(-3, 3, 61)
    share = soft_edge(distance, 4.0)
    torch.testing.assert_close(share + share.flip(0), torch.ones(61))
    assert (share[distance <= -2] == 0).all()
    assert (share[distance >= 2] == 1).all()
    assert (share.diff() >= 0).all()


# The data set


def test_visits_are_frames_from_end_diastole_to_end_systole():
    data = SimHeart(subject_count=5, shape=(32, 40, 9))
    subjects = data.subjects()
    assert [subject.id for subject in subjects] == [f"heart-{index:04d}" for index in range(5)]
    assert data.time_unit == "cycle"
    for subject in subjects:
        np.testing.assert_allclose(subject.times, np.linspace(0, 1, 12))
        for visit in subject.visits:
            assert visit.shape == (32, 40, 9)
            assert visit.spacing == (5.0, 4.0, 12.0)
            assert set(visit.covariates) == {"height", "weight"}
    volume = subjects[0].visits[3].load()
    assert volume.data.shape == (32, 40, 9)
    assert volume.data.dtype == np.float32
    np.testing.assert_allclose(np.diag(volume.affine), [5, 4, 12, 1])
    middle = volume.affine @ [15.5, 19.5, 4, 1]
    np.testing.assert_allclose(middle, [0, 0, 0, 1], atol=1e-4)


def test_data_are_marked_as_simulated():
    assert SimHeart.simulated
    assert "SIMULATED" in (SimHeart.__doc__ or "")
    assert SimHeart().subjects()[7].visits[2].source == "sim-heart heart-0007 visit 2 (simulated)"


def test_identities_differ_if_images_differ():
    configs: tuple[dict[str, Any], ...] = ({}, {"seed": 1}, {"noise": 0.0}, {"shape": (32, 32, 12)}, {"frames": 6})
    identities = [
        visit.identity for given in configs for subject in SimHeart(**given).subjects()[:2] for visit in subject.visits
    ]
    assert len(set(identities)) == len(identities)
    assert SimHeart(subject_count=3).subjects()[1].visits[1].identity == SimHeart().subjects()[1].visits[1].identity


def test_images_of_version_1():
    # Cached images have an identity that includes VERSION, so increase VERSION if the images change.
    assert VERSION == 1
    image = SimHeart(noise=0.0).subjects()[3].visits[4].load().data
    np.testing.assert_allclose([image.mean(), image.std(), image[30, 32, 6]], [92.0539, 89.6102, 312.261], rtol=1e-3)


def test_blood_is_bright_muscle_dark_and_air_zero():
    data = SimHeart(subject_count=6)
    for subject in data.subjects():
        for visit in (0, 11):
            image, what = subject.visits[visit].load().data, data.labels(subject.id, visit)
            right, muscle, left = (np.median(image[what == label]) for label in (RIGHT, MUSCLE, LEFT))
            assert left > 2 * muscle
            assert right > 2 * muscle
            assert image.min() == 0
        assert (subject.visits[0].load().data == 0).mean() > 0.01
    # Papillary muscles make a part of the cavity dark, in the middle of the heart.
    image, what = data.subjects()[0].visits[0].load().data, data.labels("heart-0000", 0)
    middle, left = image[:, :, 6], what[:, :, 6] == LEFT
    assert 0.02 < (middle[left] < 0.7 * np.median(middle[left])).mean() < 0.4


def test_no_heart_leaves_the_field_of_view():
    data = SimHeart(subject_count=150, shape=(64, 64, 36), frames=2)
    for subject in data.subjects():
        what = data.labels(subject.id, 0)
        assert 20e3 < counted_volume(data, subject.id, 0, LEFT) < 400e3
        for axis in range(3):
            assert not what.take([0, -1], axis).any()


def test_far_from_the_heart_nothing_moves():
    data = SimHeart(subject_count=3, noise=0.0)
    for subject in data.subjects():
        first, middle, last = (subject.visits[visit].load().data for visit in (0, 6, 11))
        heart = Heart(data.traits(subject.id))
        position, height = to_heart_frame(heart.traits, *Grid(data.shape).coordinates())
        at_rest = Motion(heart, 0.0)
        outline = at_rest.outline(heart.window(septum_cosine(position)), at_rest.level(height))
        far = (position.square().sum(0) > 1.001 * moving_limit(outline)).numpy() & (outline > 0).numpy()
        assert far.mean() > 0.2
        np.testing.assert_array_equal(first[far], last[far])
        np.testing.assert_array_equal(first[far], middle[far])
        assert np.abs(data.truth(subject.id, 11).displacement[:, far]).max() < 1e-4
        assert first[far].std() > 0.1 * first.std()


def test_a_subject_depends_only_on_seed_and_index():
    few, many = SimHeart(subject_count=2), SimHeart(subject_count=90)
    first = few.subjects()[1].visits[5].load().data
    for subject in many.subjects()[:2]:
        for visit in reversed(subject.visits[:3]):
            visit.load()
    np.testing.assert_array_equal(many.subjects()[1].visits[5].load().data, first)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(few.subjects()[1])).visits[5].load().data, first)
    assert not np.array_equal(SimHeart(seed=1).subjects()[1].visits[5].load().data, first)


def test_grids_and_numbers_of_frames_show_the_same_subject():
    configs: tuple[dict[str, Any], ...] = ({}, {"shape": (128, 128, 36)}, {"frames": 2})
    coarse, fine, two = (
        SimHeart(subject_count=1, noise=0.0, **given).subjects()[0].visits[-1].load().data for given in configs
    )
    np.testing.assert_array_equal(coarse, two)
    pooled = fine.reshape(64, 2, 64, 2, 12, 3).mean((1, 3, 5))
    assert np.corrcoef(pooled.ravel(), coarse.ravel())[0, 1] > 0.98


def test_noise_has_the_given_size_and_differs_between_visits():
    noisy, clean = SimHeart(subject_count=1, noise=0.05), SimHeart(subject_count=1, noise=0.0)
    noises = []
    for visit in (0, 1):
        clean_image = clean.subjects()[0].visits[visit].load().data
        blood = noisy.labels("heart-0000", visit) == LEFT
        scale = np.median(clean_image[blood])
        noises.append((noisy.subjects()[0].visits[visit].load().data - clean_image)[clean_image > 0.6 * scale] / scale)
    assert np.std(noises[0]) == pytest.approx(0.05, rel=0.15)
    size = min(map(len, noises))
    assert abs(np.corrcoef(noises[0][:size], noises[1][:size])[0, 1]) < 0.05


# What can be learnt


def test_the_ejection_fraction_is_independent_of_the_first_frame():
    all_traits = [Traits.draw(0, index) for index in range(2000)]
    fractions = [traits.ejection_fraction for traits in all_traits]
    assert min(fractions) < 0.22
    assert max(fractions) > 0.73
    for other in ("radius", "semi_axis", "wall", "rv_depth", "rate", "height", "weight", "twist"):
        assert abs(np.corrcoef(fractions, [getattr(traits, other) for traits in all_traits])[0, 1]) < 0.06


def test_later_frames_determine_the_ejection_fraction_and_the_first_does_not():
    data = SimHeart(subject_count=100)
    names = [subject.id for subject in data.subjects()]
    fractions = [data.traits(name).ejection_fraction for name in names]
    volumes = np.array([[data.lv_volume(name, visit) for visit in (0, 5)] for name in names])
    assert abs(np.corrcoef(volumes[:, 0], fractions)[0, 1]) < 0.25
    assert np.corrcoef(1 - volumes[:, 1] / volumes[:, 0], fractions)[0, 1] > 0.9


def test_the_error_of_copying_the_first_visit_is_far_larger_than_noise():
    data = SimHeart(subject_count=4)
    for subject in data.subjects():
        first, last = (subject.visits[visit].load().data for visit in (0, 11))
        what = np.maximum(data.labels(subject.id, 0), data.labels(subject.id, 11)) > 0
        blood = np.median(first[data.labels(subject.id, 0) == LEFT])
        noise = math.sqrt(2) * data.noise * blood  # of the difference between two scans
        assert np.sqrt(np.mean((last - first)[what] ** 2)) > 4 * noise


# Mistakes


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"subject_count": 0}, "subject_count"),
        ({"shape": (64, 4, 12)}, r"shape .* got \(64, 4, 12\)"),
        ({"shape": (64, 64, 1)}, r"shape .* got \(64, 64, 1\)"),
        ({"frames": 1}, "frames"),
        ({"noise": -0.1}, "noise"),
        ({"noise": float("nan")}, "noise"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_settings_are_refused(given: dict[str, Any], named: str):
    with pytest.raises(LongigenError, match=named):
        SimHeart(**given)


@pytest.mark.parametrize("name", ["heart-0048", "heart-7", "sim-0000", "heart-00a1", ""])
def test_unknown_subjects_and_visits_are_refused(name: str):
    data = SimHeart()
    for method in (data.truth, data.lv_volume, data.labels):
        with pytest.raises(LongigenError, match="heart-0000 to heart-0047"):
            method(name, 0)
        with pytest.raises(LongigenError, match="visits 0 to 11"):
            method("heart-0000", 12)
    with pytest.raises(LongigenError, match="heart-0000 to heart-0047"):
        data.traits(name)
