"""Detail: a generated visit keeps the last given visit's own voxels, on any grid."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from nibabel.affines import apply_affine, from_matvec
from torch import Tensor

from helpers.files import visit_of
from helpers.volumes import OBLIQUE, noise, oriented
from longigen import Subject, Volume, warp
from longigen.data.grid import Box, Fit, Grid
from longigen.data.preprocess import Prepared, Preprocess
from longigen.models.predict import Generated
from longigen.models.tasks import Task

GRIDS: dict[str, Grid] = {
    "larger": Grid((12, 12, 12)),
    "smaller": Grid((5, 4, 3)),
    "resampled": Grid((6, 7, 8), (1.3, 1.1, 1.7)),
    "coarse": Grid((4, 4, 4), (3.0, 3.0, 3.0)),
    "resized": Grid((9, 6, 4), None, "image", "resize"),
    "foreground": Grid((6, 6, 6), None, "foreground", "resize"),
}


def prepared(*volumes: Volume, grid: Grid, upper: float = 99.0) -> Prepared:
    visits = tuple(
        visit_of(lambda v=volume: v, time=float(index), shape=volume.data.shape) for index, volume in enumerate(volumes)
    )
    return Preprocess(grid, upper=upper).subject(Subject("s", visits))


def copied(subject: Prepared, given: int, displacement: Tensor | None) -> Generated:
    """Return a visit generated after the last of `given` visits, as that visit itself."""
    image = subject.visit(given - 1)
    moved = None if displacement is None else displacement[None]
    return Generated(subject, Task(tuple(range(given)), ()), (given - 0.5,), image[None], moved)


@pytest.mark.parametrize("moves", [False, True])
@pytest.mark.parametrize("code", ["RAS", "LPS", "ASR", "PIL"])
@pytest.mark.parametrize("grid", GRIDS)
def test_no_change_is_the_last_visit_bit_for_bit(grid: str, code: str, moves: bool) -> None:
    """Also voxels above the intensity range, and of a last visit that has another grid than the first."""
    first = oriented(code)
    elsewhere = Volume(noise(9, 6, 7, seed=2), first.affine @ from_matvec(np.diag([0.9, -1.2, 0.8]), [0.4, 6.0, -0.3]))
    subject = prepared(first, elsewhere, grid=GRIDS[grid])
    displacement = torch.zeros(3, *GRIDS[grid].shape) if moves else None
    for given, own in ((1, first), (2, elsewhere)):
        volume = copied(subject, given, displacement).volume(0)
        assert np.array_equal(volume.data, own.data)
        assert volume.data.dtype == np.float32
        assert (volume.affine == own.affine).all()
    assert (first.data > subject.intensity.high).any()


def test_without_detail_the_volume_is_the_restored_one() -> None:
    subject = prepared(oriented("LPS"), oriented("LPS", seed=1), grid=GRIDS["coarse"])
    generated = copied(subject, 2, None)
    bare = generated.volume(0, detail=False)
    np.testing.assert_array_equal(bare.data, subject.restore(subject.visit(1)).data)
    assert np.abs(bare.data - subject.own(1).data).max() > 10


def test_a_change_is_added_in_the_box_and_clipped() -> None:
    first = oriented("ASR")
    subject = prepared(first, grid=Grid((4, 4, 4)), upper=90.0)
    half = (subject.intensity.high - subject.intensity.low) / 2
    volume = subject.restore_change(torch.full((1, 4, 4, 4), 0.01), None, 0)
    changed = volume.data != first.data
    assert changed.sum() == 64
    expected = np.minimum(first.data + 0.01 * half, first.data.max())  # one voxel is nearly the brightest
    np.testing.assert_allclose(volume.data[changed], expected[changed], atol=1e-4)
    for sign, bound in ((1, first.data.max()), (-1, first.data.min())):
        data = subject.restore_change(torch.full((1, 4, 4, 4), 4.0 * sign), None, 0).data
        assert (data == bound).sum() >= 64
        assert (data.min(), data.max()) == (first.data.min(), first.data.max())
    with pytest.raises(ValueError, match="1, W, H, D"):
        subject.restore_change(torch.zeros(4, 4, 4), None, 0)


def test_a_change_fades_towards_a_face_inside_the_visit_and_not_at_its_border() -> None:
    first = Volume(noise(40, 24, 6), np.diag([1.0, 1.0, 8.0, 1.0]))
    subject = prepared(first, grid=Grid((24, 24, 6)))  # 8 voxels are left out on either side along the first axis
    half = (subject.intensity.high - subject.intensity.low) / 2
    added = (subject.restore_change(torch.full((1, 24, 24, 6), 1e-3), None, 0).data - first.data) / (1e-3 * half)
    ramp = [0, *(k / 4 for k in (1, 2, 3, 4))]  # over 24 / 8 voxels
    np.testing.assert_allclose(added[7:12, 12, 3], ramp, atol=0.05)
    np.testing.assert_allclose(added[28:33, 12, 3], ramp[::-1], atol=0.05)
    np.testing.assert_allclose(added[20, :, 3], 1, atol=0.05)


FLIPPED = OBLIQUE @ from_matvec(np.diag([-1.0, 1.0, 1.0])[[1, 0, 2]], [0, 0, 0])
"""Oblique, flipped and permuted, with voxels of 1 × 1.5 × 2 mm."""
SHAPE = (34, 40, 24)
MIDDLE = apply_affine(FLIPPED, (np.array(SHAPE) - 1) / 2)


OTHER = FLIPPED @ from_matvec(np.diag([1.1, -0.9, 0.8]), [0.5, SHAPE[1] - 3.0, 1.0])
"""Another grid over the same place: flipped once more, with other voxels."""


def rendered(value: Callable[[np.ndarray], np.ndarray], affine: np.ndarray = FLIPPED) -> Volume:
    """Return the volume of a function of places in mm from the middle (W, H, D, 3)."""
    places = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    return Volume(value(apply_affine(affine, places) - MIDDLE).astype(np.float32), affine)


def blob(places: np.ndarray) -> np.ndarray:
    return 100 * np.exp(-np.square(places / np.array([7.0, 9.0, 8.0])).sum(axis=-1) / 2)


@pytest.mark.parametrize("reference", [0, 1])
@pytest.mark.parametrize(
    ("spacing", "box", "fit", "shape"),
    [
        ((1.0, 1.0, 1.0), "image", "crop", (64, 64, 64)),
        ((2.0, 1.5, 3.0), "image", "crop", (48, 48, 24)),
        (None, "image", "crop", (48, 48, 32)),
        (None, "image", "resize", (20, 24, 12)),
    ],
)
def test_a_rigid_shift_moves_the_voxels_by_as_many_millimetres(
    spacing: tuple[float, float, float] | None, box: Box, fit: Fit, shape: tuple[int, int, int], reference: int
) -> None:
    """Those of the first visit, on whose grid the model's is placed, or of one with another grid."""
    shift = np.array([2.3, -1.7, 1.1])  # in mm, in world space
    grid, affine = Grid(shape, spacing, box, fit), (FLIPPED, OTHER)[reference]
    subject = prepared(rendered(blob), rendered(blob, OTHER), grid=grid, upper=100.0)
    voxels = np.linalg.inv(subject.placement.affine[:3, :3]) @ shift
    displacement = torch.from_numpy(voxels).float().view(3, 1, 1, 1).expand(3, *shape)
    volume = subject.restore_change(torch.zeros(1, *shape), displacement, reference)
    expected = rendered(lambda places: blob(places + shift), affine)
    inner = (slice(8, -8), slice(8, -8), slice(7, -7))  # where nothing fades
    assert np.abs(expected.data - subject.own(reference).data)[inner].max() > 10
    within = np.minimum(
        expected.data, max(subject.own(reference).data.max(), subject.intensity.high)
    )  # the result is clipped
    np.testing.assert_allclose(volume.data[inner], within[inner], atol=0.35)


