"""Published protocols: which visits are given, medians, and ACDC as CRONOS scores it."""

import csv
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import zoom
from torchmetrics.functional.image import structural_similarity_index_measure

from helpers.files import write_image
from longigen import LongigenError, api
from longigen.evaluation.published import PublishedSetting, PublishedSpec
from longigen.models.tasks import Task
from longigen.training.run import Run
from longigen.utils.intervals import Summary
from longigen_acdc import ACDCDataset, sadm
from longigen_metrics import PSNR, SSIM, UnitRMSE

PROTOCOL, MASKED = "cronos-acdc", "cronos-acdc-masked"
FRAMES = 6
PUBLISHED_GRID, GRID = sadm.GRID, (20, 18, 12)
"""128 × 128 × 32 voxels, on which each score takes a second, and what the other tests have instead."""


def test_the_first_or_all_visits_are_given() -> None:
    assert PublishedSetting("first").task(12, subject="a", seed=0) == Task((0,), (11,))
    assert PublishedSetting("all").task(12, subject="a", seed=0) == Task(tuple(range(11)), (11,))


def test_a_gap_hides_the_visits_before_a_target_by_chance() -> None:
    setting = PublishedSetting("random", 3)
    tasks = [setting.task(12, subject=str(subject), seed=0) for subject in range(2000)]
    assert {task.targets for task in tasks} == {(target,) for target in range(4, 12)}
    assert all(task.given and max(task.given) < task.targets[0] - 3 for task in tasks)
    late = [task.given for task in tasks if task.targets == (11,)]
    assert np.mean([len(given) for given in late]) == pytest.approx(4, abs=0.3)  # half of frames 0 to 7
    early = {task.given for task in tasks if task.targets == (4,)}
    assert early == {(0,)}  # at least one
    assert tasks[:5] == [setting.task(12, subject=str(subject), seed=0) for subject in range(5)]
    assert tasks[:20] != [setting.task(12, subject=str(subject), seed=1) for subject in range(20)]


def test_a_subject_with_too_few_visits_for_a_gap_is_named() -> None:
    with pytest.raises(LongigenError, match="Subject a has 4 visits, and a gap of 3 needs 5"):
        PublishedSetting("random", 3).task(4, subject="a", seed=0)


@pytest.mark.parametrize(("count", "low", "high"), [(5, np.nan, np.nan), (6, 1, 6), (8, 1, 8), (9, 2, 8), (11, 2, 10)])
def test_median_with_an_interval_between_ordered_values(count: int, low: float, high: float) -> None:
    """P(B ≤ 1) is .020 for 9 tosses and .035 for 8."""
    found = Summary.median([*range(count, 0, -1), np.nan])
    assert found.subjects == count
    assert found.mean == (count + 1) / 2
    np.testing.assert_equal((found.low, found.high), (low, high))


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Write patients of random, drifting frames with an offset of brightness each, to be read on a small grid."""
    folder = tmp_path_factory.mktemp("acdc")
    for number in range(1, 7):
        random = np.random.default_rng(number)
        still, drift = random.uniform(0, 100, (2, 7, 6, 3, 1))
        data = still + 0.1 * drift * np.arange(FRAMES + 2) + 20 * np.arange(FRAMES + 2)
        name = f"patient{number:03}"
        write_image(folder / name / f"{name}_4d.nii.gz", data.astype(np.float32))
        (folder / name / "Info.cfg").write_text(f"ED: 2\nES: {FRAMES + 1}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sadm, "GRID", GRID)
        yield folder


def published_frames(folder: Path, name: str) -> np.ndarray:
    """Return a patient's frames as SADM's code prepares them: one zoom over four axes, then each by its own range."""
    import nibabel

    data = np.asarray(nibabel.load(folder / name / f"{name}_4d.nii.gz").dataobj)[..., 1 : FRAMES + 1]  # type: ignore[attr-defined]
    zoomed = np.asarray(zoom(data, np.divide((*GRID, sadm.FRAMES), data.shape)))
    low, high = zoomed.min(axis=(0, 1, 2)), zoomed.max(axis=(0, 1, 2))
    return (zoomed - low) / (high - low)


def test_frames_are_zoomed_over_all_axes_and_scaled_each_by_its_own_range(patients: Path) -> None:
    subject = ACDCDataset(path=patients, protocol="cronos").subjects()[0]
    expected = published_frames(patients, subject.id)
    for index in (0, 5, 11):
        data = subject.visits[index].load().data
        assert (data.min(), data.max()) == (0, 1)
        np.testing.assert_allclose(data, expected[..., index], atol=2e-5)


def test_a_patient_whose_es_is_before_ed_is_refused(patients: Path, tmp_path: Path) -> None:
    folder = tmp_path / "patient001"
    folder.mkdir()
    (folder / "patient001_4d.nii.gz").symlink_to(patients / "patient001" / "patient001_4d.nii.gz")
    (folder / "Info.cfg").write_text("ED: 5\nES: 2\n")
    assert len(ACDCDataset(path=tmp_path, protocol="sadm").subjects()[0].visits) == 12
    with pytest.raises(LongigenError, match="has ES before ED in the file, of which CRONOS makes an empty series"):
        ACDCDataset(path=tmp_path, protocol="cronos").subjects()


@pytest.fixture(scope="module")
def scored(patients: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train and score a line through each voxel, which needs no training, by the protocol."""
    out = tmp_path_factory.mktemp("bench") / "out"
    api.bench(
        "sadm-ablation",
        out,
        data=f"acdc:{patients}",
        rows=["linear"],
        steps=1,
        protocol=PROTOCOL,
        changes=["preprocess.shape=16,16,8", "split.test=2"],
        progress=False,
    )
    return out


