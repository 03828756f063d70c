"""What metrics compare: volumes in the subject's space, or on the model's grid."""

import numpy as np
import pytest
import torch
from nibabel.affines import from_matvec, voxel_sizes
from scipy.ndimage import gaussian_filter

from helpers.files import visit_of
from helpers.volumes import OBLIQUE, oriented
from longigen import Subject, Volume
from longigen.data.grid import Grid
from longigen.data.intensity import IntensityRange
from longigen.data.preprocess import Prepared, Preprocess
from longigen.evaluation.comparison import Comparison
from longigen.models.predict import Generated
from longigen.models.tasks import Task

SHAPE = (18, 20, 12)


def prepared(*volumes: Volume, grid: Grid | None = None, upper: float = 95.0) -> Prepared:
    visits = tuple(visit_of(lambda v=v: v, time=float(i), shape=v.data.shape) for i, v in enumerate(volumes))
    return Preprocess(grid or Grid((6, 6, 6), None, "image", "resize"), upper=upper).subject(Subject("s", visits))


def smooth(affine: np.ndarray, shape: tuple[int, int, int], phase: float) -> Volume:
    """Return waves in world space, so that the same place has the same intensity on any grid."""
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1) @ affine[:3, :3].T + affine[:3, 3]
    data = 50 + 40 * np.sin(places[..., 0] / 5 + phase) * np.cos(places[..., 1] / 6) + 5 * np.sin(places[..., 2] / 4)
    return Volume(data.astype(np.float32), affine)


def scaled(subject: Prepared, data: np.ndarray) -> np.ndarray:
    low, high = subject.intensity.low, subject.intensity.high
    return 2 * (data - low) / (high - low) - 1


@pytest.mark.parametrize("code", ["RAS", "LPS", "ASR"])
def test_the_last_given_visits_own_voxels_are_compared_in_ras_order(code: str) -> None:
    first, last, true = (oriented(code, seed=seed) for seed in range(3))
    subject = prepared(first, last, true)
    copied = Generated(subject, Task((0, 1), (2,)), (2.0,), subject.visit(1)[None])
    compared = Comparison.of([copied, copied], 0, "subject")
    assert torch.equal(compared.generated, torch.stack([compared.previous] * 2))  # no change is a copy, bit for bit
    for volume, tensor in ((last, compared.previous), (true, compared.true)):
        expected = scaled(subject, volume.data)
        assert np.allclose(np.sort(tensor.numpy().ravel()), np.sort(expected.ravel()), atol=1e-5)
        assert tensor.max() > 1.01  # not clipped
    if code == "RAS":
        np.testing.assert_allclose(compared.true[0].numpy(), scaled(subject, true.data), atol=1e-5)
        np.testing.assert_allclose(voxel_sizes(compared.affine), (1.0, 1.5, 2.0))
        assert torch.equal(compared.foreground, torch.from_numpy(scaled(subject, first.data) > -0.95))


def test_a_true_visit_with_another_grid_is_interpolated_to_that_of_the_last_given_one() -> None:
    other = OBLIQUE @ from_matvec(np.diag([-0.8, 1.1, 0.9]), [15.0, -1.0, 0.5])
    first, last, true = (smooth(affine, SHAPE, phase) for affine, phase in ((other, 0.0), (OBLIQUE, 0.2), (other, 0.7)))
    subject = prepared(first, last, true, upper=100.0)
    generated = Generated(subject, Task((0, 1), (2,)), (2.0,), subject.visit(2)[None])
    compared = Comparison.of([generated], 0, "subject")
    assert compared.true.shape == (1, *SHAPE)
    inner = (slice(2, 13), slice(3, -3), slice(3, 9))
    expected = scaled(subject, smooth(OBLIQUE, SHAPE, 0.7).data)
    np.testing.assert_allclose(compared.true[0].numpy()[inner], expected[inner], atol=0.03)
    # The generated visit is what is written: the last visit, changed.
    written = generated.volume(0)
    assert (written.affine == OBLIQUE).all()
    np.testing.assert_allclose(compared.generated[0, 0].numpy(), scaled(subject, written.data), atol=1e-5)


def test_on_the_models_grid_the_images_are_compared() -> None:
    subject = prepared(*(oriented("LPS", seed=seed) for seed in range(3)))
    images = torch.zeros(1, 1, 6, 6, 6)
    compared = Comparison.of([Generated(subject, Task((0, 1), (2,)), (2.0,), images)], 0, "model")
    assert torch.equal(compared.generated, images)
    assert torch.equal(compared.previous, subject.visit(1))
    assert torch.equal(compared.true, subject.visit(2))
    np.testing.assert_array_equal(compared.affine, subject.placement.affine)


def of_copies(previous: torch.Tensor, spacing: tuple[float, float, float]) -> Comparison:
    return Comparison(previous[None], previous, previous, previous, np.diag([*spacing, 1.0]), IntensityRange(0, 1))


@pytest.mark.parametrize(
    ("spacing", "sigmas"),
    [((1.0, 1.0, 1.0), (1, 1, 1)), ((1.4, 1.4, 8.0), (1, 1, 0)), ((1.0, 2.0, 2.1), (1, 1, 0)), ((5, 1, 1), (0, 1, 1))],
)
@pytest.mark.parametrize("sigma", [0.5, 1.0])
def test_a_blurred_copy_is_blurred_in_the_plane_of_fine_voxels(
    spacing: tuple[float, float, float], sigmas: tuple[int, int, int], sigma: float
) -> None:
    previous = torch.rand(1, 12, 13, 9, generator=torch.Generator().manual_seed(0))
    compared = of_copies(previous, spacing)
    expected = gaussian_filter(previous[0].numpy(), [sigma * s for s in sigmas], mode="nearest")
    np.testing.assert_allclose(compared.blurred(sigma)[0].numpy(), expected, atol=1e-6)
    assert compared.blurred(sigma).std() < 0.8 * previous.std()


def test_a_blurred_copy_is_not_blurred_across_few_slices_whatever_the_header_says() -> None:
    previous = torch.rand(1, 12, 13, 4, generator=torch.Generator().manual_seed(0))
    compared = of_copies(previous, (1.0, 1.0, 1.0))
    expected = gaussian_filter(previous[0].numpy(), (1, 1, 0), mode="nearest")
    np.testing.assert_allclose(compared.blurred(1.0)[0].numpy(), expected, atol=1e-6)
