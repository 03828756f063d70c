"""What the doctor says of true label maps: each kind of damage is one sentence, and healthy ones are silent."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from helpers.files import write_image
from longigen import Finding
from longigen.data.quality.inspect import examine
from longigen_csv import CSVDataset

AFFINE = np.array([[-2.0, 0, 0, 20], [0, 2, 0, -15], [0, 0, 2.5, 7], [0, 0, 0, 1]])
SHAPE = (10, 9, 8)


class Labelled:
    """A table of three subjects with two visits each, whose label maps have the ventricles (3) and the caudate (5)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = ["subject,time,path,labels"]
        for subject in ("a", "b", "c"):
            for visit in (0, 1):
                values = np.random.default_rng(len(self.rows)).uniform(0, 1000, SHAPE).astype(np.float32)
                image = write_image(path / f"{subject}{visit}.nii", values, AFFINE)
                labels = self.labels(subject, visit, self.map())
                self.rows.append(f"{subject},{visit},{image.name},{labels.name}")

    @staticmethod
    def map() -> np.ndarray:
        labels = np.zeros(SHAPE, dtype=np.float32)
        labels[2:4], labels[5:7] = 3, 5
        return labels

    def labels(self, subject: str, visit: int, values: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
        return write_image(self.path / f"{subject}{visit}_labels.nii", values.astype(np.float32), affine)

    def examine(self) -> Sequence[Finding]:
        """Return what the doctor says of the table; the images themselves are healthy."""
        table = self.path / "visits.csv"
        table.write_text("\n".join(self.rows) + "\n", encoding="utf-8")
        return examine(CSVDataset(path=table, regions=("ventricles=3", "caudate=5")), workers=1).findings

    def sentences(self) -> list[str]:
        findings = self.examine()
        assert {finding.severity for finding in findings} <= {"warning"}
        return [str(finding).replace(f"{self.path}/", "") for finding in findings]


@pytest.fixture
def labelled(tmp_path: Path) -> Labelled:
    return Labelled(tmp_path)


def test_healthy_label_maps_are_silent_in_any_order_of_their_axes(labelled: Labelled) -> None:
    turned = labelled.map().transpose(1, 0, 2)[:, ::-1]
    affine = AFFINE[:, [1, 0, 2, 3]] @ np.diag([1.0, -1.0, 1.0, 1.0])
    affine[:3, 3] = AFFINE[:3, 3] + (SHAPE[0] - 1) * AFFINE[:3, 0]
    labelled.labels("b", 1, turned, affine)
    assert labelled.sentences() == []


def test_another_grid_than_the_image(labelled: Labelled) -> None:
    coarse = AFFINE @ np.diag([2.0, 1.0, 1.0, 1.0])
    for visit in (0, 1):
        labelled.labels("a", visit, labelled.map()[::2], coarse)
    moved = AFFINE.copy()
    moved[:3, 3] += (3.0, 0.0, 4.0)
    labelled.labels("b", 0, labelled.map(), moved)
    moved[:3, 3] = AFFINE[:3, 3] + 0.05
    labelled.labels("c", 0, labelled.map(), moved)
    advice = "check that it is of this image; each voxel gets the label of the nearest one."
    assert labelled.sentences() == [
        f"The label map of a0.nii (subject a) has 5 × 9 × 8 voxels, where the image has 10 × 9 × 8 (and 1 more of its "
        f"visits); {advice}",
        "The label map of b0.nii (subject b) has another affine than the image, by which its corners lie up to 5 mm "
        f"from the image's; {advice}",
    ]


def test_labels_that_are_no_whole_numbers(labelled: Labelled) -> None:
    labelled.labels("b", 1, labelled.map() / 2)
    (labelled.path / "c0_labels.nii").write_bytes(b"")
    found = labelled.examine()
    assert [(each.kind, each.subject, each.severity) for each in found] == [
        ("no-labels", "b", "warning"),
        ("unreadable", "c", "warning"),
    ]
    assert "b1.nii (subject b) has voxels that are no labels (0, 1, 2, …)" in str(found[0])
    assert "c0_labels.nii (subject c)" in str(found[1])


def test_subjects_without_label_maps(labelled: Labelled) -> None:
    labelled.rows = [row.rpartition(",")[0] + "," if row[0] in "bc" else row for row in labelled.rows]
    assert labelled.sentences() == [
        "visits.csv has label maps of 1 of 3 subjects, and none of b and 1 more; add them, or regions of these "
        "subjects are not scored against true labels."
    ]
    labelled.rows = [row.rpartition(",")[0] + "," if row[0] in "abc" else row for row in labelled.rows]
    assert labelled.sentences() == []


def test_empty_regions(labelled: Labelled) -> None:
    labelled.labels("b", 1, np.where(labelled.map() == 3, 0, labelled.map()))
    assert labelled.sentences() == [
        "The label map of b1.nii (subject b) has no voxel of ventricles; check whether the region is outside of the "
        "image, or was not marked."
    ]
    for subject in "abc":
        for visit in (0, 1):
            labelled.labels(subject, visit, np.where(labelled.map() == 3, 7, labelled.map()))
    assert labelled.sentences() == [
        "visits.csv has no label map with a voxel of ventricles; check the numbers of its labels."
    ]
