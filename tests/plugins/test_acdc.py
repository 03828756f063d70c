"""The data set `acdc`: frames, times, interpolation, covariates and damaged patients."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from scipy.ndimage import zoom

from helpers.files import write_image
from longigen import BadData, Finding, LongigenError, Visit
from longigen.testing import CHECKS, run_check
from longigen_acdc import ACDCDataset
from longigen_acdc.sadm import spline

LPS = np.array([[0, -2.0, 0, 5], [-1.5, 0, 0, 7], [0, 0, 8.0, -9], [0, 0, 0, 1]])  # axes swapped and flipped

Patient = Callable[..., Path]


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    """Write a patient's folder of random frames; return the path of its 4D image."""

    def write(
        name: str,
        ed: object = 1,
        es: object = 5,
        *,
        frames: int = 8,
        below: str = "",
        extra: str = "",
        suffix: str = ".nii.gz",
        shape: tuple[int, int, int] = (6, 5, 3),
    ) -> Path:
        folder = tmp_path / below / name
        data = np.random.default_rng(frames).uniform(0, 100, (*shape, frames)).astype(np.float32)
        path = write_image(folder / f"{name}_4d{suffix}", data, LPS)
        (folder / "Info.cfg").write_text(f"ED: {ed}\nES: {es}\n{extra}")
        return path

    return write


def stored(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)  # type: ignore[attr-defined]


def frame(visit: Visit) -> int:
    return int(visit.source.rpartition(", frame ")[2])


