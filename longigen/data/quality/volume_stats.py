"""`VolumeStats`: geometry, intensity percentiles and a hash of a volume, and a thumbnail to compare volumes."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from nibabel.orientations import apply_orientation, io_orientation

from longigen.data.intensity import Padding, without_padding
from longigen.data.volume import Volume, voxel_digest

SAMPLE_VOXELS = 2**20
"""Percentiles of a larger volume are computed on a regular subsample of about this many voxels."""

THUMBNAIL_SIZE = 12
"""Voxels along each side of a thumbnail: enough to distinguish the brains of a registered cohort."""

LABEL_MASK_SHARE = 0.5
"""A volume of whole numbers is a label mask if more than this share of its voxels equal their neighbour. In scans of 8
bits it is less than a fifth."""


@dataclass(frozen=True, eq=False)
class VolumeStats:
    """Statistics of one volume, a few hundred bytes that are kept instead of its voxels.

    Attributes:
        shape: (W, H, D), as stored in the file.
        affine: (4, 4), voxel index to mm.
        dark: the 1st percentile of intensities.
        bright: the 10th, 50th and 90th percentile of the voxels brighter than the mean. A change of anatomy changes
            them by different factors, a change of gain by the same factor.
        constant: whether all voxels have the same intensity.
        labels: whether the volume looks like a label mask.
        digest: a hash of shape and voxels, as hexadecimal text, equal for volumes with identical voxels.
        padding: the padding value around the field of view, if there is one; the other statistics are without it.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    dark: float
    bright: tuple[float, float, float]
    constant: bool
    labels: bool
    digest: str
    padding: Padding | None = None

    @classmethod
    def from_volume(cls, volume: Volume) -> Self:
        """Compute the statistics of a volume."""
        data = without_padding(volume).data
        sample = _subsample(data)
        bright = sample[sample > sample.mean()]
        width, height, depth = data.shape
        tenth, middle, top = np.percentile(bright if bright.size else sample, (10, 50, 90))
        return cls(
            shape=(width, height, depth),
            affine=np.array(volume.affine, dtype=float),
            dark=float(np.percentile(sample, 1)),
            bright=(float(tenth), float(middle), float(top)),
            constant=bool(data.min() == data.max()),
            labels=_is_label_mask(data, sample),
            digest=voxel_digest(volume).hex(),
            padding=Padding.find(volume.data),
        )


def thumbnail(volume: Volume) -> np.ndarray:
    """Downsample a volume that is not constant to a cube, `THUMBNAIL_SIZE` voxels a side, float32, mean 0 and norm 1.

    Axes are permuted to RAS order, empty slices (only the darkest intensity) at the borders are cut off, and each voxel
    is the average of a block. So the thumbnail is nearly the same if the scan is stored with another data type,
    intensity scale, axis order, voxel size or margin.
    """
    data = apply_orientation(without_padding(volume).data, io_orientation(volume.affine))
    occupied = data > data.min()
    for axis in range(3):
        slices = np.flatnonzero(occupied.any(axis=tuple(other for other in range(3) if other != axis)))
        occupied = np.take(occupied, range(slices[0], slices[-1] + 1), axis)
        data = np.take(data, range(slices[0], slices[-1] + 1), axis)
    for axis in range(3):
        data = np.moveaxis(np.tensordot(_averaging_matrix(data.shape[axis]), data, (1, axis)), 0, axis)
    data = data - data.mean()
    return (data / max(float(np.linalg.norm(data)), np.finfo(np.float32).tiny)).astype(np.float32)


def _subsample(data: np.ndarray) -> np.ndarray:
    step = max(1, round((data.size / SAMPLE_VOXELS) ** (1 / 3)))
    return data[::step, ::step, ::step]


def _is_label_mask(data: np.ndarray, sample: np.ndarray) -> bool:
    """Return whether a volume has whole numbers in uniform regions, apart from the darkest intensity."""
    if (sample != np.rint(sample)).any():
        return False
    inside = data[1:] > data.min()
    return bool(inside.any()) and float((data[1:] == data[:-1])[inside].mean()) > LABEL_MASK_SHARE


def _averaging_matrix(size: int) -> np.ndarray:
    """Return the matrix (THUMBNAIL_SIZE, size) that averages an axis over `THUMBNAIL_SIZE` equal blocks."""
    edges = np.linspace(0, size, THUMBNAIL_SIZE + 1)
    voxels = np.arange(size)
    share = np.minimum(edges[1:, None], voxels + 1) - np.maximum(edges[:-1, None], voxels)
    return (np.clip(share, 0, None) * THUMBNAIL_SIZE / size).astype(np.float32)