def texture(places: np.ndarray) -> np.ndarray:
    """Return a ball of tissue with a cavity and fine detail, in mm."""
    radius = np.linalg.norm(places, axis=-1)
    wall = 1 / (1 + np.exp((radius - 15) / 0.7)) - 0.6 / (1 + np.exp((radius - 8) / 0.7))
    detail = np.sin(1.9 * places[..., 0]) * np.cos(1.6 * places[..., 1])
    return 100 * wall * (1 + 0.35 * detail)


def edges(volume: np.ndarray) -> float:
    return float(sum(np.square(slope).mean() for slope in np.gradient(volume)))


def twist(places: np.ndarray) -> np.ndarray:
    """Return where the tissue at each place in mm comes from, minus that place: a twist, of up to 2 mm."""
    angle = 0.35 * np.exp(-np.square(places / 12).sum(axis=-1))
    x, y, _ = np.moveaxis(places, -1, 0)
    turned = [np.cos(angle) * x - np.sin(angle) * y - x, np.sin(angle) * x + np.cos(angle) * y - y, 0 * angle]
    return np.stack(turned, axis=-1)


def test_edges_are_as_strong_as_the_true_visits_where_tissue_moves() -> None:
    true = rendered(lambda places: texture(places + twist(places)))
    grid = Grid((20, 22, 14), None, "image", "resize")
    subject = prepared(rendered(texture), true, grid=grid)
    placement = subject.placement
    places = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    moved = twist(apply_affine(placement.affine, places) - MIDDLE) @ np.linalg.inv(placement.affine[:3, :3]).T
    displacement = torch.from_numpy(np.moveaxis(moved, -1, 0)).float()
    last = subject.visit(0)
    image = warp(last[None], displacement[None])
    generated = Generated(subject, Task((0,), (1,)), (1.0,), image, displacement[None])
    volume, bare = generated.volume(0), generated.volume(0, detail=False)
    assert edges(subject.own(0).data) / edges(true.data) == pytest.approx(1, abs=0.1)
    assert edges(volume.data) / edges(true.data) == pytest.approx(1, abs=0.1)
    assert edges(bare.data) / edges(true.data) < 0.5
    error, of_copy, of_bare = (
        np.abs(data - true.data).mean() for data in (volume.data, subject.own(0).data, bare.data)
    )
    assert error < 0.3 * min(of_copy, of_bare)


def test_edges_are_as_strong_as_the_true_visits_where_tissue_changes() -> None:
    """A model that knows the true visit on a coarse grid, of tissue that fades around a place."""
    fading = rendered(lambda places: texture(places) * (1 - 0.3 * np.exp(-np.square((places - 6) / 8).sum(axis=-1))))
    subject = prepared(rendered(texture), fading, grid=Grid((20, 22, 14), None, "image", "resize"))
    generated = Generated(subject, Task((0,), (1,)), (1.0,), subject.visit(1)[None])
    volume, bare = generated.volume(0), generated.volume(0, detail=False)
    assert edges(subject.own(0).data) / edges(fading.data) == pytest.approx(1, abs=0.1)
    assert edges(volume.data) / edges(fading.data) == pytest.approx(1, abs=0.1)
    assert edges(bare.data) / edges(fading.data) < 0.5
    errors = [np.abs(data - fading.data).mean() for data in (volume.data, subject.own(0).data, bare.data)]
    assert errors[0] < 0.7 * min(errors[1:])
