"""SADM's published preprocessing of ACDC, which leaks later frames into earlier visits.

SADM's code (``ACDC_prepare.py`` of ubc-tea/SADM-Longitudinal-Medical-Image-Generation) resamples the frames from ED to
ES as one 4D array with ``scipy.ndimage.zoom`` to a grid of 128 × 128 × 32 voxels and 12 frames. This is interpolation
with cubic B-splines, whose coefficients along an axis depend on all samples of that axis (Unser, IEEE Signal Processing
Magazine 1999). So a visit between ED and ES is a weighted sum of all frames, including later ones.

The interpolation is linear and separable: along an axis of n samples it is a matrix (`spline`), so visit j is
Σₖ T[j, k] frame k, resampled in space. Here only the requested visit is computed; T contains the weight of each frame.

SADM's code also scales each visit to [0, 1] by its own minimum and maximum. That is left out, unless asked for
(`visits`): intensities are scaled by `longigen.data.preprocess` with one range per subject, since a change of intensity
between visits is signal.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates

from longigen import BadData, Finding, Visit, Volume
from longigen_acdc.series import Series, read_blend

GRID = (128, 128, 32)
FRAMES = 12

LEAK = (
    "SADM's preprocessing interpolates over time with cubic splines, so a visit between end diastole and end systole "
    "contains information of later frames unless the patient has exactly 12 frames: scores are affected by this leak."
)
OWN_RANGE = (
    "Each visit is scaled to [0, 1] by its own minimum and maximum, which hides changes of brightness between visits."
)


def visits(series: Series, *, own_range: bool = False) -> tuple[Visit, ...]:
    """Return the 12 visits of SADM's preprocessing of a series.

    The first is the frame of end diastole and the last that of end systole, resampled, so they have its label maps.

    Args:
        series: the frames.
        own_range: scale each visit to [0, 1] by its own minimum and maximum, as the published code does.

    Raises:
        BadData: if an axis of the frames has only one voxel, since it cannot be interpolated then.
    """
    if 1 in series.shape:
        problem = f"has shape {' × '.join(map(str, series.shape))}, which cannot be resampled to SADM's grid"
        advice = "remove the patient, or set protocol=longigen"
        raise BadData(Finding("dimensions", str(series.path), problem, advice, series.subject))
    frames = series.frames
    labels = {0: series.labels(0), FRAMES - 1: series.labels(len(frames) - 1)}
    return tuple(
        series.blend(
            j / (FRAMES - 1),
            partial(read_zoomed, series.path, series.subject, frames, tuple(map(float, weights)), own_range),
            zoomed_affine(series.affine, series.shape),
            GRID,
            f"SADM's visit {j + 1} of {FRAMES}",
            f"sadm {j} of {frames}{' by its own range' if own_range else ''}",
            labels.get(j),
        )
        for j, weights in enumerate(spline(len(frames), FRAMES))
    )


def read_zoomed(
    path: Path, subject: str, frames: Sequence[int], weights: Sequence[float], own_range: bool = False
) -> Volume:
    """Return the weighted sum of some frames, resampled to SADM's grid.

    With `own_range` it is then scaled to [0, 1] by its minimum and maximum; a constant volume becomes 0.

    Raises:
        BadData: if a frame cannot be read.
    """
    volume = read_blend(path, subject, frames, weights)
    data = volume.data
    for axis, size in enumerate(GRID):
        data = np.moveaxis(np.tensordot(spline(data.shape[axis], size), data, axes=(1, axis)), 0, axis)
    if own_range:
        low, span = data.min(), np.ptp(data)
        data = (data - low) / (span if span > 0 else 1)
    return replace(volume, data=data.astype(np.float32), affine=zoomed_affine(volume.affine, volume.data.shape))


def zoomed_affine(affine: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return the affine of SADM's grid for a volume; the centres of the corner voxels do not move."""
    steps = [(old - 1) / (new - 1) for old, new in zip(shape, GRID, strict=True)]
    return affine @ np.diag([*steps, 1.0])


@cache
def spline(size: int, target: int) -> np.ndarray:
    """Return the matrix (target, size) of cubic spline interpolation of `size` samples at `target` equidistant points.

    It equals ``zoom`` along one axis, except where rounding moves the last point of ``zoom`` beyond the last sample, so
    that it is 0 there, for example from 26 samples to 12.
    """
    points = np.linspace(0, size - 1, target)[None]
    matrix = np.stack([map_coordinates(unit, points, order=3, mode="mirror") for unit in np.eye(size)], axis=1)
    matrix.setflags(write=False)
    return matrix
