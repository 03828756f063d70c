"""The data set `bids`: the label maps of visits, by the entities of their names, and the regions that they show."""

import pickle
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from longigen import BadData
from longigen.data.grid import labels_on_grid_of
from longigen.data.regions import region_mask
from longigen_bids import BIDSDataset

FINE, COARSE = np.diag([2.0, 2.0, 2.0, 1.0]), np.diag([-4.0, 4.0, 4.0, 1.0])
COARSE[:3, 3] = 13.0, 1.0, 1.0
"""Voxels of 2 mm, and of 4 mm over the same field of view, with an axis the other way."""


class Tree:
    """A BIDS data set of one subject with two sessions, to which a test adds label maps."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for session in "ab":
            values = np.random.default_rng(0).uniform(0, 100, (8, 8, 8)).astype(np.float32)
            self.save(self.path(session, "T1w"), values, FINE)
        self.write("sub-01/sub-01_sessions.tsv", "session_id\tdays", "ses-a\t0", "ses-b\t90")

    def path(self, session: str, name: str, root: str = "") -> Path:
        return self.root / root / "sub-01" / f"ses-{session}" / "anat" / f"sub-01_ses-{session}_{name}.nii.gz"

    def labels(self, session: str, name: str, values: np.ndarray, affine: np.ndarray = FINE, root: str = "") -> Path:
        return self.save(self.path(session, name, root), values.astype(np.uint8), affine)

    @staticmethod
    def save(path: Path, values: np.ndarray, affine: np.ndarray) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(values, affine), path)
        return path

    def write(self, name: str, *lines: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def open(self, **config: Any) -> BIDSDataset:
        dataset = BIDSDataset.from_config({"path": self.root, **config})
        return pickle.loads(pickle.dumps(dataset))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "ds")


def box(shape: int, *regions: tuple[int, slice]) -> np.ndarray:
    """Return a cube of labels, each of which fills a slab of its first axis."""
    values = np.zeros((shape,) * 3)
    for label, slab in regions:
        values[slab] = label
    return values


def volumes(dataset: BIDSDataset) -> list[dict[str, float] | None]:
    """Return the volume in mm³ of each region in each visit, on the visit's own voxels; None without a label map."""
    (subject,) = dataset.subjects()
    found: list[dict[str, float] | None] = []
    for visit in subject.visits:
        labels, image = visit.read_labels("sub-01"), visit.read("sub-01")
        if labels is None:
            found.append(None)
            continue
        placed = labels_on_grid_of(labels, image)
        voxel = float(np.prod(visit.spacing))
        names = dict.fromkeys(dataset.regions.values())
        found.append({name: voxel * int(region_mask(placed, dataset.regions, name).sum()) for name in names})
    return found


def test_label_maps_beside_the_image_and_their_tables(tree: Tree) -> None:
    tree.labels("a", "dseg", box(8, (4, slice(0, 2)), (43, slice(2, 3))))
    tree.labels("b", "dseg", box(8, (4, slice(0, 4))))
    tree.write("dseg.tsv", "index\tname", "0\tbackground", "4\tventricles", "43\tcaudate")
    dataset = tree.open()
    assert dataset.regions == {4: "ventricles", 43: "caudate"}
    assert volumes(dataset) == [{"ventricles": 1024, "caudate": 512}, {"ventricles": 2048, "caudate": 0}]
    assert dataset.cautions == ()
    together = tree.open(regions=("both=4+43",))
    assert volumes(together) == [{"both": 1536}, {"both": 2048}]


def test_label_maps_of_derivatives_on_another_grid_take_the_nearest_label(tree: Tree) -> None:
    """The half of the field of view with the higher x is the first half of an axis that runs the other way."""
    tree.labels("a", "desc-aseg_dseg", box(4, (7, slice(0, 2))), COARSE, root="derivatives/seg")
    tree.write("derivatives/seg/desc-aseg_dseg.tsv", "index\tname", "7\tcerebellum")
    tree.write("derivatives/seg/desc-other_dseg.tsv", "index\tname", "7\tsomething else")
    dataset = tree.open()
    assert volumes(dataset) == [{"cerebellum": 2048}, None]
    first = dataset.subjects()[0].visits[0]
    labels = first.read_labels("sub-01")
    assert labels is not None
    placed = labels_on_grid_of(labels, first.read("sub-01"))
    assert np.array_equal(placed.data, box(8, (7, slice(4, 8))))


