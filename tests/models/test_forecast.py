"""Forecast and impute visits of one subject from the files of its images, in Python."""

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

import longigen
from helpers.files import ball, write_image
from helpers.models import FIXTURE
from longigen import Forecast, LongigenError, LongigenWarning, LongitudinalModel, Subject
from longigen.hub.manifest import checksum

AFFINE = np.array([[-9.0, 0, 0, 70], [0, 9, 0, -90], [0, 0, 11, 3], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("scans")
    return [
        write_image(folder / f"year{year}.nii.gz", ball((15, 18, 14), 0.5 + 0.05 * year), AFFINE) for year in (0, 1)
    ]


@pytest.fixture(scope="module")
def model() -> LongitudinalModel:
    return longigen.load(FIXTURE)


def forecast(model: LongitudinalModel, paths: Sequence[Path], **options: object) -> Forecast:
    given = {"times": [0.0, 1.0], "at": "+1", "steps": 2, "progress": False, **options}
    return model.forecast(paths, **given)  # type: ignore[arg-type]


def test_volumes_are_in_the_space_of_the_subject(model: LongitudinalModel, paths: list[Path]) -> None:
    result = forecast(model, paths, samples=2, at=[2.0, "+2"])
    assert (result.times, result.time_unit) == ((2.0, 3.0), "years")
    for visit, time in zip(result.visits, (2.0, 3.0), strict=True):
        assert visit.time == time
        assert len(visit.samples) == 2
        for volume in visit.samples:
            assert volume.data.shape == (15, 18, 14)
            np.testing.assert_allclose(volume.affine, AFFINE)
    first = nibabel.load(paths[0]).get_fdata()  # type: ignore[attr-defined]
    assert result.mean[0].data.max() < 1.1 * first.max()


def test_mean_and_std_are_those_of_the_samples(model: LongitudinalModel, paths: list[Path]) -> None:
    result = forecast(model, paths, samples=3)
    samples = np.stack([volume.data for volume in result.visits[0].samples])
    assert samples.std(axis=0).max() > 0
    np.testing.assert_allclose(result.mean[0].data, samples.mean(axis=0), rtol=1e-5, atol=1e-3)
    assert result.std is not None
    np.testing.assert_allclose(result.std[0].data, samples.std(axis=0, ddof=1), rtol=1e-4, atol=1e-3)
    assert forecast(model, paths).std is None


def test_a_forecast_depends_on_its_seed(model: LongitudinalModel, paths: list[Path]) -> None:
    one, two, other = (forecast(model, paths, seed=seed).mean[0].data for seed in (3, 3, 4))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_a_subject_is_the_same_as_its_paths(model: LongitudinalModel, paths: list[Path]) -> None:
    subject = Subject.from_files(paths, [0.0, 1.0], time_unit="years")
    result = model.forecast(subject, at="+1", steps=2, progress=False)
    assert np.array_equal(result.mean[0].data, forecast(model, paths).mean[0].data)


def test_saved_files_contain_the_forecast(model: LongitudinalModel, paths: list[Path], tmp_path: Path) -> None:
    result = forecast(model, paths, samples=2)
    files = result.save(tmp_path, layout="flat")
    assert [file.name for file in files] == [f"year0_time-2_sample-{sample}.nii.gz" for sample in range(2)]
    for sample, file in enumerate(files):
        image = nibabel.load(file)
        np.testing.assert_allclose(image.get_fdata(), result.visits[0].samples[sample].data, rtol=1e-6)  # type: ignore[attr-defined]
        np.testing.assert_allclose(image.affine, result.to_nibabel(sample)[0].affine)  # type: ignore[attr-defined]
    mean = nibabel.load(tmp_path / "year0" / "year0_time-2_mean.nii.gz")
    np.testing.assert_allclose(mean.get_fdata(), result.to_nibabel()[0].get_fdata(), rtol=1e-5, atol=1e-3)  # type: ignore[attr-defined]
    assert (tmp_path / "year0" / "year0_time-2_std.nii.gz").exists()
    sidecar = json.loads((tmp_path / "year0" / "year0_time-2_sample-1.json").read_text())
    assert [visit["source"] for visit in sidecar["history"]] == ["year0.nii.gz", "year1.nii.gz"]
    assert (sidecar["synthetic"], sidecar["seed"], sidecar["sample"], sidecar["steps"]) == (True, 0, 1, 2)
    assert sidecar["model"]["weights_sha256"] == checksum(FIXTURE / "model.safetensors")


LATE = ((738008.0, 738009.0), (738010.1, 738010.4)), ((20200001.0, 20200050.0), (20200100.0, 20200102.0))


@pytest.mark.parametrize(("given", "asked"), LATE)
def test_late_times_have_files_of_their_own(
    model: LongitudinalModel, paths: list[Path], tmp_path: Path, given: Sequence[float], asked: Sequence[float]
) -> None:
    found = forecast(model, paths, times=given, at=asked)
    assert len({*found.save(tmp_path)}) == len([*tmp_path.glob("sub-*/ses-*/anat/*.nii.gz")]) == 2


def test_times_that_are_one_to_a_model_are_refused(model: LongitudinalModel, paths: list[Path]) -> None:
    with pytest.raises(
        LongigenError, match=r"2\.02001e\+07 and 20200101 of subject year0 are one to a model.*origin\.$"
    ):
        forecast(model, paths, times=[20200001.0, 20200100.0], at=20200101)


def test_files_of_a_visit_are_replaced_only_if_asked(
    model: LongitudinalModel, paths: list[Path], tmp_path: Path
) -> None:
    forecast(model, paths, samples=3).save(tmp_path, layout="flat")
    other = forecast(model, paths, samples=2, seed=1)
    before = {path: path.read_bytes() for path in tmp_path.glob("*/*")}
    with pytest.raises(LongigenError, match=r"is there already, generated with seed 0; .*--overwrite"):
        other.save(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.glob("*/*")} == before
    other.save(tmp_path, overwrite=True)
    assert {json.loads(path.read_text())["seed"] for path in tmp_path.glob("*/*.json")} == {1}
    assert len([*tmp_path.glob("*/*_sample-*.nii.gz")]) == 2
    forecast(model, paths, at="+3").save(tmp_path)  # another visit


def test_changed_weights_have_another_checksum(model: LongitudinalModel) -> None:
    changed = longigen.load(FIXTURE)
    assert changed.weights_sha256 == model.weights_sha256 == checksum(FIXTURE / "model.safetensors")
    with torch.no_grad():
        next(changed.parameters()).add_(0.1)
    assert changed.weights_sha256 != model.weights_sha256


def test_missing_visits_lie_between_given_ones(model: LongitudinalModel, paths: list[Path]) -> None:
    result = model.impute(paths, times=[0.0, 2.0], at=[0.5, 1.0], steps=2, progress=False)
    assert result.times == (0.5, 1.0)
    with pytest.raises(LongigenError, match=r"Time 2\.5 is not before the last visit of subject year0"):
        model.impute(paths, times=[0.0, 2.0], at=2.5)


def test_weights_of_16_bits_forecast_nearly_the_same(paths: list[Path]) -> None:
    exact = forecast(longigen.load(FIXTURE), paths).mean[0].data
    rough = longigen.load(FIXTURE, dtype=torch.bfloat16)
    assert rough.dtype == torch.bfloat16
    difference = np.abs(forecast(rough, paths).mean[0].data - exact)
    assert 0 < difference.max() < 0.05 * exact.max()


def test_a_figure_has_a_panel_for_each_visit(model: LongitudinalModel, paths: list[Path]) -> None:
    titles = [axis.get_title() for axis in forecast(model, paths, samples=2).plot().axes if axis.get_title()]
    assert titles[:3] == ["given t=0", "given t=1", "generated t=2"]
    assert sum(title.startswith("change") for title in titles) == 1
    assert sum(title.startswith("std") for title in titles) == 1


def test_a_notebook_views_the_visits_in_niivue(model: LongitudinalModel, paths: list[Path]) -> None:
    result = forecast(model, paths, samples=2)
    if find_spec("ipyniivue") is None:
        with pytest.raises(LongigenError, match="needs ipyniivue; install it with 'pip install ipyniivue'"):
            result.view()
        return
    shown = result.view().volumes
    assert [(volume.name, volume.opacity) for volume in shown] == [
        ("given-0.nii", 0.0), ("given-1.nii", 0.0), ("generated-2.nii", 1.0),
    ]  # fmt: skip


def test_reprs_are_one_line(model: LongitudinalModel, paths: list[Path]) -> None:
    result = forecast(model, paths)
    for shown in (model, result, result.visits[0], result.subject):
        assert "\n" not in repr(shown)
    assert repr(result) == "Forecast(year0, at 2 years, 1 samples)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"times": None}, r"The times of the images are missing; give times=\[…\], one per image, in years"),
        ({"times": [0.0]}, "There are 2 files and 1 times"),
        ({"times": [1.0, 1.0]}, "Two visits have the same time"),
        ({"times": [0.0, float("nan")]}, "Every time must be a number in years"),
        ({"at": 0.5}, r"Time 0\.5 is not after the last visit of subject year0 \(1 years\); use impute"),
        ({"at": []}, "There is no time to generate"),
        ({"at": "soon"}, "A time to generate must be a number such as"),
        ({"at": None}, "There is no time to generate"),
        ({"samples": 0}, "samples"),
        ({"samples": 1.5}, "samples must be a whole number of at least 1, got 1.5"),
        ({"steps": "8"}, "steps must be a whole number from 1 to 100000 or None"),
        ({"guidance": "high"}, "guidance must be a number from 0 to 1000 or None"),
        ({"sampler": "ddmp"}, r"no sampler 'ddmp'\. Did you mean 'ddpm'"),
    ],
)
def test_a_mistake_is_one_sentence(
    model: LongitudinalModel, paths: list[Path], options: dict[str, object], message: str
) -> None:
    with pytest.raises(LongigenError, match=message) as caught:
        forecast(model, paths, **options)
    assert "\n" not in str(caught.value)


