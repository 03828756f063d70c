"""Regions: label maps of data sets, segmenters, and the metrics of regions in an evaluation."""

import csv
import math
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import longigen
from helpers.files import ball, visit_of, write_image
from longigen import (
    LongigenError,
    LongigenWarning,
    RegionMasks,
    Segmenter,
    Subject,
    Volume,
    parse_regions,
    register_segmenter,
)
from longigen.data.grid import Grid, labels_on_grid_of
from longigen.data.issues import BadData
from longigen.data.preprocess import Preprocess
from longigen.evaluation.evaluate import Evaluation
from longigen.evaluation.regions import Regions
from longigen.evaluation.scoring import score, summarise
from longigen.evaluation.tables import evaluation_table
from longigen.evaluation.volumes import RegionVolume
from longigen.hub.metrics_file import SEGMENTED
from longigen.models.network_segmenter import load_segmenter
from longigen.models.open_segmenter import open_segmenter
from longigen.models.predict import Generated
from longigen.models.tasks import Task
from longigen.registry.registry import registry
from longigen_metrics import Dice, EjectionFractionError, VolumeChangeError, VolumeError

HEART = "left ventricle"
SIZE = (12, 12, 12)
BRIGHT = Path(__file__).parents[1] / "helpers" / "bright.py"


def mask(voxels: int) -> torch.Tensor:
    return torch.arange(20).view(1, 4, 5) < voxels


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        # The true region shrinks from 16 to 8 voxels, by way of 12; the generated one from 20 to 5, by way of 10.
        (Dice(region=HEART), 2 * 5 / (5 + 8)),
        (VolumeError(region=HEART), 100 * 3 / 8),
        (VolumeChangeError(region=HEART), abs(-50 + 100 / 3)),
        (EjectionFractionError(region=HEART), 75 - 50),
    ],
    ids=lambda value: type(value).__name__,
)
def test_metrics_of_regions_have_the_values_of_their_definitions(metric: longigen.RegionMetric, value: float) -> None:
    true, generated = (RegionMasks(*map(mask, sizes)) for sizes in ((16, 12, 8), (20, 10, 5)))
    assert metric.of_region(generated, true) == pytest.approx(value)
    assert math.isnan(metric.of_region(replace(generated, visit=None), true))