def test_a_benchmark_is_scored_by_the_protocol(patients: Path, scored: Path) -> None:
    with (scored / "linear" / "seed-0" / "evaluation" / "subjects.csv").open() as file:
        rows = {(row["setting"], row["method"], row["subject"]): row for row in csv.DictReader(file)}
    assert {key[0] for key in rows} == {"dense", "gap-3", "gap-6", "ed-to-es"}
    name = next(key[2] for key in rows)
    frames = published_frames(patients, name)
    for setting, last in (("dense", 10), ("ed-to-es", 0)):
        error = np.sqrt(np.mean((frames[..., last] - frames[..., 11]) ** 2))
        copied = rows[setting, "copy-last", name]
        assert float(copied["rmse"]) == pytest.approx(error, rel=1e-4)
        assert float(copied["psnr"]) == pytest.approx(-20 * np.log10(error), rel=1e-4)
        assert float(copied["auroc-distance"]) == 0.5
        assert float(copied["time"]) == 1
    # A line through one visit is a copy of it.
    one, other = (rows["ed-to-es", method, name] for method in ("copy-last", "model"))
    assert float(one["ssim-own-range"]) == pytest.approx(float(other["ssim-own-range"]), abs=1e-6)
    table = (scored / "table.txt").read_text()
    assert "medians over subjects, n = 2; no interval below 6" in table
    assert "TFM and CRONOS" in table
    assert re.search("0.928 +28.9 +0.045 +arXiv 2512.16577", table)


def test_an_evaluation_prints_the_published_values_and_leaves_the_run_as_it_is(patients: Path, scored: Path) -> None:
    run = scored / "linear" / "seed-0"
    result = api.evaluate(run, data=f"acdc:{patients}", protocol=PROTOCOL, part="test", progress=False)
    again = api.evaluate(run, protocol=PROTOCOL, part="test", progress=False)  # the run's own data, by its own name
    assert result.protocol == again.protocol
    assert result.protocol.name == PROTOCOL  # type: ignore[attr-defined]
    assert not (run / "model" / "metrics.json").exists()
    assert result.metrics_path is None
    assert re.search("0.945 +30.5 +- +arXiv 2512.16577", result.table())
    assert all(len(line) <= 80 for line in result.protocol.remarks[0].text(80).splitlines())  # type: ignore[union-attr]
    stored = result.protocol.to_dict()
    assert stored["given"]["gap-3"] == {"given": "random", "gap": 3}
    assert stored["average"] == "median"
    other = replace(result.protocol, given={**stored["given"], "gap-3": {"given": "random", "gap": 4}})
    assert other.hash != result.protocol.hash


