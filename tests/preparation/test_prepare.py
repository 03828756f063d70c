"""`longigen.prepare` from files to a data set: BIDS, resuming, subjects that fail, label maps, and the command."""

import json
import os
import shutil
import stat
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.affines import apply_affine
from scipy.ndimage import map_coordinates

import longigen
from helpers.files import write_image
from helpers.processes import Longigen
from helpers.scans import AFFINE, SHAPE, head, motion, write_scan
from longigen import LongigenError
from longigen.models.bids_description import FolderKind, describe_folder
from longigen.preparation.rigid import shift_and_angle

MOTION = motion((3, -4, 2), (4, -2, 3))
MIDDLE = apply_affine(AFFINE, (np.array(SHAPE) - 1) / 2)
STEM = "sub-01/ses-{0}/anat/sub-01_ses-{0}_acq-x"
IMAGE = STEM + "_space-midway_desc-preproc_T1w.nii.gz"


def write_raw(root: Path) -> Path:
    """Write a BIDS data set of two subjects with label maps; the second visit of each is moved by `MOTION`."""
    root.mkdir()
    (root / "dataset_description.json").write_text(json.dumps({"Name": "raw", "BIDSVersion": "1.9.0"}))
    (root / "participants.tsv").write_text("participant_id\tsex\tsplit\nsub-01\tF\ttrain\nsub-02\tM\ttest\n")
    (root / "dseg.tsv").write_text("index\tname\n3\tcore\n")
    for number, subject in enumerate(("sub-01", "sub-02")):
        (root / subject).mkdir()
        rows = "session_id\tage\tweeks\nses-a\t60.1\t0\nses-b\t61.3\t62\n"
        (root / subject / f"{subject}_sessions.tsv").write_text(rows)
        for place, session in enumerate(("ses-a", "ses-b")):
            stem = root / subject / session / "anat" / f"{subject}_{session}_acq-x"
            moved = np.eye(4) if place == 0 else MOTION
            write_scan(stem.with_name(f"{stem.name}_T1w.nii.gz"), moved, seed=10 * number + place)
            write_image(
                stem.with_name(f"{stem.name}_dseg.nii.gz"), 3 * (head(moved, noise=0) > 400).astype(np.uint8), AFFINE
            )
    return root


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_raw(tmp_path_factory.mktemp("data") / "raw")


@pytest.fixture(scope="module")
def prepared(raw: Path) -> Path:
    out = raw / "derivatives" / "prepared"
    done = longigen.prepare(raw, out, spacing=4, bias="none", changes=["suffix=T1w"], progress=False)
    assert (done.prepared, done.kept, done.failed) == (("sub-01", "sub-02"), (), ())
    assert str(done.settings) == "--mask nonzero --bias none --spacing 4,4,4"
    return out


def test_the_folder_is_a_data_set(prepared: Path) -> None:
    dataset = longigen.open_dataset(prepared)
    assert (dataset.time_unit, dataset.cautions, dict(dataset.regions)) == ("years", (), {3: "core"})
    first, second = dataset.subjects()
    assert (first.times, first.part, second.part) == ((60.1, 61.3), "train", "test")
    assert dict(first.visits[1].covariates) == {"age": 61.3, "sex": 0.0, "weeks": 62.0}
    assert dict(second.visits[0].covariates)["sex"] == 1.0
    shapes = {visit.shape for visit in first.visits}
    assert len(shapes) == 1
    findings = longigen.examine(prepared, progress=False).findings
    assert {finding.kind for finding in findings if finding.severity == "error"} <= {"no-split"}  # of two subjects


