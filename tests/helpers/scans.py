"""Small scans of a head with structure in all directions, moved by known rigid motions."""

from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine, from_matvec
from scipy.spatial.transform import Rotation

from helpers.files import write_image

AFFINE = from_matvec(np.diag([4.0, 4, 4]), [-46.0, -50, -42])
SHAPE = (24, 26, 22)
BLOBS = 60
"""The number of Gaussians that the head is made of, but for its own shape."""


def motion(angles: tuple[float, float, float], shift: tuple[float, float, float]) -> np.ndarray:
    """Return the rigid matrix (4, 4) that turns by angles in degrees about the origin, and shifts by mm."""
    return from_matvec(Rotation.from_euler("xyz", angles, degrees=True).as_matrix(), shift)


def head(moved: np.ndarray | None = None, *, seed: int = 0, noise: float = 5.0, growth: float = 0.0) -> np.ndarray:
    """Return the head after a motion, computed at its voxels without any interpolation.

    Args:
        moved: the motion (4, 4) in mm.
        seed: of the noise.
        noise: its standard deviation; the head is as bright as 1000.
        growth: how much one of the blobs grows, in mm.
    """
    places = apply_affine(AFFINE, np.moveaxis(np.indices(SHAPE), 0, -1))
    places = apply_affine(np.linalg.inv(np.eye(4) if moved is None else moved), places)
    draw = np.random.default_rng(0)
    image = 600 * np.exp(-((places / (16, 21, 14)) ** 2).sum(axis=-1) / 2)
    for number in range(BLOBS):
        centre, width = draw.uniform((-20, -26, -18), (20, 26, 18)), draw.uniform(3.5, 7)
        wide = width + growth * (number == 0)
        image += draw.uniform(-300, 300) * np.exp(-((places - centre) ** 2).sum(axis=-1) / (2 * wide**2))
    image[image < 20] = 0
    return (image + noise * np.random.default_rng(seed).standard_normal(SHAPE) * (image > 0)).astype(np.float32)


def write_scan(path: Path, moved: np.ndarray | None = None, *, seed: int = 0) -> Path:
    """Write the head after a motion as NIfTI."""
    return write_image(path, head(moved, seed=seed), AFFINE)
