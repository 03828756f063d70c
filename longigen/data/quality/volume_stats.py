"""The vitals of a visit: what is kept of a volume once it has been read, a few hundred bytes."""

import hashlib
from dataclasses import dataclass
from typing import Self

import numpy as np
from nibabel.orientations import apply_orientation, io_orientation

from longigen.data.volume import Volume

SAMPLE = 2**20
"""Percentiles of a volume of more voxels than this are taken of a lattice of about as many."""

THUMBNAIL = 12
"""Voxels along each side of a thumbnail: enough to tell the brains of a registered cohort apart."""

FLAT = 0.5
"""A volume of whole numbers is a label mask where more than this share of its voxels equal their neighbour. Scans of
8 bits stay below a fifth."""


@dataclass(frozen=True, eq=False)
class VolumeStats:
    """What is kept of a visit.

    Attributes:
        shape: of the voxels as they were read.
        affine: (4, 4), voxel index to mm.
        dark: the intensity of the darkest hundredth.
        bright: the percentiles 10, 50 and 90 of what is brighter than the mean. Anatomy that changes moves them apart;
            another gain moves all three.
        constant: whether all voxels have one intensity.
        labels: whether it looks like a label mask.
        digest: of shape and voxels: two visits are the same voxel by voxel if theirs are.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    dark: float
    bright: tuple[float, float, float]
    constant: bool
    labels: bool
    digest: bytes

    @classmethod
    def of(cls, volume: Volume) -> Self:
        """Take the vitals of a volume."""
        data = volume.data
        sample = _lattice(data)
        bright = sample[sample > sample.mean()]
        digest = hashlib.blake2b(repr(data.shape).encode(), digest_size=16)
        digest.update(np.ravel(data.astype(np.float32, copy=False), order="F").data)
        width, height, depth = data.shape
        tenth, middle, top = np.percentile(bright if bright.size else sample, (10, 50, 90))
        return cls(
            shape=(width, height, depth),
            affine=np.array(volume.affine, dtype=float),
            dark=float(np.percentile(sample, 1)),
            bright=(float(tenth), float(middle), float(top)),
            constant=bool(data.min() == data.max()),
            labels=_labels(data, sample),
            digest=digest.digest(),
        )


def thumbnail(volume: Volume) -> np.ndarray:
    """Return a small copy of a volume that is not constant, `THUMBNAIL` voxels a side, float32, of mean 0 and length 1.

    Axes are in RAS order; slices of nothing but the darkest intensity are cut off first, and each voxel is the average
    of a block. So it is (nearly) the same for the same scan in another type, scale of intensities, order of axes or
    size of voxels, or with another margin around it.
    """
    data = apply_orientation(volume.data, io_orientation(volume.affine))
    seen = data > data.min()
    for axis in range(3):
        kept = np.flatnonzero(seen.any(axis=tuple(other for other in range(3) if other != axis)))
        seen = np.take(seen, range(kept[0], kept[-1] + 1), axis)
        data = np.take(data, range(kept[0], kept[-1] + 1), axis)
    for axis in range(3):
        data = np.moveaxis(np.tensordot(_blocks(data.shape[axis]), data, (1, axis)), 0, axis)
    data = data - data.mean()
    return (data / max(float(np.linalg.norm(data)), np.finfo(np.float32).tiny)).astype(np.float32)


def _lattice(data: np.ndarray) -> np.ndarray:
    step = max(1, round((data.size / SAMPLE) ** (1 / 3)))
    return data[::step, ::step, ::step]


def _labels(data: np.ndarray, sample: np.ndarray) -> bool:
    """Say whether a volume is whole numbers in flat patches, its darkest intensity left out."""
    if (sample != np.rint(sample)).any():
        return False
    inside = data[1:] > data.min()
    return bool(inside.any()) and float((data[1:] == data[:-1])[inside].mean()) > FLAT


def _blocks(size: int) -> np.ndarray:
    """Return the averages over `THUMBNAIL` equal blocks of an axis, a matrix (THUMBNAIL, size)."""
    edges = np.linspace(0, size, THUMBNAIL + 1)
    voxels = np.arange(size)
    share = np.minimum(edges[1:, None], voxels + 1) - np.maximum(edges[:-1, None], voxels)
    return (np.clip(share, 0, None) * THUMBNAIL / size).astype(np.float32)
