"""Random volumes in any orientation."""

import nibabel
import numpy as np
from nibabel.affines import from_matvec
from nibabel.orientations import axcodes2ornt, inv_ornt_aff
from scipy.spatial.transform import Rotation

from longigen import Volume

OBLIQUE = from_matvec(
    Rotation.from_euler("zyx", [0.2, -0.1, 0.3]).as_matrix() @ np.diag([1.0, 1.5, 2.0]), [-30.0, 12.0, 7.0]
)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-20, 100, shape).astype(np.float32)


def oriented(code: str, shape: tuple[int, int, int] = (7, 8, 5), seed: int = 0) -> Volume:
    """A volume with the axis codes `code` and an oblique affine."""
    affine = OBLIQUE @ np.linalg.inv(inv_ornt_aff(axcodes2ornt(tuple(code)), shape))
    assert "".join(nibabel.aff2axcodes(affine)) == code
    return Volume(noise(*shape, seed=seed), affine)
