"""A volume on disk and in memory: reading it suspiciously."""

import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import io_orientation
from nibabel.spatialimages import HeaderDataError, SpatialImage

from longigen.errors import LongigenError
from longigen.files import atomic, reason

MAX_VOXELS = 2**31
"""A header that claims more voxels than this is refused before anything is allocated."""

DEFLATE_LIMIT = 1032
"""No gzip stream holds more than this many bytes per byte of the file."""

UNREADABLE = (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, zlib.error)
"""What nibabel, gzip and zlib raise for a broken file."""


@dataclass(frozen=True)
class Volume:
    """A 3D image: `data` (W, H, D), float32, and its `affine` (4, 4), voxel index to millimetres in RAS."""

    data: np.ndarray
    affine: np.ndarray

    @property
    def image(self) -> nibabel.Nifti1Image:
        """The volume as a NIfTI image, float32."""
        return nibabel.Nifti1Image(self.data.astype(np.float32, copy=False), self.affine)


def open_image(path: Path, subject: str) -> SpatialImage:
    """Open an image by its header, reading no voxels.

    Raises:
        LongigenError: if it is not there, is no image of real numbers, has a broken header, claims more than
            `MAX_VOXELS`, or is too short for what its header claims.
    """
    name = f"{path} (subject {subject})"
    try:
        image = nibabel.load(path)
    except FileNotFoundError:
        raise LongigenError(f"{name} does not exist or may not be read; correct its path.") from None
    except UNREADABLE as error:
        raise LongigenError(f"{name} cannot be opened as an image ({reason(error)}); replace or remove it.") from None
    if not isinstance(image, SpatialImage):
        raise LongigenError(f"{name} is not a volume; longigen reads NIfTI images.")
    if not all(size > 0 for size in image.shape) or math.prod(image.shape) > MAX_VOXELS:
        raise LongigenError(
            f"{name} claims {_times(image.shape)} voxels, none or more than longigen reads; its header is probably "
            "broken: copy it again or remove it."
        )
    if image.get_data_dtype().kind not in "biuf":
        raise LongigenError(f"{name} holds {image.get_data_dtype()} voxels; longigen reads one real number per voxel.")
    if image.affine is None or not _invertible(image.affine):
        raise LongigenError(f"{name} has an affine that cannot be inverted, so its voxels lie nowhere; correct it.")
    _check_length(image, name)
    return image


def spatial_shape(image: SpatialImage, path: Path, subject: str, frame: int | None = None) -> tuple[int, int, int]:
    """Return the shape of an image that is 3D, or of one frame (from 0) of a 4D one, as it lies in the file.

    Raises:
        LongigenError: if it is neither.
    """
    name = f"{path} (subject {subject})"
    shape = tuple(size for axis, size in enumerate(image.shape) if axis < 3 or size > 1)
    if frame is None and len(shape) != 3:
        advice = "name one of its frames in a 'frame' column" if len(image.shape) == 4 else "replace or remove it"
        raise LongigenError(
            f"{name} is {len(image.shape)}D, {_times(image.shape)}, where a 3D volume is needed; {advice}."
        )
    if frame is not None and (len(image.shape) != 4 or not 0 <= frame < image.shape[3]):
        raise LongigenError(
            f"{name} has shape {_times(image.shape)} and no frame {frame}; frames count from 0 in a 4D image."
        )
    width, height, depth = image.shape[:3]
    return width, height, depth


def canonical_shape(affine: np.ndarray, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return a volume's shape once its axes are permuted to RAS."""
    width, height, depth = (size for _, size in sorted(zip(io_orientation(affine)[:, 0], shape, strict=True)))
    return width, height, depth


def read_volume(path: Path, subject: str, frame: int | None = None) -> Volume:
    """Read a 3D image, or one frame (from 0) of a 4D one.

    Raises:
        LongigenError: as `open_image` and `spatial_shape`; if it is truncated, or holds NaN or infinity.
    """
    image = open_image(path, subject)
    shape = spatial_shape(image, path, subject, frame)
    try:
        proxy = image.dataobj if frame is None else image.dataobj[..., frame]
        data = np.asarray(proxy, dtype=np.float32).reshape(shape)
    except UNREADABLE as error:
        raise LongigenError(
            f"{path} (subject {subject}) is truncated or damaged ({reason(error)}); copy it again or remove it."
        ) from None
    bad = int(data.size - np.isfinite(data).sum())
    if bad:
        raise LongigenError(
            f"{path} (subject {subject}) holds {bad} NaN or infinite voxels; replace them, or remove the visit."
        )
    assert image.affine is not None
    return Volume(data, np.asarray(image.affine, dtype=np.float64))


def write_volume(volume: Volume, path: Path, description: str) -> None:
    """Write a volume as NIfTI, atomically; `description` (at most 79 characters) goes to the header."""
    image = volume.image
    image.header["descrip"] = description.encode("ascii", "replace")[:79]
    image.header.set_xyzt_units("mm")
    image.set_sform(volume.affine, code="scanner")
    image.set_qform(volume.affine, code="scanner", strip_shears=True)
    with atomic(path) as part:
        nibabel.save(image, part)


def _check_length(image: SpatialImage, name: str) -> None:
    """Refuse a file that cannot hold the voxels of its header, before memory is set aside for them."""
    proxy, holder = image.dataobj, image.file_map.get("image")
    if not isinstance(proxy, ArrayProxy) or holder is None or not isinstance(holder.filename, str | os.PathLike):
        return
    path = Path(holder.filename)
    if path.suffix in (".bz2", ".zst"):
        return  # no bound on what they hold
    held = path.stat().st_size * (DEFLATE_LIMIT if path.suffix in (".gz", ".mgz") else 1)
    needed = proxy.offset + math.prod(proxy.shape) * proxy.dtype.itemsize
    if held < needed:
        raise LongigenError(
            f"{name} is truncated (its header claims {needed} bytes, it can hold {held}); copy it again or remove it."
        )


def _invertible(affine: np.ndarray) -> bool:
    return bool(np.isfinite(affine).all()) and np.linalg.matrix_rank(affine[:3, :3]) == 3


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
