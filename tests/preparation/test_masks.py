"""Masks and where they come from, the bias field inside of them, and the grid around them."""

import json
from pathlib import Path

import numpy as np
import pytest

import longigen
from helpers.files import visit_of, write_image
from helpers.scans import AFFINE, SHAPE, head, write_scan
from longigen import LongigenError, Subject, Volume
from longigen.preparation.bias import correct_bias
from longigen.preparation.masks import choose_method, mask_of
from longigen.preparation.resampling import MidwayGrid, common_spacing

CUBE = np.zeros(SHAPE, dtype=np.uint8)
CUBE[6:18, 6:18, 6:18] = 1


@pytest.fixture
def bids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a BIDS data set of one subject with two visits, on a machine without a program for masks."""
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "sub-1").mkdir()
    (tmp_path / "sub-1" / "sub-1_sessions.tsv").write_text("session_id\tdays\nses-1\t0\nses-2\t9\n")
    for session in ("ses-1", "ses-2"):
        write_scan(tmp_path / "sub-1" / session / "anat" / f"sub-1_{session}_T1w.nii.gz")
    return tmp_path


def subject_of(root: Path) -> Subject:
    return longigen.open_dataset(root).subject("sub-1")


def test_masks_that_come_with_the_images_are_found(bids: Path) -> None:
    assert choose_method("auto", [subject_of(bids)])[0] == "nonzero"
    write_image(bids / "derivatives/fsl/sub-1/ses-1/anat/sub-1_ses-1_desc-brain_mask.nii.gz", CUBE, AFFINE)
    method, why = choose_method("auto", [subject_of(bids)])
    assert (method, why.partition(";")[0]) == ("nonzero", "1 of 2 visits have a brain mask of their own, too few")
    with pytest.raises(LongigenError, match=r"1 of 2 visits have no brain mask, such as .*ses-2_T1w"):
        choose_method("given", [subject_of(bids)])
    write_image(bids / "sub-1/ses-2/anat/sub-1_ses-2_desc-brain_mask.nii.gz", CUBE, AFFINE)
    subject = subject_of(bids)
    assert choose_method("auto", [subject]) == ("given", "each visit has one")
    mask = mask_of("given", subject.visits[0], subject.visits[0].load(), "sub-1")
    assert mask is not None
    np.testing.assert_array_equal(mask.data, CUBE)
    (bids / "sub-1/ses-2/anat/sub-1_ses-2_desc-brain_mask.nii.gz").unlink()
    with pytest.raises(LongigenError, match=r"ses-2_T1w.nii.gz \(subject sub-1\) has no brain mask"):
        mask_of("given", subject.visits[1], subject.visits[1].load(), "sub-1")
    write_image(bids / "derivatives/bet/sub-1/ses-1/anat/sub-1_ses-1_desc-brain_mask.nii.gz", CUBE, AFFINE)
    with pytest.raises(LongigenError, match="several brain masks"):
        choose_method("auto", [subject])


def test_a_program_that_is_not_installed_is_named(bids: Path) -> None:
    with pytest.raises(LongigenError, match="--mask synthstrip needs the program mri_synthstrip"):
        choose_method("synthstrip", [subject_of(bids)])
    for session in ("ses-1", "ses-2"):
        sidecar = bids / "sub-1" / session / "anat" / f"sub-1_{session}_T1w.json"
        sidecar.write_text(json.dumps({"SkullStripped": True}))
    assert choose_method("auto", [subject_of(bids)])[1] == "the sidecars say that the images are skull-stripped"


def test_the_voxels_other_than_0_are_one_part_without_holes() -> None:
    data = np.zeros((12, 12, 12), dtype=np.float32)
    data[2:9, 2:9, 2:9] = 5
    data[5, 5, 5] = 0
    data[11, 11, 11] = 7
    volume = Volume(data, np.eye(4))
    mask = mask_of("nonzero", visit_of(lambda: volume), volume, "s")
    assert mask is not None
    assert mask.data.sum() == 7**3
    empty = Volume(0 * data, np.eye(4))
    with pytest.raises(LongigenError, match=r"The mask of visit.nii .* is empty"):
        mask_of("nonzero", visit_of(lambda: empty), empty, "s")


def test_a_known_bias_field_is_removed_and_the_mean_stays() -> None:
    true = head(noise=0)
    inside = true > 0
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, size) for size in SHAPE), indexing="ij")
    field = np.exp(0.8 * x - 0.5 * y**2)
    mask = Volume(inside.astype(np.float32), AFFINE)
    given = Volume((true * field).astype(np.float32), AFFINE)
    corrected = correct_bias(given, mask).data

    def unevenness(image: np.ndarray) -> float:
        return float(np.std(np.log(image[inside] / true[inside])))

    assert unevenness(corrected) < 0.8 * unevenness(given.data)
    assert abs(np.log(given.data[inside] / corrected[inside]).mean()) < 0.01
    assert not corrected[~inside].any()
    with pytest.raises(LongigenError, match="N4 found no bias field"):
        correct_bias(Volume(-true, AFFINE), mask)


def test_a_grid_holds_all_visits_and_interpolation_is_exact_on_its_voxels() -> None:
    volume = Volume(head(), AFFINE)
    grid = MidwayGrid.around([volume], [np.eye(4)], (4.0, 4.0, 4.0))
    assert grid.shape == SHAPE
    np.testing.assert_allclose(grid.affine, AFFINE)
    np.testing.assert_allclose(grid.image_of(volume, np.eye(4)).data, volume.data, atol=0.1)
    coarse = MidwayGrid.around([volume], [np.eye(4)], (8.0, 8.0, 8.0)).image_of(volume, np.eye(4)).data
    assert coarse.mean() == pytest.approx(volume.data.mean(), rel=0.05)
    with pytest.raises(LongigenError, match="too many"):
        MidwayGrid.around([volume], [np.eye(4)], (0.05, 0.05, 0.05))
    assert common_spacing([(1, 1, 3), (1.2, 1, 3), (1, 1, 5)]) == (1, 1, 3)
