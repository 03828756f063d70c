"""What files state twice, or in the place of their content: headers, form codes, pairs, pointers, checksums."""

import gzip
import struct
import warnings
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from longigen import BadData, LongigenWarning, Subject, Visit, Volume, open_image, read_volume
from longigen.data.header import contradictions
from longigen.data.volume import write_volume

AFFINE = np.array([[-2.0, 0, 0, 20], [0, 2, 0, -24], [0, 0, 3, -24], [0, 0, 0, 1]])


def _ones(*shape: int) -> Any:
    return np.ones(shape, np.float32)


def write(
    path: Path, sform: np.ndarray | None, qform: np.ndarray | None, *, codes: tuple[int, int], seed: int = 0
) -> Path:
    """Write an image with the codes of sform and qform."""
    image = nibabel.Nifti1Image(np.random.default_rng(seed).uniform(0, 9, (5, 6, 7)).astype(np.float32), AFFINE)
    image.set_qform(qform, codes[1])
    image.set_sform(sform, codes[0])
    nibabel.save(image, path)
    return path


MOVED, MIRRORED = AFFINE.copy(), AFFINE @ np.diag([-1.0, 1, 1, 1])
MOVED[:3, 3] += 5


@pytest.mark.parametrize(
    ("sform", "qform", "codes", "kind"),
    [
        (AFFINE, AFFINE, (1, 1), None),
        (AFFINE, None, (1, 0), None),
        (None, AFFINE, (0, 1), None),
        (AFFINE, MOVED, (4, 1), None),  # two spaces
        (AFFINE, MOVED, (1, 1), "two-affines"),
        (AFFINE, MIRRORED, (4, 1), "two-affines"),
        (AFFINE @ np.diag([0.5, 0.5, 1, 1]), AFFINE, (1, 1), "two-voxel-sizes"),
        (None, None, (0, 0), "no-orientation"),
    ],
)
def test_contradictions(
    sform: np.ndarray | None, qform: np.ndarray | None, codes: tuple[int, int], kind: str | None, tmp_path: Path
) -> None:
    path = write(tmp_path / "v.nii", sform, qform, codes=codes)
    found = contradictions(open_image(path, "s"), path, "s")
    assert [(finding.kind, finding.severity) for finding in found] == ([(kind, "warning")] if kind else [])
    assert Visit.of_file(path, subject="s", time=0).cautions == found
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Subject.from_files([path, path], [0, 1])
    assert [issubclass(warning.category, LongigenWarning) for warning in caught] == ([True] if kind else [])


@pytest.mark.parametrize("code", range(6))
def test_a_form_code_survives(code: int, tmp_path: Path) -> None:
    path = write(tmp_path / "v.nii.gz", AFFINE, AFFINE, codes=(code, code))
    volume = read_volume(path, "s")
    assert volume.form == code
    write_volume(volume, tmp_path / "again.nii.gz", "")
    again = nibabel.load(tmp_path / "again.nii.gz")
    assert isinstance(again, nibabel.Nifti1Image)
    assert int(again.header["sform_code"]) == int(again.header["qform_code"]) == code
    np.testing.assert_allclose(again.affine, volume.affine, atol=1e-5)


def test_a_half_turn_stored_in_float32_is_read(tmp_path: Path) -> None:
    turned = np.diag([-2.0, -2, 3, 1])
    path = write(tmp_path / "v.nii", None, turned, codes=(0, 1))
    raw = bytearray(path.read_bytes())
    struct.pack_into("<3f", raw, 256, 0.0, 0.0, 1 + 5e-7)
    path.write_bytes(raw)
    np.testing.assert_allclose(read_volume(path, "s").affine, turned, atol=1e-5)
    struct.pack_into("<3f", raw, 256, 0.0, 0.0, 1.1)
    path.write_bytes(raw)
    with pytest.raises(BadData, match="cannot be opened as an image"):
        read_volume(path, "s")


def test_the_data_behind_a_header_is_part_of_its_identity(tmp_path: Path) -> None:
    path = tmp_path / "v.hdr"
    nibabel.save(nibabel.Nifti1Pair(_ones(4, 5, 6), AFFINE), path)
    before = Visit.of_file(path, subject="s", time=0)
    nibabel.save(nibabel.Nifti1Pair(2 * _ones(4, 5, 6), AFFINE), tmp_path / "w.hdr")
    (tmp_path / "v.img").unlink()
    (tmp_path / "w.img").replace(tmp_path / "v.img")
    after = Visit.of_file(path, subject="s", time=0)
    assert before.identity != after.identity
    assert after.load().data.max() == 2


