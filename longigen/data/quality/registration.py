"""Whether the visits of a subject lie on each other: the rigid motion that brings a visit onto the first one.

It is estimated on small images, by Gauss-Newton steps on the difference of smoothed intensities from coarse to fine
(Lucas and Kanade 1981; inverse compositional as in Baker and Matthews, IJCV 2004), which takes a few hundredths of a
second. It only tells whether visits need registration; it is no registration.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from nibabel.affines import apply_affine, from_matvec, voxel_sizes
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

from longigen.data.intensity import without_padding
from longigen.data.volume import Volume

SIZE = 32
"""About how many voxels the small images have along their longest axis: 7 mm for a head."""

LEVELS = (3.0, 1.0)
"""Standard deviations of the smoothing, from coarse to fine, in voxels of the small image."""

STEPS = 12
"""The most Gauss-Newton steps at each level."""

TOLERANCE = 0.02
"""A step that moves no corner of the image by more than this share of a voxel is the last."""

DAMPING = 1e-3
"""Share of the mean curvature that is added to that of each parameter, so that what an image of few slices does not
determine stays 0."""

MIN_OVERLAP = 0.4
"""The smallest share of the first visit's small image that a visit must cover to be compared."""

MIN_VOXELS = 500
"""Two small images of fewer voxels look alike by chance, and are not compared."""

MAX_SHIFT_MM, MAX_SHIFT_VOXELS, MAX_ANGLE = 5.0, 2.0, 5.0
"""A visit is misplaced if it is shifted by more than the first two, or turned by more than the third, in degrees..."""

MAX_MISFIT = 0.45
"""... and moving it back leaves less than this share of what its correlation with the first visit lacks of 1.

The share is up to 0.02 for registered brains of real patients that were moved by 20 mm or 15°. Of 1476 pairs of frames
of 85 beating hearts, 37 exceed the other thresholds; the lowest share of these is 0.56.
"""


@dataclass(frozen=True, eq=False)
class SmallImage:
    """A volume averaged over blocks of voxels, to about `SIZE` of them along its longest axis.

    Attributes:
        data: (W, H, D), float32, axes in RAS order.
        affine: (4, 4), voxel index to mm.
        spacing: size of the volume's own voxels in mm, in RAS order.
    """

    data: np.ndarray
    affine: np.ndarray
    spacing: np.ndarray

    @classmethod
    def of(cls, volume: Volume) -> Self:
        """Average a volume over blocks."""
        orientation = io_orientation(volume.affine)
        data = apply_orientation(without_padding(volume).data, orientation)
        affine = volume.affine @ inv_ornt_aff(orientation, volume.data.shape)
        spacing = voxel_sizes(affine)
        step = max(np.array(data.shape) * spacing) / SIZE
        blocks = np.clip(np.rint(step / spacing).astype(int), 1, data.shape)
        for axis, block in enumerate(blocks):
            whole = data.shape[axis] // block * block
            data = np.take(data, range(whole), axis) if whole < data.shape[axis] else data
            data = np.add.reduceat(data, range(0, whole, block), axis) / np.float32(block)
        return cls(data, affine @ from_matvec(np.diag(blocks), (blocks - 1) / 2), spacing)


@dataclass(frozen=True)
class Motion:
    """A rigid motion of a visit relative to the first one.

    Attributes:
        shift: of the middle of the image, in mm.
        voxels: the largest shift along an axis, in voxels of the first visit.
        angle: of the rotation, in degrees.
        before: correlation of the two images as they lie, from -1 to 1.
        after: their correlation after the motion.

    ``str()`` of it is how the visit lies, in words.
    """

    shift: float
    voxels: float
    angle: float
    before: float
    after: float

    def __str__(self) -> str:
        return (
            f"lies {self.shift:.1f} mm and {self.angle:.0f}° from the first visit (moved back, their correlation rises "
            f"from {self.before:.2f} to {self.after:.2f})"
        )

    @property
    def is_misplaced(self) -> bool:
        """Whether the visit does not lie on the first one, beyond any change of anatomy."""
        moved = (self.shift > MAX_SHIFT_MM and self.voxels > MAX_SHIFT_VOXELS) or self.angle > MAX_ANGLE
        return moved and 1 - self.after < MAX_MISFIT * (1 - self.before)


