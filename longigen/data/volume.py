"""A volume on disk and in memory: reading it suspiciously."""

import math
import os
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import nibabel
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import io_orientation
from nibabel.spatialimages import HeaderDataError, SpatialImage
from nibabel.volumeutils import apply_read_scaling

from longigen.data.issues import BadData, Finding
from longigen.utils.files import atomic, reason

MAX_VOXELS = 2**31
"""A header that claims more voxels than this is refused before anything is allocated."""

DEFLATE_LIMIT = 1032
"""No gzip stream holds more than this many bytes per byte of the file."""

BOMB_BYTES, BOMB_RATIO = 2**30, 250
"""A compressed file that would grow beyond both is refused: scans shrink by 2 to 20 times, masks rarely by 200."""

SERIES_BYTES = 2**28
"""Compressed 4D images up to this size are decompressed once, and not up to each frame that is asked for."""

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
        BadData: if it is not there, is no image of real numbers, has a broken header, claims more than `MAX_VOXELS`,
            would grow like a decompression bomb, or is too short for what its header claims.
    """

    def refuse(kind: str, problem: str, advice: str) -> NoReturn:
        raise BadData(Finding(kind, str(path), problem, advice, subject)) from None

    try:
        image = nibabel.load(path)
    except FileNotFoundError:
        refuse("missing-file", "does not exist or may not be read", "correct its path")
    except UNREADABLE as error:
        refuse("unreadable", f"cannot be opened as an image ({reason(error)})", "replace or remove it")
    if not isinstance(image, SpatialImage):
        refuse("unreadable", "is not a volume", "longigen reads NIfTI images")
    if not all(size > 0 for size in image.shape) or math.prod(image.shape) > MAX_VOXELS:
        refuse(
            "impossible-size",
            f"claims {_times(image.shape)} voxels, none or more than longigen reads",
            "its header is probably broken: copy it again or remove it",
        )
    if image.get_data_dtype().kind not in "biuf":
        refuse("not-real", f"holds {image.get_data_dtype()} voxels", "longigen reads one real number per voxel")
    if image.affine is None or not _invertible(image.affine):
        refuse("bad-affine", "has an affine that cannot be inverted, so its voxels lie nowhere", "correct it")
    held, needed = _sizes(image)
    if held is not None and needed > max(BOMB_BYTES, BOMB_RATIO * held) and _compressed(path):
        refuse(
            "bomb",
            f"would grow from {held} to {needed} bytes, as no scan does",
            "store it uncompressed if it is one, or remove it",
        )
    limit = None if held is None else held * DEFLATE_LIMIT if path.suffix in (".gz", ".mgz") else held
    if limit is not None and limit < needed and path.suffix not in (".bz2", ".zst"):
        refuse(
            "truncated",
            f"is truncated (its header claims {needed} bytes, it can hold {limit})",
            "copy it again or remove it",
        )
    return image


def spatial_shape(image: SpatialImage, path: Path, subject: str, frame: int | None = None) -> tuple[int, int, int]:
    """Return the shape of an image that is 3D, or of one frame (from 0) of a 4D one, as it lies in the file.

    Raises:
        BadData: if it is neither.
    """
    shape = tuple(size for axis, size in enumerate(image.shape) if axis < 3 or size > 1)
    if frame is None and len(shape) != 3:
        advice = "give one of its frames" if len(image.shape) == 4 else "replace or remove it"
        problem = f"is {len(image.shape)}D, {_times(image.shape)}, where a 3D volume is needed"
        raise BadData(Finding("dimensions", str(path), problem, advice, subject))
    if frame is not None and (len(image.shape) != 4 or not 0 <= frame < image.shape[3]):
        problem = f"has shape {_times(image.shape)} and no frame {frame}"
        raise BadData(Finding("no-frame", str(path), problem, "frames count from 0 in a 4D image", subject))
    width, height, depth = image.shape[:3]
    return width, height, depth


def canonical_shape(affine: np.ndarray, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return a volume's shape once its axes are permuted to RAS."""
    width, height, depth = (size for _, size in sorted(zip(io_orientation(affine)[:, 0], shape, strict=True)))
    return width, height, depth


