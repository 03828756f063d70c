"""Tests of preprocessing: grid placement, intensity range, and the pipeline with its inverse."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nibabel.affines import from_matvec, voxel_sizes

from helpers.files import SHARED, visit_of
from helpers.volumes import noise, oriented
from longigen import LongigenError, Subject, Volume
from longigen.data.cache import VisitCache
from longigen.data.grid import Box, Grid, Placement
from longigen.data.intensity import IntensityRange
from longigen.data.preprocess import Preprocess, PreprocessSettings
from longigen.data.volume import read_volume, write_volume
from longigen.errors import LongigenWarning

DATA = SHARED
REAL = sorted(DATA.glob("ms_bids/sub-*/ses-*/anat/*_FLAIR.nii.gz")) + sorted(DATA.glob("ixi/*_ds.nii.gz"))


def subject_of(*volumes: Volume, reads: list[int] | None = None) -> Subject:
    def load(index: int) -> Volume:
        if reads is not None:
            reads.append(index)
        return volumes[index]

    visits = tuple(
        visit_of(lambda i=i: load(i), time=float(i), shape=(7, 8, 5), source=f"visit{i}.nii")
        for i in range(len(volumes))
    )
    return Subject("s1", visits)


def test_all_visits_have_the_same_range_and_grid() -> None:
    first, second = oriented("LPS"), oriented("LPS", seed=1)
    brighter = Volume(first.data * 0.5, first.affine)
    prepared = Preprocess(Grid((8, 8, 8)), upper=100.0).subject(subject_of(first, brighter, second))
    low, high = first.data.min(), first.data.max()
    assert prepared.intensity == IntensityRange(float(low), float(high))
    zero, half = prepared.visit(0), prepared.visit(1)
    assert zero.shape == (1, 8, 8, 8)
    assert zero.dtype == torch.float32
    assert (zero.min(), zero.max()) == (-1, 1)
    assert half.max().item() == pytest.approx((high / 2 - low) / (high - low) * 2 - 1, abs=1e-5)
    assert (zero == -1).sum() == 8**3 - first.data.size + 1  # voxels outside the visit's field of view, and its minimum


def test_restore_inverts_preprocessing() -> None:
    first, second = oriented("ASR"), oriented("ASR", seed=1)
    prepared = Preprocess(Grid((8, 8, 8)), upper=100.0).subject(subject_of(first, second))
    for index, volume in enumerate((first, second)):
        restored = prepared.restore(prepared.visit(index))
        expected = np.clip(volume.data, first.data.min(), first.data.max())
        np.testing.assert_allclose(restored.data, expected, atol=1e-4)
        assert restored.data.dtype == np.float32
        assert (restored.affine == first.affine).all()
    with pytest.raises(ValueError, match="1, W, H, D"):
        prepared.restore(torch.zeros(8, 8, 8))


def test_restored_voxels_outside_the_grid_are_background() -> None:
    first = oriented("RAS")
    prepared = Preprocess(Grid((4, 4, 4))).subject(subject_of(first))
    restored = prepared.restore(torch.ones(1, 4, 4, 4))
    assert (restored.data == first.data.min()).sum() == first.data.size - 64


def test_each_file_is_read_once_with_a_cache(tmp_path: Path) -> None:
    reads: list[int] = []
    subject = subject_of(oriented("LPS"), oriented("LPS", seed=1), oriented("LPS", seed=2), reads=reads)
    cache, pipeline = VisitCache(tmp_path, 10**6), Preprocess(Grid((8, 8, 8), (1.1, 1.4, 2.1)))
    prepared = pipeline.subject(subject, cache)
    assert reads == []
    for index in (2, 0, 1, 2, 1, 0):
        prepared.visit(index)
    assert sorted(reads) == [0, 1, 2]
    reads.clear()
    again = pipeline.subject(subject, VisitCache(tmp_path, 10**6))  # like in another process
    without = pipeline.subject(subject)
    volume = again.restore(again.visit(1))
    assert reads == []
    for index in range(3):
        assert torch.equal(without.visit(index), again.visit(index))
    expected = without.restore(without.visit(1))
    np.testing.assert_array_equal(volume.data, expected.data)
    np.testing.assert_array_equal(volume.affine, expected.affine)
    assert again.intensity == without.intensity
    assert reads == [0, 1, 2, 1]


def test_cache_key_depends_on_pipeline_file_and_first_visit(tmp_path: Path) -> None:
    reads: list[int] = []
    subject = subject_of(oriented("RAS"), oriented("RAS", seed=1), oriented("RAS", seed=2), reads=reads)
    cache = VisitCache(tmp_path, 10**6)
    Preprocess(Grid((8, 8, 8))).subject(subject, cache).visit(1)
    first, second, _ = subject.visits
    for pipeline, other in [
        (Preprocess(Grid((8, 8, 8)), upper=99.0), subject),
        (Preprocess(Grid((8, 8, 8)), normalise="subject"), replace(subject, visits=subject.visits[1:])),
        (
            Preprocess(Grid((8, 8, 8))),
            replace(subject, visits=(first, replace(second, identity="new"))),
        ),
    ]:
        reads.clear()
        pipeline.subject(other, cache).visit(1)
        assert reads
    reads.clear()
    Preprocess(Grid((8, 8, 8))).subject(subject, cache).visit(1)
    assert not reads


def test_per_visit_normalisation_warns_and_removes_change() -> None:
    first = oriented("RAS")
    brighter = Volume(first.data * 2 + 7, first.affine)
    with pytest.warns(LongigenWarning, match="normalise=visit scales each visit separately, which removes changes"):
        pipeline = Preprocess(Grid((7, 8, 5)), upper=100.0, normalise="visit")
    prepared = pipeline.subject(subject_of(first, brighter))
    np.testing.assert_allclose(prepared.visit(0), prepared.visit(1), atol=1e-5)
    np.testing.assert_allclose(prepared.restore(prepared.visit(1)).data, first.data, atol=1e-3)
    assert PreprocessSettings().normalise == "subject"


def test_config_lists_steps_in_order() -> None:
    config = Preprocess(Grid((4, 4, 4))).config
    assert list(config) == ["orientation", "box", "fit", "spacing", "shape", "lower", "upper", "normalise"]
    assert Preprocess.from_config({"shape": [4, 4, 4], "spacing": None, "lower": 0.0, "upper": 99.9}).config == config


def test_config_of_padding_and_extent() -> None:
    """They are named only where they are used, so that hashes and cache keys of other pipelines stay as they are."""
    settings = PreprocessSettings(extent=(150, 150, 0), pad="edge")
    pipeline = settings.pipeline([])
    assert pipeline.config["shape"] == [0, 0, 0]
    assert (pipeline.config["extent"], pipeline.config["pad"]) == ([150, 150, 0], "edge")
    assert Preprocess.from_config(json.loads(json.dumps(pipeline.config))) == pipeline
    assert Preprocess.from_config({"shape": [4, 4, 4]}).pad == "background"
    again = PreprocessSettings(**{key: value for key, value in pipeline.config.items() if key != "orientation"})
    assert again.pipeline([]) == pipeline  # as fine-tuning takes them over
    with pytest.raises(LongigenError, match="give only one of the two"):
        PreprocessSettings(shape=(64, 64, 8), extent=(150, 150, 0))


def test_padding_with_the_nearest_voxel_reaches_the_model(tmp_path: Path) -> None:
    first, second = oriented("LPS"), oriented("LPS", seed=1)
    for pad, band in (("background", True), ("edge", False)):
        pipeline = Preprocess(Grid((12, 12, 12)), upper=100.0, pad=pad)  # type: ignore[arg-type]
        for cache in (None, VisitCache(tmp_path, 10**6)):
            prepared = pipeline.subject(subject_of(first, second), cache)
            for index, volume in enumerate((first, second)):
                assert bool((prepared.visit(index)[:, 0] == -1).all()) == band
                expected = np.clip(volume.data, first.data.min(), first.data.max())
                np.testing.assert_allclose(prepared.restore(prepared.visit(index)).data, expected, atol=1e-4)


def test_error_names_visit_and_subject() -> None:
    flat = Volume(np.zeros((7, 8, 5), dtype=np.float32), np.eye(4))
    with pytest.raises(LongigenError, match=r"visit0\.nii \(subject s1\) has the same intensity everywhere"):
        Preprocess(Grid((8, 8, 8))).subject(subject_of(flat)).visit(0)
    elsewhere = Volume(noise(7, 8, 5), from_matvec(np.eye(3), [500, 0, 0]))
    prepared = Preprocess(Grid((8, 8, 8))).subject(subject_of(oriented("RAS"), elsewhere))
    with pytest.raises(LongigenError, match=r"visit1\.nii \(subject s1\) does not overlap"):
        prepared.visit(1)


@pytest.mark.parametrize("spacing", [None, (1.0, 1.5, 3.0)])
@pytest.mark.parametrize("box", ["image", "foreground"])
def test_config_round_trip_through_json(spacing: tuple[float, float, float] | None, box: Box) -> None:
    pipeline = Preprocess(Grid((4, 5, 6), spacing, box, "crop" if spacing else "resize"), lower=1.0, upper=99.0)
    assert Preprocess.from_config(json.loads(json.dumps(pipeline.config))) == pipeline
    assert json.loads(json.dumps(pipeline.config)) == pipeline.config


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"shap": [4, 4, 4]}, "Did you mean 'shape'"),
        ({}, "needs 'shape'"),
        ({"shape": [4, 4]}, "shape must be 3 whole numbers"),
        ({"shape": [4, 4, 4], "upper": 101}, "upper must be a number from 0 to 100, got 101"),
        ({"shape": [4, 4, 4], "lower": 50, "upper": 50}, "percentiles"),
    ],
)
def test_invalid_config_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(LongigenError, match=message):
        Preprocess.from_config(given)


@pytest.mark.skipif(not REAL, reason="needs the volumes of ms_bids and ixi beside the checkout, in ../shared/data")
@pytest.mark.parametrize("path", REAL[:2] + REAL[-2:], ids=lambda path: path.name)
def test_real_volumes_are_restored(path: Path, tmp_path: Path) -> None:
    volume = read_volume(path, "s")
    largest = max(volume.data.shape)
    exact = Placement.from_first_visit(volume, Grid((largest, largest, largest)))
    np.testing.assert_array_equal(exact.to_subject(exact.to_model(volume, 0.0, "v", "s"), 0.0).data, volume.data)

    size = int(np.ceil(largest * voxel_sizes(volume.affine).max() / 3))
    coarse = Placement.from_first_visit(volume, Grid((size, size, size), (3.0, 3.0, 3.0)))
    back = coarse.to_subject(coarse.to_model(volume, float(volume.data.min()), "v", "s"), float(volume.data.min()))
    assert back.data.shape == volume.data.shape
    assert (back.affine == volume.affine).all()
    assert np.sqrt(np.mean((back.data - volume.data) ** 2)) < 0.5 * volume.data.std()
    assert np.corrcoef(back.data.ravel(), volume.data.ravel())[0, 1] > 0.9

    write_volume(back, tmp_path / "back.nii.gz", "test")
    assert (read_volume(tmp_path / "back.nii.gz", "s").affine == volume.affine).all()


def test_the_hash_of_a_visits_voxels_is_the_same_with_and_without_a_cache(tmp_path: Path) -> None:
    """Also of a volume with a padding value, which preprocessing takes as background."""
    data = noise(12, 11, 10)
    data[:3] = -32768
    subject = subject_of(Volume(data, np.eye(4)), Volume(noise(12, 11, 10, seed=1), np.eye(4)))
    pipeline, cache = Preprocess(Grid((8, 8, 8))), VisitCache(tmp_path, 2**30)
    with pytest.warns(LongigenWarning, match="padding value"):
        pipeline.subject(subject, cache).visit(0)
    pipeline.subject(subject, cache).visit(1)
    assert pipeline.subject(subject, cache).digests == pipeline.subject(subject).digests
