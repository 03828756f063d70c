"""The small inputs of public bug reports behave as each file says on top; they lie beside the checkout."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from helpers.files import SHARED
from helpers.processes import Longigen
from longigen_bids import BIDSDataset
from longigen_nifti4d import NIfTI4DDataset

CASES = SHARED.parent / "cases"

Case = Callable[[str], Path]


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Return a function that writes the input of a case and returns its folder, or skip."""
    if not CASES.is_dir():
        pytest.skip(f"the shared cases are not at {CASES}")

    def write(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        command = [sys.executable, str(CASES / f"{name}.py"), str(folder)]
        subprocess.run(command, check=True, capture_output=True, timeout=300, env={**os.environ, "PYTHONPATH": ""})
        return folder

    return write


EXPECTED: list[tuple[str, str, int, tuple[str, ...]]] = [
    ("annex_pointers", "bids", 1, ("18 missing-file", "is a pointer of git-annex", "datalad get")),
    ("annex_pointers", "visits.csv", 1, ("18 missing-file", "is a pointer of git-annex", "datalad get")),
    ("annex_pointers", "series", 1, ("6 missing-file", "is a pointer of git-annex", "datalad get")),
    ("bad_quaternion", "visits.csv", 0, ()),
    ("excel_european", "semicolon.csv", 2, ("separated by semicolons",)),
    ("excel_european", "commas.tsv", 2, ("write 0.5 with a decimal point",)),
    ("excel_european", "windows.csv", 0, ("Backslashes in paths were read as slashes in 18 rows",)),
    ("excel_european", "unicode.csv", 0, ("Backslashes in paths were read as slashes in 18 rows",)),
    ("fifth_dim", "trailing", 0, ()),
    ("fifth_dim", "vector", 0, ("times count frames",)),
    ("fifth_dim", "visits.csv", 0, ()),
    ("long_participants", ".", 0, ("participants.tsv has a row per session",)),
    ("mgz_ipl", "visits.csv", 0, ()),
    ("padding_value", "visits.csv", 0, ("8 padding-value", "almost all of the intensity range is empty")),
    ("run_mixed", ".", 1, ("6 ambiguous", "--set select=run-1 or run-2")),
    ("scans_other_modality", ".", 0, ()),
    ("sform_pixdim", "visits.csv", 0, ("8 two-voxel-sizes", "the sform is used")),
    ("stray_quote", ".", 0, ()),
    ("tr_sidecar", ".", 0, ("8 two-time-steps", "the header's is used")),
    ("uppercase_gz", "visits.csv", 0, ()),
]


@pytest.mark.parametrize(("name", "data", "status", "texts"), EXPECTED, ids=lambda value: str(value).replace(".", ""))
def test_the_doctor_says_what_is_right(
    name: str, data: str, status: int, texts: tuple[str, ...], case: Case, longigen: Longigen
) -> None:
    """A case without texts is read in full, and nothing is wrong with it."""
    result = longigen("doctor", case(name) / data, "--json", status=status)
    said = result.stdout + result.stderr
    kinds = [line.split('"')[3] for line in result.stdout.splitlines() if '"kind":' in line]
    for text in texts:
        number, _, kind = text.partition(" ")
        assert (kinds.count(kind) == int(number)) if number.isdecimal() else (text in said)
    assert bool(kinds) == (status == 1 or any(text[0].isdecimal() for text in texts))


def test_following_the_advice_on_runs_loses_no_session(case: Case, longigen: Longigen) -> None:
    result = longigen("doctor", case("run_mixed"), "--set", "select=run-1")
    assert "6 subjects, 18 visits" in result.stdout
    assert "nothing is wrong" in result.stdout


def test_the_values_that_are_read(case: Case) -> None:
    scans = BIDSDataset(path=case("scans_other_modality"), suffix="T1w")
    assert [subject.times for subject in scans.subjects()] == [(0.0, 365.0, 730.0)] * 6
    parts = [subject.part for subject in BIDSDataset(path=case("stray_quote")).subjects()]
    assert parts == ["train"] * 4 + ["test"] * 4
    long = BIDSDataset(path=case("long_participants"))
    assert [subject.times for subject in long.subjects()] == [(10.0, 17.0, 24.0)] * 6
    assert long.time_unit == "months"
    series = NIfTI4DDataset(path=case("tr_sidecar"))
    assert (series.time_unit, series.subjects()[0].times) == ("seconds", (0.0, 15.0, 30.0, 45.0))


def test_outputs_lie_on_the_visits_in_any_orientation(case: Case, longigen: Longigen, tmp_path: Path) -> None:
    folder = case("mgz_ipl")
    longigen("train", "--data", folder / "visits.csv", "--steps", 2, "--out", tmp_path / "run")
    chosen = ("--times", "+1", "--part", "all", "--layout", "flat")
    longigen("generate", tmp_path / "run", *chosen, "--out", tmp_path / "out")
    files = sorted((tmp_path / "out").rglob("*_sample-0.nii.gz"))
    assert len(files) == 8
    for file in files:
        subject = file.parent.name
        (given,) = folder.glob(f"{subject}_2.*")
        own, made = nibabel.load(given), nibabel.load(file)
        voxels = [np.asarray(image.dataobj, np.float64).ravel() for image in (own, made)]  # type: ignore[attr-defined]
        assert np.allclose(own.affine, made.affine, atol=1e-4)  # type: ignore[attr-defined]
        assert np.asarray(np.corrcoef(voxels))[0, 1] > 0.95