def canonical_spacing(affine: np.ndarray) -> tuple[float, float, float]:
    """Return the size of the voxels in mm, once the axes are permuted to RAS."""
    steps = sorted(zip(io_orientation(affine)[:, 0], voxel_sizes(affine), strict=True))
    width, height, depth = (float(step) for _, step in steps)
    return width, height, depth


def file_identity(path: Path) -> str:
    """Return what changes when a file does: its full path, its size and when it was last written.

    Raises:
        OSError: if it is not there.
    """
    status = path.stat()
    return f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"


def read_volume(path: Path, subject: str, frame: int | None = None) -> Volume:
    """Read a 3D image, or one frame (from 0) of a 4D one.

    Raises:
        BadData: as `open_image` and `spatial_shape`; if it is truncated, or holds NaN or infinity.
    """
    image = open_image(path, subject)
    shape = spatial_shape(image, path, subject, frame)
    try:
        voxels = image.dataobj if frame is None else _frame(image, path, frame)
        data = np.asarray(voxels, dtype=np.float32).reshape(shape)
    except UNREADABLE as error:
        problem = f"is truncated or damaged ({reason(error)})"
        raise BadData(Finding("truncated", str(path), problem, "copy it again or remove it", subject)) from None
    bad = int(data.size - np.isfinite(data).sum())
    if bad:
        source = str(path) if frame is None else f"{path}, frame {frame}"
        problem = f"holds {bad} NaN or infinite voxels"
        raise BadData(Finding("not-finite", source, problem, "replace them, or remove the visit", subject))
    assert image.affine is not None
    return Volume(data, np.asarray(image.affine, dtype=np.float64))


def write_volume(volume: Volume, path: Path, description: str) -> None:
    """Write a volume as NIfTI, atomically; `description` (at most 79 characters) goes to the header.

    Several on one grid, `data` (W, H, D, L), become a 4D image.
    """
    image = volume.image
    image.header["descrip"] = description.encode("ascii", "replace")[:79]
    image.header.set_xyzt_units("mm")
    image.set_sform(volume.affine, code="scanner")
    image.set_qform(volume.affine, code="scanner", strip_shears=True)
    with atomic(path) as part:
        nibabel.save(image, part)


_last_series = threading.local()


def _frame(image: SpatialImage, path: Path, frame: int) -> np.ndarray:
    """Return one frame of a 4D image.

    A compressed file can only be read from its start, so the frames of a series that are read one after the other
    would cost the square of their number; each thread therefore keeps the last series that it read, as it is stored.
    """
    proxy = image.dataobj
    if not isinstance(proxy, ArrayProxy) or not _compressed(path) or _sizes(image)[1] > SERIES_BYTES:
        return proxy[..., frame]
    identity = file_identity(path)
    if getattr(_last_series, "identity", None) != identity:
        _last_series.voxels, _last_series.identity = proxy.get_unscaled(), identity
    return apply_read_scaling(_last_series.voxels[..., frame], proxy.slope, proxy.inter)


def _compressed(path: Path) -> bool:
    return path.suffix in (".gz", ".mgz", ".bz2", ".zst")


def _sizes(image: SpatialImage) -> tuple[int | None, int]:
    """Return the bytes of an image's file on disk, None if unknown, and those that its header claims uncompressed."""
    proxy, holder = image.dataobj, image.file_map.get("image")
    if not isinstance(proxy, ArrayProxy):
        return None, 0
    needed = proxy.offset + math.prod(proxy.shape) * proxy.dtype.itemsize
    if holder is None or not isinstance(holder.filename, str | os.PathLike):
        return None, needed
    return Path(holder.filename).stat().st_size, needed


def _invertible(affine: np.ndarray) -> bool:
    return bool(np.isfinite(affine).all()) and np.linalg.matrix_rank(affine[:3, :3]) == 3


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
