"""Visits that do not lie on each other are found, and changes that are no misplacement are not."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import zoom
from scipy.spatial.transform import Rotation

from longigen import Volume
from longigen.data.quality.registration import Motion, SmallImage, estimate_motion
from longigen_acdc import ACDCDataset
from longigen_bids import BIDSDataset
from longigen_simbrain import SimBrain
from longigen_simheart import SimHeart

Shift = tuple[float, float, float]


def moved(volume: Volume, shift: Shift = (0, 0, 0), degrees: float = 0, axis: int = 2) -> Volume:
    """Return a volume that is turned about its middle and shifted in mm; its voxels stay as they are."""
    middle = (volume.affine @ [*(np.array(volume.data.shape) - 1) / 2, 1])[:3]
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz"[axis], degrees, degrees=True).as_matrix()
    affine[:3, 3] = middle - affine[:3, :3] @ middle + shift
    return Volume(volume.data, affine @ volume.affine)


def motion(first: Volume, visit: Volume) -> Motion:
    found = estimate_motion(SmallImage.of(first), SmallImage.of(visit))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def brain() -> list[Volume]:
    """Return the first and the last visit of a simulated brain, which shrinks."""
    visits = SimBrain(subject_count=1).subjects()[0].visits
    return [visits[0].load(), visits[-1].load()]


@pytest.mark.parametrize(
    ("shift", "degrees", "axis"),
    [((20, 0, 0), 0, 0), ((0, -20, 0), 0, 0), ((0, 0, 20), 0, 0), ((0, 0, 8), 0, 0), ((30, 40, 0), 0, 0)]
    + [((0, 0, 0), 15, axis) for axis in range(3)]
    + [((10, -15, 5), 12, 1)],
)
def test_a_moved_visit_is_found(shift: Shift, degrees: float, axis: int, brain: list[Volume]) -> None:
    found = motion(brain[0], moved(brain[1], shift, degrees, axis))
    assert found.is_misplaced
    assert found.shift == pytest.approx(np.linalg.norm(shift), abs=1.5)
    assert found.angle == pytest.approx(degrees, abs=1.5)


def test_the_same_place_is_recognised_in_other_voxels_and_contrasts(brain: list[Volume]) -> None:
    first, last = brain
    data, affine = last.data, last.affine
    thick: np.ndarray = np.asarray(zoom(data, (1, 1, 0.5), order=1))
    turned = np.ascontiguousarray(data.transpose(2, 0, 1))
    lower = affine.copy()
    lower[:3, 3] += affine[:3, 2] * (data.shape[2] // 3)
    ramp = np.linspace(0.5, 1.5, data.shape[0], dtype=np.float32)[:, None, None]
    noise = np.random.default_rng(0).normal(0, 0.2 * data.max(), data.shape)
    others = {
        "as it is": last,
        "thick slices": Volume(thick, affine @ np.diag([1, 1, data.shape[2] / thick.shape[2], 1])),
        "other axes": Volume(turned, affine[:, [2, 0, 1, 3]]),
        "smaller field of view": Volume(data[..., data.shape[2] // 3 :], lower),
        "other contrast": Volume(np.sqrt(data - data.min()), affine),
        "inverted contrast": Volume(np.where(data > 0.05 * data.max(), data.max() - data, 0), affine),
        "uneven brightness": Volume(data * ramp, affine),
        "noise": Volume((data + noise).astype(np.float32), affine),
        "padding": Volume(np.where(np.arange(data.shape[0])[:, None, None] < 3, -32768, data), affine),
    }
    assert [name for name, visit in others.items() if motion(first, visit).is_misplaced] == []


def test_what_tells_nothing_is_not_compared() -> None:
    few = Volume(np.random.default_rng(0).random((9, 9, 3), dtype=np.float32), np.eye(4))
    assert estimate_motion(SmallImage.of(few), SmallImage.of(few)) is None
    draw = np.random.default_rng(0)
    many, other = (Volume(draw.random((20, 20, 20), dtype=np.float32), np.eye(4)) for _ in range(2))
    assert not motion(many, other).is_misplaced
    assert estimate_motion(SmallImage.of(many), SmallImage.of(moved(many, (500, 0, 0)))) is not None  # by its middle
    constant = Volume(np.ones((20, 20, 20), np.float32), np.eye(4))
    assert estimate_motion(SmallImage.of(constant), SmallImage.of(many)) is None


def test_a_beating_heart_lies_still_and_a_moved_one_does_not() -> None:
    first, *others = (visit.load() for visit in SimHeart(subject_count=1).subjects()[0].visits)
    assert not any(motion(first, visit).is_misplaced for visit in others)
    assert motion(first, moved(others[-1], (20, 0, 0))).is_misplaced
    assert motion(first, moved(others[-1], degrees=15)).is_misplaced


def test_real_patients_that_are_moved(shared: Path) -> None:
    for subject in BIDSDataset(path=shared / "ms_bids").subjects():
        first, last = (visit.load() for visit in subject.visits)
        assert not motion(first, last).is_misplaced
        assert motion(first, moved(last, (0, 20, 0))).is_misplaced
        assert motion(first, moved(last, degrees=15, axis=0)).is_misplaced
    hearts = [subject for subject in ACDCDataset(path=shared / "acdc").subjects() if subject.visits[0].spacing[2] > 1]
    found = []
    for subject in hearts[:10]:
        first, last = subject.visits[0].load(), subject.visits[-1].load()
        assert not motion(first, last).is_misplaced
        found.append(motion(first, moved(last, (20, 0, 0))).is_misplaced)
    assert sum(found) >= 9  # between end diastole and end systole