def test_visits_lie_on_each_other(prepared: Path) -> None:
    images = [nibabel.load(prepared / IMAGE.format(session)) for session in "ab"]
    assert nibabel.aff2axcodes(images[0].affine) == ("R", "A", "S")
    np.testing.assert_array_equal(images[0].affine[:3, :3], 4 * np.eye(3))
    np.testing.assert_array_equal(images[0].affine, images[1].affine)
    first, second = (image.get_fdata() for image in images)
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.99
    mask = nibabel.load(prepared / "sub-01/anat/sub-01_space-midway_desc-foreground_mask.nii.gz").get_fdata()
    assert not first[mask == 0].any()
    assert not second[mask == 0].any()
    record = json.loads((prepared / "sub-01/sub-01_preparation.json").read_text())
    assert record["correlation"]["before"] < 0.95
    assert record["correlation"]["after"] > 0.98


def test_transforms_are_written_for_people_and_for_itk(prepared: Path) -> None:
    matrices = []
    for session in "ab":
        sidecar = json.loads((prepared / IMAGE.format(session).replace(".nii.gz", ".json")).read_text())
        matrices.append(np.array(sidecar["transform"]["matrix"]))
        assert sidecar["SkullStripped"] is False
        assert sidecar["Sources"] == ["bids:input:" + STEM.format(session) + "_T1w.nii.gz"]
        written = sitk.ReadTransform(str(prepared / (STEM.format(session) + "_from-orig_to-midway_mode-image_xfm.txt")))
        point = np.array([10.0, -20, 5])
        moved = np.array(written.TransformPoint((apply_affine(matrices[-1], point) * (-1, -1, 1)).tolist())) * (
            -1,
            -1,
            1,
        )
        np.testing.assert_allclose(moved, point, atol=1e-4)
    shift, angle = shift_and_angle(np.linalg.inv(MOTION) @ np.linalg.inv(matrices[1]) @ matrices[0], MIDDLE)
    assert max(shift, angle) < 0.3


def test_label_maps_travel_with_their_visits(raw: Path, prepared: Path) -> None:
    for session in "ab":
        given, made = (
            nibabel.load(root / f"{STEM.format(session)}{space}_dseg.nii.gz")
            for root, space in ((raw, ""), (prepared, "_space-midway"))
        )
        sidecar = json.loads((prepared / IMAGE.format(session).replace(".nii.gz", ".json")).read_text())
        back = np.linalg.inv(np.array(sidecar["transform"]["matrix"]) @ given.affine) @ made.affine
        places = apply_affine(back, np.moveaxis(np.indices(made.shape), 0, -1))
        nearest = map_coordinates(given.get_fdata(), np.moveaxis(places, -1, 0), order=0, mode="constant")
        assert (made.get_fdata() == nearest).mean() > 0.999
        assert (nearest == 3).sum() > 200


def test_there_is_a_picture_of_each_subject(prepared: Path) -> None:
    from PIL import Image

    for subject in ("sub-01", "sub-02"):
        with Image.open(prepared / subject / "figures" / f"{subject}_desc-preparation.png") as picture:
            assert min(picture.size) > 300
            assert len(set(picture.convert("RGB").resize((60, 60)).getdata())) > 50


def test_the_official_validator_has_nothing_against_it(prepared: Path) -> None:
    from generation.test_bids_output import validated  # type: ignore[import-not-found]

    assert validated(prepared) == []


def test_what_is_done_is_kept(raw: Path, prepared: Path, tmp_path: Path) -> None:
    out = tmp_path / "prepared"
    shutil.copytree(prepared, out)
    changed = out / "sub-02" / "sub-02_preparation.json"
    record = json.loads(changed.read_text())
    record["inputs"][0]["identity"] = "of another file"
    changed.write_text(json.dumps(record))
    done = longigen.prepare(raw, out, bias="none", changes=["suffix=T1w"], progress=False)
    assert (done.prepared, done.kept) == (("sub-02",), ("sub-01",))
    assert json.loads(changed.read_text())["inputs"] != record["inputs"]