@pytest.fixture
def labelled(patients: Path, tmp_path: Path) -> Path:
    """Add the challenge's label maps to the patients: a box of labels that is another one at end systole."""
    folder = tmp_path / "labelled"
    for patient in sorted(patients.iterdir()):
        shutil.copytree(patient, folder / patient.name)
        for frame, start in ((2, 1), (FRAMES + 1, 4)):
            labels = np.zeros((7, 6, 3), np.uint8)
            labels[start : start + 3, 1:4] = [1, 2, 3]
            write_image(folder / patient.name / f"{patient.name}_frame{frame:02}_gt.nii.gz", labels)
    return folder


def test_masked_images_are_multiplied_by_the_label_map_of_end_diastole(
    patients: Path, labelled: Path, scored: Path
) -> None:
    run = scored / "linear" / "seed-0"
    result = api.evaluate(run, data=f"acdc:{labelled}", protocol=MASKED, part="test", progress=False)
    assert "auroc-distance" not in result.metrics
    assert "Inflated: all voxels outside" in re.sub(r"\s+", " ", result.table())
    values = {(score.setting, score.method, score.subject): score.values for score in result.scores}
    name = next(key[2] for key in values)
    frames = published_frames(patients, name)
    # The nearest voxel of the label map, whose corners are those of the frames.
    places = [np.linspace(0, size - 1, count) for size, count in zip((7, 6, 3), GRID, strict=True)]
    inside = np.logical_and.outer((places[0] > 0.5) & (places[0] < 3.5), (places[1] > 0.5) & (places[1] < 3.5))[
        ..., None
    ]
    made, true = frames[..., 0] * inside, frames[..., 11] * inside
    copied = values["ed-to-es", "copy-last", name]
    error = np.sqrt(np.mean((made - true) ** 2))
    assert copied["rmse"] == pytest.approx(error, rel=1e-4)
    assert copied["psnr"] == pytest.approx(-20 * np.log10(error), rel=1e-4)
    stacked = [torch.from_numpy(image)[None, None].float() for image in (made, true)]
    assert copied["ssim-own-range"] == pytest.approx(float(structural_similarity_index_measure(*stacked)), abs=1e-4)  # type: ignore[arg-type]
    # It inflates: the same copies score better than in whole images, though not a voxel of the heart is better.
    whole = api.evaluate(run, data=f"acdc:{labelled}", protocol=PROTOCOL, part="test", progress=False)
    before = next(s for s in whole.scores if (s.setting, s.method, s.subject) == ("ed-to-es", "copy-last", name))
    assert copied["ssim-own-range"] > before.values["ssim-own-range"]
    assert result.protocol.hash != whole.protocol.hash


def test_masks_need_the_label_maps(scored: Path, patients: Path, tmp_path: Path) -> None:
    message = (
        f"'{MASKED}' multiplies images by the label map .*, and [26] of [26] subjects have none, such as patient00"
    )
    with pytest.raises(LongigenError, match=message):
        api.evaluate(scored / "linear" / "seed-0", protocol=MASKED, part="test", progress=False)
    options, out = ["preprocess.shape=16,16,8", "split.test=2"], tmp_path / "out"
    with pytest.raises(LongigenError, match=message):
        api.bench("sadm-ablation", out, data=f"acdc:{patients}", rows=["linear"], protocol=MASKED, changes=options)
    assert not (out / "linear" / "seed-0" / "model").exists()


