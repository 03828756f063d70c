"""Registration midway between visits: known motions are found, no visit is favoured, and failures are said."""

from dataclasses import replace

import numpy as np
import pytest
from nibabel.affines import apply_affine
from scipy.ndimage import affine_transform

from helpers.scans import AFFINE, SHAPE, head, motion
from longigen import LongigenError, Volume, open_dataset, read_volume
from longigen.data.grid import to_canonical
from longigen.preparation.registration import register_midway
from longigen.preparation.rigid import shift_and_angle

MOTION = motion((4, -3, 5), (-4, 5, 3))
MIDDLE = apply_affine(AFFINE, (np.array(SHAPE) - 1) / 2)


def scan(moved: np.ndarray | None = None, seed: int = 0) -> Volume:
    return Volume(head(moved, seed=seed), AFFINE)


def moved_volume(volume: Volume, motion: np.ndarray, noise: float, seed: int) -> Volume:
    """Return a volume after a motion of its space, interpolated by SciPy's splines, with noise."""
    mapping = np.linalg.inv(volume.affine) @ np.linalg.inv(motion) @ volume.affine
    data = affine_transform(volume.data, mapping[:3, :3], mapping[:3, 3], order=3)
    noisy = data + noise * np.random.default_rng(seed).standard_normal(data.shape)
    return replace(volume, data=np.maximum(noisy, 0).astype(np.float32))


def test_a_known_motion_is_found_and_halved() -> None:
    found = register_midway([scan(), scan(MOTION, seed=1)], [None, None])
    first, second = found.transforms
    error = np.linalg.inv(MOTION) @ np.linalg.inv(second) @ first
    shift, angle = shift_and_angle(error, MIDDLE)
    assert shift < 0.3
    assert angle < 0.3
    np.testing.assert_allclose(first @ second, np.eye(4), atol=1e-6)  # each goes half of the way
    assert max(found.disagreements) < 0.3


def test_the_order_of_visits_does_not_matter() -> None:
    visits = [scan(), scan(MOTION, seed=1), scan(motion((-3, 0, 2), (1, 3, -5)), seed=2)]
    forward, backward = (register_midway(each, [None] * 3).transforms for each in (visits, visits[::-1]))
    for first, second in zip(forward, backward[::-1], strict=True):
        np.testing.assert_allclose(first, second, atol=1e-6)
    middle = np.mean([apply_affine(each, MIDDLE) for each in forward], axis=0)
    np.testing.assert_allclose(middle, MIDDLE, atol=0.3)  # the mean of the three shifts is 0


def check_motion_is_found(volume: Volume, moved: np.ndarray) -> None:
    """Check that a motion is found within 0.3 mm and 0.3°, with noise of 3 % in both volumes."""
    noise = 0.03 * float(np.percentile(volume.data, 99))
    pair = [moved_volume(volume, np.eye(4), noise, 1), moved_volume(volume, moved, noise, 2)]
    one, two = register_midway(pair, [None, None]).transforms
    middle = apply_affine(volume.affine, (np.array(volume.data.shape) - 1) / 2)
    shift, angle = shift_and_angle(np.linalg.inv(moved) @ np.linalg.inv(two) @ one, middle)
    assert shift < 0.3
    assert angle < 0.3


def test_the_motion_of_a_brain_is_found() -> None:
    brain = open_dataset("sim-brain", spacing=4, subject_count=1, seed=1)
    subject = brain.subjects()[0]
    check_motion_is_found(to_canonical(subject.visits[0].read(subject.id)), MOTION)


def test_a_mask_says_what_is_compared() -> None:
    """A bright thing outside of the mask moves otherwise than the head."""
    first, second = scan(), scan(MOTION, seed=1)
    mask = Volume((first.data > 150).astype(np.float32), AFFINE)
    for volume, place in ((first, 1), (second, 4)):
        volume.data[place : place + 3, 2:7, 2:5] = 3000
    masked = register_midway([first, second], [mask, Volume((head(MOTION) > 150).astype(np.float32), AFFINE)])
    plain = register_midway([first, second], [None, None])
    errors = [
        shift_and_angle(np.linalg.inv(MOTION) @ np.linalg.inv(found.transforms[1]) @ found.transforms[0], MIDDLE)[0]
        for found in (masked, plain)
    ]
    assert errors[0] < 0.3 < errors[1]


def test_visits_far_apart_are_found_by_their_centres_of_mass() -> None:
    far = np.eye(4)
    far[:3, 3] = (0, 400, -60)
    found = register_midway([scan(), Volume(head(seed=1), far @ AFFINE)], [None, None])
    one, two = found.transforms
    assert shift_and_angle(np.linalg.inv(far) @ np.linalg.inv(two) @ one, MIDDLE)[0] < 0.3


def test_visits_that_cannot_be_registered_are_refused() -> None:
    empty = Volume(np.eye(4, dtype=np.float32)[:, :, None], np.diag([1e-3, 1e-3, 1e-3, 1]))
    with pytest.raises(LongigenError, match="cannot be registered to each other"):
        register_midway([scan(), empty], [Volume(np.zeros(SHAPE, dtype=np.float32), AFFINE), None])
    with pytest.raises(LongigenError, match="same value everywhere"):
        register_midway([scan(), Volume(np.zeros(SHAPE, dtype=np.float32), AFFINE)], [None, None])


def test_a_single_visit_stays() -> None:
    (only,) = register_midway([scan()], [None]).transforms
    np.testing.assert_array_equal(only, np.eye(4))


@pytest.mark.slow
@pytest.mark.parametrize(
    "moved", [motion((5, 0, 0), (0, 5, 0)), motion((2, -3, 4), (3, -2, 1)), motion((-4, 3, -5), (-5, 5, 5))]
)
def test_the_motion_of_a_real_head_is_found(moved: np.ndarray, shared: object) -> None:
    volume = to_canonical(read_volume(shared / "ixi" / "IXI012-HH-1211-T1_ds.nii.gz", "IXI012"))  # type: ignore[operator]
    check_motion_is_found(volume, moved)
