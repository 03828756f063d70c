"""Volumes as images of SimpleITK and back; its axes are left, posterior and superior, and its arrays reversed."""

from typing import TYPE_CHECKING

import numpy as np
from nibabel.affines import voxel_sizes

from longigen.data.volume import Volume
from longigen.errors import LongigenError
from longigen.preparation.rigid import TO_LPS
from longigen.utils.optional import optional_import

if TYPE_CHECKING:
    from SimpleITK import Image

SHEAR = 1e-3
"""Axes at right angles have a stretch of 1, but for the rounding of a header by as much."""

ALIGNED = 2
"""The code of NIfTI for coordinates that are aligned to another image."""


def require_simpleitk() -> None:
    """Check that SimpleITK is installed.

    Raises:
        LongigenError: if it is not.
    """
    optional_import("SimpleITK", "longigen prepare", extra="prepare")


def sitk_image(volume: Volume) -> "Image":
    """Return a volume as an image of SimpleITK, float32.

    Raises:
        LongigenError: if the axes of the volume are not at right angles, which ITK cannot describe.
    """
    import SimpleITK as sitk

    affine = TO_LPS @ volume.affine
    sizes = voxel_sizes(affine)
    left, stretch, right = np.linalg.svd(affine[:3, :3] / sizes)
    if np.abs(stretch - 1).max() > SHEAR:
        raise LongigenError(
            "The affine of one of its images is sheared, as of a tilted gantry, which SimpleITK cannot describe; "
            "resample the image to axes at right angles first."
        )
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.data.T, dtype=np.float32))
    image.SetSpacing(sizes.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((left @ right).ravel().tolist())
    return image


def volume_of(image: "Image", affine: np.ndarray) -> Volume:
    """Return an image of SimpleITK as a volume with a given affine (4, 4)."""
    import SimpleITK as sitk

    return Volume(np.ascontiguousarray(sitk.GetArrayFromImage(image).T.astype(np.float32)), affine, ALIGNED)
