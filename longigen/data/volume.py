"""Read NIfTI volumes with strict validation, and write them."""

import hashlib
import logging
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import nibabel
import numpy as np
from nibabel import imageglobals
from nibabel.affines import voxel_sizes
from nibabel.analyze import AnalyzeHeader
from nibabel.arrayproxy import ArrayProxy
from nibabel.openers import ImageOpener
from nibabel.orientations import io_orientation
from nibabel.spatialimages import SpatialImage
from nibabel.volumeutils import apply_read_scaling

from longigen.data.issues import BadData, Finding
from longigen.data.pointers import require_fetched
from longigen.utils.files import atomic, reason, regular_size

MAX_VOXELS = 2**31
"""An image with more voxels, by its header, is refused before memory is allocated."""

COMPRESSED = (".gz", ".mgz", ".bz2", ".zst")
"""Extensions of compressed files, in lower case."""

DEFLATE_LIMIT = 1032
"""The largest possible compression ratio of gzip."""

BOMB_BYTES, BOMB_RATIO = 2**30, 250
"""A compressed file is refused as a decompression bomb if it takes more than so many bytes of memory, where a volume is
float32 whatever its file's type, and more than so many times its own size after decompression. Scans are compressed by
a factor of 2 to 20, label masks rarely by 200."""

SERIES_BYTES = 2**28
"""A compressed 4D image up to this size is decompressed once for all frames, and not once per frame."""

PADDING_BYTES = 4096
"""As many zeros may follow the last voxel, which are padding to a block of the medium. A file with other bytes there is
refused: its header describes other voxels, and each would be read from a wrong place."""

TRAILING_BYTES = 2**26
"""As many bytes of any value may follow in a compressed file of a format that has a footer, as MGH does."""

MILLIMETRES, FARTHEST, LEAST_ANGLE = (1e-4, 1e4), 1e6, 1e-3
"""The smallest and largest size of a voxel and the largest distance from the origin, in mm, and the least volume of the
box of an affine's axes at length 1. Beyond them, positions of voxels cannot be computed."""

CHUNK_BYTES = 2**20

QUATERNION_TOLERANCE = 1e-5
"""How far the squared length of a header's quaternion may exceed 1. Programs that store a half turn in float32 exceed
it by about 1e-6, where nibabel allows 4e-7; FSL and ITK scale any quaternion to length 1. The axes turn by at most 0.4
degrees."""

for _header in (nibabel.Nifti1Header, nibabel.Nifti2Header):  # nibabel offers no other way to set it
    _header.quaternion_threshold = np.float64(-QUATERNION_TOLERANCE)

CORRECTIONS = "corrections"
"""The key of an opened image's `extra` with what nibabel corrected in its header, in words."""

SCANNER = 1
"""The code of NIfTI for coordinates of the scanner."""


class _Corrections(logging.Filter):
    """Keep what nibabel logs of the headers that `open_image` reads, which names no file, to say it of the file."""

    def __init__(self) -> None:
        super().__init__()
        self._of_thread = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        kept: list[str] | None = getattr(self._of_thread, "kept", None)
        if kept is None:  # somebody else reads a file
            return True
        text = record.getMessage()
        if "; set" in text and text not in kept:  # others are of values that are left as they are
            kept.append(text)
        return False

    @contextmanager
    def kept(self) -> Iterator[list[str]]:
        """Yield a list that gets the corrections of the headers that are read in the block, by this thread."""
        self._of_thread.kept = []
        try:
            yield self._of_thread.kept
        finally:
            self._of_thread.kept = None


_corrections = _Corrections()
imageglobals.logger.addFilter(_corrections)


@dataclass(frozen=True)
class Volume:
    """A 3D image: `data` (W, H, D), float32, and its `affine` (4, 4), voxel index to millimetres in RAS.

    `form` is the code of NIfTI for the space of these millimetres: 0 unknown, 1 scanner, 2 aligned to another image,
    3 Talairach, 4 MNI 152, 5 another template.
    """

    data: np.ndarray
    affine: np.ndarray
    form: int = SCANNER

    @property
    def image(self) -> nibabel.Nifti1Image:
        """The volume as a NIfTI image, float32."""
        image = nibabel.Nifti1Image(self.data.astype(np.float32, copy=False), self.affine)
        image.set_sform(self.affine, code=self.form)
        image.set_qform(self.affine, code=self.form, strip_shears=True)
        return image


