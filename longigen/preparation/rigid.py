"""Rigid transforms as matrices (4, 4) in mm and RAS: their mean, their distance, and ITK's form of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from nibabel.affines import apply_affine, from_matvec

if TYPE_CHECKING:
    from SimpleITK import Transform

TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From the axes of NIfTI (right, anterior, superior) to those of ITK (left, posterior, superior), and back."""

HEAD_RADIUS = 80.0
"""Radius in mm of the sphere over which `deviation` is taken: that of a head."""

TOLERANCE, STEPS = 1e-10, 50
"""A mean is found when its step is smaller, in mm and radians; it takes about five steps."""


def mean_transform(transforms: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Return the weighted mean of rigid transforms (4, 4), the barycentre of their group.

    It is the M with Σ w log(M⁻¹ T) = 0 (Pennec and Arsigny, Exponential barycenters, 2012). Of two transforms with
    equal weights it is halfway between them; the mean of the inverses is the inverse of the mean; and it does not
    depend on the origin or the axes of the coordinates.

    Args:
        transforms: rigid transforms that are less than a half turn apart.
        weights: of each, positive; they are scaled to the sum 1.
    """
    from scipy.linalg import expm, logm

    shares = np.asarray(weights) / np.sum(weights)
    mean = np.array(transforms[0], dtype=np.float64)
    for _ in range(STEPS):
        inverse = np.linalg.inv(mean)
        step = sum(share * np.real(logm(inverse @ each)) for share, each in zip(shares, transforms, strict=True))
        mean = mean @ expm(step)
        if np.abs(step).max() < TOLERANCE:
            break
    return mean


def deviation(transform: np.ndarray, centre: np.ndarray) -> float:
    """Return the root mean square distance in mm by which a rigid transform moves the points of a head.

    That is over a sphere of `HEAD_RADIUS` (Jenkinson, Measuring transformation error by RMS deviation, 1999).

    Args:
        transform: the transform (4, 4).
        centre: the centre of the sphere (3,), in mm.
    """
    change = transform[:3, :3] - np.eye(3)
    shift = apply_affine(transform, centre) - centre
    return float(np.sqrt(HEAD_RADIUS**2 / 5 * np.trace(change.T @ change) + shift @ shift))


def shift_and_angle(transform: np.ndarray, centre: np.ndarray) -> tuple[float, float]:
    """Return how far a rigid transform moves a point (3,), in mm, and by how many degrees it turns."""
    from scipy.spatial.transform import Rotation

    shift = np.linalg.norm(apply_affine(transform, centre) - centre)
    return float(shift), float(np.degrees(Rotation.from_matrix(transform[:3, :3]).magnitude()))


def to_itk(transform: np.ndarray, centre: np.ndarray | None = None) -> "Transform":
    """Return a rigid transform (4, 4) as ITK's, which turns about `centre` (3,), by default about the origin."""
    import SimpleITK as sitk

    matrix = TO_LPS @ transform @ TO_LPS
    about = TO_LPS[:3, :3] @ (np.zeros(3) if centre is None else centre)
    rigid = sitk.VersorRigid3DTransform()
    rigid.SetCenter(about.tolist())
    rigid.SetMatrix(matrix[:3, :3].ravel().tolist(), 1e-6)
    rigid.SetTranslation((apply_affine(matrix, about) - about).tolist())
    return rigid


def from_itk(transform: Any) -> np.ndarray:
    """Return the matrix (4, 4) of a rigid transform of ITK."""
    matrix, centre = np.array(transform.GetMatrix()).reshape(3, 3), np.array(transform.GetCenter())
    shift = centre + np.array(transform.GetTranslation()) - matrix @ centre
    return TO_LPS @ from_matvec(matrix, shift) @ TO_LPS
