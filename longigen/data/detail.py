"""Change a visit in its own space: its own voxels, moved and changed as the model says on its coarser grid."""

import numpy as np
from nibabel.affines import apply_affine

from longigen.data.grid import Placement
from longigen.data.volume import Volume

FADE = 6
"""Voxels of the model's grid over which movement and change fade to zero towards a face inside the visit; at most an
eighth of the grid."""


def changed(own: Volume, placement: Placement, change: np.ndarray, displacement: np.ndarray | None) -> np.ndarray:
    """Return a visit's own voxels, moved along a displacement and with a change added; as stored, (W, H, D) float32.

    Where the model says nothing, that is outside of its grid or where displacement and change are zero, a voxel keeps
    its value exactly. Towards faces of the grid that lie inside the visit, both fade to zero: otherwise there would be
    a seam.

    Args:
        own: the visit, as it is stored.
        placement: the position of the model's grid in the subject's space.
        change: what is added (W, H, D), on the model's grid, in the visit's intensities; it is interpolated linearly.
        displacement: u (3, W, H, D), in voxels of the model's grid: what is at p comes from p + u(p). It is
            interpolated linearly, and the visit's voxels are then sampled once by a cubic spline. None moves nothing.
    """
    weight = _fade(placement, own)
    change = weight * change
    data = own.data if displacement is None else _moved(own, placement, weight * displacement)
    return data + placement.to_visit(change, 0.0, own) if change.any() else data


def _fade(placement: Placement, own: Volume) -> np.ndarray:
    """Return weights (W, H, D) from 0 to 1: 1, but lower near a face of the grid that lies inside the visit."""
    weight = np.ones(placement.shape, np.float32)
    to_own, middle = np.linalg.inv(own.affine) @ placement.affine, (np.array(placement.shape) - 1) / 2
    last = np.array(own.data.shape) - 1
    for axis, size in enumerate(placement.shape):
        for outside, distance in ((-1, np.arange(size)), (size, np.arange(size)[::-1])):
            beyond = middle.copy()
            beyond[axis] = outside
            place = apply_affine(to_own, beyond)
            if (place > -0.5).all() and (place < last + 0.5).all():
                width = min(FADE, size // 8)
                ramp = np.clip((distance + 1) / (width + 1), 0, 1).astype(np.float32)
                weight *= np.moveaxis(ramp[:, None, None], 0, axis)
    return weight


def _moved(own: Volume, placement: Placement, displacement: np.ndarray) -> np.ndarray:
    from scipy.ndimage import map_coordinates  # slow to import

    if not displacement.any():
        return own.data
    field = np.stack([placement.to_visit(component, 0.0, own) for component in displacement])
    moves = (field != 0).any(axis=0)
    # A displacement is a difference of places, so only the linear part of the mapping between the grids applies.
    to_own = (np.linalg.inv(own.affine) @ placement.affine)[:3, :3]
    places = np.argwhere(moves).T + to_own @ field[:, moves].astype(np.float64)
    data = own.data.copy()
    data[moves] = map_coordinates(own.data, places, output=np.float32, order=3, mode="nearest")
    return data
