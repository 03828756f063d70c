"""Read NIfTI volumes with strict validation, and write them."""

import math
import os
import threading
import zlib
from collections.abc import Sequence
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
from longigen.utils.files import atomic, reason, regular_size

MAX_VOXELS = 2**31
"""An image with more voxels, by its header, is refused before memory is allocated."""

DEFLATE_LIMIT = 1032
"""The largest possible compression ratio of gzip."""

BOMB_BYTES, BOMB_RATIO = 2**30, 250
"""A compressed file whose size and ratio after decompression exceed both is refused as a decompression bomb. Scans are
compressed by a factor of 2 to 20, label masks rarely by 200."""

SERIES_BYTES = 2**28
"""A compressed 4D image up to this size is decompressed once for all frames, and not once per frame."""

READ_ERRORS = (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, zlib.error)
"""The exceptions of nibabel, gzip and zlib for a broken file."""


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
    """Open an image and validate its header, without reading voxels.

    Raises:
        BadData: if the file does not exist, is not an image of real numbers, has a broken header or an affine that
            cannot be inverted, has more than `MAX_VOXELS`, is a decompression bomb, or is truncated.
    """

    def refuse(kind: str, problem: str, advice: str) -> NoReturn:
        raise BadData(Finding(kind, str(path), problem, advice, subject)) from None

    try:
        regular_size(path)  # a pipe or a device would never end
        image = nibabel.load(path)
    except FileNotFoundError:
        refuse("missing-file", "does not exist or may not be read", "correct its path")
    except READ_ERRORS as error:
        refuse("unreadable", f"cannot be opened as an image ({reason(error)})", "replace or remove it")
    if not isinstance(image, SpatialImage):
        refuse("unreadable", "is not a volume", "give a NIfTI image")
    if not all(size > 0 for size in image.shape) or math.prod(image.shape) > MAX_VOXELS:
        refuse(
            "impossible-size",
            f"has {format_shape(image.shape)} voxels by its header, which is none or more than {MAX_VOXELS}",
            "its header is probably broken: copy it again or remove it",
        )
    if image.get_data_dtype().kind not in "biuf":
        refuse("not-real", f"has voxels of type {image.get_data_dtype()}", "give an image of one real number per voxel")
    if not _invertible(image_affine(image)):
        refuse("bad-affine", "has an affine that cannot be inverted", "correct its header")
    file_bytes, needed = _file_and_data_bytes(image)
    if file_bytes is not None and needed > max(BOMB_BYTES, BOMB_RATIO * file_bytes) and _compressed(path):
        refuse(
            "bomb",
            f"would grow from {file_bytes} to {needed} bytes when decompressed, more than a scan does",
            "store it uncompressed if it is a scan, or remove it",
        )
    limit = None if file_bytes is None else file_bytes * DEFLATE_LIMIT if path.suffix in (".gz", ".mgz") else file_bytes
    if limit is not None and limit < needed and path.suffix not in (".bz2", ".zst"):
        refuse(
            "truncated",
            f"is truncated (its header requires {needed} bytes, the file has at most {limit})",
            "copy it again or remove it",
        )
    return image


def spatial_shape(image: SpatialImage, path: Path, subject: str, frame: int | None = None) -> tuple[int, int, int]:
    """Return the shape (W, H, D), in the file's axis order, of a 3D image or of one frame (from 0) of a 4D image.

    Raises:
        BadData: if the image is not 3D, or it is not 4D with that frame.
    """
    shape = tuple(size for axis, size in enumerate(image.shape) if axis < 3 or size > 1)
    if frame is None and len(shape) != 3:
        advice = "give one of its frames" if len(image.shape) == 4 else "replace or remove it"
        problem = f"is {len(image.shape)}D, {format_shape(image.shape)}, where a 3D volume is needed"
        raise BadData(Finding("dimensions", str(path), problem, advice, subject))
    if frame is not None and (len(image.shape) != 4 or not 0 <= frame < image.shape[3]):
        problem = f"has shape {format_shape(image.shape)} and no frame {frame}"
        raise BadData(Finding("no-frame", str(path), problem, "frames count from 0 in a 4D image", subject))
    width, height, depth = image.shape[:3]
    return width, height, depth