def test_a_fold_of_the_protocol_sets_the_parts(patients: Path, tmp_path: Path) -> None:
    for place, number in enumerate((27, 87, 3, 101, 102)):  # places 0 to 2 of the permutation with seed 0
        shutil.copytree(patients / f"patient{place + 1:03}", tmp_path / "data" / f"patient{number:03}")
        (image,) = (tmp_path / "data" / f"patient{number:03}").glob("*.nii.gz")
        image.rename(image.with_name(f"patient{number:03}_4d.nii.gz"))
    api.bench(
        "sadm-ablation",
        tmp_path / "out",
        data=f"acdc:{tmp_path / 'data'}",
        rows=["linear"],
        steps=1,
        protocol=PROTOCOL,
        fold=1,
        changes=["preprocess.shape=16,16,8"],
        progress=False,
    )
    run = Run.open(tmp_path / "out" / "linear" / "seed-0").read()
    assert run["recipe"]["data"]["cronos_fold"] == 1
    assert run["split"]["validation"] == ["patient087"]
    assert sorted(run["split"]["train"]) == ["patient003", "patient027"]
    assert sorted(run["split"]["test"]) == ["patient101", "patient102"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": None}, "--fold is one of the folds of a published protocol, so give it with --protocol"),
        ({"folds": 2}, "--fold is one of the folds of a published protocol.*--folds trains and tests each"),
        ({"changes": ["data.cronos_fold=0"]}, "sets the data set's parameters itself, so --set data.cronos_fold=0"),
        ({"fold": 5}, "cronos_fold must be a whole number from 0 to 4 or None, got 5"),
    ],
)
def test_a_fold_is_of_a_protocol(patients: Path, tmp_path: Path, options: dict[str, object], message: str) -> None:
    given = {"data": f"acdc:{patients}", "protocol": PROTOCOL, "fold": 1, "progress": False, **options}
    with pytest.raises(LongigenError, match=message):
        api.bench("sadm-ablation", tmp_path / "out", **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"settings": ["full"]}, "--setting is set by the protocol 'cronos-acdc'; leave one of the two out"),
        ({"metrics": ["psnr"]}, "--metric is set by"),
        ({"targets": "all"}, "--targets is set by"),
        ({"space": "model"}, "--space is set by"),
        ({"segmenter": "unet"}, "--segmenter is set by"),
        ({"protocol": "cronos-acd"}, "There is no protocol 'cronos-acd'. Did you mean 'cronos-acdc'"),
        ({"changes": ["protocol=sadm"]}, "sets the data set's parameters itself, so --set protocol=sadm cannot"),
        ({"data": "sim-heart"}, "is of the data set 'acdc', and the data are 'sim-heart'; give --data acdc:PATH"),
    ],
)
def test_what_the_protocol_sets_cannot_be_chosen(scored: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(LongigenError, match=message):
        api.evaluate(scored / "linear" / "seed-0", **{"protocol": PROTOCOL, "progress": False, **options})  # type: ignore[arg-type]


def test_other_data_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(LongigenError, match="is of the data set 'acdc', and the data are 'sim-brain'"):
        api.bench("sadm-ablation", tmp_path / "out", protocol=PROTOCOL, progress=False)
    assert not (tmp_path / "out" / "linear").exists()
    with pytest.raises(LongigenError, match="and the data are 'sim-heart'"):
        api.evaluate("sadm-sim-heart", protocol=PROTOCOL, progress=False)


@pytest.mark.slow
def test_copy_last_on_real_patients(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the published code has for copies of frame 11 and of ED, of patients that it does not list."""
    monkeypatch.setattr(sadm, "GRID", PUBLISHED_GRID)  # which `patients` may have changed
    subjects = ACDCDataset(path=shared / "acdc", protocol="cronos").subjects()
    found: list[Sequence[float]] = []
    for subject in subjects:
        first, before, last = (torch.from_numpy(subject.visits[i].load().data)[None] * 2 - 1 for i in (0, 10, 11))
        inside = torch.ones(last.shape[1:], dtype=torch.bool)
        found.append(
            [
                metric(copy, last, copy, inside)
                for copy in (before, first)
                for metric in (SSIM(data_range="images"), PSNR(), UnitRMSE())
            ]
        )
    dense, ed_to_es = np.median(found, axis=0).reshape(2, 3)
    tolerance = (0.025, 0.6, 0.005)
    assert (np.abs(dense - (0.963, 36.0, 0.018)) < tolerance).all()
    assert (np.abs(ed_to_es - (0.68, 21.6, 0.092)) < tolerance).all()


def test_the_catalog_names_the_protocol() -> None:
    spec = PublishedSpec.of(PROTOCOL)
    assert spec.settings["dense"] == PublishedSetting("all")
    assert [row["name"] for row in api.catalog("protocols")["protocols"]] == [PROTOCOL, MASKED]
    whole, masked = spec, PublishedSpec.of(MASKED)
    assert (whole.masks, masked.masks) == (False, True)
    assert (masked.settings, masked.parameters, masked.average) == (whole.settings, whole.parameters, whole.average)
    assert whole.metrics == (*masked.metrics, "auroc-distance")
    assert isinstance(masked.printed, str)
    assert "Inflated: " in masked.printed
