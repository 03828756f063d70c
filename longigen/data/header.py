"""What an image's header states wrongly, twice and differently, or not at all: size, position, left and right."""

from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
from nibabel.affines import apply_affine, voxel_sizes
from nibabel.analyze import AnalyzeHeader
from nibabel.orientations import aff2axcodes
from nibabel.spatialimages import HeaderDataError, SpatialImage

from longigen.data.issues import Finding
from longigen.data.volume import CORRECTIONS, image_affine

SIZE_TOLERANCE = 0.01
"""Voxel sizes that differ by a larger share contradict each other."""

POSITION_TOLERANCE = 0.5
"""Two affines that place a corner of the image this many voxels apart contradict each other."""


def contradictions(image: SpatialImage, path: Path, subject: str) -> tuple[Finding, ...]:
    """Return a warning for each fact that a header states wrongly, in two ways, or not at all, with what is used.

    The affine is the sform if its code is not 0, else the qform with the voxel size of ``pixdim``, as in nibabel and
    ITK. An sform and a qform with different codes may differ, since they lead to different spaces, but not in which
    side is left.
    """
    return tuple(
        Finding(kind, str(path), problem, advice, subject, "warning")
        for kind, problem, advice in _contradictions(image)
    )


def _contradictions(image: SpatialImage) -> Iterator[tuple[str, str, str]]:
    """Yield the kind, problem and advice of each contradiction."""
    header, affine = image.header, image_affine(image)
    for correction in image.extra.get(CORRECTIONS, ()):
        problem = f"has a header that is read otherwise than it is written ({correction})"
        yield "corrected-header", problem, "correct it, or write the file again with the program that made it"
    if not isinstance(header, AnalyzeHeader):
        return
    codes = (
        (int(header["sform_code"]), int(header["qform_code"])) if isinstance(header, nibabel.Nifti1Header) else (0, 0)
    )
    if codes == (0, 0):
        axes = "".join(map(str, aff2axcodes(affine)))
        problem = f"states no orientation, so left and right are a guess: its axes are taken as {axes}"
        yield "no-orientation", problem, "convert it again from DICOM, or write its affine with a form code"
    if not isinstance(header, nibabel.Nifti1Header) or not codes[0]:
        return
    sizes, stated = voxel_sizes(affine), np.abs(header["pixdim"][1:4].astype(float))
    if not np.allclose(sizes, stated, rtol=SIZE_TOLERANCE, atol=0):
        by_sform, by_pixdim = (" × ".join(f"{size:.4g}" for size in each) for each in (sizes, stated))
        problem = f"has voxels of {by_sform} mm by its sform and of {by_pixdim} by pixdim; the sform is used"
        yield "two-voxel-sizes", problem, "write the true size into both"
    elif codes[1]:
        try:
            qform = header.get_qform()
        except (HeaderDataError, ValueError):
            yield "two-affines", "has a qform that is no rotation; the sform is used", "write one affine into both"
            return
        corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(image.shape[:3]) - 1)
        apart = np.linalg.norm(apply_affine(affine, corners) - apply_affine(qform, corners), axis=1).max()
        if np.linalg.det(affine[:3, :3]) * np.linalg.det(np.asarray(qform)[:3, :3]) < 0:
            problem = "has a qform and an sform that disagree on left and right; the sform is used"
        elif codes[0] == codes[1] and apart > POSITION_TOLERANCE * sizes.min():
            problem = f"has a qform and an sform that place it up to {apart:.3g} mm apart; the sform is used"
        else:
            return
        yield "two-affines", problem, "find out which is right, and write it into both"
