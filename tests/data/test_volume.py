"""Tests of reading volumes with validation and writing them atomically."""

import gzip
import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from longigen import BadData, LongigenError, Volume
from longigen.data.volume import canonical_shape, open_image, read_volume, write_volume
from longigen.utils.files import atomic, write_json

AFFINE = np.array([[0, -2.0, 0, 30], [1.5, 0, 0, -20], [0, 0, 3.0, 5], [0, 0, 0, 1]])


def image(*shape: int) -> nibabel.Nifti1Image:
    values = np.random.default_rng(0).uniform(0, 100, shape).astype(np.float32)
    return nibabel.Nifti1Image(values, AFFINE)


def raw(*shape: int) -> bytes:
    return image(*shape).to_bytes()


def with_dim(content: bytes, *dim: int) -> bytes:
    """The header of `content` without its data, with another shape."""
    sizes = np.array([len(dim), *dim, *[1] * (7 - len(dim))], dtype="<i2")
    return content[:40] + sizes.tobytes() + content[56:352]


WHOLE = raw(9, 10, 11)
ZIPPED = gzip.compress(WHOLE)
BROKEN: dict[str, tuple[str, bytes]] = {
    "gz-cut-in-half": ("v.nii.gz", ZIPPED[: len(ZIPPED) // 2]),
    "gz-header-whole-body-cut": ("v.nii.gz", ZIPPED[:900]),
    "gz-cut-in-the-header": ("v.nii.gz", ZIPPED[:100]),
    "gz-cut-in-its-own-header": ("v.nii.gz", ZIPPED[:7]),
    "gz-damaged-inside": ("v.nii.gz", ZIPPED[:600] + b"\xff" * 200 + ZIPPED[800:]),
    "cut-in-half": ("v.nii", WHOLE[: len(WHOLE) // 2]),
    "one-byte-short": ("v.nii", WHOLE[:-1]),
    "header-only": ("v.nii", WHOLE[:352]),
    "cut-in-the-header": ("v.nii", WHOLE[:200]),
    "text-renamed": ("v.nii", b"subject,time\n" * 99),
    "text-renamed-gz": ("v.nii.gz", b"subject,time\n" * 99),
    "empty": ("v.nii", b""),
    "empty-gz": ("v.nii.gz", b""),
    "not-an-image": ("v.png", b"\x89PNG" + bytes(400)),
    "claims-2**40": ("v.nii", with_dim(WHOLE, 16384, 16384, 4096)),
    "claims-2**40-gz": ("v.nii.gz", gzip.compress(with_dim(WHOLE, 16384, 16384, 4096))),
    "claims-2**30": ("v.nii", with_dim(WHOLE, 1024, 1024, 1024)),
    "claims-2**30-gz": ("v.nii.gz", gzip.compress(with_dim(WHOLE, 1024, 1024, 1024))),
    "claims-nothing": ("v.nii", with_dim(WHOLE, 10, 0, 10)),
    "claims-less-than-nothing": ("v.nii", with_dim(WHOLE, 10, -10, -10)),
    "unknown-type": ("v.nii", WHOLE[:70] + b"\x01\x77" + WHOLE[72:]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_file_is_refused_with_one_sentence(name: str, tmp_path: Path) -> None:
    file, content = BROKEN[name]
    path = tmp_path / file
    path.write_bytes(content)
    began = time.process_time()
    tracemalloc.start()
    with pytest.raises(LongigenError) as caught:
        read_volume(path, "sub-7")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    message = str(caught.value)
    assert message.startswith(f"{path} (subject sub-7) ")
    assert "\n" not in message
    assert message.endswith(".")
    assert peak < 10 * 2**20
    assert time.process_time() - began < 5


def test_random_corruption_raises_bad_data_only(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    refused = 0
    for number in range(300):
        name, content = ("v.nii", WHOLE) if number % 2 else ("v.nii.gz", ZIPPED)
        damaged = bytearray(content)
        for position in random.integers(0, 352, size=random.integers(1, 30)):
            damaged[position] = random.integers(256)
        (tmp_path / name).write_bytes(damaged)
        try:
            assert np.isfinite(read_volume(tmp_path / name, "s").data).all()
        except LongigenError:
            refused += 1
    assert refused > 100


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(LongigenError, match=r"gone\.nii \(subject s\) does not exist"):
        read_volume(tmp_path / "gone.nii", "s")
    (tmp_path / "folder.nii").mkdir()
    with pytest.raises(LongigenError, match="cannot be opened"):
        read_volume(tmp_path / "folder.nii", "s")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused(bad: float, tmp_path: Path) -> None:
    values = np.ones((3, 3, 3), dtype=np.float32)
    values[0, 0, :2] = bad
    nibabel.save(nibabel.Nifti1Image(values, AFFINE), tmp_path / "v.nii")
    with pytest.raises(LongigenError, match=r"v\.nii \(subject s\) has 2 NaN or infinite voxels"):
        read_volume(tmp_path / "v.nii", "s")


@pytest.mark.parametrize("dtype", ["c8", [("R", "u1"), ("G", "u1"), ("B", "u1")]])
def test_voxels_must_be_real_numbers(dtype: object, tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 3, 3), np.dtype(dtype)), AFFINE), tmp_path / "v.nii")  # type: ignore[arg-type]
    with pytest.raises(LongigenError, match="one real number per voxel"):
        open_image(tmp_path / "v.nii", "s")


def test_singular_affine_is_refused(tmp_path: Path) -> None:
    content = WHOLE[:280] + np.zeros(12, dtype="<f4").tobytes() + WHOLE[328:]
    (tmp_path / "v.nii").write_bytes(content)
    with pytest.raises(LongigenError, match="affine that cannot be inverted"):
        open_image(tmp_path / "v.nii", "s")


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (np.diag([1e-30, 1e-30, 1e-30, 1]), "has voxels of 1e-30 × 1e-30 × 1e-30 mm by its affine"),
        (np.diag([1e30, 1e30, 1e30, 1]), r"has voxels of .* mm by its affine, which no scanner makes"),
        (np.eye(4) + 1e38 * np.eye(4, k=3), r"lies 1e.38 mm from the origin"),
        (np.eye(4) + 2e3 * np.eye(4, k=1), "axes are almost parallel"),
    ],
)
def test_an_affine_that_places_no_voxel_is_refused(affine: np.ndarray, message: str, tmp_path: Path) -> None:
    affine[3] = (0, 0, 0, 1)
    header = image(9, 10, 11).header
    header.set_sform(affine, code=1)
    (tmp_path / "v.nii").write_bytes(header.binaryblock + WHOLE[348:])
    with pytest.raises(LongigenError, match=message):
        open_image(tmp_path / "v.nii", "s")


def test_a_header_of_fewer_voxels_than_the_file_has_is_refused(tmp_path: Path) -> None:
    fewer = with_dim(WHOLE, 8, 10, 11) + WHOLE[352:]
    for name, content in (("v.nii", fewer), ("v.nii.gz", gzip.compress(fewer))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(LongigenError, match="goes on after the last voxel of its header"):
            read_volume(tmp_path / name, "s")
    (tmp_path / "v.nii").write_bytes(WHOLE + bytes(512))  # padding to a block
    assert read_volume(tmp_path / "v.nii", "s").data.shape == (9, 10, 11)


def test_a_header_without_its_voxels_names_the_missing_file(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Pair(np.ones((3, 3, 3), np.float32), AFFINE), tmp_path / "v.hdr")
    (tmp_path / "v.img").unlink()
    with pytest.raises(BadData, match=r"v\.hdr \(subject s\) needs v\.img beside it, which does not exist"):
        open_image(tmp_path / "v.hdr", "s")


@pytest.mark.parametrize(
    ("shape", "frame", "message"),
    [
        ((4, 4), None, "is 2D, 4 × 4, where a 3D volume is needed; replace"),
        ((4, 4, 4, 3), None, "is 4D, 4 × 4 × 4 × 3, where a 3D volume is needed; give one of its frames"),
        ((4, 4, 4, 2, 3), None, "is 5D"),
        ((4, 4, 4, 3), 3, "no frame 3"),
        ((4, 4, 4, 3), -1, "no frame -1"),
        ((4, 4, 4), 0, "no frame 0"),
    ],
)
def test_wrong_dimensions(shape: tuple[int, ...], frame: int | None, message: str, tmp_path: Path) -> None:
    nibabel.save(image(*shape), tmp_path / "v.nii.gz")
    with pytest.raises(LongigenError, match=message):
        read_volume(tmp_path / "v.nii.gz", "s", frame)


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_voxels_and_affine_are_read_exactly(name: str, tmp_path: Path) -> None:
    four = image(4, 5, 6, 3)
    nibabel.save(four, tmp_path / name)
    for frame in range(3):
        volume = read_volume(tmp_path / name, "s", frame)
        np.testing.assert_array_equal(volume.data, np.asarray(four.dataobj)[..., frame])
        np.testing.assert_array_equal(volume.affine, AFFINE)
    nibabel.save(image(4, 5, 1, 1), tmp_path / name)
    assert read_volume(tmp_path / name, "s").data.shape == (4, 5, 1)


def test_highly_compressed_and_scaled_images_are_not_truncated(tmp_path: Path) -> None:
    zeros = nibabel.Nifti1Image(np.zeros((128, 128, 64), np.uint8), AFFINE)  # the highest compression of gzip
    nibabel.save(zeros, tmp_path / "z.nii.gz")
    assert not read_volume(tmp_path / "z.nii.gz", "s").data.any()
    scaled = nibabel.Nifti1Image(np.arange(8, dtype=np.int16).reshape(2, 2, 2), AFFINE)
    scaled.header.set_slope_inter(0.5, 3)
    (tmp_path / "i.nii").write_bytes(scaled.to_bytes())
    data = read_volume(tmp_path / "i.nii", "s").data
    assert data.dtype == np.float32
    stored = np.asarray(nibabel.load(tmp_path / "i.nii").dataobj)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(data, stored)


def test_canonical_shape_matches_nibabel() -> None:
    volume = image(4, 5, 6)
    assert canonical_shape(AFFINE, (4, 5, 6)) == nibabel.as_closest_canonical(volume).shape == (5, 4, 6)


def test_writing_and_reading_again(tmp_path: Path) -> None:
    volume = Volume(np.asarray(image(4, 5, 6).dataobj), AFFINE)
    path = tmp_path / "new" / "folder" / "v.nii.gz"
    write_volume(volume, path, "généré " + "x" * 100)
    again = read_volume(path, "s")
    np.testing.assert_array_equal(again.data, volume.data)
    np.testing.assert_array_equal(again.affine, AFFINE)
    written = nibabel.load(path)
    assert isinstance(written, nibabel.Nifti1Image)
    np.testing.assert_allclose(written.get_qform(), AFFINE, atol=1e-5)
    assert written.header.get_xyzt_units()[0] == "mm"
    assert bytes(written.header["descrip"]).startswith(b"g?n?r? x")
    assert [file.name for file in path.parent.iterdir()] == ["v.nii.gz"]


@pytest.mark.parametrize(
    "failure", [ValueError("of ours"), KeyboardInterrupt(), OSError(28, "No space left on device")]
)
def test_interrupted_write_keeps_old_file(failure: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "v.json"
    write_json({"a": 1}, path)

    def write() -> None:
        with atomic(path) as part:
            part.write_text("half of")
            raise failure

    expected = LongigenError if isinstance(failure, OSError) else type(failure)
    with pytest.raises(expected) as caught:
        write()
    if isinstance(failure, OSError):
        assert str(caught.value) == f"{path} cannot be written (No space left on device); choose another output folder."
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", [lambda path: write_json({}, path), lambda path: write_volume(VOLUME, path, "")])
def test_folder_that_cannot_be_created(write: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(LongigenError, match="cannot be written"):
        write(tmp_path / "file" / "v.nii")
    assert (tmp_path / "file").read_text() == "here"


def test_decompression_bomb_is_refused_without_decompressing(tmp_path: Path) -> None:
    content = with_dim(WHOLE, 1024, 1024, 1023)
    with gzip.open(tmp_path / "bomb.nii.gz", "wb", compresslevel=9) as file:
        file.write(content)
        for _ in range(256):  # 256 MB of zeros, after a header of a 4 GB image
            file.write(bytes(2**20))
    size = (tmp_path / "bomb.nii.gz").stat().st_size
    with (tmp_path / "bomb.nii.gz").open("ab") as file:
        file.write(bytes(5 * 2**20 - size))  # long enough for the ratio that deflate can reach
    tracemalloc.start()
    with pytest.raises(BadData, match="would grow from 5242880 to 4290773344 bytes") as caught:
        read_volume(tmp_path / "bomb.nii.gz", "s")
    assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    tracemalloc.stop()
    assert caught.value.finding.kind == "bomb"
    assert caught.value.finding.subject == "s"


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_frames_of_compressed_series_are_decompressed_once(dtype: type, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 100, (6, 5, 4, 7)).astype(dtype)
    series = nibabel.Nifti1Image(values, AFFINE)
    series.header.set_slope_inter(2.0, -3.0)
    nibabel.save(series, tmp_path / "s.nii.gz")
    stored = np.asarray(nibabel.load(tmp_path / "s.nii.gz").dataobj)  # type: ignore[attr-defined]
    for frame in (6, 0, 3, 3):
        np.testing.assert_array_equal(read_volume(tmp_path / "s.nii.gz", "s", frame).data, stored[..., frame])
    other = nibabel.Nifti1Image(values[..., ::-1], AFFINE)
    nibabel.save(other, tmp_path / "s.nii.gz")  # a replaced file is read again
    np.testing.assert_array_equal(read_volume(tmp_path / "s.nii.gz", "s", 0).data, values[..., 6])


VOLUME = Volume(np.zeros((2, 2, 2), dtype=np.float32), AFFINE)
