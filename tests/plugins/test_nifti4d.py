"""The data set `nifti4d`: subject ids, times, units and damaged series."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from helpers.files import write_image
from longigen import BadData, Finding, LongigenError
from longigen.testing import CHECKS, run_check
from longigen_nifti4d import NIfTI4DDataset

LPS = np.array([[0, -2.0, 0, 5], [-1.5, 0, 0, 7], [0, 0, 8.0, -9], [0, 0, 0, 1]])  # axes swapped and flipped

Series = Callable[..., Path]


@pytest.fixture
def series(tmp_path: Path) -> Series:
    """Write a series of random frames, with times in its header and its sidecar."""

    def write(
        name: str, *, frames: int = 4, step: float | None = None, unit: str | None = None, sidecar: Any = None
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = np.random.default_rng(frames).uniform(0, 100, (6, 5, 3, frames)).astype(np.float32)
        image = nibabel.Nifti1Image(data, LPS)
        if unit is not None:
            image.header.set_xyzt_units("mm", unit)
        if step is not None:
            image.header["pixdim"][4] = step
        nibabel.save(image, path)
        if sidecar is not None:
            text = sidecar if isinstance(sidecar, str) else json.dumps(sidecar)
            (path.parent / f"{path.name.partition('.nii')[0]}.json").write_text(text)
        return path

    return write


def times(path: Path, **config: Any) -> tuple[float, ...]:
    (subject,) = NIfTI4DDataset(path=path, **config).subjects()
    return subject.times


def read(path: Path, **config: Any) -> tuple[list[str], list[Finding]]:
    """Return the ids of the usable subjects, and the findings."""
    findings: list[Finding] = []
    subjects = NIfTI4DDataset(path=path, **config).subjects(findings.append)
    return [subject.id for subject in subjects], findings


def test_a_visit_per_frame(series: Series, tmp_path: Path) -> None:
    path = series("b.nii.gz")
    series("a.nii", frames=2)
    dataset = NIfTI4DDataset(path=tmp_path)
    a, b = dataset.subjects()
    assert (a.id, b.id) == ("a", "b")
    assert (a.times, b.times) == ((0.0, 1.0), (0.0, 1.0, 2.0, 3.0))
    data = np.asarray(nibabel.load(path).dataobj)  # type: ignore[attr-defined]
    for frame, visit in enumerate(b.visits):
        volume = visit.load()
        np.testing.assert_array_equal(volume.data, data[..., frame])
        np.testing.assert_array_equal(volume.affine, LPS)
        assert visit.source == f"{path}, frame {frame}"
    assert (b.visits[0].shape, b.visits[0].spacing) == ((5, 6, 3), (2.0, 1.5, 8.0))  # in RAS order
    assert len({visit.identity for visit in b.visits}) == 4


def test_one_file_is_one_subject(series: Series) -> None:
    path = series("rest.v2.nii.gz")
    (subject,) = NIfTI4DDataset(path=path, pattern="*_nothing.nii").subjects()
    assert subject.id == "rest.v2"


NAMES = {
    "SC-01_ED_ES.nii.gz": ("*_ED_ES.nii.gz", "SC-01"),
    "SC-01_4d.nii": ("*.nii*", "SC-01_4d"),
    "x.nii.gz": ("x.nii.gz", "x"),
    "p01/cine.nii.gz": ("*/cine.nii.gz", "p01"),
    "p02/p02_cine.nii": ("*/*_cine.nii", "p02"),
    "p03/cine_03.nii": ("p*/cine_*.nii", "03"),
    "a/b/c/bold.nii.gz": ("**/bold.nii.gz", "a_b_c"),
    "a/b/run_1.nii.gz": ("**/*.nii.gz", "a_b_run_1"),
    "heart-07-x.nii": ("heart-[0-9]?-[!y].nii", "07_x"),
    "late.nii.gz": ("l*z", "late"),
    "v1.nii": ("v*1.nii", "v1"),
}


@pytest.mark.parametrize("name", NAMES)
def test_the_subject_id_is_the_match_of_the_wildcards(name: str, series: Series, tmp_path: Path) -> None:
    pattern, expected = NAMES[name]
    series(name)
    assert read(tmp_path, pattern=pattern) == ([expected], [])


def test_hidden_and_other_files_are_ignored(series: Series, tmp_path: Path) -> None:
    series("a.nii.gz")
    for name in ("._a.nii.gz", "a.nii.gz.md5", "a.nii.txt"):
        (tmp_path / name).write_bytes(b"no image")
    assert read(tmp_path) == (["a"], [])


@pytest.mark.parametrize(
    ("step", "unit", "expected", "time_unit"),
    [
        (None, None, (0.0, 1.0, 2.0, 3.0), "frames"),
        (0, None, (0.0, 1.0, 2.0, 3.0), "frames"),
        (0, "sec", (0.0, 1.0, 2.0, 3.0), "frames"),
        (1, "sec", (0.0, 1.0, 2.0, 3.0), "seconds"),
        (2.5, "sec", (0.0, 2.5, 5.0, 7.5), "seconds"),
        (35, "msec", (0.0, 0.035, 0.07, 0.105), "seconds"),
        (500, "usec", (0.0, 0.0005, 0.001, 0.0015), "seconds"),
    ],
)
def test_times_of_a_header(step: float, unit: str, expected: tuple[float, ...], time_unit: str, series: Series) -> None:
    path = series("a.nii.gz", step=step, unit=unit)
    dataset = NIfTI4DDataset(path=path)
    assert dataset.time_unit == time_unit
    assert dataset.subjects()[0].times == pytest.approx(expected, rel=1e-12)
    assert dataset.config["time_unit"] is None
    assert ("times count frames" in "".join(dataset.cautions)) == (time_unit == "frames")
    again = NIfTI4DDataset.from_config(dataset.config)
    assert (again.time_unit, again.config) == (time_unit, dataset.config)


@pytest.mark.parametrize(
    ("sidecar", "expected", "time_unit"),
    [
        ({"times": [0, 0.5, 2, 9.25], "time_unit": "years"}, (0.0, 0.5, 2.0, 9.25), "years"),
        ({"times": [-1, 0, 1, 2], "time_unit": "cycle", "RepetitionTime": 3}, (-1.0, 0.0, 1.0, 2.0), "cycle"),
        ({"FrameTimesStart": [0, 10, 30, 60]}, (0.0, 10.0, 30.0, 60.0), "seconds"),
        ({"VolumeTiming": [0, 1.5, 3, 5]}, (0.0, 1.5, 3.0, 5.0), "seconds"),
        ({"RepetitionTime": 0.03501}, (0.0, 0.03501, 0.07002, 0.10503), "seconds"),
        ({"Manufacturer": "unknown"}, (0.0, 0.035, 0.07, 0.105), "seconds"),
    ],
)
def test_times_of_a_sidecar_have_precedence_over_the_header(
    sidecar: Any, expected: tuple[float, ...], time_unit: str, series: Series
) -> None:
    path = series("a.nii.gz", step=35, unit="msec", sidecar=sidecar)
    dataset = NIfTI4DDataset(path=path)
    assert dataset.time_unit == time_unit
    assert dataset.subjects()[0].times == pytest.approx(expected)
    assert not dataset.cautions


def test_the_users_unit(series: Series) -> None:
    timed = series("timed.nii", step=20, unit="msec")
    untimed = series("untimed.nii")
    phases = series("phases.nii", sidecar={"times": [0.1, 0.2, 0.5, 0.9], "time_unit": "cycle"})
    for path in (timed, untimed, phases):
        assert times(path, time_unit="frames") == (0.0, 1.0, 2.0, 3.0)
        assert NIfTI4DDataset(path=path, time_unit="frames").cautions == []
    assert times(timed, time_unit="seconds") == pytest.approx((0.0, 0.02, 0.04, 0.06))
    assert times(untimed, time_unit="years") == (0.0, 1.0, 2.0, 3.0)
    assert times(series("odd.nii", step=0.5), time_unit="months") == (0.0, 0.5, 1.0, 1.5)
    assert times(timed, time_unit="cycle") == (0.0, 1 / 3, 2 / 3, 1.0)
    assert times(phases, time_unit="cycle") == (0.1, 0.2, 0.5, 0.9)
    with pytest.raises(LongigenError, match=r"no time unit 'second'.* Did you mean 'seconds'"):
        NIfTI4DDataset(path=timed, time_unit="second")


def test_a_step_without_a_unit_needs_time_unit(series: Series) -> None:
    path = series("odd.nii", step=0.035)
    with pytest.raises(LongigenError, match=r"odd\.nii has frames 0\.035 apart .* --set time_unit="):
        NIfTI4DDataset(path=path)
    assert times(path, time_unit="seconds") == (0.0, 0.035, 0.07, pytest.approx(0.105))


def test_files_with_different_units_need_time_unit(series: Series, tmp_path: Path) -> None:
    series("a.nii", step=2, unit="sec")
    series("b.nii")
    with pytest.raises(LongigenError, match=r"a\.nii has times in seconds and .*b\.nii in frames; .*--set time_unit="):
        NIfTI4DDataset(path=tmp_path)
    assert NIfTI4DDataset(path=tmp_path, time_unit="frames").subjects()[0].times == (0.0, 1.0, 2.0, 3.0)
    assert NIfTI4DDataset(path=tmp_path, pattern="a*.nii").time_unit == "seconds"


def image(*shape: int) -> Callable[[Path], Path]:
    return lambda path: write_image(path, np.ones(shape, np.float32))


def sidecar(content: Any) -> Callable[[Path], int]:
    text = content if isinstance(content, str) else json.dumps(content)
    return lambda path: path.with_suffix(".json").write_text(text)


def header(step: float, unit: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        spoilt = nibabel.Nifti1Image(np.ones((4, 4, 4, 4), np.float32), LPS)
        spoilt.header.set_xyzt_units("mm", unit)
        spoilt.header["pixdim"][4] = step
        nibabel.save(spoilt, path)

    return write


BAD: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "3D": (image(4, 4, 4), "dimensions", r"b\.nii \(subject b\) is 3D, where a 4D series is needed"),
    "5D": (image(4, 4, 4, 2, 3), "dimensions", "is 5D"),
    "one frame": (image(4, 4, 4, 1), "one-frame", "has only one frame"),
    "no image": (lambda path: path.write_bytes(b"x" * 500), "unreadable", "cannot be opened as an image"),
    "spectrum": (header(2, "hz"), "bad-timing", "has frames 2 hz apart, which is not a valid time"),
    "negative step": (header(-2, "sec"), "bad-timing", "has frames -2 sec apart"),
    "not finite": (header(np.nan, "sec"), "bad-timing", "has frames nan sec apart"),
    "no JSON": (sidecar("{"), "bad-json", r"b\.json \(subject b\) cannot be read as JSON"),
    "no object": (sidecar([1, 2]), "bad-json", "is not a JSON object"),
    "wrong number": (sidecar({"VolumeTiming": [0, 1, 2]}), "wrong-count", "has 3 VolumeTiming for 4 frames"),
    "no list": (sidecar({"FrameTimesStart": 3}), "bad-sidecar", "has FrameTimesStart that is not a list"),
    "text": (sidecar({"VolumeTiming": [0, 1, 2, "3"]}), "bad-sidecar", "is not a list of finite numbers"),
    "infinite": (sidecar('{"VolumeTiming": [0, 1, 2, Infinity]}'), "bad-sidecar", "is not a list of finite numbers"),
    "huge": (sidecar({"VolumeTiming": [0, 1, 2, 10**400]}), "bad-sidecar", "is not a list of finite numbers"),
    "twice": (sidecar({"VolumeTiming": [0, 1, 1, 2]}), "duplicate-time", "VolumeTiming 1 and then 1 at frame 2"),
    "descending": (sidecar({"VolumeTiming": [0, 2, 1, 3]}), "duplicate-time", "VolumeTiming 2 and then 1 at frame 2"),
    "no unit": (sidecar({"times": [0, 1, 2, 3]}), "bad-sidecar", "has no valid time_unit"),
    "other unit": (sidecar({"times": [0, 1, 2, 3], "time_unit": "ages"}), "bad-sidecar", "no time unit 'ages'"),
    "no repetition": (sidecar({"RepetitionTime": 0}), "bad-sidecar", "has RepetitionTime: 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_series_is_a_finding_and_the_others_are_read(name: str, series: Series, tmp_path: Path) -> None:
    spoil, kind, message = BAD[name]
    for letter in "abc":
        series(f"{letter}.nii")
    spoil(tmp_path / "b.nii")
    ids, findings = read(tmp_path)
    assert ids == ["a", "c"]
    assert [(finding.kind, finding.subject) for finding in findings] == [(kind, "b")]
    assert "\n" not in str(findings[0])
    dataset = NIfTI4DDataset(path=tmp_path)
    assert dataset.time_unit == "frames"
    for _ in range(2):
        with pytest.raises(BadData, match=message) as caught:
            dataset.subjects()
        assert caught.value.finding == findings[0]


@pytest.mark.parametrize(
    ("step", "unit", "time_unit", "kind", "message"),
    [
        (2, "sec", "days", "unit-conflict", "has times in seconds, but time_unit is days"),
        (0, None, "seconds", "no-timing", "has no time between its frames, but time_unit is seconds"),
    ],
)
def test_a_series_that_cannot_be_converted_to_the_unit(
    step: float, unit: str | None, time_unit: str, kind: str, message: str, series: Series
) -> None:
    ids, (finding,) = read(series("a.nii", step=step, unit=unit), time_unit=time_unit)
    assert (ids, finding.kind, finding.subject) == ([], kind, "a")
    assert message in str(finding)


def test_an_id_that_two_files_have(series: Series, tmp_path: Path) -> None:
    series("a.nii")
    second = series("a.nii.gz")
    ids, (finding,) = read(tmp_path)
    assert (ids, finding.kind, finding.source) == (["a"], "duplicate-subject", str(second))
    assert str(tmp_path / "a.nii") in finding.problem


def test_a_folder_without_matching_files(series: Series, tmp_path: Path) -> None:
    series("a.nii")
    with pytest.raises(LongigenError, match=r"no NIfTI file that matches the pattern '\*_cine\.nii\*'"):
        NIfTI4DDataset(path=tmp_path, pattern="*_cine.nii*")
    for pattern in ("", "/scans/*.nii", "a**b"):
        with pytest.raises(LongigenError, match=r"pattern '.*'( cannot be used|; give another)"):
            NIfTI4DDataset(path=tmp_path, pattern=pattern)
    for name in ("gone", "gone.nii.gz"):
        with pytest.raises(LongigenError, match=f"{name} is neither a folder nor"):
            NIfTI4DDataset(path=tmp_path / name)


def test_listing_reads_no_voxels_and_visits_go_to_workers(series: Series) -> None:
    path = series("a.nii.gz", frames=40)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    (subject,) = NIfTI4DDataset(path=path).subjects()
    visit = pickle.loads(pickle.dumps(subject.visits[39]))
    with pytest.raises(BadData, match=r"a\.nii\.gz \(subject a\) is truncated"):
        visit.load()
    path.write_bytes(whole)
    assert visit.load().data.shape == (6, 5, 3)


def test_claims(series: Series, tmp_path: Path) -> None:
    path = series("plain/a.nii.gz")
    flat = series("flat/sub-01_bold.nii.gz")
    assert all(map(NIfTI4DDataset.claims, (path, path.parent, flat.parent)))
    bids, acdc, described = (series(f"{name}/a.nii.gz").parent for name in ("bids", "acdc", "described"))
    (bids / "sub-01").mkdir()
    (acdc / "Info.cfg").touch()
    (described / "dataset_description.json").touch()
    for other in (bids, acdc, described, tmp_path, tmp_path / "gone", tmp_path / "visits.csv"):
        assert not NIfTI4DDataset.claims(other)


def test_real_pairs_of_frames(shared: Path) -> None:
    folder = shared / "sunnybrook"
    assert NIfTI4DDataset.claims(folder)
    dataset = NIfTI4DDataset(path=folder, pattern="*_ED_ES.nii.gz")
    subjects = dataset.subjects()
    assert len(subjects) == 30
    assert subjects[0].id == "SC-HF-I-01"
    assert dataset.time_unit == "frames"
    data = np.asarray(nibabel.load(folder / "SC-HF-I-01_ED_ES.nii.gz").dataobj)  # type: ignore[attr-defined]
    for frame, visit in enumerate(subjects[0].visits):
        np.testing.assert_array_equal(visit.load().data, data[..., frame])
    assert all(subject.times == (0.0, 1.0) for subject in subjects)
    assert len(NIfTI4DDataset(path=folder).subjects()) == 60  # the masks too, which the default pattern finds


def test_real_cine(shared: Path) -> None:
    path = shared / "acdc" / "patient001" / "patient001_4d.nii.gz"
    assert NIfTI4DDataset.claims(path)
    assert not NIfTI4DDataset.claims(path.parent)
    (subject,) = NIfTI4DDataset(path=path, time_unit="cycle").subjects()
    assert (subject.id, len(subject.visits), subject.times[-1]) == ("patient001_4d", 30, 1.0)
    data = nibabel.load(path).get_fdata(dtype=np.float32)  # type: ignore[attr-defined]
    for frame in (0, 29):
        np.testing.assert_array_equal(subject.visits[frame].load().data, data[..., frame])


@pytest.mark.parametrize("label", CHECKS["dataset"])
def test_conformance(shared: Path, label: str) -> None:
    run_check("dataset", label, "nifti4d", {"path": str(shared / "sunnybrook"), "pattern": "*_ED_ES.nii.gz"})


@pytest.mark.parametrize(
    ("step", "unit", "repetition", "expected", "words"),
    [
        (15, "sec", 0.0045, 15.0, "15 s apart by its header and 0.0045 s by RepetitionTime in a.json; the header's is"),
        (2000, "msec", 2.0, 2.0, None),
        (1, "sec", 2.5, 2.5, "RepetitionTime is used, since 1 is the default of programs"),
        (0, None, 2.5, 2.5, None),
        (2500, None, 2.5, 2.5, None),
        (7, None, 2.5, 2.5, "RepetitionTime is used, since the header's has no unit"),
    ],
)
def test_a_repetition_time_that_is_not_the_step_of_the_header(
    step: float, unit: str | None, repetition: float, expected: float, words: str | None, series: Series
) -> None:
    path = series("a.nii.gz", step=step, unit=unit, sidecar={"RepetitionTime": repetition})
    (subject,) = NIfTI4DDataset(path=path).subjects()
    assert subject.times == pytest.approx([k * expected for k in range(4)])
    cautions = [str(caution) for visit in subject.visits for caution in visit.cautions if "two-" in caution.kind]
    assert len(cautions) == (words is not None)
    assert (words or "") in "".join(cautions)


def test_extensions_in_capitals_and_links_to_nothing(series: Series, tmp_path: Path) -> None:
    series("a.nii.gz").rename(tmp_path / "A.NII.GZ")
    (tmp_path / "b.nii.gz").symlink_to("../.git/annex/objects/aa/bb/MD5E-s1--c.nii.gz")
    ids, findings = read(tmp_path)
    assert ids == ["A"]
    assert [(finding.kind, finding.source) for finding in findings] == [("missing-file", str(tmp_path / "b.nii.gz"))]
