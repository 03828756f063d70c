"""Simulated brains: their images, the ground truth of their changes, and what can be learnt from visits."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from longigen import LongigenError
from longigen_simbrain import SimBrain, Truth, cohort, template
from longigen_simbrain.deformation import flow, flow_with_jacobian, free_form, invert, velocity_with_divergence
from longigen_simbrain.grid import Grid
from longigen_simbrain.subject import CLOSEST, KNOTS, MEDIAN_RATE, RATE_LIMIT, RATE_SIGMA, Cohort, Traits

CUBE = Grid((24, 24, 24), 2.0, (-23.0, -23.0, -23.0))


def fastest(data: SimBrain) -> str:
    """Return the subject that ages most by its last visit."""

    def aged(name: str) -> float:
        traits = data.traits(name)
        return traits.amount(traits.times[-1])

    return max((subject.id for subject in data.subjects()), key=aged)


# Deformations, against closed forms


def test_sampling_reproduces_a_linear_field_and_is_zero_outside():
    field = torch.stack([CUBE.points[0] + 2 * CUBE.points[1], CUBE.points[2]])
    points = torch.tensor([[0.3, -7.1], [5.0, 2.2], [-3.3, 11.9]])
    expected = torch.stack([points[0] + 2 * points[1], points[2]])
    torch.testing.assert_close(CUBE.sample(field, points), expected, atol=1e-4, rtol=0)
    assert (CUBE.sample(field, torch.full((3, 1), 40.0)) == 0).all()


@pytest.mark.parametrize("amount", [0.8, -0.8])
def test_flow_of_a_linear_velocity_is_the_exponential(amount: float):
    start = torch.tensor([[4.0, -6.0], [3.0, 5.0], [-2.0, 1.0]])
    rates = torch.tensor([0.5, -0.5, 0.25])[:, None]
    moved = flow(rates[:, :, None, None] * CUBE.points, CUBE, start, amount)
    torch.testing.assert_close(moved, start * (amount * rates).exp(), atol=0, rtol=2e-3)


def test_jacobian_of_a_linear_velocity_is_the_exponential_of_its_trace():
    rates = torch.tensor([0.5, -0.1, 0.2]).view(3, 1, 1, 1)
    _, jacobian = flow_with_jacobian(rates * CUBE.points, CUBE, CUBE.points, 0.5)
    middle = slice(8, 16)
    expected = torch.full((8, 8, 8), 0.3).exp()
    torch.testing.assert_close(jacobian[middle, middle, middle], expected, atol=0, rtol=1e-3)


def test_velocity_has_the_given_divergence_and_does_not_cross_walls():
    x, y, z = CUBE.points
    radius = (x**2 + y**2 + z**2).sqrt()
    source = (radius < 6).float()
    inside = (radius < 20).float()
    divergence = source - inside * (source.sum() / inside.sum())
    velocity = velocity_with_divergence(divergence, inside, CUBE.spacing, tolerance=1e-4)
    # By Gauss's theorem, with Q the source's volume: v(r) = (Q - sink inside r) / 4πr².
    volume = float(source.sum()) * CUBE.spacing**3
    for r in (9, 12, 15):
        shell = (radius - r).abs() < 1
        radial = ((velocity * CUBE.points).sum(0) / radius)[shell]
        total = float(inside.sum()) * CUBE.spacing**3
        expected = (volume - volume / total * 4 / 3 * np.pi * r**3) / (4 * np.pi * r**2)
        assert float(radial.mean()) == pytest.approx(expected, rel=0.05)
    assert (velocity[:, radius > 23] == 0).all()


def test_free_form_is_a_partition_of_unity_and_one_to_one_at_the_bound():
    torch.testing.assert_close(free_form(torch.ones(1, 9, 9, 9), 10.0, CUBE), torch.ones(1, *CUBE.shape))
    signs = torch.randint(0, 2, (3, 9, 9, 9), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    worst = CUBE.points + free_form(signs * 10 / 2.48, 10.0, CUBE)
    assert float(CUBE.jacobian(worst).min()) > 0


def test_invert_inverts_a_displacement():
    displacement = 0.2 * CUBE.points.flip(0)
    positions = torch.tensor([[4.0, -6.0], [3.0, 5.0], [-2.0, 1.0]])
    torch.testing.assert_close(
        invert(displacement, CUBE, positions + 0.2 * positions.flip(0)), positions, atol=2e-3, rtol=0
    )


# The template


@pytest.mark.parametrize("spacing", [4.0, 3.0, 2.0, 1.5])
def test_grids_contain_the_template_and_share_a_centre(spacing: float):
    grid = template.GRIDS[spacing]
    assert all(size % 8 == 0 for size in grid.shape)
    np.testing.assert_allclose(grid.points.mean((1, 2, 3)), [0, -16.5, 6], atol=1e-3)
    brain = template.FINE.sample(template.tissues().brain[None], grid.points)[0]
    assert float(brain.sum()) * spacing**3 == pytest.approx(float(template.tissues().brain.sum()), rel=0.01)
    for axis in range(3):
        assert not brain.index_select(axis, torch.tensor([0, grid.shape[axis] - 1])).any()


def test_the_fine_grid_contains_the_template_without_a_shift():
    maps = template.tissues()
    assert float(maps.brain.sum()) == 1886539  # voxels of 1 mm³ in the file
    x, y, z = FINE_CENTRE = (0, -20, 28)
    index = tuple(int(c - o) for c, o in zip(FINE_CENTRE, template.FINE.origin, strict=True))
    assert template.FINE.points[(slice(None), *index)].tolist() == [x, y, z]
    assert 10e3 < float(maps.ventricles.sum()) < 30e3  # mm³
    # The template is symmetric from left to right.
    assert float((maps.t1 - maps.t1.flip(0)).abs().max()) == 0


def test_each_ageing_velocity_expands_its_fluid_at_unit_rate():
    grid = template.GRIDS[3.0]
    maps = template.tissues()
    for velocity, fluid in zip(template.ageing_velocities(), (maps.ventricles, maps.sulci), strict=True):
        weight = template.FINE.sample(fluid[None], grid.points)[0]
        growth = float((weight * grid.divergence(velocity)).sum() / weight.sum())
        assert 0.7 < growth < 1.3


# The data set


def test_visits_are_yearly_with_gaps_and_known_shapes():
    data = SimBrain(subject_count=200)
    subjects = data.subjects()
    assert [subject.id for subject in subjects][7] == "sim-0007"
    assert len({subject.id for subject in subjects}) == 200
    assert {len(subject.visits) for subject in subjects} == {4, 5, 6, 7, 8}
    gaps = np.concatenate([np.diff(subject.times) for subject in subjects])
    assert gaps.min() > 0.5
    assert gaps.max() < 2.5
    assert 0.03 < (gaps > 1.5).mean() < 0.3
    assert np.std(gaps[gaps < 1.5]) > 0.1
    for subject in subjects:
        assert subject.times[0] == 0
        for visit in subject.visits:
            assert visit.shape == template.GRIDS[3.0].shape
            assert visit.covariates["age"] == pytest.approx(subject.visits[0].covariates["age"] + visit.time, abs=0.01)


def test_data_are_marked_as_simulated():
    assert SimBrain.simulated
    assert "SIMULATED" in (SimBrain.__doc__ or "")
    assert SimBrain().subjects()[7].visits[2].source == "sim-brain sim-0007 visit 2 (simulated)"


@pytest.mark.parametrize("spacing", [4.0, 3.0, 2.0, 1.5])
def test_a_visit_is_a_brain_on_black_within_the_field_of_view(spacing: float):
    visit = SimBrain(subject_count=1, spacing=spacing).subjects()[0].visits[0]
    volume = visit.load()
    assert volume.data.shape == visit.shape
    assert volume.data.dtype == np.float32
    np.testing.assert_array_equal(np.diag(volume.affine)[:3], [spacing] * 3)
    assert volume.data.min() == 0
    brain = volume.data > 0
    assert 1.2e6 < brain.sum() * spacing**3 < 2.2e6  # mm³
    assert 700 < np.percentile(volume.data[brain], 95) < 1500
    for axis in range(3):
        assert not brain.take([0, -1], axis).any()


def test_no_subject_leaves_the_field_of_view():
    for subject in SimBrain(subject_count=12, noise=0.0).subjects():
        brain = subject.visits[0].load().data > 0
        for axis in range(3):
            assert not brain.take([0, -1], axis).any()


def test_both_spacings_show_the_same_subject():
    coarse, fine = (SimBrain(subject_count=1, spacing=s, noise=0.0).subjects()[0].visits[-1].load() for s in (3.0, 2.0))
    grid = template.GRIDS[2.0]
    resampled = grid.sample(torch.from_numpy(fine.data)[None], template.GRIDS[3.0].points)[0].numpy()
    assert np.corrcoef(resampled.ravel(), coarse.data.ravel())[0, 1] > 0.99


def test_a_subject_depends_only_on_seed_and_index():
    few, many = SimBrain(subject_count=2), SimBrain(subject_count=90)
    first = few.subjects()[1].visits[2].load().data
    for subject in many.subjects()[:2]:
        for visit in reversed(subject.visits[:2]):
            visit.load()
    np.testing.assert_array_equal(many.subjects()[1].visits[2].load().data, first)
    copy = pickle.loads(pickle.dumps(few.subjects()[1]))
    np.testing.assert_array_equal(copy.visits[2].load().data, first)
    assert not np.array_equal(
        SimBrain(seed=1).subjects()[1].visits[0].load().data, few.subjects()[1].visits[0].load().data
    )
    script = (
        "import hashlib, sys; from longigen_simbrain import SimBrain;"
        "data = SimBrain(subject_count=2).subjects()[1].visits[2].load().data;"
        "print(float(data.astype('float64').sum()), 'sklearn' in sys.modules, 'nilearn' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    total, sklearn, nilearn = result.stdout.split()
    assert float(total) == pytest.approx(float(first.astype("float64").sum()), rel=1e-6)
    assert (sklearn, nilearn) == ("False", "False")


def test_noise_has_the_given_size_and_differs_between_visits():
    noisy, clean = (SimBrain(subject_count=1, noise=noise) for noise in (0.02, 0.0))
    white = clean.traits("sim-0000").white
    noises = []
    for visit in (0, 1):
        clean_image = clean.subjects()[0].visits[visit].load().data
        noises.append((noisy.subjects()[0].visits[visit].load().data - clean_image)[clean_image > 0.6 * white] / white)
    assert np.std(noises[0]) == pytest.approx(0.02, rel=0.05)
    size = min(map(len, noises))
    assert abs(np.corrcoef(noises[0][:size], noises[1][:size])[0, 1]) < 0.03


# The ground truth


def test_truth_of_the_first_visit_is_no_change():
    truth = SimBrain().truth("sim-0003", 0)
    assert np.abs(truth.displacement).max() == 0
    np.testing.assert_allclose(truth.jacobian, 1, atol=1e-3)
    assert truth.csf_volume > 5e3


def test_ventricles_grow_at_the_rate_of_the_subject():
    data = SimBrain()
    for name in ("sim-0000", "sim-0005", fastest(data)):
        traits = data.traits(name)
        volumes = np.array([data.csf_volume(name, visit) for visit in range(len(traits.times))])
        assert (np.diff(volumes) > 0).all()
        expected = traits.amount(traits.times[-1])
        assert np.log(volumes[-1] / volumes[0]) == pytest.approx(expected, rel=0.3)


def test_jacobian_agrees_with_the_displacement():
    truth, finite = jacobians(SimBrain(), "sim-0005")
    moved = np.abs(truth.displacement).max(0) > 0.1
    error = np.log(truth.jacobian[moved]) - np.log(finite[moved])
    assert np.corrcoef(np.log(truth.jacobian[moved]), np.log(finite[moved]))[0, 1] > 0.98
    assert np.abs(error).mean() < 0.05


def test_nothing_folds_even_in_the_fastest_of_many():
    data = SimBrain(subject_count=1000)
    truth, finite = jacobians(data, fastest(data))
    assert truth.jacobian.min() > 0.1
    assert finite.min() > 0.1


def test_jacobian_over_the_first_ventricles_gives_the_volume_at_the_last_visit():
    data = SimBrain()
    for name in ("sim-0001", "sim-0005"):
        last = len(data.traits(name).times) - 1
        first, then = data.truth(name, 0), data.truth(name, last)
        mask = data.ventricles(name, 0)
        ratio = (mask * then.jacobian).sum() / mask.sum()
        assert ratio == pytest.approx(then.csf_volume / first.csf_volume, rel=0.03)


def test_displacement_maps_the_first_image_to_the_last():
    data = SimBrain(noise=0.0)
    name = fastest(data)
    visits = data.subjects()[int(name[4:])].visits
    truth = data.truth(name, len(visits) - 1)
    grid = template.GRIDS[3.0]
    first, last = visits[0].load().data, torch.from_numpy(visits[-1].load().data)
    warped = grid.sample(last[None], grid.points + torch.from_numpy(truth.displacement))[0].numpy()
    inside = first > 0
    before = np.abs(last.numpy() - first)[inside].mean()
    after = np.abs(warped - first)[inside].mean()
    assert after < 0.5 * before


def test_the_skull_does_not_change():
    data = SimBrain(noise=0.0)
    visits = data.subjects()[int(fastest(data)[4:])].visits
    first, last = ((v.load().data > 0).sum() for v in (visits[0], visits[-1]))
    assert last == pytest.approx(first, rel=0.02)


# What can be learnt


def test_rates_are_log_normal_and_unrelated_to_the_start():
    traits_list = [Traits.draw(Cohort(), index) for index in range(2000)]
    rates = np.log([traits.rate for traits in traits_list])
    limits = np.log(MEDIAN_RATE) + np.array([-1, 1]) * RATE_SIGMA * RATE_LIMIT
    assert rates.min() >= limits[0] - 1e-9
    assert rates.max() <= limits[1] + 1e-9
    assert np.median(rates) == pytest.approx(np.log(MEDIAN_RATE), abs=0.05)
    # Values within one standard deviation, 68 % of a normal distribution, are not truncated.
    assert (np.abs(rates - np.log(MEDIAN_RATE)) < RATE_SIGMA).mean() == pytest.approx(0.68, abs=0.03)
    assert (
        max(float(np.abs(traits.shape).max()) for traits in traits_list) < KNOTS / 2.48
    )  # which makes shapes one-to-one
    for other in ("baseline", "age", "sulcal", "acceleration"):
        assert abs(np.corrcoef(rates, [getattr(traits, other) for traits in traits_list])[0, 1]) < 0.06


def test_uneven_visits_are_as_many_as_planned_and_at_random_times():
    data = SimBrain(subject_count=400, planned=(8, 8), timing="uneven")
    times = np.array([subject.times for subject in data.subjects()])
    assert times.shape == (400, 8)
    assert np.all(times[:, 0] == 0)
    gaps = np.diff(times)
    assert gaps.min() >= CLOSEST - 0.01  # times are rounded to hundredths
    assert times.max() <= 7
    # Gaps of uniform times beyond the smallest one: a mean of (1 - .2) · 7 / 8, and an exponential's spread, nearly.
    assert gaps.mean() == pytest.approx(CLOSEST + 0.8 * 7 / 8, abs=0.03)
    assert gaps.std() == pytest.approx(0.7 * np.sqrt(7 / 9), abs=0.03)
    yearly = SimBrain(subject_count=1).subjects()[0].visits
    assert {visit.identity for visit in yearly}.isdisjoint(visit.identity for visit in data.subjects()[0].visits)


def test_two_visits_determine_the_rate_and_one_does_not():
    data = SimBrain(subject_count=20)
    rates, starts, early, late = [], [], [], []
    for subject in data.subjects():
        volumes = [data.csf_volume(subject.id, visit) for visit in (0, 1, 2)]
        times = subject.times
        rates.append(np.log(data.traits(subject.id).rate))
        starts.append(volumes[0])
        early.append(np.log(volumes[1] / volumes[0]) / times[1])
        late.append(np.log(volumes[2] / volumes[1]) / (times[2] - times[1]))
    assert np.corrcoef(early, late)[0, 1] > 0.9
    assert np.corrcoef(np.log(early), rates)[0, 1] > 0.9
    assert abs(np.corrcoef(starts, rates)[0, 1]) < 0.45  # 95 % of independent samples of 20


def test_the_error_of_copy_last_is_larger_than_noise():
    noisy, clean = SimBrain(subject_count=6), SimBrain(subject_count=6, noise=0.0)
    total, true = [], []
    for with_noise, without_noise in zip(noisy.subjects(), clean.subjects(), strict=True):
        peak = max(visit.load().data.max() for visit in with_noise.visits[:2])
        for subject, errors in ((with_noise, total), (without_noise, true)):
            change = subject.visits[1].load().data - subject.visits[0].load().data
            errors.append(np.mean((change / peak) ** 2))
    share = np.sum(true) / np.sum(total)
    assert 0.4 < share < 0.9


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"spacing": 1.0}, "spacing"),
        ({"planned": (8, 4)}, "planned"),
        ({"spacing": 2.5}, "4, 3, 2 or 1.5 mm"),
        ({"subject_count": 0}, "subject_count"),
        ({"noise": -0.1}, "noise"),
        ({"noise": float("nan")}, "noise"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_settings_are_refused(given: dict, named: str):
    with pytest.raises(LongigenError, match=named):
        SimBrain(**given)


@pytest.mark.parametrize("name", ["sim-0048", "sim-7", "brain", "sim-00a1", ""])
def test_unknown_subjects_and_visits_are_refused(name: str):
    with pytest.raises(LongigenError, match="sim-0000 to sim-0047"):
        SimBrain().truth(name, 0)
    with pytest.raises(LongigenError, match="visits 0 to"):
        SimBrain().truth("sim-0000", 9)


def test_a_missing_template_is_reported(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(template, "find_spec", lambda name: None)
    template.tissues.cache_clear()
    with pytest.raises(LongigenError, match="install nilearn"):
        template.tissues()


def jacobians(data: SimBrain, name: str) -> tuple[Truth, np.ndarray]:
    """Return the truth at a subject's last visit, and its Jacobian by finite differences of the displacement."""
    grid = template.GRIDS[data.spacing]
    truth = data.truth(name, len(data.traits(name).times) - 1)
    return truth, grid.jacobian(grid.points + torch.from_numpy(truth.displacement)).numpy()


def test_a_visit_has_the_same_voxels_with_any_number_of_threads() -> None:
    """Sums are rounded otherwise in several threads, and a visit is known again by its voxels."""
    subject, volumes = SimBrain().subject("sim-0006"), []
    threads = torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            for cached in (template.ageing_velocities, cohort._first_visit, cohort._template_points):
                cached.cache_clear()
            volumes.append(subject.visits[1].load().data)
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(volumes[0], volumes[1])