def test_the_loss_is_that_of_monai() -> None:
    losses = pytest.importorskip("monai.losses")
    logits = torch.randn(2, 4, 6, 7, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(4, (2, 6, 7, 5), generator=torch.Generator().manual_seed(1))
    reference = losses.DiceCELoss(
        include_background=False, to_onehot_y=True, softmax=True, batch=True, smooth_nr=1e-5, smooth_dr=1e-5
    )
    expected = reference(logits, labels[:, None])
    assert registry.make("segmenter", "unet").loss(logits, labels).item() == pytest.approx(expected.item(), abs=1e-5)


def test_label_maps_are_resampled_to_the_nearest_voxel() -> None:
    data = np.zeros((8, 8, 8), dtype=np.float32)
    data[4:, 2:6, 4:] = 7
    labels = Volume(data, np.diag([-1.0, 1.0, 1.0, 1.0]))
    assert np.array_equal(labels_on_grid_of(labels, labels).data, data[::-1])  # axes in RAS order
    fine = Volume(np.zeros((16, 16, 16), dtype=np.float32), np.diag([-0.5, 0.5, 0.5, 1.0]))
    fine.affine[:3, 3] = 0.25, -0.25, -0.25
    placed = labels_on_grid_of(labels, fine).data
    assert set(np.unique(placed)) == {0, 7}
    assert (placed == 7).sum() == 8 * (data == 7).sum()


@pytest.mark.parametrize("text", ["left ventricle", "=3", "heart=a", "heart=0", "heart=1+"])
def test_a_region_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(LongigenError, match="takes NAME=LABELS"):
        parse_regions([text])


def test_regions_of_several_labels() -> None:
    assert parse_regions(["ventricles=4+11", "hippocampus=17"]) == {
        4: "ventricles",
        11: "ventricles",
        17: "hippocampus",
    }
    with pytest.raises(LongigenError, match="names label 4 twice: a and b"):
        parse_regions(["a=4", "b=4"])


# Label maps of data sets


def test_label_maps_of_simulated_hearts_have_the_true_volumes() -> None:
    hearts = longigen.open_dataset("sim-heart", subject_count=1, frames=3)
    (subject,) = hearts.subjects()
    for index in (0, 2):
        labels = subject.visits[index].read_labels(subject.id)
        truth, voxel = hearts.truth(subject.id, index), abs(np.linalg.det(labels.affine[:3, :3]))
        volumes = {name: voxel * (labels.data == label).sum() for label, name in hearts.regions.items()}
        assert volumes["left ventricle"] == pytest.approx(truth.lv_volume, rel=0.1)
        assert volumes["right ventricle"] == pytest.approx(truth.rv_volume, rel=0.1)
        assert volumes["myocardium"] == pytest.approx(truth.myocardium_volume, rel=0.1)


def test_label_maps_of_files(tmp_path: Path) -> None:
    """ACDC's, a table's and a series' label maps, of the frame that the visit shows."""
    frames = np.stack([ball((9, 10, 8), radius) for radius in (0.8, 0.6, 0.4)], axis=-1)
    counts = [(frames[..., frame] > 500).sum() for frame in range(3)]
    patient = tmp_path / "acdc" / "patient001"
    write_image(patient / "patient001_4d.nii.gz", frames)
    (patient / "Info.cfg").write_text("ED: 1\nES: 3\n")
    for frame in (1, 3):
        write_image(patient / f"patient001_frame{frame:02d}_gt.nii.gz", 3.0 * (frames[..., frame - 1] > 500))
    series = tmp_path / "series"
    write_image(series / "a_cine.nii.gz", frames)
    write_image(series / "a_LV.nii.gz", 3.0 * (frames > 500))
    table = tmp_path / "visits.csv"
    rows = [
        f"a,{frame},series/a_cine.nii.gz,{frame},{'' if frame == 1 else 'series/a_LV.nii.gz'}" for frame in range(3)
    ]
    table.write_text("\n".join(["subject,time,path,frame,labels", *rows]))
    opened = {
        "acdc": longigen.open_dataset(tmp_path / "acdc"),
        "csv": longigen.open_dataset(table, regions=[f"{HEART}=3"]),
        "nifti4d": longigen.open_dataset(series, pattern="*_cine.nii.gz", labels="*_LV.nii.gz", regions=[f"{HEART}=3"]),
    }
    for name, dataset in opened.items():
        (subject,) = dataset.subjects()
        assert dataset.regions[3] == HEART
        found = [visit.read_labels(subject.id) for visit in subject.visits]
        assert (found[1] is None) == (name != "nifti4d")
        for frame in (0, 2):
            assert (found[frame].data == 3).sum() == counts[frame], name
    assert "not known which regions they show" in longigen.open_dataset(table).cautions[0]
    with pytest.raises(LongigenError, match="set both labels= and regions="):
        longigen.open_dataset(series, pattern="*_cine.nii.gz", labels="*_LV.nii.gz")
    write_image(patient / "patient001_frame03_gt.nii.gz", frames[..., 2])
    with pytest.raises(BadData, match="has voxels that are no labels"):
        opened["acdc"].subjects()[0].visits[2].read_labels("patient001")


def test_ejection_fractions_of_sunnybrook(shared: Path) -> None:
    """The masks beside the images give the ejection fractions of the table, which others computed."""
    folder = shared / "sunnybrook"
    hearts = longigen.open_dataset(
        folder, pattern="*_ED_ES.nii.gz", labels="*_LV.nii.gz", regions=[f"{HEART}=1"], time_unit="cycle"
    )
    with (folder / "index.tsv").open(newline="") as file:
        known = {row["patient"]: float(row["EF_px"]) for row in csv.DictReader(file, delimiter="\t")}
    for subject in hearts.subjects()[:4]:
        first, last = (float((visit.read_labels(subject.id).data == 1).sum()) for visit in subject.visits)
        assert 1 - last / first == pytest.approx(known[subject.id], abs=6e-4)


# Segmenters


@pytest.fixture
def bright() -> Segmenter:
    @register_segmenter("bright")
    class Bright(Segmenter):
        """Everything above 500."""

        @property
        def regions(self) -> Mapping[int, str]:
            return {1: HEART}

        @property
        def identity(self) -> str:
            return "above 500"

        def segment(self, image: Volume) -> Volume:
            return replace(image, data=(image.data > 500).astype(np.float32))

    yield Bright()
    registry.unregister("segmenter", "bright")


def test_a_segmenter_is_opened_by_name_folder_or_command(tmp_path: Path, bright: Segmenter) -> None:
    assert type(open_segmenter("bright")) is type(bright)
    for text, message in {
        "brigth": "neither a segmenter nor a folder named 'brigth'.*Did you mean 'bright'",
        "bright:5": "takes no value",
        "command": "needs its command; write it as command:COMMAND",
        "command:synthseg {image}": "lacks {labels}",
        "unet": "has no weights before it is trained",
        str(tmp_path): "has no segmenter",
    }.items():
        with pytest.raises(LongigenError, match=message):
            open_segmenter(text)


def test_a_command_marks_regions(tmp_path: Path) -> None:
    program = tmp_path / "mark it.py"
    shutil.copy(BRIGHT, program)
    image = Volume(np.array([[[0.0, 60.0, 90.0]]], dtype=np.float32), np.diag([2.0, 2.0, 5.0, 1.0]))
    labels = open_segmenter(f"command:{sys.executable} '{program}' {{image}} {{labels}}").segment(image)
    assert labels.data.tolist() == [[[0, 1, 1]]]
    np.testing.assert_allclose(labels.affine, image.affine)
    for text, message in {
        "no-such-program {image} {labels}": "cannot be started .*check that no-such-program is installed",
        "false {image} {labels}": "failed with status 1 and said: nothing",
        "true {image} {labels}": "wrote no label map",
    }.items():
        with pytest.raises(LongigenError, match=message):
            open_segmenter(f"command:{text}").segment(image)


# Evaluation


def subject() -> Subject:
    """Return a bright ball that shrinks over three visits, with label maps of the first and the last."""

    def load(radius: float) -> Volume:
        return Volume(ball(SIZE, radius), np.eye(4))

    def labels(radius: float) -> Volume:
        return Volume(np.float32(3 * (load(radius).data > 500)), np.eye(4))

    return Subject(
        "s",
        tuple(
            replace(
                visit_of(lambda r=radius: load(r), time=float(index), shape=SIZE),
                labels=None if index == 1 else lambda r=radius: labels(r),
            )
            for index, radius in enumerate((0.9, 0.7, 0.5))
        ),
    )


class Hearts(longigen.Dataset):
    @property
    def regions(self) -> Mapping[int, str]:
        return {2: "myocardium", 3: HEART}

    def subjects(self, bad: longigen.OnBad = longigen.refuse) -> list[Subject]:
        return [subject()]


@pytest.mark.parametrize("space", ["subject", "model"])
def test_regions_of_generated_visits_are_scored_beside_copies_and_the_segmenter_itself(
    space: str, bright: Segmenter
) -> None:
    prepared = Preprocess(Grid(SIZE, None), upper=100.0).subject(subject())
    regions = Regions.of(Hearts(), [subject()], bright, {})
    assert regions.names == (HEART,)
    metrics = regions.metrics({})
    assert set(metrics) == {
        f"{name}-left-ventricle" for name in ("dice", "volume-error", "volume-change-error", "ejection-fraction-error")
    }
    generated = Generated(prepared, Task((0,), (2,)), (2.0,), prepared.visit(1)[None])  # the ball of the visit between
    scored = score([generated], "single", metrics, targets="last", space=space, regions=regions)
    scores = {s.method: s.values for s in scored}
    sizes = [float((ball(SIZE, radius) > 500).sum()) for radius in (0.9, 0.7, 0.5)]
    fraction = [100 * (1 - size / sizes[0]) for size in sizes]
    dice, error = "dice-left-ventricle", "ejection-fraction-error-left-ventricle"
    assert scores[SEGMENTED][dice] == 1
    assert scores[SEGMENTED][error] == 0
    assert scores["copy-last"][dice] == pytest.approx(2 * sizes[2] / (sizes[0] + sizes[2]))
    assert scores["model"][dice] == pytest.approx(2 * sizes[2] / (sizes[1] + sizes[2]))
    assert scores["model"][error] == pytest.approx(fraction[2] - fraction[1])
    assert scores["copy-last"][error] == pytest.approx(fraction[2])
    volumes = {(s.method, region): volume for s in scored for region, volume in s.volumes.items()}
    voxel = 1.0  # mm³
    assert volumes["model", HEART] == RegionVolume(sizes[1] * voxel, sizes[2] * voxel)
    assert volumes["copy-last", HEART] == RegionVolume(sizes[0] * voxel, sizes[2] * voxel)
    assert volumes[SEGMENTED, HEART] == RegionVolume(sizes[2] * voxel, sizes[2] * voxel)


def test_without_a_segmenter_copy_last_is_scored_by_its_true_labels() -> None:
    prepared = Preprocess(Grid(SIZE, None), upper=100.0).subject(subject())
    regions = Regions.of(Hearts(), [subject()], None, {})
    metrics = regions.metrics({"dice": Dice(region=HEART)})
    task = Generated(prepared, Task((0,), (1, 2)), (1.0, 2.0), torch.stack([prepared.visit(k) for k in (1, 2)]))
    scores = score([task], "single", metrics, targets="all", space="subject", regions=regions)
    values = {(s.method, s.visit): s.values["dice"] for s in scores}
    assert 0.2 < values["copy-last", 2] < 0.6
    assert math.isnan(values["copy-last", 1])  # which has no label map
    assert math.isnan(values["model", 2])
    text = evaluation_table(summarise(scores, metrics), metrics, "hearts").text()
    assert SEGMENTED.split()[-1] not in text


def test_regions_that_cannot_be_scored_are_refused(bright: Segmenter) -> None:
    class Unlabelled(Hearts):
        @property
        def regions(self) -> Mapping[int, str]:
            return {}

    with pytest.raises(LongigenError, match="the data have no label maps and there is no segmenter"):
        Regions.of(Hearts(), [], None, {})  # whose visits have no label maps
    with pytest.raises(LongigenError, match="names the labels of a segmenter, and there is none"):
        Regions.of(Hearts(), [subject()], None, {1: HEART})
    with pytest.raises(LongigenError, match="marks brain and the data set has labels of myocardium, left ventricle"):
        Regions.of(Hearts(), [subject()], bright, {1: "brain"})
    command = open_segmenter("command:x {image} {labels}")
    with pytest.raises(LongigenError, match="not known which regions the labels of the segmenter stand for"):
        Regions.of(Unlabelled(), [], command, {})
    assert Regions.of(Hearts(), [subject()], command, {}).names == ("myocardium", HEART)  # the data set's labels
    with pytest.raises(LongigenError, match=r"no region 'left ventricel' to score.*Did you mean 'left ventricle'"):
        Regions.of(Hearts(), [subject()], bright, {}).metrics({"dice": Dice(region="left ventricel")})


def test_a_benchmark_scores_regions(tmp_path: Path, bright: Segmenter) -> None:
    """Shrinking balls, whose label maps are what the segmenter marks in the true images."""
    lines = ["subject,time,path,split,labels"]
    for number, part in enumerate(("train", "train", "validation", "test")):
        for visit in range(3):
            values = ball(SIZE, 0.9 - 0.15 * visit - 0.02 * number)
            image = write_image(tmp_path / f"{number}-{visit}.nii", values)
            labels = write_image(tmp_path / f"{number}-{visit}-labels.nii", np.float32(3 * (values > 500)))
            lines.append(f"{number},{visit},{image.name},{part},{labels.name}")
    table = tmp_path / "visits.csv"
    table.write_text("\n".join(lines), encoding="utf-8")
    options: dict[str, Any] = {"rows": ["linear"], "data": table, "steps": 1, "settings": "full", "progress": False}
    result = longigen.bench(
        "sadm-ablation",
        tmp_path / "bench",
        metrics=["dice"],
        changes=[f"data.regions={HEART}=3"],
        segmenter=bright,
        **options,
    )
    dice = {row.method: row.values["dice-left-ventricle"].mean for row in result.rows}
    assert dice[SEGMENTED] == 1
    assert dice["linear"] > dice["copy-last"]
    assert result.protocol.to_dict()["regions"]["segmenter"] == "above 500"
    assert [row["method"] for row in result.scores].count(SEGMENTED) == 1
    with pytest.raises(LongigenError, match="no label maps and there is no segmenter; give one with --segmenter"):
        longigen.bench("sadm-ablation", tmp_path / "other", metrics=["dice"], **options)


@pytest.fixture(scope="module")
def hearts() -> dict[str, object]:
    return {"subject_count": 6, "shape": (24, 24, 6), "frames": 2, "noise": 0.0}


def test_a_segmenter_is_trained_and_scores_regions_of_a_model(tmp_path: Path, hearts: dict[str, object]) -> None:
    data = {f"data.{name}": value for name, value in hearts.items()}
    small = {"segmenter.width": 4, "segmenter.levels": 2, "training.steps": 40, "split.validation": 2, "split.test": 1}
    folder = tmp_path / "segmenter"
    trained = longigen.train_segmenter("sim-heart", folder, changes=data | small, progress=False)
    assert trained.regions == {1: "right ventricle", 2: "myocardium", 3: HEART}
    assert trained.training_record["dice"][HEART] > 0.5
    assert load_segmenter(folder).identity == trained.identity
    with pytest.raises(LongigenError, match="exists and is not empty"):
        longigen.train_segmenter("sim-heart", folder, progress=False)
    run = longigen.train(
        "sim-heart",
        conditioner="copy-last",
        denoiser="identity",
        sampler="regression",
        changes=[f"data.{k}={str(v).strip('()')}" for k, v in hearts.items()]
        + ["training.steps=1", "training.score_every=0"],
        out=tmp_path / "run",
        progress=False,
    )
    with pytest.warns(LongigenWarning, match="The segmenter was trained or chosen on .* of the 6 scored subjects"):
        evaluation = longigen.evaluate(
            run,
            settings="single",
            part="all",
            metrics=["dice", "ejection-fraction-error"],
            segmenter=str(folder),
            progress=False,
        )
    assert isinstance(evaluation, Evaluation)
    assert list(evaluation.metrics) == [
        "dice-right-ventricle",
        "dice-myocardium",
        "dice-left-ventricle",
        "ejection-fraction-error-right-ventricle",
        "ejection-fraction-error-left-ventricle",
    ]
    rows = {row.method: row.values["dice-left-ventricle"].mean for row in evaluation.rows}
    assert rows["model"] == pytest.approx(rows["copy-last"])
    assert rows[SEGMENTED] > rows["copy-last"]
    assert evaluation.protocol.to_dict()["regions"]["segmenter"] == trained.identity
    assert "true,\nsegmented" not in evaluation.table()
    assert "segmented" in evaluation.table()
