"""Rigid transforms: means and distances against closed forms, and the coordinates of ITK."""

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.affines import apply_affine, from_matvec, voxel_sizes

from helpers.scans import motion
from helpers.volumes import oriented
from longigen import LongigenError, Volume
from longigen.preparation.images import sitk_image, volume_of
from longigen.preparation.rigid import HEAD_RADIUS, deviation, from_itk, mean_transform, shift_and_angle, to_itk

FIRST, SECOND, THIRD = (
    motion((5, -20, 3), (4, -6, 12)),
    motion((-8, 2, 30), (0, 3, -9)),
    motion((1, 40, -7), (20, 5, 0)),
)


def test_the_mean_of_two_is_halfway() -> None:
    half = mean_transform([np.eye(4), FIRST], [1, 1])
    np.testing.assert_allclose(half @ half, FIRST, atol=1e-9)
    turn = motion((0, 0, 30), (0, 0, 6))
    np.testing.assert_allclose(mean_transform([np.eye(4), turn], [2, 1]), motion((0, 0, 10), (0, 0, 2)), atol=1e-9)


def test_a_mean_favours_no_order_no_direction_and_no_coordinates() -> None:
    mean = mean_transform([FIRST, SECOND, THIRD], [1, 1, 1])
    np.testing.assert_allclose(mean_transform([THIRD, FIRST, SECOND], [1, 1, 1]), mean, atol=1e-8)
    inverses = [np.linalg.inv(each) for each in (FIRST, SECOND, THIRD)]
    np.testing.assert_allclose(mean_transform(inverses, [1, 1, 1]), np.linalg.inv(mean), atol=1e-8)
    other = motion((70, 10, -30), (300, -100, 50))
    seen = [other @ each @ np.linalg.inv(other) for each in (FIRST, SECOND, THIRD)]
    np.testing.assert_allclose(mean_transform(seen, [1, 1, 1]), other @ mean @ np.linalg.inv(other), atol=1e-6)


def test_the_deviation_is_that_of_points_of_a_sphere() -> None:
    centre = np.array([10.0, -20, 30])
    points = np.random.default_rng(0).uniform(-HEAD_RADIUS, HEAD_RADIUS, (400_000, 3))
    points = points[np.linalg.norm(points, axis=1) < HEAD_RADIUS] + centre
    moved = np.sqrt(((apply_affine(FIRST, points) - points) ** 2).sum(axis=1).mean())
    assert deviation(FIRST, centre) == pytest.approx(moved, rel=2e-3)
    assert deviation(np.eye(4), centre) == 0
    assert shift_and_angle(motion((0, 0, 30), (3, 4, 0)), np.zeros(3)) == pytest.approx((5, 30))


def test_a_transform_of_itk_moves_the_same_points() -> None:
    point = np.array([11.0, -7, 5])
    for centre in (None, np.array([30.0, 10, -40])):
        transform = to_itk(FIRST, centre)
        np.testing.assert_allclose(from_itk(transform), FIRST, atol=1e-12)
        moved = np.array(transform.TransformPoint((point * (-1, -1, 1)).tolist())) * (-1, -1, 1)
        np.testing.assert_allclose(moved, apply_affine(FIRST, point), atol=1e-9)


@pytest.mark.parametrize("code", ["RAS", "LPS", "PSR"])
def test_an_image_of_itk_lies_where_itk_reads_its_file(code: str, tmp_path: object) -> None:
    volume = oriented(code)
    image = sitk_image(volume)
    path = f"{tmp_path}/image.nii.gz"
    nibabel.save(volume.image, path)
    read = sitk.ReadImage(path)
    np.testing.assert_allclose(image.GetOrigin(), read.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(image.GetDirection(), read.GetDirection(), atol=1e-5)
    np.testing.assert_allclose(image.GetSpacing(), voxel_sizes(volume.affine))
    np.testing.assert_array_equal(volume_of(image, volume.affine).data, volume.data)


def test_a_sheared_image_is_refused() -> None:
    sheared = from_matvec(np.array([[1.0, 0.2, 0], [0, 1, 0], [0, 0, 1]]))
    with pytest.raises(LongigenError, match="sheared"):
        sitk_image(Volume(np.zeros((3, 3, 3), dtype=np.float32), sheared))