@pytest.mark.parametrize("name", ["v.nii.gz", "V.NII.GZ", "v.mgz"])
@pytest.mark.parametrize("frame", [None, 1])
def test_changed_voxels_of_a_compressed_file_are_refused(name: str, frame: int | None, tmp_path: Path) -> None:
    shape = (8, 9, 10) if frame is None else (8, 9, 10, 3)
    data = np.random.default_rng(0).integers(0, 2000, shape).astype(np.float32)
    kind = nibabel.MGHImage if name.endswith("mgz") else nibabel.Nifti1Image
    raw = bytearray(kind(data, AFFINE).to_bytes())
    path = tmp_path / name
    good = gzip.compress(bytes(raw))
    path.write_bytes(good)
    volume = read_volume(path, "s", frame)
    np.testing.assert_array_equal(volume.data, data if frame is None else data[..., frame])
    raw[2000] ^= 1  # a voxel that differs from what the checksum says
    for damaged in (gzip.compress(bytes(raw))[:-8] + good[-8:], good[:-4] + b"\0\0\0\1"):
        path.write_bytes(damaged)
        with pytest.raises(BadData, match="is truncated or damaged"):
            read_volume(path, "s", frame)


def test_what_is_corrected_in_a_header_is_said_of_its_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "v.nii", AFFINE, AFFINE, codes=(1, 1))
    raw = bytearray(path.read_bytes())
    raw[254:256] = struct.pack("<h", 77)  # sform_code
    path.write_bytes(raw)
    (finding,) = contradictions(open_image(path, "s"), path, "s")
    assert finding.kind == "corrected-header"
    assert str(finding).startswith(f"{path} (subject s) has a header that is read otherwise than it is written (sform")
    assert caplog.messages == []  # nibabel's own message names no file
    nibabel.load(path)
    assert caplog.messages == ["sform_code 77 not valid; setting to 0"]  # and stays for others


def test_a_file_that_goes_on_after_its_voxels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.nii.gz"
    raw = nibabel.Nifti1Image(_ones(4, 4, 4), AFFINE).to_bytes()
    path.write_bytes(gzip.compress(raw + bytes(1000)))
    assert read_volume(path, "s").data.shape == (4, 4, 4)
    path.write_bytes(gzip.compress(raw + bytes(2**27), 1))
    with pytest.raises(BadData, match="goes on after the last voxel of its header"):
        read_volume(path, "s")


@pytest.mark.parametrize(("shape", "step"), [((4, 5, 6, 3, 1), 2.0), ((4, 5, 6, 1, 3), 0.0), ((4, 5, 6, 3, 1, 1), 2.0)])
def test_a_series_with_more_axes_is_a_series(shape: tuple[int, ...], step: float, tmp_path: Path) -> None:
    data = np.random.default_rng(0).uniform(0, 9, shape).astype(np.float32)
    image = nibabel.Nifti1Image(data, AFFINE)
    image.header["pixdim"][4] = 2
    nibabel.save(image, tmp_path / "v.nii.gz")
    opened = open_image(tmp_path / "v.nii.gz", "s")
    assert opened.shape == (4, 5, 6, 3)
    assert isinstance(opened.header, nibabel.Nifti1Header)
    assert float(opened.header["pixdim"][4]) == step
    for frame in range(3):
        read = read_volume(tmp_path / "v.nii.gz", "s", frame)
        np.testing.assert_array_equal(read.data, data.reshape(4, 5, 6, 3)[..., frame])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"/annex/objects/MD5E-s7--01.nii.gz\n", "git-annex"),
        (b"../../.git/annex/objects/x1/y2/MD5E-s7--01.nii.gz/MD5E-s7--01.nii.gz", "git-annex"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n", "Git LFS"),
    ],
)
def test_a_pointer_is_not_an_image(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "v.nii.gz"
    path.write_bytes(content)
    with pytest.raises(BadData, match=f"is a pointer of {words}, whose content was not fetched; fetch it with"):
        open_image(path, "s")


def test_integers_of_an_mgz_are_plain(tmp_path: Path) -> None:
    nibabel.save(nibabel.MGHImage(_ones(4, 5, 6), AFFINE), tmp_path / "v.mgz")
    visit = Visit.of_file(tmp_path / "v.mgz", subject="s", time=0)
    assert all(type(size) is int for size in visit.shape)
    assert isinstance(visit.load(), Volume)