def test_other_settings_are_refused(raw: Path, prepared: Path) -> None:
    for other in ({"bias": "n4"}, {"spacing": 2}, {"mask": "none"}):
        with pytest.raises(
            LongigenError, match=r"was prepared with --mask nonzero --bias none --spacing 4,4,4, not with"
        ):
            longigen.prepare(raw, prepared, changes=["suffix=T1w"], progress=False, **{"bias": "none", **other})  # type: ignore[arg-type]
    with pytest.raises(LongigenError, match=r"holds something else \('Scans, prepared by longigen'\)"):
        describe_folder(prepared, FolderKind("Synthetic images", "", ()), {}, "years", "bids", None)
    with pytest.raises(LongigenError, match="is a BIDS data set that longigen did not write"):
        longigen.prepare(raw, raw, changes=["suffix=T1w"], bias="none", progress=False)


def test_a_tree_by_the_command_with_a_subject_that_fails(longigen: Longigen, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for subject in ("p 1", "p2"):
        write_scan(tree / subject / "m00.nii.gz")
        write_scan(tree / subject / "m12" / "t1.nii.gz", MOTION, seed=1)
    broken = tree / "p2" / "m12" / "t1.nii.gz"
    broken.write_bytes(broken.read_bytes()[:5000])
    out = tmp_path / "out"
    words = ["prepare", tree, out, "--bias", "none", "--spacing", "4,4,5"]
    first = longigen(*words, status=1)
    assert "Times are the months in the visits' names, such as m00." in first.stderr
    assert "sub-p1 for 'p 1'" in first.stderr
    assert f"failed: p2: {broken} (subject p2) is truncated" in first.stderr
    assert first.stdout == f"{out}: prepared 1, kept 0, failed 1\n"
    assert sorted(path.name for path in out.glob("sub-*")) == ["sub-p1"]
    write_scan(broken, MOTION, seed=1)
    second = longigen(*words)
    assert second.stdout == f"{out}: prepared 1, kept 1, failed 0\n"
    assert (out / "participants.tsv").read_text() == "participant_id\toriginal_id\nsub-p1\tp 1\nsub-p2\tp2\n"
    assert (out / "sub-p2/sub-p2_sessions.tsv").read_text() == "session_id\ttime\nses-0months\t0\nses-12months\t12\n"
    (name,) = (out / "sub-p2/ses-12months/anat").glob("*.nii.gz")
    assert nibabel.load(name).header.get_zooms() == (4, 4, 5)


def test_brain_masks_of_a_program_are_united(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "mri_synthstrip"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\n"
        "import sys, nibabel\n"
        "image = nibabel.load(sys.argv[sys.argv.index('-i') + 1])\n"
        "mask = nibabel.Nifti1Image((image.get_fdata() > 150).astype('uint8'), image.affine)\n"
        "nibabel.save(mask, sys.argv[sys.argv.index('-m') + 1])\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", os.pathsep.join([str(program.parent), os.environ["PATH"]]))
    tree = tmp_path / "tree"
    write_scan(tree / "s" / "day0.nii.gz")
    write_scan(tree / "s" / "day30.nii.gz", MOTION, seed=1)
    done = longigen.prepare(tree, tmp_path / "out", bias="none", progress=False)
    assert (done.settings.mask, done.failed) == ("synthstrip", ())
    mask = nibabel.load(tmp_path / "out/sub-s/anat/sub-s_space-midway_desc-brain_mask.nii.gz").get_fdata()
    (sidecar,) = (tmp_path / "out/sub-s/ses-30days/anat").glob("*.json")
    assert json.loads(sidecar.read_text())["SkullStripped"] is True
    share = (head(noise=0) > 150).sum() / mask.sum()
    assert 0.7 < share <= 1.05
    program.write_text("#!/bin/sh\necho no licence >&2\nexit 3\n")
    failed = longigen.prepare(tree, tmp_path / "other", bias="none", progress=False).failed
    assert "mri_synthstrip made no mask of a visit of s (exit status 3: no licence)" in failed[0]
