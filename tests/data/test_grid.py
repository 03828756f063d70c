"""The model's grid, and its placement in a subject's space."""

import itertools

import nibabel
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec, voxel_sizes
from scipy.spatial.transform import Rotation

from helpers.files import visit_of
from helpers.volumes import OBLIQUE, noise, oriented
from longigen import LongigenError, Subject, Visit, Volume
from longigen.data.grid import Box, Grid, Placement
from longigen.data.preprocess import PreprocessSettings

CODES = [
    "".join(code) for letters in itertools.permutations(("RL", "AP", "SI")) for code in itertools.product(*letters)
]


def world_line(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """f(x, y, z) = 100 + 2x - 3y + z/2 at each voxel's world coordinates."""
    points = apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    return (100 + points @ [2.0, -3.0, 0.5]).astype(np.float32)


@pytest.mark.parametrize("code", CODES)
def test_every_orientation_is_restored_exactly(code: str) -> None:
    volume = oriented(code)
    placement = Placement.from_first_visit(volume, Grid((10, 10, 10)))  # pads each axis
    model = placement.to_model(volume, -1.0, "v", "s")
    canonical = nibabel.as_closest_canonical(volume.image)
    sizes = canonical.shape
    start = [-((size - 10) // 2) for size in sizes]
    inside = tuple(slice(a, a + n) for a, n in zip(start, sizes, strict=True))
    np.testing.assert_array_equal(model[inside], canonical.get_fdata())
    assert (model == -1).sum() == 1000 - volume.data.size
    assert "".join(nibabel.aff2axcodes(placement.affine)) == "RAS"
    back = placement.to_subject(model, 0.0)
    np.testing.assert_array_equal(back.data, volume.data)
    assert (back.affine == volume.affine).all()


@pytest.mark.parametrize("code", ["RAS", "LPS", "ASR", "PIR"])
def test_cropped_volume_is_restored_inside_the_grid(code: str) -> None:
    volume = oriented(code)
    placement = Placement.from_first_visit(volume, Grid((4, 4, 4)))
    back = placement.to_subject(placement.to_model(volume, 0.0, "v", "s"), -7.0)
    covered = back.data != -7
    assert covered.sum() == 64
    np.testing.assert_array_equal(back.data[covered], volume.data[covered])


def test_cropping_and_padding_by_hand() -> None:
    volume = Volume(np.arange(5, dtype=np.float32).reshape(5, 1, 1), np.diag([2.0, 2, 2, 1]))
    cropped = Placement.from_first_visit(volume, Grid((3, 1, 1)))
    assert cropped.to_model(volume, 9, "v", "s").ravel().tolist() == [1, 2, 3]
    np.testing.assert_array_equal(cropped.affine[:3, 3], [2, 0, 0])
    padded = Placement.from_first_visit(volume, Grid((8, 1, 1)))  # an odd difference: one voxel more in front
    assert padded.to_model(volume, 9, "v", "s").ravel().tolist() == [9, 9, 0, 1, 2, 3, 4, 9]
    np.testing.assert_array_equal(padded.affine[:3, 3], [-4, 0, 0])


def test_padding_repeats_the_nearest_voxel_by_hand() -> None:
    volume = Volume(np.arange(1, 6, dtype=np.float32).reshape(5, 1, 1), np.diag([2.0, 2, 2, 1]))
    padded = Placement.from_first_visit(volume, Grid((8, 1, 1)))
    assert padded.to_model(volume, None, "v", "s").ravel().tolist() == [1, 1, 1, 2, 3, 4, 5, 5]
    finer = Placement.from_first_visit(volume, Grid((16, 1, 1), (1.0, 2.0, 2.0)))
    model = finer.to_model(volume, None, "v", "s").ravel()
    assert (model[:4] == 1).all()
    assert (model[-4:] == 5).all()
    np.testing.assert_allclose(np.diff(model[4:12]), 0.5, atol=1e-6)


def test_images_of_two_shapes_have_no_band_in_one_grid() -> None:
    for shape in ((95, 100, 3), (100, 95, 3)):
        volume = Volume(noise(*shape) + 100, np.diag([1.5, 1.5, 8, 1]))
        placement = Placement.from_first_visit(volume, Grid((100, 100, 3)))
        with_band, without = (placement.to_model(volume, fill, "v", "s") for fill in (0.0, None))
        assert (with_band == 0).sum() == 5 * 100 * 3
        assert not (without == 0).any()
        np.testing.assert_array_equal(placement.to_subject(without, 0.0).data, volume.data)
        axis = shape.index(95)
        lines = np.moveaxis(without, axis, 0)
        assert all(len(np.unique(line)) > 1 for line in lines)  # what is repeated is anatomy, and no constant
        outside = np.concatenate([lines[:3] - lines[3], lines[-2:] - lines[-3]])
        assert (outside == 0).all()


@pytest.mark.parametrize("code", ["RAS", "LPS", "ASR", "PIR"])
@pytest.mark.parametrize("shape", [(0, 0, 0), (10, 4, 0), (0, 5, 9)])
@pytest.mark.parametrize("fill", [0.0, None])
def test_size_of_each_subject_is_kept(code: str, shape: tuple[int, int, int], fill: float | None) -> None:
    """An axis of size 0 has the voxels of the first visit; what the grid covers is restored exactly."""
    for own in ((7, 8, 5), (9, 6, 11)):
        volume = oriented(code, own)
        placement = Placement.from_first_visit(volume, Grid(shape))
        sizes = nibabel.as_closest_canonical(volume.image).shape
        assert placement.shape == tuple(n or size for n, size in zip(shape, sizes, strict=True))
        back = placement.to_subject(placement.to_model(volume, fill, "v", "s"), np.nan).data
        covered = ~np.isnan(back)
        assert covered.sum() == np.prod(np.minimum(placement.shape, sizes))
        np.testing.assert_array_equal(back[covered], volume.data[covered])


def test_size_of_each_subject_in_other_voxels_covers_it() -> None:
    volume = Volume(noise(20, 10, 7), np.diag([1.0, 1, 3, 1]))
    assert Placement.from_first_visit(volume, Grid((0, 8, 0), (1.5, 1.5, 2.0))).shape == (14, 8, 11)


def test_box_of_the_foreground_has_the_size_of_each_subject() -> None:
    data = np.zeros((20, 10, 7), dtype=np.float32)
    data[3:15, 2:9, 1:6] = 5
    placement = Placement.from_first_visit(Volume(data, np.eye(4)), Grid((0, 0, 0), box="foreground"))
    assert placement.shape == (12, 7, 5)
    np.testing.assert_array_equal(placement.affine[:3, 3], [3, 2, 1])


def test_extent_in_mm() -> None:
    """150 mm of voxels of 1.5 mm are 100, of 1.56 mm 96 (a multiple of 4); 0 takes all slices."""
    for step, size in ((1.5, 100), (1.56, 96), (1.37, 108), (10.0, 15)):
        volume = Volume(noise(120, 110, 9), np.diag([step, step, 8, 1]))
        placement = Placement.from_first_visit(volume, Grid((0, 0, 0), extent=(150, 150, 0)))
        assert placement.shape == (size, size, 9)
        np.testing.assert_allclose(voxel_sizes(placement.affine), (step, step, 8))  # nothing is resized
        middle = apply_affine(placement.affine, (np.array(placement.shape) - 1) / 2)
        assert np.abs(middle - apply_affine(volume.affine, (np.array(volume.data.shape) - 1) / 2)).max() <= step / 2
    spaced = Grid((0, 0, 0), (2.0, 2.0, 2.0), extent=(150, 99, 0))
    assert spaced.shape_of((120, 110, 9), (1.5, 1.5, 8.0)) == (75, 50, 36)  # 99 / 2 to the even number


def test_grid_that_cannot_be() -> None:
    for given, message in [
        ({"shape": (10, -1, 0)}, "0 for as many as each subject has"),
        ({"shape": (10, 10, 0), "fit": "resize"}, "a size along each axis"),
        ({"shape": (10, 0, 0), "extent": (10, 0, 0)}, "give only one of the two"),
        ({"shape": (0, 0, 0), "extent": (10, -1, 0)}, "three lengths in mm"),
    ]:
        with pytest.raises(LongigenError, match=message):
            Grid(**given)  # type: ignore[arg-type]


def test_grid_with_the_visits_spacing_does_not_resample() -> None:
    volume = oriented("RAS", (7, 8, 5))
    free = Placement.from_first_visit(volume, Grid((6, 6, 6)))
    same = Placement.from_first_visit(volume, Grid((6, 6, 6), (1.0, 1.50001, 2.0)))  # as rounded in a header
    np.testing.assert_array_equal(free.affine, same.affine)


def test_visit_shifted_by_whole_voxels_is_not_resampled() -> None:
    first = Volume(noise(8, 8, 8), OBLIQUE)
    later = Volume(noise(6, 9, 7, seed=1), OBLIQUE @ from_matvec(np.eye(3), [1, -2, 3]))
    model = Placement.from_first_visit(first, Grid((8, 8, 8))).to_model(later, 0.0, "v", "s")
    expected = np.zeros((8, 8, 8), dtype=np.float32)
    expected[1:7, 0:7, 3:8] = later.data[:, 2:, :5]
    np.testing.assert_array_equal(model, expected)


def test_resampling_reproduces_a_linear_function() -> None:
    first = Volume(world_line(OBLIQUE, (20, 16, 12)), OBLIQUE)
    turned = OBLIQUE @ from_matvec(Rotation.from_euler("zyx", [0.1, 0.05, -0.1]).as_matrix() * 0.9, [-3.0, -3.0, -2.0])
    later = Volume(world_line(turned, (28, 26, 20)), turned)
    for spacing, rim in [((1.3, 1.4, 1.5), 0), ((3.0, 3.0, 3.0), 1)]:  # the second smooths first
        placement = Placement.from_first_visit(first, Grid((5, 5, 5), spacing))
        np.testing.assert_allclose(voxel_sizes(placement.affine), spacing, rtol=1e-9)
        inside = (slice(rim, 5 - rim),) * 3
        truth = world_line(placement.affine, (5, 5, 5))[inside]
        for visit in (first, later):
            np.testing.assert_allclose(placement.to_model(visit, 0.0, "v", "s")[inside], truth, atol=0.02)


def test_grid_is_centred_on_the_field_of_view() -> None:
    volume = oriented("PIR")
    placement = Placement.from_first_visit(volume, Grid((9, 4, 6), (1.1, 1.7, 3.0)))
    own = apply_affine(volume.affine, (np.array(volume.data.shape) - 1) / 2)
    np.testing.assert_allclose(apply_affine(placement.affine, (np.array([9, 4, 6]) - 1) / 2), own)


def test_downsampling_does_not_alias() -> None:
    stripes = np.zeros((48, 4, 4), dtype=np.float32)
    stripes[::2] = 1  # every third voxel would again be stripes
    model = Placement.from_first_visit(Volume(stripes, np.eye(4)), Grid((16, 4, 4), (3.0, 1.0, 1.0))).to_model(
        Volume(stripes, np.eye(4)), 0.0, "v", "s"
    )
    np.testing.assert_allclose(model[2:-2], 0.5, atol=0.01)


def test_resampling_covers_the_voxels_full_extent() -> None:
    slab = Volume(np.full((6, 6, 1), 4, dtype=np.float32), np.diag([1.0, 1, 8, 1]))
    placement = Placement.from_first_visit(slab, Grid((12, 12, 4), (0.5, 0.5, 2.0)))
    assert (placement.to_model(slab, 0.0, "v", "s") == 4).all()
    model = np.full((12, 12, 4), 3, dtype=np.float32)
    assert (placement.to_subject(model, 0.0).data == 3).all()


@pytest.mark.parametrize("offset", [(1000, 0, 0), (0, 0, -8.01), (0, 6.5, 0), (0, -6.5, 0)])
def test_visit_without_overlap_is_refused(offset: tuple[float, float, float]) -> None:
    first = Volume(noise(8, 8, 8), np.eye(4))
    placement = Placement.from_first_visit(
        first, Grid((4, 4, 4))
    )  # covers 2 to 5: a visit from 6.5 on does not overlap
    elsewhere = Volume(first.data, from_matvec(np.eye(3), offset))
    with pytest.raises(LongigenError, match=r"b\.nii \(subject s1\) does not overlap"):
        placement.to_model(elsewhere, 0.0, "b.nii", "s1")


def test_volume_of_another_shape_is_refused() -> None:
    placement = Placement.from_first_visit(oriented("RAS"), Grid((4, 4, 4)))
    with pytest.raises(ValueError, match="model's grid"):
        placement.to_subject(np.zeros((4, 4, 5)), 0.0)


def test_default_grid_contains_every_visit() -> None:
    def visit(*shape: int) -> Visit:
        return visit_of(lambda: oriented("RAS"), shape=(shape[0], shape[1], shape[2]), spacing=(1.0, 1.5, 2.0))

    subjects = [Subject("a", (visit(4, 9, 2), visit(5, 1, 1))), Subject("b", (visit(1, 1, 7),))]
    assert Grid.default(subjects) == Grid((5, 9, 7), None)
    assert Grid.default(subjects, (2.0, 1.0, 2.0)) == Grid((3, 14, 7), (2.0, 1.0, 2.0))
    with pytest.raises(LongigenError, match="there are no visits"):
        Grid.default([])


@pytest.mark.parametrize(
    ("shape", "spacing"), [((4, 4, 4), (-1.0, 1.0, 1.0)), ((4, 4, 4), (1.0, 0.0, 1.0)), ((4, 4, 4), (1.0, np.nan, 1.0))]
)
def test_grid_must_be_positive(shape: tuple[int, int, int], spacing: tuple[float, float, float] | None) -> None:
    with pytest.raises(LongigenError, match="positive"):
        Grid(shape, spacing)


def head(shape: tuple[int, int, int] = (24, 20, 16)) -> Volume:
    """A smooth bright blob off-centre, noise below a tenth around it, and one distant bright voxel."""
    places = np.moveaxis(np.indices(shape), 0, -1)
    data = 100 * np.exp(-((((places - [15, 8, 9]) / [4.0, 3.0, 2.0]) ** 2).sum(axis=-1) ** 2))
    data += np.random.default_rng(0).uniform(0, 5, shape)
    data[0, 0, 0] = 100
    return Volume(data.astype(np.float32), np.diag([2.0, 2.0, 4.0, 1.0]))


def test_foreground_box_is_centred_and_restored() -> None:
    volume = head()
    placement = Placement.from_first_visit(volume, Grid((12, 10, 8), box="foreground"))
    model = placement.to_model(volume, 0.0, "v", "s")
    bright = np.argwhere(model > 30)
    np.testing.assert_allclose((bright.min(axis=0) + bright.max(axis=0)) / 2, (np.array(model.shape) - 1) / 2, atol=0.5)
    assert (model > 30).sum() == (volume.data > 30).sum() - 1  # all of the blob, without the distant voxel
    back = placement.to_subject(model, -1.0)
    covered = back.data != -1
    assert covered.sum() == model.size
    np.testing.assert_array_equal(back.data[covered], volume.data[covered])


@pytest.mark.parametrize("box", ["image", "foreground"])
def test_resize_stretches_the_box_to_the_shape(box: Box) -> None:
    volume = Volume(world_line(OBLIQUE, (20, 16, 12)), OBLIQUE) if box == "image" else head()
    shape = (10, 16, 18)
    placement = Placement.from_first_visit(volume, Grid(shape, box=box, fit="resize"))
    own = voxel_sizes(volume.affine)
    if box == "image":
        np.testing.assert_allclose(voxel_sizes(placement.affine), own * [2, 1, 12 / 18])
        truth = world_line(placement.affine, shape)[1:-1, 1:-1, 1:-1]
        np.testing.assert_allclose(placement.to_model(volume, 0.0, "v", "s")[1:-1, 1:-1, 1:-1], truth, atol=0.02)
    else:
        model = placement.to_model(volume, 0.0, "v", "s")
        assert all((model > 7).any(axis=axes)[[0, -1]].all() for axes in [(1, 2), (0, 2), (0, 1)])  # edge to edge
    with pytest.raises(LongigenError, match="leave spacing out"):
        Grid(shape, (1.0, 1.0, 1.0), fit="resize")
    with pytest.raises(LongigenError, match="need a shape"):
        PreprocessSettings(fit="resize").pipeline([])


@pytest.mark.parametrize(
    "grid",
    [
        Grid((30, 26, 24), (1.6, 1.6, 2.6)),
        Grid((30, 26, 30), fit="resize"),
        Grid((30, 26, 30), box="foreground", fit="resize"),
    ],
    ids=["spacing", "resize", "foreground"],
)
def test_error_of_resampled_round_trip_is_bounded(grid: Grid) -> None:
    """The error of linear interpolation is at most h²/8 max|f″| per axis; of a round trip, twice the sum over axes."""
    places = np.moveaxis(np.indices((24, 20, 16)), 0, -1)
    scale = np.array([5.0, 4.0, 3.0])
    data = 100 * np.exp(-(((places - [12, 10, 8]) / scale) ** 2).sum(axis=-1) / 2)  # |f″| ≤ 100 / scale²
    volume = Volume(data.astype(np.float32), np.diag([2.0, 2.0, 4.0, 1.0]))
    placement = Placement.from_first_visit(volume, grid)
    back = placement.to_subject(placement.to_model(volume, 0.0, "v", "s"), 0.0)
    assert (back.affine == volume.affine).all()
    assert back.data.shape == volume.data.shape
    covered = placement.to_subject(np.ones(grid.shape, np.float32), -1.0).data == 1
    step = np.maximum(1.0, voxel_sizes(placement.affine) / voxel_sizes(volume.affine))
    bound = 2 * (step**2 / 8 * 100 / scale**2).sum()
    assert covered.sum() > 100
    assert np.abs(back.data - volume.data)[covered].max() < bound < 10