def open_image(path: Path, subject: str) -> SpatialImage:
    """Open an image and validate its header, without reading voxels.

    An image of five or more dimensions, of which only one after the first three is longer than 1, is returned as the
    4D series that it is.

    Raises:
        BadData: if the file does not exist or was not fetched, is not an image of real numbers, has a broken header or
            an affine with a problem (`affine_problem`), has more than `MAX_VOXELS`, is a decompression bomb, is
            truncated, or goes on after its last voxel.
    """

    def refuse(kind: str, problem: str, advice: str) -> NoReturn:
        raise BadData(Finding(kind, str(path), problem, advice, subject)) from None

    require_fetched(path, subject)
    try:
        regular_size(path)  # a pipe or a device would never end
        with _corrections.kept() as corrections:
            image = nibabel.load(path)
    except FileNotFoundError:
        refuse("missing-file", "does not exist or may not be read", "correct its path")
    except Exception as error:  # nibabel's readers raise any, such as KeyError, OverflowError, and those of expat
        refuse("unreadable", f"cannot be opened as an image ({reason(error)})", "replace or remove it")
    if not isinstance(image, SpatialImage):
        refuse("unreadable", "is not a volume", "give a NIfTI image")
    image.extra[CORRECTIONS] = corrections
    voxels = image.file_map.get("image")
    if voxels is not None and isinstance(voxels.filename, str | os.PathLike) and not os.path.lexists(voxels.filename):
        refuse("missing-file", f"needs {Path(voxels.filename).name} beside it, which does not exist", "copy both files")
    for file in image_files(image):
        require_fetched(file, subject)
    image = _as_series(image)
    if not all(size > 0 for size in image.shape) or math.prod(image.shape) > MAX_VOXELS:
        refuse(
            "impossible-size",
            f"has {format_shape(image.shape)} voxels by its header, which is none or more than {MAX_VOXELS}",
            "its header is probably broken: copy it again or remove it",
        )
    if image.get_data_dtype().kind not in "biuf":
        refuse("not-real", f"has voxels of type {image.get_data_dtype()}", "give an image of one real number per voxel")
    if problem := affine_problem(image_affine(image)):
        refuse("bad-affine", problem, "correct its header")
    file_bytes, needed = _file_and_data_bytes(image)
    suffixes = {file.suffix.lower() for file in _compressed_files(image)}
    memory = max(needed, 4 * math.prod(image.shape[:3]))
    if file_bytes is not None and memory > BOMB_BYTES and needed > BOMB_RATIO * file_bytes and suffixes:
        refuse(
            "bomb",
            f"would grow from {file_bytes} to {needed} bytes when decompressed, and to {memory} in memory, more than a "
            "scan does",
            "store it uncompressed if it is a scan, or remove it",
        )
    limit = None if file_bytes is None else file_bytes * DEFLATE_LIMIT if suffixes else file_bytes
    if limit is not None and limit < needed and not suffixes & {".bz2", ".zst"}:
        refuse(
            "truncated",
            f"is truncated (its header requires {needed} bytes, the file has at most {limit})",
            "copy it again or remove it",
        )
    if not suffixes and (problem := _uncompressed_rest(image, needed)):
        refuse("too-long", problem, "copy it again, or write it again with the program that made it")
    return image


def spatial_shape(image: SpatialImage, path: Path, subject: str, frame: int | None = None) -> tuple[int, int, int]:
    """Return the shape (W, H, D), in the file's axis order, of a 3D image or of one frame (from 0) of a 4D image.

    Raises:
        BadData: if the image is not 3D, or it is not 4D with that frame.
    """
    shape = tuple(int(size) for axis, size in enumerate(image.shape) if axis < 3 or size > 1)
    if frame is None and len(shape) != 3:
        advice = "give one of its frames" if len(image.shape) == 4 else "replace or remove it"
        problem = f"is {len(image.shape)}D, {format_shape(image.shape)}, where a 3D volume is needed"
        raise BadData(Finding("dimensions", str(path), problem, advice, subject))
    if frame is not None and (len(image.shape) != 4 or not 0 <= frame < image.shape[3]):
        problem = f"has shape {format_shape(image.shape)} and no frame {frame}"
        raise BadData(Finding("no-frame", str(path), problem, "frames count from 0 in a 4D image", subject))
    width, height, depth = map(int, image.shape[:3])  # FreeSurfer's headers have NumPy's integers
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


def image_identity(image: SpatialImage, path: Path) -> str:
    """Return a text that changes when any file of an image changes: `file_identity` of each, of `path` first."""
    return " ".join(map(file_identity, dict.fromkeys((path, *image_files(image)))))


def image_files(image: SpatialImage) -> list[Path]:
    """Return the files of an image that exist, as links or as files: two for a pair of ``.hdr`` and ``.img``."""
    names = (holder.filename for holder in image.file_map.values())
    paths = dict.fromkeys(Path(name) for name in names if isinstance(name, str | os.PathLike))
    return [path for path in paths if path.exists() or path.is_symlink()]


