"""Output as BIDS derivatives: names, what describes the folder, what is private, and that longigen reads it again."""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from helpers.files import ball, write_image
from helpers.models import FIXTURE
from helpers.trainings import trainer
from longigen import (
    LongigenError,
    LongigenWarning,
    Subject,
    evaluate,
    examine,
    generate,
    load,
    open_dataset,
    report,
    view,
)

SECRETS = ("Mueller", "1960-03-04", "Scanner-7", "St. Elsewhere", "/secret-study/")
QUIET: dict[str, Any] = {"progress": False, "steps": 1}


def write_raw(root: Path) -> Path:
    """Write a BIDS data set of two subjects with three FLAIR images each, whose files hold what is private."""
    described = {
        "Name": "Mueller's patients", "BIDSVersion": "1.9.0", "DatasetDOI": "doi:10.1234/abc", "Authors": ["Mueller"],
    }  # fmt: skip
    (root / "dataset_description.json").write_text(json.dumps(described))
    (root / "participants.tsv").write_text(
        "participant_id\tname\tbirth_date\nsub-01\tMueller\t1960-03-04\nsub-02\tMueller\t1960-03-04\n"
    )
    for subject in ("01", "02"):
        rows = ["session_id\tage\tscanner\tacq_time"]
        for number, session in enumerate(("M00", "M12", "M30")):
            path = root / f"sub-{subject}/ses-{session}/anat/sub-{subject}_ses-{session}_acq-x_run-2_FLAIR.nii.gz"
            write_image(path, ball((13, 12, 10), 0.3 + 0.02 * int(subject) + 0.03 * number), np.diag([2.0, 2, 3, 1]))
            private = {
                "Manufacturer": "Scanner-7", "InstitutionName": "St. Elsewhere", "PatientBirthDate": "1960-03-04",
                "PatientName": "Mueller", "SkullStripped": True,
            }  # fmt: skip
            path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps(private))
            rows.append(f"ses-{session}\t{(60, 61.1, 62.6)[number]}\tScanner-7\t1960-03-04")
        (root / f"sub-{subject}/sub-{subject}_sessions.tsv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "secret-study"
    root.mkdir()
    return write_raw(root)


@pytest.fixture(scope="module")
def made(raw: Path) -> Path:
    """Return visits generated from the first one, at the times of the subjects' others, inside of their data set."""
    out = raw / "derivatives" / "longigen"
    generate(FIXTURE, out, data=raw, setting="single", part="all", animate=True, series=True, explain=True, **QUIET)
    return out


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_names_are_those_of_the_input(made: Path) -> None:
    ends = (
        ("anat", ".json"),
        ("anat", ".nii.gz"),
        *(("explain", f"_explain.{end}") for end in ("json", "nii.gz", "png")),
    )
    of_visits = [
        f"sub-{subject}/ses-{session}/{folder}/sub-{subject}_ses-{session}_acq-x_desc-synthetic_FLAIR{end}"
        for subject in ("01", "02")
        for session in ("M12", "M30")
        for folder, end in ends
    ]
    of_subjects = [
        f"sub-{subject}/{name}"
        for subject in ("01", "02")
        for name in (
            f"sub-{subject}_sessions.tsv",
            f"figures/sub-{subject}_setting-single_desc-synthetic.gif",
            *(f"cine/sub-{subject}_setting-single_run-1_desc-synthetic_cine.{end}" for end in ("json", "nii.gz")),
        )
    ]
    top = [".bidsignore", ".visits.lock", "README.md", "contact-sheet.png", "data.json", "dataset_description.json",
           "participants.tsv", "sessions.json", "visits.csv"]  # fmt: skip
    assert files(made) == sorted((*of_visits, *of_subjects, *top))


def test_the_folder_describes_itself(made: Path) -> None:
    described = json.loads((made / "dataset_description.json").read_text())
    (tool,) = described["GeneratedBy"]
    assert (tool["Name"], described["DatasetType"]) == ("longigen", "derivative")
    assert "conditioner sadm, denoiser unet3d, sampler continuous" in tool["Description"]
    assert described["SourceDatasets"] == [{"Name": "bids", "DOI": "doi:10.1234/abc"}]
    assert (made / "participants.tsv").read_text() == "participant_id\nsub-01\nsub-02\n"
    assert (made / "sub-01/sub-01_sessions.tsv").read_text() == "session_id\ttime\nses-M12\t61.1\nses-M30\t62.6\n"
    assert json.loads((made / "sessions.json").read_text())["time"]["Units"] == "years"
    stem = "sub-01/ses-M30/anat/sub-01_ses-M30_acq-x_desc-synthetic_FLAIR"
    sidecar = json.loads((made / f"{stem}.json").read_text())
    assert sidecar["Sources"] == ["bids:input:sub-01/ses-M00/anat/sub-01_ses-M00_acq-x_run-2_FLAIR.nii.gz"]
    assert described["DatasetLinks"] == {"input": "https://doi.org/10.1234/abc"}
    assert sidecar["SkullStripped"] is True
    assert sidecar["Description"] == "Synthetic image, generated by longigen at 62.6 years from 1 given visit."
    assert (sidecar["subject"], sidecar["time"], sidecar["seed"], sidecar["setting"]) == ("sub-01", 62.6, 0, "single")


def test_nothing_private_is_copied(made: Path) -> None:
    for name in files(made):
        path = made / name
        content = path.read_bytes()
        if name.endswith(".nii.gz"):
            content = nibabel.load(path).header.binaryblock  # type: ignore[attr-defined]
        for secret in (*SECRETS, str(made.parents[1])):
            assert secret.encode() not in content, (name, secret)


def validated(folder: Path) -> Sequence[Mapping[str, str]]:
    program = shutil.which("bids-validator-deno")
    if program is None:
        pytest.skip("the BIDS validator is not installed (pip install bids-validator-deno)")
    result = subprocess.run([program, folder, "--format", "json"], capture_output=True, text=True, check=False)
    return [issue for issue in json.loads(result.stdout)["issues"]["issues"] if issue["severity"] == "error"]


def test_the_official_validator_has_nothing_against_it(made: Path) -> None:
    assert validated(made) == []


@pytest.fixture(scope="module")
def renamed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return two samples of the visits of a subject whose id and files are not of BIDS, at unequal times."""
    folder = tmp_path_factory.mktemp("renamed")
    lines = ["subject,time,path"]
    for number in range(2):
        path = write_image(folder / f"scan{number}.nii.gz", np.where(ball((13, 12, 10), 0.5) > 400, 1.0, 0.0) + number)
        lines.append(f"patient_1,{number},{path.name}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    chosen: dict[str, Any] = {"data": folder / "table.csv", "times": ["+0.5", "+1", "+3"], "samples": 2, **QUIET}
    with pytest.warns(LongigenWarning) as caught:
        generate(FIXTURE, folder / "out", series=True, **chosen)
    said = [str(warning.message) for warning in caught]
    assert any("such as sub-patient1 for 'patient_1'; participants.tsv lists both" in text for text in said)
    assert any("named T1w, though their contrast is not known" in text for text in said)
    return folder / "out"


def test_names_that_bids_does_not_have_are_made_and_listed(renamed: Path) -> None:
    assert (renamed / "participants.tsv").read_text() == "participant_id\toriginal_id\nsub-patient1\tpatient_1\n"
    volumes = [name for name in files(renamed) if "/anat/" in name and name.endswith(".nii.gz")]
    assert volumes == [
        f"sub-patient1/ses-{time}years/anat/sub-patient1_ses-{time}years_{kind}_T1w.nii.gz"
        for time in ("1p5", "2", "4")
        for kind in ("desc-mean", "desc-std", "run-1_desc-synthetic", "run-2_desc-synthetic")
    ]
    of_last = json.loads((renamed / volumes[-1].replace(".nii.gz", ".json")).read_text())
    assert of_last["SkullStripped"] is True  # most voxels are 0
    assert "Sources" not in of_last  # the folder of the input is nobody's business
    assert validated(renamed) == []


def test_frames_at_unequal_times_have_them_in_the_sidecar_alone(renamed: Path) -> None:
    path = renamed / "sub-patient1/cine/sub-patient1_setting-full_run-2_desc-synthetic_cine.nii.gz"
    series = nibabel.load(path)
    assert series.shape == (13, 12, 10, 3)  # type: ignore[attr-defined]
    assert series.header["pixdim"][4] == 0
    assert json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())["times"] == [1.5, 2.0, 4.0]
    dataset = open_dataset(f"nifti4d:{renamed}", pattern="**/*run-2_desc-synthetic_cine.nii.gz")
    (subject,) = dataset.subjects()
    assert (subject.times, dataset.time_unit) == ((1.5, 2.0, 4.0), "years")
    last = renamed / "sub-patient1/ses-4years/anat/sub-patient1_ses-4years_run-2_desc-synthetic_T1w.nii.gz"
    np.testing.assert_array_equal(series.dataobj[..., 2], nibabel.load(last).dataobj)  # type: ignore[attr-defined]


def test_several_samples_need_a_choice(renamed: Path) -> None:
    with pytest.raises(LongigenError, match=r"holds 4 T1w images .*--set select=.*desc-mean or .*run-1"):
        open_dataset(renamed).subjects()
    (subject,) = open_dataset(renamed, select=["run-1"]).subjects()
    assert subject.times == (1.5, 2.0, 4.0)


def test_longigen_reads_what_it_wrote(made: Path, raw: Path, tmp_path: Path) -> None:
    dataset = open_dataset(made)
    assert [(subject.id, subject.times) for subject in dataset.subjects()] == [
        ("sub-01", (61.1, 62.6)), ("sub-02", (61.1, 62.6)),
    ]  # fmt: skip
    assert dataset.time_unit == "years"
    errors = [finding.kind for finding in examine(made, progress=False).findings if finding.severity == "error"]
    assert errors == ["no-split"]  # two subjects are too few for three parts
    assert len(view(made, data=raw).scenes) == 2
    assert report([made], tmp_path / "report.html", data=str(raw), progress=False).subjects == 2
    scores = evaluate(FIXTURE, data=made, settings=["full"], metrics=["psnr"], part="all", out=tmp_path / "s", **QUIET)
    assert "2 subjects" in scores.table()
    changes = ("training.steps=1", "split.test=0", "split.validation=0", "preprocess.shape=12,12,8")
    trainer(made, tmp_path / "run", *changes).train()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["split"]["train"] == ["sub-01", "sub-02"]


def test_equally_spaced_frames_have_their_step_in_the_header(raw: Path, tmp_path: Path) -> None:
    generate(
        FIXTURE, tmp_path, data=raw, subjects=["sub-01"], times=["+1", "+2", "+3"], series=True, layout="flat", **QUIET
    )
    path = tmp_path / "sub-01" / "sub-01_setting-full_sample-0_4d.nii.gz"
    header = nibabel.load(path).header
    assert header["pixdim"][4] == np.float32(365.25 * 86_400)
    assert header.get_xyzt_units() == ("mm", "sec")  # type: ignore[attr-defined]
    written = path.stat().st_mtime_ns
    generate(FIXTURE, tmp_path, data=raw, subjects=["sub-01"], times=["+1", "+2", "+3"], series=True, **QUIET)
    assert path.stat().st_mtime_ns == written
    assert not (tmp_path / "dataset_description.json").exists()  # the layout is that of what is there


def test_what_does_not_go_into_a_folder_is_refused(made: Path, raw: Path, tmp_path: Path) -> None:
    chosen: dict[str, Any] = {"data": raw, "setting": "single", "part": "all", "subjects": ["sub-01"], **QUIET}
    with pytest.raises(LongigenError, match=r"is a BIDS data set that longigen did not write; .*derivatives/longigen"):
        generate(FIXTURE, raw, **chosen)
    with pytest.raises(LongigenError, match="has the layout 'bids' and not 'flat'"):
        generate(FIXTURE, made, layout="flat", **chosen)
    with pytest.raises(LongigenError, match="There is no layout 'bid'"):
        generate(FIXTURE, tmp_path, layout="bid", **chosen)
    with pytest.raises(LongigenError, match="is there already, generated with setting single and not full"):
        generate(FIXTURE, made, **{**chosen, "setting": "full"})
    with pytest.raises(LongigenError, match="has visits with times in years, and these are in days"):
        generate(FIXTURE, made, changes=["time_unit=days"], **{**chosen, "times": ["+1"]})


def test_a_saved_forecast_is_a_data_set_too(raw: Path, tmp_path: Path) -> None:
    model = load(FIXTURE)
    paths = sorted(raw.glob("sub-01/ses-*/anat/*.nii.gz"))
    forecast = model.forecast(paths, times=[0, 1, 2], at="+1", progress=False, steps=1)
    (path,) = forecast.save(tmp_path)
    assert path.name == "sub-01_ses-3years_acq-x_desc-synthetic_FLAIR.nii.gz"
    other = Subject.from_files(paths[:2], [0, 1], id="another")
    with pytest.raises(LongigenError, match="which has the same label in BIDS as"):
        model.forecast(other, at="+1", progress=False, steps=1).save(tmp_path)
    assert (tmp_path / "visits.csv").exists()
    assert model.impute(paths, times=[0, 1, 2], at=0.5, progress=False, steps=1).save(tmp_path)[0].parents[1].name == (
        "ses-0p5years"
    )
