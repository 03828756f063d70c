"""Damaged images: a NIfTI file of known voxels with one thing wrong, read as a visit and preprocessed."""

import bz2
import gzip
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from damage import Damaged, Expected
from longigen import Subject, Visit
from longigen.data.preprocess import PreprocessSettings

SHAPES = ((7, 6, 5), (4, 9, 3), (8, 8, 8))
TYPES = ("i2", "u1", "f4", "f8", "u2", "i4", "i1")
CODES = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "c8": 32, "f8": 64, "rgb": 128, "i1": 256, "u2": 512, "rgba": 2304}
SIZES = {"rgb": 3, "rgba": 4, "c8": 8}
AFFINE = np.array([[-2.0, 0, 0, 20], [0, 1.5, 0, -15], [0, 0, 3, 7], [0, 0, 0, 1]])
PIPELINES = (PreprocessSettings(), PreprocessSettings(shape=(8, 8, 8), spacing=(4.0, 4.0, 4.0)))


class Voxels:
    """Voxels that are equal to others if all are, and the affine; told by their shape and range."""

    def __init__(self, data: np.ndarray) -> None:
        self.data = data

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Voxels)
            and self.data.shape == other.data.shape
            and np.allclose(self.data, other.data, rtol=1e-6, atol=0)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{self.data.shape} from {self.data.min():g} to {self.data.max():g}"


@dataclass(frozen=True)
class Original:
    """A whole NIfTI file in memory: its header, the voxels behind it, and how it is stored.

    Attributes:
        header: the header's fields, an array without axes.
        stored: the voxels as they are stored.
        extension: bytes between header and voxels.
        kind: how the file is stored: ``.nii``, ``.nii.gz``, ``.nii.bz2``, ``.img`` (beside an ``.hdr``) or ``.img.gz``.
        frame: the frame to read of a series.
    """

    header: np.ndarray
    stored: np.ndarray
    extension: bytes = bytes(4)
    kind: str = ".nii"
    frame: int | None = None

    def ordered(self, name: str) -> np.dtype:
        """Return a type in the file's byte order."""
        return np.dtype(name).newbyteorder(self.header.dtype["dim"].base.str[0])  # type: ignore[arg-type]

    @property
    def head(self) -> bytes:
        return self.header.tobytes() + self.extension

    @property
    def body(self) -> bytes:
        return self.stored.tobytes(order="F")

    @property
    def paired(self) -> bool:
        return self.kind.startswith(".img")

    @property
    def truth(self) -> Voxels:
        slope, inter = float(self.header["scl_slope"]), float(self.header["scl_inter"])
        data = self.stored if self.frame is None else self.stored[..., self.frame]
        return Voxels((data * slope + inter).astype(np.float32))

    def pack(self, content: bytes) -> bytes:
        if self.kind.endswith(".gz"):
            return gzip.compress(content, compresslevel=1)
        return bz2.compress(content) if self.kind.endswith(".bz2") else content

    def write(self, folder: Path, head: bytes, body: bytes) -> Path:
        """Write a header and voxels, stored as this file is."""
        if not self.paired:
            return self.write_raw(folder, self.pack(head + body))
        (folder / f"visit.hdr{self.kind.removeprefix('.img')}").write_bytes(self.pack(head))
        return self.write_raw(folder, self.pack(body))

    def write_raw(self, folder: Path, content: bytes) -> Path:
        path = folder / f"visit{self.kind}"
        path.write_bytes(content)
        return path


