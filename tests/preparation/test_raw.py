"""Data that are not ready: times in a folder tree's names, DICOM files, and what cannot be read."""

import locale
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

import longigen
from helpers.files import write_image
from longigen import LongigenError
from longigen.preparation.raw import RawData, open_raw


def tree(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        write_image(root / f"{name}.nii.gz", np.random.default_rng(number).random((4, 4, 4), dtype=np.float32))
    return root


def times_of(data: RawData) -> dict[str, tuple[float, ...]]:
    return {subject.id: subject.times for subject in data.subjects}


@pytest.mark.parametrize(
    ("visits", "unit", "times"),
    [
        (("2015-09-24", "2016-09-23"), "days", (0, 365)),
        (("ses-20150924", "20150930101500"), "days", (0, 6)),
        (("m00", "m06", "m12"), "months", (0, 6, 12)),
        (("baseline", "year_2"), "years", (0, 2)),
        (("0.5years", "1.5 y"), "years", (0.5, 1.5)),
        (("V10", "V9"), "index", (0, 1)),
        (("m12", "y2"), "index", (0, 1)),
        (("20151399", "20151398"), "index", (0, 1)),
    ],
)
def test_times_are_in_the_names_of_visits(visits: tuple[str, ...], unit: str, times: object, tmp_path: Path) -> None:
    data = open_raw(str(tree(tmp_path / "raw", *(f"s1/{visit}/t1" for visit in visits))), (), None, tmp_path / "out")
    assert (data.time_unit, times_of(data)) == (unit, {"s1": times})
    assert any(("numbered" in note) == (unit == "index") for note in data.notes)


def test_names_sort_as_people_count(tmp_path: Path) -> None:
    data = open_raw(str(tree(tmp_path / "raw", "s/V10", "s/V9")), (), None, tmp_path / "out")
    assert [Path(visit.source).name for visit in data.subjects[0].visits] == ["V9.nii.gz", "V10.nii.gz"]


def test_images_are_chosen_by_name_and_masks_are_no_visits(tmp_path: Path) -> None:
    raw = tree(tmp_path / "raw", "s/m0/t1", "s/m0/t2", "s/m6/t1", "s/m6/t1_mask")
    with pytest.raises(LongigenError, match=r"m0 holds 2 images of a visit.*--images"):
        open_raw(str(raw), (), None, tmp_path / "out")
    data = open_raw(str(raw), (), "t1*", tmp_path / "out")
    assert [Path(visit.source).name for visit in data.subjects[0].visits] == ["t1.nii.gz"] * 2
    assert "1 images whose names are not like 't1*' are left out." in data.notes
    with pytest.raises(LongigenError, match="no image with a name like 'FLAIR'"):
        open_raw(str(raw), (), "FLAIR", tmp_path / "out")


def test_one_contrast_is_prepared_at_a_time(tmp_path: Path) -> None:
    volume = np.ones((4, 5, 6), dtype=np.float32)
    for session in ("1", "2"):
        for suffix in ("T1w", "FLAIR"):
            anat = tmp_path / "sub-a" / f"ses-{session}" / "anat"
            write_image(anat / f"sub-a_ses-{session}_{suffix}.nii.gz", volume)
    (tmp_path / "sub-a" / "sub-a_sessions.tsv").write_text("session_id\tage\nses-1\t70\nses-2\t71\n")
    with pytest.raises(LongigenError, match=r"have the images T1w, FLAIR, .* choose it, such as --set suffix=T1w"):
        open_raw(str(tmp_path), ["suffix=T1w,FLAIR"], None, tmp_path / "out")
    assert times_of(open_raw(str(tmp_path), ["suffix=FLAIR"], None, tmp_path / "out")) == {"sub-a": (70, 71)}


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(LongigenError, match=r"neither NIfTI .* nor DICOM"):
        open_raw(str(empty), (), None, tmp_path / "out")
    with pytest.raises(LongigenError, match="neither a data set nor a path"):
        open_raw(str(tmp_path / "missing"), (), None, tmp_path / "out")
    raw = tree(tmp_path / "raw", "s/m0", "s/m6")
    with pytest.raises(LongigenError, match="is inside of"):
        open_raw(str(raw), (), None, raw / "prepared")
    with pytest.raises(LongigenError, match="has no parameters; leave out --set suffix=T1w"):
        open_raw(str(raw), ["suffix=T1w"], None, tmp_path / "out")
    with pytest.raises(LongigenError, match="choose with --set instead"):
        open_raw("sim-brain", (), "*T1*", tmp_path / "out")
    with pytest.raises(LongigenError, match=r"spacing must be a number from 0.05 to 100, got 0"):
        longigen.prepare(raw, tmp_path / "out", spacing=0)
    with pytest.raises(LongigenError, match="one number or three such as 1,1,3; got '1,2'"):
        longigen.prepare(raw, tmp_path / "out", spacing="1,2")
    with pytest.raises(LongigenError, match="mask must be one of"):
        longigen.prepare(raw, tmp_path / "out", mask="brain")  # type: ignore[arg-type]


def test_without_simpleitk_a_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(LongigenError, match=r"needs SimpleITK; install it with pip install 'longigen\[prepare\]'"):
        longigen.prepare(tree(tmp_path / "raw", "s/m0", "s/m6"), tmp_path / "out", progress=False)


def write_dicom(folder: Path, patient: str, day: str) -> None:
    """Write a small series as a scanner does, a file for each slice."""
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        folder.mkdir(parents=True)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        uid = f"1.2.826.0.1.3680043.2.1125.{int(day)}"
        for number in range(10):
            image = sitk.GetImageFromArray(np.full((1, 12, 14), 100 + number, dtype=np.int16))
            image.SetSpacing((2, 2, 3))
            tags = {
                "0008|0060": "MR", "0008|0008": "ORIGINAL\\PRIMARY\\M", "0010|0020": patient, "0010|0010": "Doe^Jane",
                "0008|0020": day, "0008|0030": "101500", "0008|103e": "T1 MPRAGE", "0020|000d": f"{uid}.1",
                "0020|000e": f"{uid}.2", "0008|0018": f"{uid}.3.{number + 1}", "0020|0011": "1", "0018|0050": "3",
                "0020|0013": str(number + 1), "0020|0032": f"0\\0\\{3 * number}", "0020|0037": "1\\0\\0\\0\\1\\0",
            }  # fmt: skip
            for key, value in tags.items():
                image.SetMetaData(key, value)
            writer.SetFileName(str(folder / f"{number:03d}.dcm"))
            writer.Execute(image)
    finally:
        locale.setlocale(locale.LC_CTYPE, before)  # ITK's writer sets it to C, for the whole process


def test_dicom_without_dcm2niix_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dicom(tmp_path / "raw" / "a", "P_01", "20150924")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LongigenError, match="dcm2niix converts, and it is not installed; install it with 'pip install"):
        open_raw(str(tmp_path / "raw"), (), None, tmp_path / "out")


@pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="needs dcm2niix (pip install dcm2niix)")
def test_dicom_is_converted_once(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    write_dicom(raw / "a", "P_01", "20150924")
    write_dicom(raw / "b" / "deep", "P_01", "20151024")
    data = open_raw(str(raw), (), None, out)
    assert (data.time_unit, times_of(data)) == ("days", {"P_01": (0, 30)})
    assert data.subjects[0].visits[0].shape == (14, 12, 10)
    assert data.notes[0].startswith("dcm2niix converted 20 DICOM files to 2 images")
    for sidecar in out.rglob("*.json"):
        assert "Doe" not in sidecar.read_text()
    again = open_raw(str(raw), (), None, out)
    assert "were converted before" in again.notes[0]
    assert [visit.identity for visit in again.subjects[0].visits] == [v.identity for v in data.subjects[0].visits]
    write_dicom(raw / "c", "P_01", "20151124")
    with pytest.raises(LongigenError, match="prepare them in another folder"):
        open_raw(str(raw), (), None, out)
    write_dicom(tmp_path / "anonymous" / "a", "", "20151124")
    with pytest.raises(LongigenError, match="have no PatientID"):
        open_raw(str(tmp_path / "anonymous"), (), None, tmp_path / "other")