def read_volume(path: Path, subject: str, frame: int | None = None) -> Volume:
    """Read a 3D image, or one frame (from 0) of a 4D one.

    A compressed file is read to its end, so that its checksum and its length are verified.

    Raises:
        BadData: as `open_image` and `spatial_shape`; also if the data is truncated or damaged, or has NaN or infinite
            voxels.
    """
    image = open_image(path, subject)
    shape = spatial_shape(image, path, subject, frame)
    try:
        voxels = _read(image, _scaled) if frame is None else _frame(image, frame)
        data = np.asarray(voxels, dtype=np.float32).reshape(shape)
    except Exception as error:  # as above: of gzip, bz2, zlib and NumPy
        problem = f"is truncated or damaged ({reason(error)})"
        raise BadData(Finding("truncated", str(path), problem, "copy it again or remove it", subject)) from None
    bad = int(data.size - np.isfinite(data).sum())
    if bad:
        source = str(path) if frame is None else f"{path}, frame {frame}"
        problem = f"has {bad} NaN or infinite voxels"
        raise BadData(Finding("not-finite", source, problem, "replace them, or remove the visit", subject))
    return Volume(data, image_affine(image), form_code(image))


def image_affine(image: SpatialImage) -> np.ndarray:
    """Return the affine of an image (4, 4), float64, voxel index to mm; all NaN if it has none."""
    return np.full((4, 4), np.nan) if image.affine is None else np.asarray(image.affine, dtype=np.float64)


def affine_problem(affine: np.ndarray) -> str | None:
    """Return why no grid can be placed by an affine (4, 4), worded as `Finding.problem`; None if one can."""
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        return "has an affine that cannot be inverted"
    sizes, position = voxel_sizes(affine), np.abs(affine[:3, 3]).max()
    if sizes.min() < MILLIMETRES[0] or sizes.max() > MILLIMETRES[1]:
        return f"has voxels of {' × '.join(f'{size:.4g}' for size in sizes)} mm by its affine, which no scanner makes"
    if abs(np.linalg.det(affine[:3, :3] / sizes)) < LEAST_ANGLE:
        return "has an affine whose axes are almost parallel to each other"
    if position > FARTHEST:
        return f"lies {position:.3g} mm from the origin by its affine, farther than a scanner is long"
    return None


def form_code(image: SpatialImage) -> int:
    """Return the code of NIfTI for the space of an image's affine, see `Volume`; that of the scanner without NIfTI."""
    header = image.header
    if not isinstance(header, nibabel.Nifti1Header):
        return SCANNER
    return int(header["sform_code"]) or int(header["qform_code"])


def format_shape(shape: Sequence[int]) -> str:
    """Return a shape as text: ``64 × 64 × 32``."""
    return " × ".join(map(str, shape))


def write_volume(volume: Volume, path: Path, description: str, frames: tuple[float, str] | None = None) -> None:
    """Write a volume as NIfTI, atomically; the header keeps the code of its space (`Volume.form`).

    Args:
        volume: the volume; `data` of shape (W, H, D, L) is written as a 4D image.
        path: path of the file.
        description: text for the header's field ``descrip``, cut off after 79 characters.
        frames: the time between the frames of a series, 0 if it is not the same, and its unit in NIfTI: ``sec``,
            ``msec`` or ``unknown``. None for an image whose fourth axis is no time.

    Raises:
        LongigenError: if the file cannot be written.
    """
    image = volume.image
    image.header["descrip"] = description.encode("ascii", "replace")[:79]
    image.header.set_xyzt_units("mm")
    if frames is not None:
        step, unit = frames
        image.header.set_zooms((*image.header.get_zooms()[:3], step))
        image.header.set_xyzt_units("mm", unit)
    with atomic(path) as part:
        nibabel.save(image, part)


def voxel_digest(volume: Volume) -> bytes:
    """Return a hash of shape and voxels, equal for volumes with identical voxels, whatever their files."""
    digest = hashlib.blake2b(repr(volume.data.shape).encode(), digest_size=16)
    digest.update(np.ravel(volume.data.astype(np.float32, copy=False), order="F").data)
    return digest.digest()


_last_series = threading.local()


def _frame(image: SpatialImage, frame: int) -> np.ndarray:
    """Return one frame of a 4D image.

    A compressed file can only be decompressed from its start, so reading all frames one by one would take quadratic
    time. Each thread therefore keeps the last series that it read, as it is stored; of a series that is too large for
    that it verifies the file before the first frame.
    """
    proxy, compressed = image.dataobj, _compressed_files(image)
    if not isinstance(proxy, ArrayProxy) or not compressed:
        return proxy[..., frame]
    identity = " ".join(map(file_identity, compressed))
    if _file_and_data_bytes(image)[1] > SERIES_BYTES:
        if getattr(_last_series, "verified", None) != identity:
            for path in compressed:
                with ImageOpener(str(path)) as file:
                    if path == Path(str(proxy.file_like)):
                        file.seek(_file_and_data_bytes(image)[1])
                    _read_to_end(file, image)
            _last_series.verified = identity
        return proxy[..., frame]
    if getattr(_last_series, "identity", None) != identity:
        _last_series.voxels, _last_series.identity = _read(image, ArrayProxy.get_unscaled), identity
    return apply_read_scaling(_last_series.voxels[..., frame], proxy.slope, proxy.inter)