def original(random: np.random.Generator) -> Original:
    """Return a file with a random shape, type, byte order, scale and way to be stored."""
    shape: tuple[int, ...] = SHAPES[random.integers(len(SHAPES))]
    frame = None
    if random.random() < 0.2:
        shape, frame = (*shape, 3), int(random.integers(3))
    order = "<>"[random.integers(2)]
    kind = (".nii", ".nii.gz", ".nii.gz", ".nii", ".img", ".img.gz", ".nii.bz2")[random.integers(7)]
    name = TYPES[random.integers(len(TYPES))]
    stored = random.integers(1, 120, shape).astype(np.dtype(name).newbyteorder(order))
    second = random.random() < 0.25
    cls = nibabel.Nifti2Header if second else nibabel.Nifti1Header
    if kind.startswith(".img"):
        cls = nibabel.nifti2.Nifti2PairHeader if second else nibabel.nifti1.Nifti1PairHeader
    made = cls(endianness=order)
    made.set_data_dtype(stored.dtype)
    made.set_data_shape(shape)
    made.set_sform(AFFINE, code=1)
    made.set_qform(AFFINE, code=int(random.integers(2)))
    header = made._structarr.copy()
    header["scl_slope"], header["scl_inter"] = ((1.0, 0.0), (0.5, -3.0))[random.integers(2)]
    head = 544 if second else 352
    header["vox_offset"] = 0 if kind.startswith(".img") else head
    return Original(header, stored, bytes(4), kind, frame)


def read(path: Path, frame: int | None) -> Voxels:
    """Read a visit, and preprocess it as training does; return its own voxels."""
    visit = Visit.of_file(path, subject="s", time=0.0, frame=frame)
    list(map(str, visit.cautions))
    own = visit.load()
    if own.data.min() < own.data.max():
        subject = Subject("s", (visit,))
        for settings in PIPELINES:
            tensor = settings.pipeline([subject]).subject(subject).visit(0)
            assert bool(tensor.isfinite().all())
    return Voxels(own.data)


def draw(random: np.random.Generator, folder: Path) -> Damaged:
    """Write a damaged image into an empty folder."""
    whole = original(random)
    damage = DAMAGES[random.integers(len(DAMAGES))]
    path, expected, words = damage(whole, random, folder)
    name = f"{damage.__name__} {words} {whole.kind} {whole.stored.dtype.str} {whole.stored.shape}"
    return Damaged(name, expected, path.stem.partition(".")[0], partial(read, path, whole.frame), whole.truth)


Outcome = tuple[Path, Expected, str]


def untouched(whole: Original, random: np.random.Generator, folder: Path) -> Outcome:
    return whole.write(folder, whole.head, whole.body), Expected.SAME, ""


def cut(whole: Original, random: np.random.Generator, folder: Path) -> Outcome:
    """Cut off its end."""
    path = whole.write(folder, whole.head, whole.body)
    content = path.read_bytes()
    keep = int(random.integers(len(content)))
    path.write_bytes(content[:keep])
    return path, Expected.REFUSED, f"after {keep} of {len(content)}"


def flipped_field(whole: Original, random: np.random.Generator, folder: Path) -> Outcome:
    """Flip one bit of one field of the header."""
    names = [name for name in whole.header.dtype.names or () if name not in UNUSED]
    name = names[random.integers(len(names))]
    dtype, start = (whole.header.dtype.fields or {})[name][:2]
    head = bytearray(whole.head)
    place = start + int(random.integers(dtype.itemsize))
    bit = int(random.integers(8))
    head[place] ^= 1 << bit
    return _with_head(whole, bytes(head), folder, f"{name} byte {place - start} bit {bit}")


VALUES: dict[str, tuple[Any, ...]] = {
    "dim": (0, -1, 1, 2, 32767, -32768),
    "datatype": (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304, -1, 32767),
    "bitpix": (0, -1, 8, 32767),
    "vox_offset": (0, -1, 1, 16, 348, 351, 353, 360, 1e9, math.nan, math.inf, -math.inf),
    "magic": (b"", b"n+1", b"ni1", b"n+2", b"ni2", b"N+1", b"\xff\xff\xff"),
    "scl_slope": (0, math.nan, math.inf, -math.inf, 1e38, -1, 1e-45),
    "scl_inter": (math.nan, math.inf, -math.inf, 1e38),
    "pixdim": (0, -1, math.nan, math.inf, 1e38, 1e-38),
    "srow_x": (0, math.nan, math.inf, 1e38, 1e-38),
    "srow_y": (0, math.nan, math.inf, 1e38, 1e-38),
    "srow_z": (0, math.nan, math.inf, 1e38, 1e-38),
    "quatern_b": (1, 2, math.nan, math.inf, 1e30),
    "qoffset_x": (math.nan, math.inf, 1e38),
    "sform_code": (0, -1, 7, 32767),
    "qform_code": (0, -1, 7, 32767),
    "sizeof_hdr": (0, 347, 540, -1),
    "xyzt_units": (0, 7, 255, 200),
}


