"""The preprocessing that SADM was published with, leak included.

Its code (``ACDC_prepare.py`` of ubc-tea/SADM-Longitudinal-Medical-Image-Generation) takes the frames from ED to ES as
one 4D array and gives it to ``scipy.ndimage.zoom`` for a grid of 128 × 128 × 32 voxels and 12 frames. That interpolates
with cubic B-splines, whose coefficients along an axis depend on all samples of that axis (Unser, IEEE Signal Processing
Magazine 1999). A visit between ED and ES is therefore a sum of all frames, the later ones included.

The interpolation is linear and separable: along an axis of n samples it is a matrix (`spline`), so that visit j is
Σₖ T[j, k] frame k, zoomed in space. Nothing but that visit is computed, and T says how much of each frame is in it.

The code goes on to bring each frame to [0, 1] by its own minimum and maximum. That is left out: here intensities are
`longigen.data.preprocess`'s, with one range per subject, since a change of intensity between visits is signal.
"""

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates

from longigen import BadData, Finding, Visit, Volume
from longigen_acdc.series import Series, read_blend

GRID = (128, 128, 32)
FRAMES = 12

CAUTION = (
    "SADM's preprocessing interpolates over time with cubic splines, so a visit between end diastole and end systole "
    "holds something of later frames unless the patient has just 12 of them: models are scored on data that leak."
)


def visits(series: Series) -> tuple[Visit, ...]:
    """Return the 12 visits that SADM's preprocessing makes of a series.

    Raises:
        BadData: if a frame is but one voxel thick, since the grid's corners are then one point.
    """
    if 1 in series.shape:
        problem = f"has shape {' × '.join(map(str, series.shape))}, which SADM's grid cannot be laid over"
        advice = "remove the patient, or set protocol=longigen"
        raise BadData(Finding("dimensions", str(series.path), problem, advice, series.subject))
    frames = series.frames
    return tuple(
        series.blend(
            j / (FRAMES - 1),
            partial(read_zoomed, series.path, series.subject, frames, tuple(map(float, weights))),
            zoomed_affine(series.affine, series.shape),
            GRID,
            f"SADM's visit {j + 1} of {FRAMES}",
            f"sadm {j} of {frames}",
        )
        for j, weights in enumerate(spline(len(frames), FRAMES))
    )


def read_zoomed(path: Path, subject: str, frames: Sequence[int], weights: Sequence[float]) -> Volume:
    """Return the weighted sum of some frames, on SADM's grid.

    Raises:
        BadData: as `read_blend`.
    """
    volume = read_blend(path, subject, frames, weights)
    data = volume.data
    for axis, size in enumerate(GRID):
        data = np.moveaxis(np.tensordot(spline(data.shape[axis], size), data, axes=(1, axis)), 0, axis)
    return Volume(data.astype(np.float32), zoomed_affine(volume.affine, volume.data.shape))


def zoomed_affine(affine: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return the affine of SADM's grid over a volume: the centres of the corner voxels stay where they are."""
    steps = [(old - 1) / (new - 1) for old, new in zip(shape, GRID, strict=True)]
    return affine @ np.diag([*steps, 1.0])


@cache
def spline(size: int, target: int) -> np.ndarray:
    """Return cubic spline interpolation of `size` samples at `target` equidistant places, a matrix (target, size).

    It is what ``zoom`` does along one axis, but where its rounding carries the last place beyond the last sample and
    leaves it 0, as from 26 samples to 12.
    """
    places = np.linspace(0, size - 1, target)[None]
    matrix = np.stack([map_coordinates(unit, places, order=3, mode="mirror") for unit in np.eye(size)], axis=1)
    matrix.setflags(write=False)
    return matrix