def estimate_motion(first: SmallImage, visit: SmallImage) -> Motion | None:
    """Return the rigid motion that brings a visit onto the first one, or None if the two cannot be compared.

    Between scans of different contrast it is rarely found; the correlation then hardly rises.
    """
    if first.data.size < MIN_VOXELS:
        return None
    pair = _Pair(first, visit)
    before = pair.correlation(np.eye(4))
    apart = _centre(visit) - _centre(first)
    starts = [np.eye(4)]
    if np.linalg.norm(apart) > LEVELS[0] * pair.step:  # further than the smoothing reaches
        starts.append(from_matvec(np.eye(3), apart))
    found, after = np.eye(4), before
    for motion in starts:
        for level in LEVELS:
            motion = pair.refine(motion, level)
        correlation = pair.correlation(motion)
        if correlation > after:
            found, after = motion, correlation
    if after == -1:
        return None
    axes = first.affine[:3, :3] / voxel_sizes(first.affine)
    voxels = np.abs(np.linalg.solve(axes, found[:3, 3])) / first.spacing
    cosine = float(np.clip((np.trace(found[:3, :3]) - 1) / 2, -1, 1))
    angle = float(np.degrees(np.arccos(cosine)))
    return Motion(float(np.linalg.norm(found[:3, 3])), float(voxels.max()), angle, before, after)


class _Pair:
    """A first visit and another one; motions (4, 4) are in mm, about the middle of the first."""

    def __init__(self, first: SmallImage, visit: SmallImage) -> None:
        self.first, self.visit = first, visit
        self.step = float(np.median(voxel_sizes(first.affine)))
        places = apply_affine(first.affine, np.moveaxis(np.indices(first.data.shape), 0, -1).reshape(-1, 3))
        middle = places.mean(axis=0)
        self.points = places - middle
        self.radius = float(np.abs(self.points).max())
        self.to_visit = np.linalg.inv(visit.affine) @ from_matvec(np.eye(3), middle)
        self.finest = self.smoothed(LEVELS[-1])

    def smoothed(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the two images, smoothed by `level` voxels of the first one."""
        from scipy.ndimage import gaussian_filter

        first, visit = (
            gaussian_filter(image.data, level * self.step / voxel_sizes(image.affine), mode="nearest")
            for image in (self.first, self.visit)
        )
        return first, visit

    def sample(self, data: np.ndarray, motion: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the other visit's intensities at the moved points, and which of these are inside of it."""
        from scipy.ndimage import map_coordinates

        places = apply_affine(self.to_visit @ motion, points)
        inside = np.logical_and.reduce((places >= -0.5) & (places <= np.array(data.shape) - 0.5), axis=1)
        return map_coordinates(data, places.T, order=1, mode="nearest"), inside

    def correlation(self, motion: np.ndarray) -> float:
        """Return the correlation of the two where they overlap; -1 if that is too little, or one is constant there."""
        first, visit = self.finest
        seen, inside = self.sample(visit, motion, self.points)
        wanted, seen = first.ravel()[inside], seen[inside]
        if inside.mean() < MIN_OVERLAP or np.ptp(seen) == 0 or np.ptp(wanted) == 0:
            return -1.0
        return float(np.corrcoef(seen, wanted)[0, 1])

    def refine(self, motion: np.ndarray, level: float) -> np.ndarray:
        """Return a motion after Gauss-Newton steps on the two images, smoothed by `level` voxels."""
        first, visit = self.smoothed(level)
        every = (slice(None, None, max(1, round(level / 1.5))),) * 3  # a smooth image is known from every second voxel
        chosen = np.arange(first.size).reshape(first.shape)[every].ravel()
        fixed, points = first.ravel()[chosen], self.points[chosen]
        slopes = [np.gradient(first, axis=axis) if first.shape[axis] > 1 else np.zeros_like(first) for axis in range(3)]
        gradient = np.stack(slopes, -1).reshape(-1, 3)[chosen] @ np.linalg.inv(self.first.affine[:3, :3])
        jacobian = np.concatenate([gradient, np.cross(points, gradient) / self.radius], axis=1)
        for _ in range(STEPS):
            seen, inside = self.sample(visit, motion, points)
            if inside.mean() < MIN_OVERLAP:
                break
            rows, seen, wanted = (each[inside] - each[inside].mean(axis=0) for each in (jacobian, seen, fixed))
            power, curvature = float(np.vdot(seen, seen)), rows.T @ rows
            damping = DAMPING * np.trace(curvature) / 6
            if power == 0 or damping == 0:
                break
            residual = np.vdot(seen, wanted) / power * seen - wanted
            change = np.linalg.solve(curvature + damping * np.eye(6), rows.T @ residual)
            motion = motion @ np.linalg.inv(from_matvec(_rotation(change[3:] / self.radius), change[:3]))
            if np.abs(change[:3]).max() + np.abs(change[3:]).max() < TOLERANCE * self.step:
                break
        return motion


def _rotation(vector: np.ndarray) -> np.ndarray:
    """Return the rotation by a vector: about its direction, by its length in radians."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_rotvec(vector).as_matrix()


def _centre(image: SmallImage) -> np.ndarray:
    """Return the centre of mass of an image's intensities above the lowest, in mm."""
    from scipy.ndimage import center_of_mass

    return apply_affine(image.affine, np.array(center_of_mass(image.data - image.data.min() + 1e-12)))