def set_field(whole: Original, random: np.random.Generator, folder: Path) -> Outcome:
    """Set one field of the header, or one of its numbers, to a value that it should not have."""
    name = list(VALUES)[random.integers(len(VALUES))]
    value = VALUES[name][random.integers(len(VALUES[name]))]
    header = whole.header.copy()
    if header.dtype[name].kind in "iu":
        limits = np.iinfo(header.dtype[name].base)
        value = min(max(value, limits.min), limits.max)
    if header.dtype[name].kind == "i" or header.dtype[name].base.kind in "iu":
        limits = np.iinfo(header.dtype[name].base)
        value = min(max(int(value) if math.isfinite(value) else 0, limits.min), limits.max)
    where: Any = int(random.integers(header[name].size)) if header[name].ndim else ()
    if name == "magic":
        where = ()
    with np.errstate(over="ignore"):
        header[name][where] = value
    return _with_head(whole, replace(whole, header=header).head, folder, f"{name}{where or ''} = {value}")


def scrambled(whole: Original, random: np.random.Generator, folder: Path) -> Outcome:
    """Write random bytes over several places of the header."""
    head = bytearray(whole.head)
    for place in random.integers(0, len(head), size=random.integers(2, 20)):
        head[place] = random.integers(256)
    return _with_head(whole, bytes(head), folder, "")


def _with_head(whole: Original, head: bytes, folder: Path, words: str) -> Outcome:
    return whole.write(folder, head, whole.body), _knowable(whole, head), words


def _knowable(whole: Original, head: bytes) -> Expected:
    """Return whether a reader can know that a header is not that of the voxels behind it.

    Their number of bytes must agree with the header, and nothing else in the file tells type, shape and scale.
    """
    fields = np.frombuffer(head[: whole.header.itemsize], whole.header.dtype)[0]
    if any(fields[name] != whole.header[name] for name in ("scl_slope", "scl_inter")):
        return Expected.CHANGED
    same = [name for name in ("datatype", "vox_offset") if fields[name] == whole.header[name]]
    shape = _shape(fields)
    if len(same) == 2 and shape == _shape(whole.header):
        return Expected.EITHER
    item = {code: SIZES.get(name) or np.dtype(name).itemsize for name, code in CODES.items()}
    item |= {768: 4, 1024: 8, 1280: 8, 1536: 16, 1792: 16, 2048: 32}
    size = item.get(int(fields["datatype"]))
    offset = float(fields["vox_offset"])
    offset = (0 if whole.paired else len(head)) if offset == 0 else offset
    start = 0 if whole.paired else len(head)
    if size is None or not math.isfinite(offset):
        return Expected.EITHER
    agrees = int(offset) + math.prod(shape) * size == start + len(whole.body)
    return Expected.CHANGED if agrees else Expected.EITHER


def _shape(fields: Any) -> tuple[int, ...]:
    """Return the sizes of the axes, without ones at the end."""
    shape = [int(size) for size in fields["dim"][1:][: max(0, int(fields["dim"][0]))]]
    while shape and shape[-1] == 1:
        shape.pop()
    return tuple(shape)


def flipped_bits(whole: Original, random: np.random.Generator, folder: Path) -> Outcome:
    """Flip bits of the stored voxels: no reader knows of those that are not compressed, which have no checksum."""
    path = whole.write(folder, whole.head, whole.body)
    content = bytearray(path.read_bytes())
    plain = whole.kind in (".nii", ".img")
    start = len(whole.head) if whole.kind == ".nii" else 0
    for place in random.integers(start, len(content), size=random.integers(1, 4)):
        content[place] ^= 1 << int(random.integers(8))
    path.write_bytes(content)
    return path, Expected.CHANGED if plain else Expected.EITHER, ""


def renamed(whole: Original, random: np.random.Generator, folder: Path) -> Outcome:
    """Give the file the extension of another format."""
    path = whole.write(folder, whole.head, whole.body)
    other = EXTENSIONS[random.integers(len(EXTENSIONS))]
    new = path.rename(folder / f"visit{other}")
    return new, Expected.EITHER, other