def test_other_units_and_files_that_are_not_images_are_refused(
    model: LongitudinalModel, paths: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(LongigenError, match="are in frames and those of the model in years, which cannot be converted"):
        model.forecast(Subject.from_files(paths, [0, 365], time_unit="frames"), at=400)
    with pytest.raises(LongigenError, match="no time unit 'year'"):
        Subject.from_files(paths, [0, 1], time_unit="year")
    with pytest.raises(LongigenError, match="A Subject has its own times"):
        model.forecast(Subject.from_files(paths, [0, 1]), times=[0, 1], at=2)
    series = write_image(tmp_path / "cine.nii.gz", np.zeros((4, 4, 4, 3), np.float32))
    with pytest.raises(LongigenError, match=r"cine\.nii\.gz \(subject cine\) is 4D"):
        model.forecast([series], times=[0], at=1)
    with pytest.raises(LongigenError, match=r"missing\.nii \(subject missing\) does not exist"):
        model.forecast([tmp_path / "missing.nii"], times=[0], at=1)


def test_covariates_are_for_all_visits_or_one_each(paths: list[Path]) -> None:
    subject = Subject.from_files(paths, [1.0, 0.0], covariates={"age": [71.0, 70.0], "sex": 1})
    assert subject.times == (0.0, 1.0)
    assert [dict(visit.covariates) for visit in subject.visits] == [
        {"age": 70.0, "sex": 1.0},
        {"age": 71.0, "sex": 1.0},
    ]
    with pytest.raises(LongigenError, match="'age' has 1 values for 2 visits"):
        Subject.from_files(paths, [0, 1], covariates={"age": [70.0]})


def test_warnings_about_covariates_times_and_units(model: LongitudinalModel, paths: list[Path]) -> None:
    subject = Subject.from_files(paths, [0.0, 1.0], covariates={"height": 1.8})
    with pytest.warns(LongigenWarning) as caught:
        model.forecast(subject, at=100.0, steps=1, samples=2, progress=False)
    warned = " ".join(str(warning.message) for warning in caught)
    assert "does not use the covariates height of subject year0; it uses: none" in warned
    assert "one network evaluation per visit" in warned
    with pytest.warns(LongigenWarning, match="has no time unit; its times are assumed to be in years"):
        model.forecast(Subject("x", subject.visits), at=2.0, steps=2, progress=False)


def test_a_subject_that_is_larger_than_the_grid_is_refused(model: LongitudinalModel, tmp_path: Path) -> None:
    small = np.zeros((40, 40, 40), np.float32)
    small[12:28, 10:30, 12:28] = 900  # as large as the grid
    small[12:28, 10:20, 28] = 900  # 3 % more
    large = np.zeros((40, 40, 40), np.float32)
    large[4:36, 4:36, 4:36] = 900

    def ask(data: np.ndarray, **options: object) -> Forecast:
        path = write_image(tmp_path / "scan.nii.gz", data, np.diag([10.0, 10, 10, 1]))
        return model.forecast([path], times=[0.0], at=1.0, steps=1, progress=False, **options)  # type: ignore[arg-type]

    lies = "of the foreground of subject scan lies outside the model's grid of 16 × 20 × 16 voxels of 10 × 10 × 10 mm"
    with pytest.raises(LongigenError, match=rf"84% {lies}, .*--set preprocess\.shape=0,0,0 .* or .*shape=16,20,16 for"):
        ask(large)
    with pytest.warns(LongigenWarning, match=f"3% {lies}"):
        ask(small)
    with pytest.warns(LongigenWarning, match=f"84% {lies}"):
        ask(large, shape=(16, 20, 16))
    folder = tmp_path / "forecast"
    with pytest.warns(LongigenWarning) as caught:
        (file,) = ask(large, shape=(0, 0, 0)).save(folder)
    assert not any("outside" in str(warning.message) for warning in caught)
    grid = json.loads(file.with_name(file.name.replace(".nii.gz", ".json")).read_text())["grid"]
    assert grid == {"voxels": [[0, 40]] * 3, "shape": [40] * 3, "spacing": [10.0] * 3, "foreground_inside": 1.0}


def test_times_in_another_unit_are_converted(model: LongitudinalModel, paths: list[Path], tmp_path: Path) -> None:
    days = Subject.from_files(paths, [0.0, 365.25], time_unit="days")
    with pytest.warns(LongigenWarning, match=r"days and are converted to the model's years, where 1 year is 365\.25 d"):
        result = model.forecast(days, at=["+365.25"], steps=1, progress=False)
    assert (result.times, result.time_unit) == ((730.5,), "days")
    in_years = forecast(model, paths, at=2.0, steps=1)
    assert np.array_equal(result.mean[0].data, in_years.mean[0].data)
    (file,) = result.save(tmp_path, layout="flat")
    assert file.name == "year0_time-730.5_sample-0.nii.gz"
    sidecar = json.loads(file.with_name(file.name.replace(".nii.gz", ".json")).read_text())
    assert (sidecar["time"], sidecar["time_unit"]) == (730.5, "days")
    assert (sidecar["model_time"], sidecar["model_time_unit"]) == (2.0, "years")
    years = json.loads(in_years.save(tmp_path)[0].with_name("year0_time-2_sample-0.json").read_text())
    assert "model_time" not in years


def test_impossible_subjects_are_refused(paths: list[Path], model: LongitudinalModel) -> None:
    with pytest.raises(LongigenError, match="A visit must be the path of a NIfTI file, got ndarray"):
        Subject.from_files([np.zeros((2, 2, 2))], [0])  # type: ignore[list-item]
    with pytest.raises(LongigenError, match=r"'sex' must be a number, got \['M', 'M'\]"):
        Subject.from_files(paths, [0, 1], covariates={"sex": ["M", "M"]})  # type: ignore[dict-item]
    with pytest.raises(LongigenError, match="Subject nobody has no visits"):
        model.forecast(Subject("nobody", ()), at=1.0)
    with pytest.raises(LongigenError, match="cannot be moved to gpu"):
        longigen.load(FIXTURE, device="gpu")