def _scaled(proxy: Any) -> np.ndarray:
    return np.asarray(proxy, dtype=np.float32)


def _read(image: SpatialImage, read: Callable[[Any], np.ndarray]) -> np.ndarray:
    """Return what `read` makes of an image's voxels, and read compressed files to their ends, where the checksum is.

    nibabel stops after the last voxel, so that it takes changed voxels for good ones.

    Raises:
        OSError: if a checksum or length is wrong, as `gzip` and `bz2` say; or if the file does not end soon.
    """
    proxy, voxels = image.dataobj, None
    if not isinstance(proxy, ArrayProxy):
        return read(proxy)
    for path in _compressed_files(image):
        with ImageOpener(str(path)) as file:
            if path == Path(str(proxy.file_like)):
                spec = (proxy.shape, proxy.dtype, proxy.offset, proxy.slope, proxy.inter)
                voxels = read(ArrayProxy(file, spec, mmap=False, order=proxy.order))
                _read_to_end(file, image)
            else:
                _read_to_end(file)
    return read(proxy) if voxels is None else voxels


def _read_to_end(file: ImageOpener, image: SpatialImage | None = None) -> None:
    """Read what is left of a compressed file, since its checksum is compared at its end.

    Args:
        file: the file, from which the voxels are read.
        image: the image of these voxels, to check that nothing else follows; None for a file without voxels.

    Raises:
        OSError: if the checksum is wrong, or something else follows.
    """
    rest = 0
    while chunk := file.read(CHUNK_BYTES):
        rest += len(chunk)
        if image is not None and (problem := _unlike_padding(image, chunk, rest)):
            raise OSError(f"it {problem}")
        if rest > TRAILING_BYTES:
            raise OSError(f"it goes on for more than {TRAILING_BYTES:g} bytes")


def _uncompressed_rest(image: SpatialImage, needed: int) -> str | None:
    """Return what is wrong with the bytes after the last voxel of an image that is not compressed, or None."""
    holder = image.file_map.get("image")
    if not needed or holder is None or not isinstance(holder.filename, str | os.PathLike):
        return None
    path = Path(holder.filename)
    rest = path.stat().st_size - needed
    if rest <= 0:
        return None
    with path.open("rb") as file:
        file.seek(needed)
        return _unlike_padding(image, file.read(PADDING_BYTES), rest)


def _unlike_padding(image: SpatialImage, rest: bytes, size: int) -> str | None:
    """Return what is wrong with `size` bytes after the last voxel, of which `rest` is a part, or None."""
    if not isinstance(image.header, AnalyzeHeader) or (size <= PADDING_BYTES and not any(rest)):
        return None
    return "goes on after the last voxel of its header, which therefore describes other voxels"


def _as_series(image: SpatialImage) -> SpatialImage:
    """Return an image of five or more dimensions as the 4D series that it is, or as it is.

    Programs write a series as (W, H, D, T, 1) or, with its frames in the place of a vector's components, as
    (W, H, D, 1, T). The time between frames is known of the first kind only.
    """
    proxy, longer = image.dataobj, [int(size) for size in image.shape[3:] if size != 1]
    if len(image.shape) < 5 or len(longer) > 1 or not isinstance(proxy, ArrayProxy):
        return image
    shape = (*image.shape[:3], *(longer or [1]))
    header = image.header.copy()
    header.set_data_shape(shape)
    if isinstance(header, nibabel.Nifti1Header) and image.shape[3] == 1:
        header["pixdim"][4] = 0
    return type(image)(proxy.reshape(shape), image.affine, header, extra=image.extra, file_map=image.file_map)


def _compressed_files(image: SpatialImage) -> list[Path]:
    return [path for path in image_files(image) if path.suffix.lower() in COMPRESSED]


def _file_and_data_bytes(image: SpatialImage) -> tuple[int | None, int]:
    """Return the size of an image's file (None if unknown), and its uncompressed size by the header, in bytes."""
    proxy, holder = image.dataobj, image.file_map.get("image")
    if not isinstance(proxy, ArrayProxy):
        return None, 0
    needed = proxy.offset + math.prod(proxy.shape) * proxy.dtype.itemsize
    if holder is None or not isinstance(holder.filename, str | os.PathLike):
        return None, needed
    return Path(holder.filename).stat().st_size, needed