def zoomed(data: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return an array resampled as in SADM's code: by `zoom` with its defaults."""
    return np.asarray(zoom(data, np.divide(shape, data.shape)))


def read(path: Path, **config: Any) -> tuple[list[str], list[Finding]]:
    """Return the ids of the usable subjects, and the findings."""
    findings: list[Finding] = []
    subjects = ACDCDataset(path=path, **config).subjects(findings.append)
    return [subject.id for subject in subjects], findings


def test_times_are_the_phase_from_ed_to_es(patient: Patient, tmp_path: Path) -> None:
    data = stored(patient("patient002", 2, 6))
    patient("patient001")
    dataset = ACDCDataset(path=tmp_path)
    one, two = dataset.subjects()
    assert (one.id, two.id, two.part) == ("patient001", "patient002", None)
    assert two.times == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert [frame(visit) for visit in two.visits] == [1, 2, 3, 4, 5]
    for visit in two.visits:
        volume = visit.load()
        np.testing.assert_array_equal(volume.data, data[..., frame(visit)])
        np.testing.assert_array_equal(volume.affine, LPS)
    assert two.visits[0].shape == (5, 6, 3)  # in RAS order
    assert two.visits[0].spacing == (2.0, 1.5, 8.0)
    assert dataset.time_unit == "cycle"
    assert not dataset.cautions


def test_a_series_continues_at_the_start_of_the_file(patient: Patient, tmp_path: Path) -> None:
    patient("patient001", 7, 2)
    (subject,) = ACDCDataset(path=tmp_path).subjects()
    assert [frame(visit) for visit in subject.visits] == [6, 7, 0, 1]
    assert subject.times == (0.0, 1 / 3, 2 / 3, 1.0)


@pytest.mark.parametrize("frames", [2, 3, 11, 12, 13, 14, 23, 30])
@pytest.mark.parametrize("count", [2, 5, 12])
def test_nearest_selects_the_nearest_frames_once(frames: int, count: int, patient: Patient, tmp_path: Path) -> None:
    patient("patient001", 1, frames, frames=frames, shape=(2, 2, 2))
    (subject,) = ACDCDataset(path=tmp_path, frames=count).subjects()
    selected = [frame(visit) for visit in subject.visits]
    assert len(selected) == len(set(selected)) == min(frames, count)
    assert subject.times == tuple(index / (frames - 1) for index in selected)
    all_times = np.arange(frames) / (frames - 1)
    for time in np.linspace(0, 1, count):
        assert np.abs(subject.times - time).min() == pytest.approx(np.abs(all_times - time).min(), abs=1e-12)


def test_none_selects_every_frame(patient: Patient, tmp_path: Path) -> None:
    patient("patient001", 3, 20, frames=22, shape=(2, 2, 2))
    (subject,) = ACDCDataset(path=tmp_path, resample="none", frames=4).subjects()
    assert [frame(visit) for visit in subject.visits] == list(range(2, 20))


def test_linear_interpolates_between_neighbours(patient: Patient, tmp_path: Path) -> None:
    data = stored(patient("patient001", 7, 2)).astype(np.float64)  # frames 6, 7, 0, 1
    dataset = ACDCDataset(path=tmp_path, resample="linear", frames=7)
    (subject,) = dataset.subjects()
    assert subject.times == tuple(k / 6 for k in range(7))
    volumes = [visit.load().data for visit in subject.visits]
    assert all(volume.dtype == np.float32 for volume in volumes)
    order = [6, 7, 0, 1]
    for k, volume in enumerate(volumes):
        below, rest = divmod(k, 2)
        expected = data[..., order[below]] if not rest else (data[..., order[below]] + data[..., order[below + 1]]) / 2
        np.testing.assert_allclose(volume, expected, rtol=1e-6)
    assert len({visit.identity for visit in subject.visits}) == 7
    assert "interpolated at 0.5 between frames 7 and 0" in subject.visits[3].source
    assert (subject.visits[3].shape, subject.visits[3].spacing) == (subject.visits[0].shape, subject.visits[0].spacing)
    assert "later" in dataset.cautions[0]


def test_linear_is_exact_for_linear_changes(patient: Patient, tmp_path: Path) -> None:
    path = patient("patient001", 1, 5, frames=5)
    write_image(path, np.broadcast_to(np.arange(5.0, dtype=np.float32), (3, 3, 3, 5)), LPS)
    (subject,) = ACDCDataset(path=tmp_path, resample="linear").subjects()
    assert len(subject.visits) == 12
    for visit in subject.visits:
        np.testing.assert_allclose(visit.load().data, 4 * visit.time, atol=1e-6)


@pytest.mark.parametrize(("ed", "es", "order"), [(1, 8, range(8)), (7, 4, [6, 7, 0, 1, 2, 3])])
def test_sadm_is_its_published_preprocessing(
    ed: int, es: int, order: list[int], patient: Patient, tmp_path: Path
) -> None:
    block = stored(patient("patient001", ed, es))[..., list(order)].astype(np.float64)
    dataset = ACDCDataset(path=tmp_path, protocol="sadm")
    (subject,) = dataset.subjects()
    assert subject.times == tuple(k / 11 for k in range(12))
    assert len({visit.identity for visit in subject.visits}) == 12
    in_time = zoomed(block, (*block.shape[:3], 12))  # one axis after the other (see below); all at once takes 26 s
    for k in (0, 4, 11):
        volume = subject.visits[k].load()
        np.testing.assert_allclose(volume.data, zoomed(in_time[..., k], (128, 128, 32)), rtol=1e-5, atol=1e-4)
        assert volume.data.dtype == np.float32
    assert "leak" in dataset.cautions[0]


def test_zooming_four_axes_at_once_is_a_spline_along_each() -> None:
    block = np.random.default_rng(0).normal(size=(9, 20, 5, 7))
    target = (16, 13, 8, 12)
    result = np.einsum("abcd,ia,jb,kc,ld->ijkl", block, *map(spline, block.shape, target), optimize=True)
    np.testing.assert_allclose(result, zoomed(block, target), atol=1e-12)


def test_sadms_grid_keeps_the_centres_of_the_corner_voxels(patient: Patient, tmp_path: Path) -> None:
    patient("patient001")
    (subject,) = ACDCDataset(path=tmp_path, protocol="sadm").subjects()
    volume = subject.visits[3].load()
    for old, new in (((0, 0, 0), (0, 0, 0)), ((5, 4, 2), (127, 127, 31)), ((5, 0, 2), (127, 0, 31))):
        np.testing.assert_allclose(volume.affine @ [*new, 1], LPS @ [*old, 1])
    assert volume.data.shape == subject.visits[3].shape == (128, 128, 32)
    assert subject.visits[3].spacing == pytest.approx((2.0 * 4 / 127, 1.5 * 5 / 127, 8.0 * 2 / 31))


@pytest.mark.parametrize("target", [12, 32, 128])
def test_the_spline_is_that_of_zoom_and_reaches_the_last_sample(target: int) -> None:
    for size in range(2, 40):
        samples = np.random.default_rng(size).normal(size=size)
        expected = zoomed(samples, (target,))
        result = spline(size, target) @ samples
        np.testing.assert_allclose(result[:-1], expected[:-1], atol=1e-12)
        np.testing.assert_allclose(result[[0, -1]], samples[[0, -1]], atol=1e-12)
        np.testing.assert_allclose(spline(size, target).sum(axis=1), 1)


def test_sadm_leaks_the_last_frame_into_earlier_visits_and_longigen_does_not(patient: Patient, tmp_path: Path) -> None:
    path = patient("patient001", 1, 8)

    def volumes(protocol: str) -> list[np.ndarray]:
        (subject,) = ACDCDataset.from_config({"path": tmp_path, "protocol": protocol}).subjects()
        return [visit.load().data for visit in subject.visits]

    def changes(before: list[np.ndarray], after: list[np.ndarray]) -> np.ndarray:
        return np.array([np.abs(one - two).max() for one, two in zip(before, after, strict=True)])

    sadm, longigen = volumes("sadm"), volumes("longigen")
    data = stored(path)
    data[..., 7] += 50
    write_image(path, data, LPS)
    with_leak, without_leak = changes(sadm, volumes("sadm")), changes(longigen, volumes("longigen"))
    assert with_leak[0] < 1e-3  # a spline passes through its first sample
    assert (with_leak[4:11] > 0.01).all()
    assert with_leak[4:11].max() > 1
    assert (without_leak[:-1] == 0).all()
    assert without_leak[-1] == pytest.approx(50, rel=1e-5)


def test_sadm_needs_two_voxels_along_each_axis(patient: Patient, tmp_path: Path) -> None:
    path = patient("patient001", shape=(6, 5, 1))
    ids, (finding,) = read(tmp_path, protocol="sadm")
    assert (ids, finding.kind, finding.source, finding.subject) == ([], "dimensions", str(path), "patient001")
    assert read(tmp_path) == (["patient001"], [])


@pytest.mark.parametrize("config", [{"frames": 8}, {"resample": "linear"}, {"resample": "none"}])
def test_sadm_excludes_other_options(config: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(LongigenError, match="protocol=sadm makes 12 visits in its own way"):
        ACDCDataset(path=tmp_path, protocol="sadm", **config)


def test_too_few_frames(tmp_path: Path) -> None:
    with pytest.raises(LongigenError, match=r"frames must be a whole number from 2 to 1000, got 1"):
        ACDCDataset(path=tmp_path, frames=1)


def test_covariates(patient: Patient, tmp_path: Path) -> None:
    patient("patient001", extra="Group: HCM\nHeight: 181.5\nNbFrame: 99\nWeight: 70\n")
    patient("patient002", extra="Group: XYZ\nHeight: tall\nWeight: nan\n")
    patient("patient003", extra="Weight: -1\nHeight: 150.0\nGroup:NOR")
    dataset = ACDCDataset(path=tmp_path)
    one, two, three = dataset.subjects()
    assert all(visit.covariates == {"height": 181.5, "weight": 70.0, "group": 3.0} for visit in one.visits)
    assert len(one.visits) == 5  # the header has the number of frames, whatever NbFrame says
    assert two.visits[0].covariates == {}
    assert three.visits[0].covariates == {"height": 150.0, "group": 0.0}
    assert dataset.levels == {"group": ("NOR", "MINF", "DCM", "HCM", "RV")}
    for config in ({"resample": "linear"}, {"protocol": "sadm"}):
        assert ACDCDataset.from_config({"path": tmp_path, **config}).subjects()[0].visits[1].covariates["group"] == 3.0


def drop(path: Path) -> None:
    path.unlink()


def info(text: str) -> Callable[[Path], object]:
    return lambda path: (path.parent / "Info.cfg").write_text(text)


def image(*shape: int) -> Callable[[Path], object]:
    return lambda path: write_image(path, np.ones(shape, np.float32))


BAD: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "no image": (drop, "missing-file", r"patient002_4d\.nii\.gz \(subject patient002\) does not exist"),
    "no info": (lambda p: drop(p.parent / "Info.cfg"), "missing-file", r"Info\.cfg \(subject patient002\) does not"),
    "info is a folder": (
        lambda p: (drop(p.parent / "Info.cfg"), (p.parent / "Info.cfg").mkdir()),
        "unreadable",
        r"Info\.cfg \(subject patient002\) cannot be read",
    ),
    "no ED": (info("ES: 3\n"), "bad-info", r"Info\.cfg \(subject patient002\) has no line 'ED:'"),
    "no ES": (info("ED: 3\n"), "bad-info", r"has no line 'ES:'"),
    "garbled ES": (info("ED: 1\nES: nine\n"), "bad-info", r"has ES: 'nine', which is not a whole number"),
    "binary": (lambda p: (p.parent / "Info.cfg").write_bytes(bytes(range(256))), "bad-info", "has no line 'ED:'"),
    "empty range": (info("ED: 4\nES: 4\n"), "empty-range", r"has frame 4 as both end diastole and end systole"),
    "ED before": (info("ED: 0\nES: 4\n"), "no-frame", r"Info\.cfg .* has ED: 0, but patient002_4d.* has 8 frames"),
    "ES beyond": (info("ED: 1\nES: 9\n"), "no-frame", r"has ES: 9, but .* has 8 frames; correct ES, which counts fr"),
    "3D": (image(4, 4, 4), "dimensions", r"patient002_4d\.nii\.gz \(subject patient002\) is 3D"),
    "no image at all": (lambda p: p.write_bytes(b"x" * 500), "unreadable", "cannot be opened as an image"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_patient_is_a_finding_and_the_others_are_read(name: str, patient: Patient, tmp_path: Path) -> None:
    spoil, kind, message = BAD[name]
    patient("patient001")
    spoil(patient("patient002"))
    patient("patient003")
    ids, findings = read(tmp_path)
    assert ids == ["patient001", "patient003"]
    assert [(finding.kind, finding.subject, finding.severity) for finding in findings] == [
        (kind, "patient002", "error")
    ]
    assert str(tmp_path / "patient002") in findings[0].source
    assert "\n" not in str(findings[0])
    dataset = ACDCDataset(path=tmp_path)
    for _ in range(2):
        with pytest.raises(BadData, match=message) as caught:
            dataset.subjects()
        assert caught.value.finding == findings[0]


def test_listing_reads_no_voxels_and_visits_go_to_workers(patient: Patient, tmp_path: Path) -> None:
    path = patient("patient001", shape=(30, 30, 4))
    whole = path.read_bytes()
    for config in ({}, {"resample": "linear"}, {"protocol": "sadm"}):
        path.write_bytes(whole[: len(whole) // 2])
        (subject,) = ACDCDataset.from_config({"path": tmp_path, **config}).subjects()
        visit = pickle.loads(pickle.dumps(subject.visits[2]))
        with pytest.raises(BadData, match=r"patient001_4d\.nii\.gz \(subject patient001\) is truncated"):
            visit.load()
        path.write_bytes(whole)
        assert visit.load().data.shape == (128, 128, 32) if "protocol" in config else (30, 30, 4)


def test_training_and_testing(patient: Patient, tmp_path: Path) -> None:
    patient("patient001", below="training")
    patient("patient101", below="testing")
    patient("patient102", below="testing")
    subjects = ACDCDataset(path=tmp_path).subjects()
    assert [(subject.id, subject.part) for subject in subjects] == [
        ("patient001", None),
        ("patient101", "test"),
        ("patient102", "test"),
    ]
    alone = ACDCDataset(path=tmp_path / "testing").subjects()
    assert [(subject.id, subject.part) for subject in alone] == [("patient101", None), ("patient102", None)]


def test_a_name_in_training_and_testing_is_a_finding(patient: Patient, tmp_path: Path) -> None:
    patient("patient001", below="training")
    patient("patient001", below="testing")
    patient("patient101", below="testing")
    ids, (finding,) = read(tmp_path)
    assert ids == ["patient001", "patient101"]
    assert (finding.kind, finding.subject) == ("duplicate-subject", "patient001")
    assert finding.source == str(tmp_path / "testing" / "patient001")
    assert str(tmp_path / "training" / "patient001") in finding.problem


def test_one_patient_and_an_uncompressed_image(
    patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = patient("patient007", suffix=".nii")
    (subject,) = ACDCDataset(path=path.parent).subjects()
    assert subject.id == "patient007"
    np.testing.assert_array_equal(subject.visits[4].load().data, stored(path)[..., 4])
    monkeypatch.chdir(path.parent)
    assert ACDCDataset(path=Path(".")).subjects()[0].id == "patient007"


def test_a_folder_without_patients(tmp_path: Path) -> None:
    with pytest.raises(LongigenError, match=r"has no folder patient\*, neither directly nor in training or testing"):
        ACDCDataset(path=tmp_path).subjects()
    with pytest.raises(LongigenError, match="gone is not a folder"):
        ACDCDataset(path=tmp_path / "gone").subjects()


def test_claims(patient: Patient, tmp_path: Path) -> None:
    path = patient("patient001", below="database/training")
    for claimed in (path.parent, tmp_path / "database" / "training", tmp_path / "database"):
        assert ACDCDataset.claims(claimed)
    for other in (tmp_path, path, tmp_path / "gone"):
        assert not ACDCDataset.claims(other)


def test_real_patients(shared: Path) -> None:
    assert ACDCDataset.claims(shared / "acdc")
    subjects = {subject.id: subject for subject in ACDCDataset(path=shared / "acdc").subjects()}
    assert len(subjects) == 55
    for subject in subjects.values():
        assert subject.times[0] == 0
        assert subject.times[-1] == 1
        assert np.all(np.diff(subject.times) > 0)
        assert 2 <= len(subject.visits) <= 12
        assert set(subject.visits[0].covariates) == {"height", "weight", "group"}
    subject = subjects["patient090"]
    assert [frame(visit) for visit in subject.visits] == list(range(3, 11))
    assert subject.visits[0].covariates == {"height": 150.0, "weight": 66.0, "group": 4.0}
    series = nibabel.load(shared / "acdc" / "patient090" / "patient090_4d.nii.gz")
    data = series.get_fdata(dtype=np.float32)  # type: ignore[attr-defined]
    for visit in subject.visits:
        volume = visit.load()
        np.testing.assert_array_equal(volume.data, data[..., frame(visit)])
        np.testing.assert_array_equal(volume.affine, series.affine)  # type: ignore[attr-defined]


def test_sadm_on_a_real_patient(shared: Path) -> None:
    folder = shared / "acdc" / "patient090"
    block = nibabel.load(folder / "patient090_4d.nii.gz").get_fdata()[..., 3:11]  # type: ignore[attr-defined]
    in_time = zoomed(block, (*block.shape[:3], 12))
    (subject,) = ACDCDataset(path=folder, protocol="sadm").subjects()
    for k in (0, 6):
        expected = zoomed(in_time[..., k], (128, 128, 32))
        np.testing.assert_allclose(subject.visits[k].load().data, expected, atol=1e-5 * np.abs(block).max())


@pytest.mark.parametrize("label", CHECKS["dataset"])
def test_conformance(shared: Path, label: str) -> None:
    run_check("dataset", label, "acdc", {"path": str(shared / "acdc")})


def test_the_folds_of_cronos_are_those_of_its_arrays(patient: Patient, tmp_path: Path) -> None:
    """SADM's code permutes the patients into two files, and CRONOS joins them and takes every fifth place."""
    state = np.random.get_state()
    np.random.seed(0)
    order = np.random.permutation(100)
    np.random.set_state(state)
    merged = np.concatenate([order[:90], order[90:]])
    first, other = merged[0::5] + 1, merged[3::5] + 1
    for number in (*first[:3], *first[-2:], *other[:3], 101, 150):
        patient(f"patient{number:03}", shape=(2, 2, 2), below="testing" if number % 2 else "")
    parts = {subject.id: subject.part for subject in ACDCDataset(path=tmp_path, cronos_fold=0).subjects()}
    assert all(parts[f"patient{number:03}"] == "validation" for number in (*first[:3], *first[-2:]))
    assert all(parts[f"patient{number:03}"] == "train" for number in other[:3])
    assert parts["patient101"] == parts["patient150"] == "test"
    parts = {subject.id: subject.part for subject in ACDCDataset(path=tmp_path, cronos_fold=3).subjects()}
    assert parts[f"patient{other[0]:03}"] == "validation"
    assert parts[f"patient{first[0]:03}"] == "train"


@pytest.mark.parametrize("name", ["patient151", "patient000", "patients"])
def test_a_folder_that_is_no_patient_of_the_challenge_has_no_fold(name: str, patient: Patient, tmp_path: Path) -> None:
    patient(name, shape=(2, 2, 2))
    with pytest.raises(LongigenError, match=f"of the challenge, and .*{name} is none of them; move the folder away"):
        ACDCDataset(path=tmp_path, cronos_fold=0).subjects()
    with pytest.raises(LongigenError, match="cronos_fold"):
        ACDCDataset(path=tmp_path, cronos_fold=5)


def test_sadms_first_and_last_visits_have_the_label_maps(patient: Patient, tmp_path: Path) -> None:
    path = patient("patient001", 2, 6)
    for number in (2, 6, 4):
        write_image(path.parent / f"patient001_frame{number:02}_gt.nii.gz", np.full((6, 5, 3), number, np.float32), LPS)
    (subject,) = ACDCDataset(path=tmp_path, protocol="sadm").subjects()
    found = [visit.read_labels(subject.id) for visit in subject.visits]
    assert [None if labels is None else int(labels.data.max()) for labels in found] == [2, *[None] * 10, 6]
