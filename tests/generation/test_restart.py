"""Generation that goes on where it was interrupted: what is whole stays, and the files are those of one run."""

import csv
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from helpers.launch import together, torchrun
from helpers.models import FIXTURE
from helpers.processes import Longigen
from longigen import LongigenError, generate
from longigen.models.visit_files import sidecar_path
from longigen.models.visit_index import COLUMNS

SUBJECTS = ("--subject", "s0", "--subject", "s1", "--subject", "s2")
CHOSEN = ("--setting", "single", "--batch-size", 2, "--samples", 2, *SUBJECTS)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of all files, but of temporary and lock files."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in sorted(found.items()) if not path.name.startswith(".")}


def started(folder: Path, manifest: Path, *options: object) -> list[str]:
    return [str(word) for word in ("generate", FIXTURE, "--data", manifest, "--out", folder, *options)]


FLAT = {
    (name, time, kind): f"{name}/{name}_time-{time}_setting-single_{kind}.nii.gz"
    for name in ("s0", "s1", "s2") for time in ("1.1", "2.2", "3.3") for kind in ("sample-0", "sample-1", "mean", "std")
}  # fmt: skip
BIDS_KINDS = {"sample-0": "run-1_desc-synthetic", "sample-1": "run-2_desc-synthetic", "mean": "desc-mean"}
BIDS_KINDS["std"] = "desc-std"
BIDS = {
    (name, time, kind): f"sub-{name}/ses-{(visit := time.replace('.', 'p') + 'years')}/anat/"
    f"sub-{name}_ses-{visit}_{BIDS_KINDS[kind]}_T1w.nii.gz"
    for name, time, kind in FLAT
}