EXTENSIONS = (
    *(".nii", ".nii.gz", ".NII.GZ", ".nii.bz2", ".nii.zst", ".img", ".hdr", ".img.gz", ".hdr.gz", ".mgz", ".mgh"),
    *(".mnc", ".mnc.gz", ".par", ".rec", ".PAR", ".head", ".brik", ".HEAD", ".BRIK.gz", ".v", ".gii", ".gii.gz"),
    *(".trk", ".tck", ".dcm", ".png", ".txt", ".npy", "", ".gz", ".nrrd", ".nii.xz", ".nii.zip", ".dtseries.nii"),
)


def not_finite(whole: Original, random: np.random.Generator, folder: Path) -> Outcome:
    stored = whole.stored.astype(whole.ordered("f4"))
    value = (math.nan, math.inf, -math.inf)[random.integers(3)]
    stored[tuple(int(random.integers(size)) for size in stored.shape[:3])] = value
    header = whole.header.copy()
    header["datatype"], header["bitpix"] = 16, 32
    changed = replace(whole, header=header, stored=stored)
    return changed.write(folder, changed.head, changed.body), Expected.REFUSED, str(value)


def too_large_numbers(whole: Original, random: np.random.Generator, folder: Path) -> Outcome:
    """Numbers in float64 that float32, in which they are read, does not have."""
    stored = whole.stored.astype(whole.ordered("f8"))
    stored[0, 0, 0] = 1e39
    header = whole.header.copy()
    header["datatype"], header["bitpix"] = 64, 64
    changed = replace(whole, header=header, stored=stored)
    expected = Expected.REFUSED if whole.frame in (None, 0) or stored.ndim == 4 else Expected.EITHER
    return changed.write(folder, changed.head, changed.body), expected, ""


def other_type(whole: Original, random: np.random.Generator, folder: Path) -> Outcome:
    """Voxels that are colours or complex numbers."""
    name = ("rgb", "rgba", "c8")[random.integers(3)]
    header = whole.header.copy()
    header["datatype"], header["bitpix"] = CODES[name], 8 * SIZES[name]
    changed = replace(whole, header=header)
    return changed.write(folder, changed.head, bytes(SIZES[name] * whole.stored.size)), Expected.REFUSED, name


def other_axes(whole: Original, random: np.random.Generator, folder: Path) -> Outcome:
    """A file of one, two or five axes."""
    shape = ((30,), (6, 5), (3, 3, 3, 2, 2), (3, 3, 3, 2, 2, 2, 2), (3, 0, 3), (0, 0, 0))[random.integers(6)]
    header = whole.header.copy()
    header["dim"] = [len(shape), *shape, *[1] * (7 - len(shape))]
    changed = replace(whole, header=header, stored=np.ones(shape, whole.stored.dtype))
    return changed.write(folder, changed.head, changed.body), Expected.REFUSED, str(shape)


def swapped(whole: Original, random: np.random.Generator, folder: Path) -> Outcome:
    """Store it in the other byte order, which is legal."""
    order = whole.header.dtype.newbyteorder("S")
    changed = replace(
        whole,
        header=whole.header.astype(order),
        stored=whole.stored.astype(whole.stored.dtype.newbyteorder("S")),
    )
    return changed.write(folder, changed.head, changed.body), Expected.SAME, ""


def twice_packed(whole: Original, random: np.random.Generator, folder: Path) -> Outcome:
    path = whole.write(folder, whole.head, whole.body)
    path.write_bytes(gzip.compress(path.read_bytes()))
    return path, Expected.REFUSED, ""


def in_members(whole: Original, random: np.random.Generator, folder: Path) -> Outcome:
    """Compress it in several members one after the other, which is legal."""
    kind = ".nii.bz2" if whole.kind.endswith("bz2") else ".nii.gz"
    changed = replace(_single(whole), kind=kind)
    content = changed.head + changed.body
    at = sorted(int(place) for place in random.integers(0, len(content) + 1, size=random.integers(1, 4)))
    pieces = [content[first:last] for first, last in zip([0, *at], [*at, len(content)], strict=True)]
    return changed.write_raw(folder, b"".join(map(changed.pack, pieces))), Expected.SAME, str(at)