def test_masks_with_a_label_are_regions(tree: Tree) -> None:
    tree.labels("a", "label-WM_mask", box(8, (1, slice(0, 2))))
    tree.labels("a", "label-GM_mask", box(8, (1, slice(2, 5))))
    brain = tree.labels("a", "desc-brain_mask", box(8, (1, slice(0, 8))))
    dataset = tree.open()
    assert dataset.regions == {1: "GM", 2: "WM"}
    assert volumes(dataset) == [{"GM": 1536, "WM": 1024}, None]
    sentence = f"{brain} is not read as a label map, since a mask is one only if its name has a label-."
    assert dataset.cautions == (sentence,)
    assert volumes(tree.open(labels=("label-WM",))) == [{"WM": 1024}, None]
    tree.labels("a", "label-CSF_mask", box(8, (1, slice(1, 3))))
    with pytest.raises(BadData, match=r"overlaps with another mask.*--set labels=label-NAME"):
        volumes(tree.open())
    assert volumes(tree.open(labels=("label-WM", "label-GM"))) == [{"GM": 1536, "WM": 1024}, None]
    tree.labels("a", "label-CSF_mask", box(8, (3, slice(7, 8))))
    with pytest.raises(BadData, match="has other values than 0 and 1, so it is no mask"):
        volumes(tree.open())


def test_label_maps_of_other_images_are_left_out_and_said(tree: Tree) -> None:
    values = box(8, (1, slice(0, 2)))
    for name in ("space-MNI152_dseg", "run-2_dseg"):
        tree.labels("a", name, values)
    own = tree.labels("a", "space-T1w_desc-aseg_dseg", values)
    outside = tree.root / "sub-01" / "anat" / "sub-01_dseg.nii.gz"
    tree.save(outside, values.astype(np.uint8), FINE)
    dataset = tree.open(regions=("ventricles=1",))
    assert volumes(dataset) == [{"ventricles": 1024}, None]
    assert dataset.cautions == (
        f"{tree.path('a', 'run-2_dseg')} and 2 others are not read as a label map, since no image that is read has "
        "its session, entities and space.",
    )
    own.rename(tree.path("a", "space-orig_dseg"))
    assert volumes(tree.open(regions=("ventricles=1",)))[0] == {"ventricles": 1024}


def test_ambiguous_label_maps_are_not_used_before_one_is_chosen(tree: Tree) -> None:
    tree.labels("a", "desc-aseg_dseg", box(8, (1, slice(0, 2))))
    tree.labels("a", "desc-tissue_dseg", box(8, (1, slice(0, 4))), root="derivatives/seg")
    tree.labels("a", "label-WM_mask", box(8, (1, slice(0, 6))))
    dataset = tree.open(regions=("ventricles=1",))
    assert volumes(dataset) == [None, None]
    masks, ambiguous = dataset.cautions
    assert "label-WM_mask.nii.gz is not read as a label map, since there are dseg files too" in masks
    assert "none of them is used; choose with --set labels=desc-aseg or desc-tissue." in ambiguous
    chosen = tree.open(regions=("ventricles=1",), labels=("desc-tissue",))
    assert volumes(chosen) == [{"ventricles": 2048}, None]
    assert volumes(tree.open(regions=("ventricles=1",), labels_from="seg")) == [{"ventricles": 2048}, None]
    assert volumes(tree.open(labels=("mask",))) == [{"WM": 3072}, None]


def test_what_is_not_known_of_label_maps_is_said(tree: Tree) -> None:
    (caution,) = tree.open(regions=("ventricles=1",)).cautions
    assert caution.startswith("There is no label map (*_dseg.nii.gz, or *_mask.nii.gz with a label-) in ")
    for session in "ab":
        tree.labels(session, "dseg", box(8, (1, slice(0, 2))))
    dataset = tree.open()
    assert (dataset.regions, volumes(dataset)) == ({}, [None, None])
    assert "it is not known which regions they show" in dataset.cautions[0]
    (caution,) = tree.open(labels=("desc-asegg",)).cautions
    assert caution == "No label map has desc-asegg. Their names have: dseg."
    for session, name in (("a", "caudate"), ("b", "putamen")):
        tree.write(f"sub-01/ses-{session}/anat/sub-01_ses-{session}_dseg.tsv", "index\tname", f"1\t{name}")
    dataset = tree.open()
    assert volumes(dataset) == [None, None]
    assert "label 1 is 'caudate' in " in dataset.cautions[0]
    assert "and 'putamen' in " in dataset.cautions[0]