@pytest.mark.parametrize(
    ("layout", "paths", "others"),
    [
        ("bids", BIDS, 3 + 4 + 3),  # index, contact sheet, data; description, README, units, subjects; times of each
        pytest.param("flat", FLAT, 3, marks=pytest.mark.slow),
    ],
)
def test_processes_write_the_files_of_one_and_an_interrupted_one_goes_on(
    longigen: Longigen, manifest: Path, tmp_path: Path, layout: str, paths: dict[tuple[str, str, str], str], others: int
) -> None:
    one, two, chosen = tmp_path / "one", tmp_path / "two", (*CHOSEN, "--layout", layout)
    longigen(*started(one, manifest, *chosen))
    printed = together(2, *started(two, manifest, *chosen), folder=tmp_path)
    assert printed.count("2 processes share the subjects") == printed.count("Wrote 18 volumes") == 1, printed
    expected = contents(one)
    assert contents(two) == expected
    assert set(paths.values()) == {name for name in expected if name.endswith(".nii.gz")}
    assert len(expected) == others + 3 * 3 * (2 + 2) * 2  # subjects, visits, samples, sidecars
    rows = list(csv.DictReader(expected["visits.csv"].decode().splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert {(row["subject"], row["time"], row["sample"], row["given"], row["seed"]) for row in rows} == {
        (f"s{number}", t, sample, "0", "0")
        for number in range(3) for t in ("1.1", "2.2", "3.3") for sample in ("0", "1", "mean", "std")
    }  # fmt: skip
    for row in rows:
        assert row["sha256"] == hashlib.sha256(expected[row["path"]]).hexdigest()
    # As a killed process leaves it: a visit without its sidecar, one of fewer bytes, a temporary file, no index.
    sidecar_path(one / paths["s0", "2.2", "sample-1"]).unlink()
    cut = one / paths["s1", "1.1", "sample-0"]
    cut.write_bytes(cut.read_bytes()[:100])
    (cut.parent / ".part-half.nii.gz").write_bytes(b"half")
    (one / "visits.csv").unlink()
    kept = (one / paths["s2", "3.3", "mean"]).stat().st_mtime_ns
    written = longigen(*started(one, manifest, *CHOSEN))  # the layout is that of what is there
    assert "3 visits were there already, of this model and these settings, and stay as they are" in written.stderr
    assert "Wrote 12 volumes" in written.stderr
    assert contents(one) == expected
    assert (one / paths["s2", "3.3", "mean"]).stat().st_mtime_ns == kept


def test_what_differs_is_named(manifest: Path, tmp_path: Path) -> None:
    def again(**options: object) -> None:
        chosen: dict[str, Any] = {"setting": "single", "subjects": ["s0"], "progress": False, **options}
        generate(FIXTURE, tmp_path / "out", data=manifest, **chosen)

    again()
    for options, difference in (
        ({"seed": 3}, "with seed 0 and not 3"),
        ({"steps": 3}, "with steps"),
        ({"samples": 2}, "with samples 1 and not 2"),
        ({"sampler": "ddim"}, "with sampler "),
        ({"detail": False}, "with detail true and not false"),
        ({"changes": ["preprocess.shape=12,12,8"]}, "with grid.shape"),
    ):
        with pytest.raises(LongigenError, match=f"is there already, generated {difference}.*--overwrite"):
            again(**options)
    sidecar = next((tmp_path / "out" / "sub-s0").rglob("*.json"))
    content = json.loads(sidecar.read_text())
    for key, value, difference in (
        ("given_voxels", ["0" * 32], "from other images of the given visits"),
        ("given_voxels", None, "by a version that did not record its inputs"),
        ("model", {**content["model"], "weights_sha256": "0" * 64}, "with model.weights_sha256 000000000000…"),
    ):
        changed = content | {key: value}
        sidecar.write_text(json.dumps({name: value for name, value in changed.items() if value is not None}))
        with pytest.raises(LongigenError, match=f"is there already, generated {difference}"):
            again()
    again(overwrite=True)
    assert json.loads(sidecar.read_text()) == content


def test_shares_are_disjoint_and_their_index_is_one(manifest: Path, tmp_path: Path) -> None:
    def part(share: str) -> int:
        written = generate(
            FIXTURE, tmp_path, data=manifest, setting="single", subjects=["s0", "s1", "s2"], share=share, progress=False
        )
        return len(written.files)

    assert [part("1/2"), part("2/2")] == [6, 3]
    with (tmp_path / "visits.csv").open() as file:
        assert [row["subject"] for row in csv.DictReader(file)] == [
            f"s{number}" for number in (0, 0, 0, 1, 1, 1, 2, 2, 2)
        ]
    for share in ("0/2", "3/2", "2", "a/b"):
        with pytest.raises(LongigenError, match="such as 3/64, got"):
            part(share)
    with pytest.raises(LongigenError, match="Share 4 of 4 has no subject"):
        part("4/4")


@pytest.mark.slow
def test_generation_that_is_killed_again_and_again(longigen: Longigen, manifest: Path, tmp_path: Path) -> None:
    """SIGKILL at random moments, in one process and in two by torchrun, until it is done."""
    options = ("--setting", "full", "--batch-size", 2, "--samples", 2, "--part", "all")
    whole = tmp_path / "whole"
    longigen(*started(whole, manifest, *options))
    draw = random.Random(0)
    for number, folder in ((1, tmp_path / "one"), (2, tmp_path / "two")):
        words, kills = started(folder, manifest, *options), 0
        while True:
            if number == 1:
                process = subprocess.Popen([sys.executable, "-m", "longigen_cli", *words], stderr=subprocess.DEVNULL)
            else:
                process = torchrun(number, *words, options=("--max_restarts", "0"))
            deadline, before = time.monotonic() + 600, len(contents(folder))
            while process.poll() is None and len(contents(folder)) < before + 20 and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(draw.random() / 5)
            if process.poll() is None and kills < 6:
                _kill_all(process.pid)
                process.wait()
                kills += 1
                continue
            assert process.wait() == 0
            break
        assert kills > 1
        assert contents(folder) == contents(whole)


def _kill_all(pid: int) -> None:
    """Kill a process and those that it started."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    for child in children.read_text().split() if children.exists() else ():
        os.kill(int(child), signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