def _single(whole: Original) -> Original:
    """Return a file of header and voxels for one that is a pair."""
    if not whole.paired:
        return whole
    header = whole.header.copy()
    header["vox_offset"] = len(whole.head)
    header["magic"] = header["magic"].item().replace(b"ni", b"n+")
    return replace(whole, header=header, kind=".nii")


def followed(whole: Original, random: np.random.Generator, folder: Path) -> Outcome:
    """Append bytes: after the voxels, or after the end of what is compressed."""
    rest = (b"\n", bytes(512), b"garbage" * 99, bytes(int(random.integers(1, 600))))[random.integers(4)]
    if random.random() < 0.5:
        return whole.write(folder, whole.head, whole.body + rest), Expected.EITHER, f"{rest[:9]!r} after the voxels"
    path = whole.write(folder, whole.head, whole.body)
    path.write_bytes(path.read_bytes() + rest)
    return path, Expected.EITHER, f"{rest[:9]!r} after the end"


def extended(whole: Original, random: np.random.Generator, folder: Path) -> Outcome:
    """Put a header extension between header and voxels, of a size that may be wrong."""
    whole = _single(whole)
    size = int((16, 32, 0, 8, -16, 2**30, 17, 48)[random.integers(8)])
    order = "<" if whole.header.dtype["dim"].base.str[0] == "<" else ">"
    header = whole.header.copy()
    header["vox_offset"] = len(whole.head) + 32
    extension = b"\1\0\0\0" + struct.pack(f"{order}ii", size, 6) + bytes(24)
    changed = replace(whole, header=header, extension=extension)
    return changed.write(folder, changed.head, changed.body), Expected.EITHER, f"of {size} bytes"


def constant(whole: Original, random: np.random.Generator, folder: Path) -> Outcome:
    changed = replace(whole, stored=np.full_like(whole.stored, 7))
    return changed.write(folder, changed.head, changed.body), Expected.CHANGED, ""


def footed(whole: Original, random: np.random.Generator, folder: Path) -> Outcome:
    """Flip a bit in the header of a FreeSurfer file, which states nothing twice, or cut off its end."""
    stored = np.asarray(whole.stored, "f4")
    content = bytearray(nibabel.MGHImage(stored, AFFINE).to_bytes())
    if random.random() < 0.5:
        content[int(random.integers(284))] ^= 1 << int(random.integers(8))
    else:
        del content[int(random.integers(284)) :]
    path = folder / ("visit.mgh", "visit.mgz")[random.integers(2)]
    path.write_bytes(content if path.suffix == ".mgh" else gzip.compress(content))
    return path, Expected.CHANGED, path.suffix


def nothing(whole: Original, random: np.random.Generator, folder: Path) -> Outcome:
    """An empty file, a folder, or nothing in the place of the file."""
    path = whole.write(folder, whole.head, whole.body)
    what = ("empty", "folder", "absent", "broken link")[random.integers(4)]
    path.unlink()
    if what == "empty":
        path.touch()
    elif what == "folder":
        path.mkdir()
    elif what == "broken link":
        path.symlink_to("elsewhere")
    return path, Expected.REFUSED, what


DAMAGES: tuple[Callable[[Original, np.random.Generator, Path], Outcome], ...] = (
    untouched,
    cut,
    cut,
    flipped_field,
    flipped_field,
    flipped_field,
    flipped_field,
    set_field,
    set_field,
    set_field,
    set_field,
    scrambled,
    scrambled,
    flipped_bits,
    flipped_bits,
    renamed,
    renamed,
    not_finite,
    too_large_numbers,
    other_type,
    other_axes,
    swapped,
    twice_packed,
    in_members,
    followed,
    followed,
    extended,
    constant,
    footed,
    nothing,
)
UNUSED = ("data_type", "db_name", "extents", "session_error", "regular", "glmax", "glmin", "descrip", "aux_file")
"""Fields of text and of no use, in which most flipped bits would be."""
