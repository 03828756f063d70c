"""The doctor's verdict on a model and a data set is that of generate."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import longigen
from helpers.files import FIXTURES
from longigen import LongigenError
from longigen.generation.session import GenerationSession
from longigen.training.experiment import Experiment
from longigen.training.recipe import Recipe
from longigen_cli.main import app

MODEL = FIXTURES / "schema-3"
"""A model of simulated brains, in years."""

Lines = list[str]
FAULTS: dict[str, tuple[str | None, Callable[[Lines], Lines]]] = {
    "nothing": (None, lambda lines: lines),
    "one visit": ("single-visit", lambda lines: [*lines[:1], *lines[4:]]),
    "one file twice": ("identical-visits", lambda lines: [*lines, lines[-1].replace(",3.30,", ",4.40,")]),
    "no file": ("missing-file", lambda lines: [*lines, lines[-1].replace(",3.30,", ",4.40,").replace("s7_3", "s7_9")]),
    "damaged file": ("truncated", lambda lines: [*lines, lines[-1].replace("s7_3", "cut").replace(",3.30,", ",4.40,")]),
    "huge time": ("time-too-large", lambda lines: [*lines[:-1], lines[-1].replace(",3.30,", ",1e300,")]),
}


def table(manifest: Path, name: str, folder: Path) -> Path:
    """Write a table of three of the balls with a fault; their images stay where they are."""
    whole = (manifest.parent / "s7_3.nii.gz").read_bytes()
    cut = folder / "cut.nii.gz"
    cut.write_bytes(gzip.compress(gzip.decompress(whole)[:-900]))
    head, *lines = manifest.read_text().splitlines()
    placed = [line.replace(",s", f",{manifest.parent}/s") for line in lines if line[:2] in ("s0", "s6", "s7")]
    faulty = [line.replace(str(manifest.parent / "cut"), str(folder / "cut")) for line in FAULTS[name][1](placed)]
    path = folder / "visits.csv"
    path.write_text("\n".join([head, *faulty]) + "\n")
    return path


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.filterwarnings("ignore::longigen.LongigenWarning")
def test_generation_refuses_what_the_doctor_calls_an_error(name: str, manifest: Path, tmp_path: Path) -> None:
    data, kind = table(manifest, name, tmp_path), FAULTS[name][0]
    examination = longigen.examine(data, model=MODEL, progress=False)
    errors = [finding for finding in examination.findings if finding.severity == "error"]
    assert {finding.kind for finding in errors} == ({kind} if kind else set())
    if not errors:
        assert GenerationSession.open(str(MODEL), data=str(data)).tasks("full", seed=0)
        return
    with pytest.raises(LongigenError, match=r"s0|s7"):
        GenerationSession.open(str(MODEL), data=str(data)).tasks("full", seed=0)


def test_what_generation_warns_of_is_a_warning(manifest: Path, tmp_path: Path) -> None:
    parts = {"conditioner": "additive", "denoiser": "identity", "sampler": "regression"}
    data = table(manifest, "nothing", tmp_path)
    recipe = Recipe.resolve("sadm-tiny", components=parts, data=str(data), changes=["conditioner.covariates=age"])
    experiment = Experiment.of(recipe)
    experiment.compose().save_pretrained(tmp_path / "model")
    data.write_text(data.read_text().replace(",age", ",weight"))
    found = longigen.examine(data, model=tmp_path / "model", progress=False).findings
    lacking = [finding for finding in found if finding.kind == "covariates"]
    (subject,) = experiment.cohort.split.ids["test"]
    assert [finding.subject for finding in lacking] == [subject]
    assert lacking[0].problem == f"Subject {subject} has no 'age', which the model was trained with"
    with pytest.raises(LongigenError, match="The times of 'csv' are in cycle and the model's in years, which cannot"):
        longigen.examine(manifest, model=MODEL, changes={"time_unit": "cycle"}, progress=False)


def test_the_command_takes_a_model_before_the_data(manifest: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", str(MODEL), str(table(manifest, "nothing", tmp_path)), "--json"])
    assert result.exit_code == 0
    content = json.loads(result.stdout)
    assert (content["model"], content["subjects"], content["visits"], content["errors"]) == (str(MODEL), 3, 12, 0)
    spaced = table(manifest, "nothing", tmp_path).rename(tmp_path / "my visits.csv")
    refused = CliRunner().invoke(app, ["doctor", *str(spaced).split(" ")])
    assert str(refused.exception) == f"'{spaced}' was given as 2 words, since it has spaces; write '{spaced}'."
    refused = CliRunner().invoke(app, ["doctor", "a", "b", "c"])
    assert str(refused.exception).startswith("'longigen doctor' takes a data set, or a model and a data set, and")
