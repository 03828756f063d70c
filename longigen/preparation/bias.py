"""The bias field of a visit: N4, with the visit's mean intensity kept."""

import numpy as np

from longigen.data.volume import Volume
from longigen.errors import LongigenError
from longigen.preparation.images import sitk_image

COARSE = 4.0
"""The field is estimated on voxels of about this size in mm."""

ITERATIONS = (50, 50, 50)
"""The most iterations at each level of the spline."""

CONVERGENCE = 1e-3
"""A level ends when the field changes by less, as the coefficient of variation; the default of ITK."""


NOTHING = "N4 found no bias field, since too little of a visit is above 0; look at its image, or choose --bias none."


def correct_bias(volume: Volume, mask: Volume | None) -> Volume:
    """Divide a visit by its bias field, estimated by N4 (Tustison et al., IEEE TMI 2010).

    The field is smooth, from a B-spline of 4 control points along each axis, and estimated on coarse voxels. It is
    scaled to a geometric mean of 1 where it was estimated, so that the scale of the visit's intensities stays.

    Args:
        volume: the visit.
        mask: where to estimate it, the brain, on the grid of the visit; None for the voxels above Otsu's threshold.

    Raises:
        LongigenError: if it cannot be estimated.
    """
    import SimpleITK as sitk

    image = sitk_image(volume)
    inside = sitk.OtsuThreshold(image, 0, 1) if mask is None else sitk.Cast(sitk_image(mask) > 0, sitk.sitkUInt8)
    inside = sitk.And(inside, sitk.Cast(image > 0, sitk.sitkUInt8))  # N4 works on logarithms
    where = sitk.GetArrayFromImage(inside).T > 0
    if not where.any():
        raise LongigenError(NOTHING)
    shrink = [
        min(max(1, round(COARSE / step)), max(1, size // 16))
        for step, size in zip(image.GetSpacing(), image.GetSize(), strict=True)
    ]
    coarse = sitk.BinShrink(image, shrink)
    corrector = sitk.N4BiasFieldCorrectionImageFilter()
    corrector.SetNumberOfThreads(1)
    corrector.SetMaximumNumberOfIterations(ITERATIONS)
    corrector.SetConvergenceThreshold(CONVERGENCE)
    try:
        corrector.Execute(coarse, sitk.Resample(inside, coarse, sitk.Transform(), sitk.sitkNearestNeighbor, 0))
        field = sitk.GetArrayFromImage(corrector.GetLogBiasFieldAsImage(image)).T
    except RuntimeError as error:
        raise LongigenError(NOTHING) from error
    return Volume((volume.data / np.exp(field - field[where].mean())).astype(np.float32), volume.affine, volume.form)