def canonical_shape(affine: np.ndarray, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the shape of a volume after permuting its axes to RAS order."""
    width, height, depth = (size for _, size in sorted(zip(io_orientation(affine)[:, 0], shape, strict=True)))
    return width, height, depth


def canonical_spacing(affine: np.ndarray) -> tuple[float, float, float]:
    """Return the size of the voxels in mm after permuting the axes to RAS order."""
    steps = sorted(zip(io_orientation(affine)[:, 0], voxel_sizes(affine), strict=True))
    width, height, depth = (float(step) for _, step in steps)
    return width, height, depth


def file_identity(path: Path) -> str:
    """Return a text that changes when a file changes: its full path, size and modification time.

    Raises:
        OSError: if the file does not exist.
    """
    status = path.stat()
    return f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"


def read_volume(path: Path, subject: str, frame: int | None = None) -> Volume:
    """Read a 3D image, or one frame (from 0) of a 4D one.

    Raises:
        BadData: as `open_image` and `spatial_shape`; also if the data is truncated, or has NaN or infinite voxels.
    """
    image = open_image(path, subject)
    shape = spatial_shape(image, path, subject, frame)
    try:
        voxels = image.dataobj if frame is None else _frame(image, path, frame)
        data = np.asarray(voxels, dtype=np.float32).reshape(shape)
    except READ_ERRORS as error:
        problem = f"is truncated or damaged ({reason(error)})"
        raise BadData(Finding("truncated", str(path), problem, "copy it again or remove it", subject)) from None
    bad = int(data.size - np.isfinite(data).sum())
    if bad:
        source = str(path) if frame is None else f"{path}, frame {frame}"
        problem = f"has {bad} NaN or infinite voxels"
        raise BadData(Finding("not-finite", source, problem, "replace them, or remove the visit", subject))
    return Volume(data, image_affine(image))


def image_affine(image: SpatialImage) -> np.ndarray:
    """Return the affine of an image (4, 4), float64, voxel index to mm; all NaN if it has none."""
    return np.full((4, 4), np.nan) if image.affine is None else np.asarray(image.affine, dtype=np.float64)


def format_shape(shape: Sequence[int]) -> str:
    """Return a shape as text: ``64 × 64 × 32``."""
    return " × ".join(map(str, shape))


def write_volume(volume: Volume, path: Path, description: str) -> None:
    """Write a volume as NIfTI, atomically.

    Args:
        volume: the volume; `data` of shape (W, H, D, L) is written as a 4D image.
        path: path of the file.
        description: text for the header's field ``descrip``, cut off after 79 characters.

    Raises:
        LongigenError: if the file cannot be written.
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

    A compressed file can only be decompressed from its start, so reading all frames one by one would take quadratic
    time. Each thread therefore keeps the last series that it read, as it is stored.
    """
    proxy = image.dataobj
    if not isinstance(proxy, ArrayProxy) or not _compressed(path) or _file_and_data_bytes(image)[1] > SERIES_BYTES:
        return proxy[..., frame]
    identity = file_identity(path)
    if getattr(_last_series, "identity", None) != identity:
        _last_series.voxels, _last_series.identity = proxy.get_unscaled(), identity
    return apply_read_scaling(_last_series.voxels[..., frame], proxy.slope, proxy.inter)


def _compressed(path: Path) -> bool:
    return path.suffix in (".gz", ".mgz", ".bz2", ".zst")


def _file_and_data_bytes(image: SpatialImage) -> tuple[int | None, int]:
    """Return the size of an image's file (None if unknown), and its uncompressed size by the header, in bytes."""
    proxy, holder = image.dataobj, image.file_map.get("image")
    if not isinstance(proxy, ArrayProxy):
        return None, 0
    needed = proxy.offset + math.prod(proxy.shape) * proxy.dtype.itemsize
    if holder is None or not isinstance(holder.filename, str | os.PathLike):
        return None, needed
    return Path(holder.filename).stat().st_size, needed


def _invertible(affine: np.ndarray) -> bool:
    return bool(np.isfinite(affine).all()) and np.linalg.matrix_rank(affine[:3, :3]) == 3
