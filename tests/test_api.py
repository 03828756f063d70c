"""The Python front door, from a table of visits to a trained, evaluated and published model."""

import inspect
import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import nibabel
import numpy as np
import pandas
import pytest

import longigen
from helpers.models import FIXTURE
from helpers.trainings import SMALL
from longigen import LongigenError, Run, api
from longigen.errors import LongigenWarning
from longigen.models.visit_files import sidecar_path


@pytest.fixture(scope="module")
def run(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "run"
    changes = [*SMALL, "training.steps=2"]
    return longigen.train(manifest, changes=changes, out=out, progress=False)


def test_a_run_is_trained_and_continued(run: Run, manifest: Path) -> None:
    assert run.read()["recipe"]["training"]["steps"] == 2
    resumed = longigen.train(out=run.folder, resume=True, changes={"training.steps": 3}, progress=False)
    assert resumed.checkpoints()[-1].name == "step-0000003"
    with pytest.raises(LongigenError, match="resume continues a run with its own options"):
        longigen.train(manifest, out=run.folder, resume=True)
    with pytest.raises(LongigenError, match="is not empty"):
        longigen.train(manifest, out=run.folder)


def test_a_run_is_evaluated_and_what_is_written_is_what_the_command_writes(run: Run, tmp_path: Path) -> None:
    found = longigen.evaluate(run, settings=["full"], metrics=["psnr", "nrmse"], out=tmp_path, progress=False)
    assert (tmp_path / "table.txt").read_text() == found.table() + "\n"
    assert json.loads((tmp_path / "summary.json").read_text()) == found.summary
    assert {path.name for path in tmp_path.iterdir()} == {
        "table.txt", "summary.json", "metrics.json", "subjects.csv", "strip.png",
    }  # fmt: skip
    assert found.metrics_path == run.model / "metrics.json"
    *copies, made = found.rows
    assert [row.method for row in copies] == ["copy-last", "copy-last blurred 0.5", "copy-last blurred 1"]
    assert (made.method, found.protocol.space) == ("model", "subject")
    assert "target: last, in the subjects' own space\n" in found.table()
    frame = found.to_pandas()
    assert list(frame.columns) == ["setting", "method", "subject", "visit", "time", "psnr", "nrmse"]
    psnr = frame[frame.method == "model"].groupby("subject").psnr.mean().mean()
    assert psnr == pytest.approx(made.values["psnr"].mean)
    pandas.testing.assert_frame_equal(frame, pandas.read_csv(tmp_path / "subjects.csv"))
    assert "\n" not in repr(found)


def test_a_run_is_scored_on_the_models_grid_if_asked(run: Run) -> None:
    options = {"settings": ["single"], "metrics": ["sharpness", "ssim-slice"], "progress": False}
    own, shrunk = (longigen.evaluate(run, space=space, **options) for space in ("subject", "model"))  # type: ignore[arg-type]
    assert own.protocol.hash != shrunk.protocol.hash
    assert "space" not in shrunk.summary["protocol"]
    assert own.summary["protocol"]["space"] == own.metrics_file.content["protocol"]["space"] == "subject"
    assert "on the model's grid" in shrunk.title
    sharpness = {row.method: row.values["sharpness"].mean for row in own.rows}
    assert sharpness["copy-last"] > sharpness["copy-last blurred 0.5"] > sharpness["copy-last blurred 1"]
    with pytest.raises(LongigenError, match=r"no space 'models' to score in\. Did you mean 'model'"):
        longigen.evaluate(run, space="models", progress=False)  # type: ignore[arg-type]


def test_a_loaded_model_is_evaluated_as_its_run_is(run: Run, manifest: Path) -> None:
    options = {"settings": ["single"], "metrics": ["psnr"], "data": manifest, "progress": False}
    one = longigen.evaluate(run, **options)  # type: ignore[arg-type]
    two = longigen.evaluate(longigen.load(run.folder), **options)  # type: ignore[arg-type]
    assert one.protocol.hash == two.protocol.hash
    assert one.rows == two.rows
    assert two.metrics_path is None


def test_times_beyond_those_of_training_are_said_once(run: Run, tmp_path: Path) -> None:
    with pytest.warns(LongigenWarning) as caught:
        longigen.generate(run, tmp_path / "made", times=[3.0, 90.0], steps=1, progress=False)
    beyond = [str(warning.message) for warning in caught if "not reliable" in str(warning.message)]
    assert len(beyond) == 1
    assert beyond[0].startswith("Time 90 is 90 years after the first visit of subject s")
    assert "was trained on at most 3.3 years" in beyond[0]


def test_visits_of_a_data_set_are_generated(run: Run, tmp_path: Path) -> None:
    written = longigen.generate(run, tmp_path / "made", setting="single", samples=2, steps=1, progress=False)
    assert len(written.files) == 2 * 3 * 2  # two test subjects, three visits, two samples
    assert all(file.exists() for file in written.files)
    assert written.caution is not None
    bare = longigen.generate(run, tmp_path / "bare", setting="single", detail=False, steps=1, progress=False)
    (kept, other) = (json.loads(sidecar_path(files.files[0]).read_text()) for files in (written, bare))
    assert (kept["detail"], kept["reference"]["time"]) == (True, 0.0)
    assert (other["detail"], "reference" in other) == (False, False)
    assert not np.array_equal(*(np.asarray(nibabel.load(files.files[0]).dataobj) for files in (written, bare)))
    assert "one network evaluation per visit" in written.caution


def test_a_data_set_is_opened_with_its_parameters(manifest: Path) -> None:
    hearts = longigen.open_dataset("sim-heart", subject_count=3)
    assert len(hearts.subjects()) == 3
    assert repr(hearts) == "SimHeart(subject_count=3)"
    assert len(longigen.open_dataset(manifest).subjects()) == 8
    with pytest.raises(LongigenError, match="Did you mean 'subject_count'"):
        longigen.open_dataset("sim-heart", subjects=3)


def test_a_data_set_is_examined(manifest: Path) -> None:
    found = longigen.examine(manifest, progress=False)
    assert (found.subjects, found.visits, found.errors) == (8, 32, 0)
    kinds = {finding.kind for finding in found.findings}
    assert kinds == {"duplicate-subject", "intensity-drift"}  # some share up to half of their scans, which is no error
    assert found.to_dict()["findings"] == [vars(finding) for finding in found.findings]


def test_what_there_is() -> None:
    names = [model.name for model in longigen.list_models()]
    assert {"sadm-sim-brain", "additive-sim-brain", "sadm-sim-heart"} <= set(names)
    assert longigen.info("sadm")["conditioner"]["summary"]
    assert longigen.info(FIXTURE)["schema_version"] > 1
    assert [row["name"] for row in api.catalog("denoiser")["denoisers"]].count("unet3d") == 1
    with pytest.raises(LongigenError, match=r"no section 'denoizers' to list\. Did you mean 'denoisers'"):
        api.catalog("denoizer")


def test_a_shipped_model_needs_no_network_to_be_pulled() -> None:
    pulled = longigen.pull("sadm-sim-heart", progress=False)
    assert (pulled.received, pulled.note) == (0, "")
    assert pulled.origin == "shipped with longigen"
    assert set(pulled.to_dict()["files"]) == {"config.json", "model.safetensors", "README.md", "metrics.json"}


def test_every_function_is_public_documented_and_typed() -> None:
    for name in api.__all__:
        function = getattr(api, name)
        assert inspect.getdoc(function), name
        signature = inspect.signature(function)
        assert signature.return_annotation is not inspect.Signature.empty, name
        for parameter in signature.parameters.values():
            assert parameter.annotation is not inspect.Parameter.empty, f"{name}: {parameter.name}"
            assert f"{parameter.name}:" in (inspect.getdoc(function) or ""), f"{name}: {parameter.name}"


def test_whatever_generates_takes_every_setting_of_generation() -> None:
    """All but the index of one sample, where it makes several."""
    from longigen.models.predict import GenerationSettings

    settings = {field.name for field in fields(GenerationSettings)} - {"sample"}
    model = longigen.LongitudinalModel
    for function in (api.generate, api.evaluate, api.consistency, model.generate, model.forecast, model.impute):
        assert settings <= inspect.signature(function).parameters.keys(), function
    given = {"steps": 3, "compile": "full", "samples": 2}
    assert GenerationSettings.among(given) == GenerationSettings(steps=3, compile="full")


def test_importing_it_loads_no_torch() -> None:
    code = "import sys, longigen.api, longigen; longigen.list_models(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_public_name_resolves() -> None:
    for name in longigen.__all__:
        assert getattr(longigen, name) is not None, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        longigen.nothing  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]
