"""Tests of the doctor: a data set with every kind of damage, each of which must be reported, and nothing else."""

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner

from helpers.files import write_image
from helpers.processes import Longigen
from longigen import Dataset, Finding, LongigenError, Subject, Visit, Volume
from longigen.data.quality.inspect import Examination, examine
from longigen.data.quality.volume_stats import THUMBNAIL_SIZE, VolumeStats, thumbnail
from longigen_acdc import ACDCDataset
from longigen_bids import BIDSDataset
from longigen_cli.main import app
from longigen_csv import CSVDataset
from longigen_nifti4d import NIfTI4DDataset
from longigen_simbrain import SimBrain

SHAPE = (18, 16, 14)
AFFINE = np.array([[-2.0, 0, 0, 20], [0, 2, 0, -15], [0, 0, 2.5, 7], [0, 0, 0, 1]])


def scan(person: int, visit: int, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Return a volume of 0 to about 1000 with a random pattern per person, which changes slightly between visits."""
    noise = [np.random.default_rng(seed).standard_normal(shape) for seed in ((person, 0), (person, visit + 1))]
    pattern = gaussian_filter(noise[0], 1.5) + 0.03 * gaussian_filter(noise[1], 1)
    return (1000 / (1 + np.exp(-8 * pattern))).astype(np.float32)


class Folder:
    """Writes a data set of images and a CSV manifest, subject by subject."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.people = 0
        self.lines = ["subject,time,path,frame,split,age"]

    def images(self, name: str, times: tuple[float, ...] = (0, 1, 2), **row: str) -> list[Path]:
        """Write a healthy subject; return the paths of its images."""
        self.people += 1
        paths = []
        for visit, when in enumerate(times):
            paths.append(write_image(self.path / name / f"v{visit}.nii.gz", scan(self.people, visit), AFFINE))
            self.row(name, when, paths[-1], **row)
        return paths

    def row(self, name: str, when: float | str, path: Path, frame: str = "", split: str = "", age: str = "") -> None:
        age = age or (str(60 + when) if isinstance(when, float | int) else "")
        self.lines.append(f"{name},{when},{path.relative_to(self.path)},{frame},{split},{age}")

    def write(self) -> Path:
        (self.path / "visits.csv").write_text("\n".join(self.lines) + "\n")
        return self.path / "visits.csv"


def header(shape: tuple[int, ...]) -> bytes:
    """Return a NIfTI header with a shape, without voxels."""
    claimed = nibabel.Nifti1Header()
    claimed.set_data_dtype(np.float32)
    claimed.set_data_shape(shape)
    claimed["vox_offset"], claimed["magic"] = 352, b"n+1"
    claimed.set_sform(AFFINE, 1)
    return claimed.binaryblock + bytes(4)


# Each function damages a healthy subject named after it, and returns the source that the finding should have.
Damage = Callable[[Folder, str], Path | str]
DAMAGES: dict[str, tuple[str, str, Damage]] = {}


def damage(kind: str, severity: str = "error") -> Callable[[Damage], Damage]:
    def add(function: Damage) -> Damage:
        DAMAGES[function.__name__.replace("_", "-")] = kind, severity, function
        return function

    return add


@damage("missing-file")
def missing(folder: Folder, name: str) -> Path:
    path = folder.images(name)[1]
    path.unlink()
    return path


@damage("truncated")
def truncated_gzip(folder: Folder, name: str) -> Path:
    path = folder.images(name)[1]
    path.write_bytes(path.read_bytes()[:-500])
    return path


@damage("truncated")
def truncated(folder: Folder, name: str) -> Path:
    folder.images(name)
    path = write_image(folder.path / name / "late.nii", scan(99, 0), AFFINE)
    path.write_bytes(path.read_bytes()[:-500])
    folder.row(name, 3, path)
    return path


@damage("truncated")
def corrupt(folder: Folder, name: str) -> Path:
    path = folder.images(name)[2]
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :: 7] = bytes(len(content[len(content) // 2 :: 7]))
    path.write_bytes(bytes(content))
    return path


@damage("unreadable")
def text(folder: Folder, name: str) -> Path:
    path = folder.images(name)[2]
    path.write_text("<html>404 Not Found</html>")
    return path


@damage("unreadable")
def empty(folder: Folder, name: str) -> Path:
    path = folder.images(name)[0]
    path.write_bytes(b"")
    return path


@damage("bomb")
def bomb(folder: Folder, name: str) -> Path:
    path = folder.images(name)[1]
    path.write_bytes(gzip.compress(header((1100, 1100, 1000)) + bytes(2**20)))
    return path


@damage("impossible-size")
def terabytes(folder: Folder, name: str) -> Path:
    path = folder.images(name)[1]
    path.write_bytes(gzip.compress(header((30000, 30000, 30000)) + bytes(2**20)))
    return path


@damage("bad-affine")
def singular(folder: Folder, name: str) -> Path:
    path = folder.images(name)[1]
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[280:328] = bytes(48)  # srow_x, srow_y, srow_z
    path.write_bytes(gzip.compress(bytes(content)))
    return path


@damage("not-real")
def complex_numbers(folder: Folder, name: str) -> Path:
    return write_image(folder.images(name)[1], scan(99, 1).astype(np.complex64), AFFINE)


@damage("not-finite")
def nan(folder: Folder, name: str) -> Path:
    data = scan(99, 2)
    data[3, 4, 5] = np.nan
    return write_image(folder.images(name)[0], data, AFFINE)


@damage("not-finite")
def infinite(folder: Folder, name: str) -> Path:
    data = scan(99, 2)
    data[3, 4, 5] = -np.inf
    return write_image(folder.images(name)[2], data, AFFINE)


@damage("dimensions")
def series(folder: Folder, name: str) -> Path:
    return write_image(folder.images(name)[2], np.stack([scan(99, visit) for visit in range(3)], axis=-1), AFFINE)


@damage("no-frame")
def frame(folder: Folder, name: str) -> Path:
    folder.images(name)
    path = write_image(folder.path / name / "4d.nii.gz", np.stack([scan(98, 0), scan(98, 1)], axis=-1), AFFINE)
    folder.row(name, 3, path, frame="2")
    return path


@damage("bad-time")
def no_number(folder: Folder, name: str) -> str:
    path = folder.images(name)[2]
    folder.row(name, "baseline", path)
    return f"line {len(folder.lines)}"


@damage("bad-row")
def short_row(folder: Folder, name: str) -> str:
    folder.images(name)
    folder.lines.append(f"{name},3")
    return f"line {len(folder.lines)}"


@damage("bad-covariate")
def no_age(folder: Folder, name: str) -> str:
    folder.images(name, times=(0, 1))
    folder.row(name, 2, folder.path / name / "v0.nii.gz", age="old")
    return f"line {len(folder.lines)}"


@damage("duplicate-time")
def same_time(folder: Folder, name: str) -> str:
    folder.images(name, times=(0, 1, 1))
    return f"{len(folder.lines)}"


@damage("two-splits")
def two_splits(folder: Folder, name: str) -> str:
    folder.images(name, times=(0, 1), split="train")
    folder.row(name, 2, folder.path / name / "v0.nii.gz", split="test")
    return f"{len(folder.lines)}"


@damage("bad-split")
def odd_split(folder: Folder, name: str) -> str:
    folder.images(name, split="holdout")
    return f"line {len(folder.lines) - 2}"


@damage("constant")
def black(folder: Folder, name: str) -> Path:
    return write_image(folder.images(name)[1], np.zeros(SHAPE, np.float32), AFFINE)


@damage("single-visit")
def alone(folder: Folder, name: str) -> Path:
    return folder.images(name, times=(0,))[0]


@damage("identical-visits")
def twice(folder: Folder, name: str) -> Path:
    paths = folder.images(name)
    paths[2].write_bytes(paths[1].read_bytes())
    return paths[2]


@damage("no-overlap")
def elsewhere(folder: Folder, name: str) -> Path:
    affine = AFFINE.copy()
    affine[:3, 3] += (0, 400, 0)
    return write_image(folder.images(name)[1], scan(97, 0), affine)


@damage("label-mask", "warning")
def mask(folder: Folder, name: str) -> Path:
    paths = folder.images(name)
    for visit, path in enumerate(paths):
        levels = np.searchsorted((300, 500, 700), scan(96, visit))
        write_image(path, levels.astype(np.uint8), AFFINE)
    return paths[0]


@damage("lost-zooms", "warning")
def zooms(folder: Folder, name: str) -> Path:
    paths = folder.images(name)
    for visit, path in enumerate(paths):
        write_image(path, scan(95, visit), np.diag([-1.0, -1, 1, 1]))
    return paths[0]


@damage("voxel-size", "warning")
def micrometres(folder: Folder, name: str) -> Path:
    paths = folder.images(name)
    for visit, path in enumerate(paths):
        write_image(path, scan(94, visit), np.diag([1000.0, 1000, 2500, 1]))
    return paths[0]


@damage("shape-differs", "warning")
def slices_lost(folder: Folder, name: str) -> Path:
    return write_image(folder.images(name)[2], scan(folder.people, 2)[..., :9], AFFINE)


@damage("spacing-differs", "warning")
def other_voxels(folder: Folder, name: str) -> Path:
    affine = AFFINE @ np.diag([1, 1, 2, 1])
    return write_image(folder.images(name)[2], scan(folder.people, 2), affine)


@damage("orientation-differs", "warning")
def flipped(folder: Folder, name: str) -> Path:
    affine = AFFINE @ np.diag([-1, 1, 1, 1])
    affine[0, 3] -= 2 * (SHAPE[0] - 1)
    return write_image(folder.images(name)[1], scan(folder.people, 1), affine)


@damage("misregistered", "warning")
def moved(folder: Folder, name: str) -> Path:
    """The patient lies 8 mm further, in a field of view that has moved too."""
    affine = AFFINE.copy()
    affine[1, 3] += 8
    return write_image(folder.images(name)[1], scan(folder.people, 1), affine)


@damage("intensity-drift", "warning")
def gain(folder: Folder, name: str) -> Path:
    return write_image(folder.images(name)[2], 1.6 * scan(folder.people, 2), AFFINE)


@damage("intensity-drift", "warning")
def offset(folder: Folder, name: str) -> Path:
    return write_image(folder.images(name)[1], scan(folder.people, 1) + 1024, AFFINE)


@damage("duplicate-subject")
def copied(folder: Folder, name: str) -> Path:
    """Identical files in two parts of the split."""
    originals = folder.images("original", split="train")
    paths = folder.images(name, split="test")
    for original, path in zip(originals, paths, strict=True):
        path.write_bytes(original.read_bytes())
    return paths[0]


@damage("duplicate-subject", "warning")
def mirrored(folder: Folder, name: str) -> Path:
    """Turned, stored in 8 bits, clipped and padded; both subjects are in the training part."""
    folder.images("mirror", split="train")
    person = folder.people
    paths = folder.images(name, split="train")
    for visit, path in enumerate(paths):
        data = np.round(np.minimum(scan(person, visit), 870) / 5).astype(np.uint8).transpose(1, 0, 2)[::-1]
        data = np.pad(data, ((2, 0), (1, 3), (0, 2)), constant_values=data.min())
        write_image(path, data, AFFINE)
    return paths[0]


@damage("age-and-time", "warning")
def rejuvenated(folder: Folder, name: str) -> Path:
    paths = folder.images(name, times=(0, 1))
    path = write_image(folder.path / name / "v2.nii.gz", scan(folder.people, 2), AFFINE)
    folder.row(name, 2, path, age="55")
    assert len(paths) == 2
    return path


@damage("time-gap", "warning")
def late(folder: Folder, name: str) -> Path:
    return folder.images(name, times=(0, 1, 31))[2]


@damage("visit-order", "warning")
def shuffled(folder: Folder, name: str) -> Path:
    return folder.images(name, times=(0, 2, 1))[2]


@damage("swollen-grid", "warning")
def huge(folder: Folder, name: str) -> Path:
    paths = folder.images(name)
    for visit, path in enumerate(paths):
        write_image(path, scan(93, visit, (40, 36, 30)), AFFINE)
    return paths[0]


HEALTHY = {f"healthy{number}" for number in range(9)} | {"original", "mirror"}


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Return a manifest with every kind of damage, and the expected source of each finding, by subject."""
    folder, places = Folder(tmp_path_factory.mktemp("damaged")), {}
    for number in range(5):
        folder.images(f"healthy{number}")
    for name, (_, _, spoil) in DAMAGES.items():
        places[name] = str(spoil(folder, name))
    for number in range(5, 9):
        folder.images(f"healthy{number}")
    return folder.write(), places


@pytest.fixture(scope="module")
def examined(damaged: tuple[Path, dict[str, str]]) -> Examination:
    return examine(CSVDataset(path=damaged[0]), workers=2)


def of(examination: Examination, subject: str) -> list[Finding]:
    return [finding for finding in examination.findings if finding.subject == subject]


@pytest.mark.parametrize("name", DAMAGES)
def test_each_damage_gives_exactly_one_finding(
    name: str, damaged: tuple[Path, dict[str, str]], examined: Examination
) -> None:
    kind, severity, _ = DAMAGES[name]
    (finding,) = of(examined, "" if kind == "bad-row" else name)
    assert (finding.kind, finding.severity) == (kind, severity)
    assert str(damaged[0].parent) in finding.source
    assert damaged[1][name] in finding.source
    assert finding.problem
    assert finding.advice


def test_healthy_subjects_have_no_findings(examined: Examination) -> None:
    assert len(DAMAGES) > 20
    assert not [finding for finding in examined.findings if finding.subject in HEALTHY]
    assert len(examined.findings) == len(DAMAGES)
    assert examined.errors == sum(severity == "error" for _, severity, _ in DAMAGES.values())
    assert examined.errors + examined.warnings == len(DAMAGES)
    left_out = {"two-splits", "odd-split"}
    assert examined.subjects == len(HEALTHY) + len(DAMAGES) - len(left_out)
    unread = sum(kind in ("truncated", "not-finite") for kind, _, _ in DAMAGES.values())
    given = sum(len(subject.visits) for subject in CSVDataset(path=_manifest(examined)).subjects(lambda bad: None))
    assert given - examined.visits == unread - 1  # one is so short that the header reveals it


def _manifest(examined: Examination) -> Path:
    (finding,) = (finding for finding in examined.findings if finding.kind == "bad-row")
    return Path(finding.source.rpartition(", line")[0])


def test_order_of_findings_does_not_depend_on_workers(
    damaged: tuple[Path, dict[str, str]], examined: Examination
) -> None:
    assert examine(CSVDataset(path=damaged[0]), workers=5).findings == examined.findings
    severities = [finding.severity for finding in examined.findings]
    assert severities == sorted(severities)  # errors first


def test_duplicate_names_original_and_parts(examined: Examination) -> None:
    (finding,) = of(examined, "copied")
    assert finding.problem.startswith("has the same voxels as subject original")
    assert "puts it in test and original in train" in finding.problem
    (finding,) = of(examined, "mirrored")
    assert "subject mirror after flipping or turning" in finding.problem


def test_process_of_damaged_data(
    damaged: tuple[Path, dict[str, str]], examined: Examination, longigen: Longigen
) -> None:
    table, _ = damaged
    result = longigen("doctor", table, "--workers", 2, status=1)
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 120
    words = result.stdout.split()
    for name, (kind, _, _) in DAMAGES.items():
        assert kind in words, name
    for file in ("v1.nii.gz", "late.nii", "visits.csv,"):
        assert any(file in word for word in words), file
    assert str(table.parent) not in result.stdout
    for finding in examined.findings:
        assert set(finding.advice.split()) <= set(words), finding  # nothing is cut off
    assert lines[-1].startswith(f"{len(HEALTHY) + len(DAMAGES) - 2} subjects, ")
    errors = sum(severity == "error" for _, severity, _ in DAMAGES.values())
    assert lines[-1].endswith(f": {errors} errors, {len(DAMAGES) - errors} warnings")
    assert "reading visits" in result.stderr

    again = CliRunner().invoke(app, ["doctor", str(table), "--json"])
    assert again.exit_code == 1
    content = json.loads(again.stdout)
    assert set(content) == {"data", "time_unit", "subjects", "visits", "errors", "warnings", "findings"}
    assert (content["data"], content["time_unit"], content["errors"]) == (str(table), "years", errors)
    assert {"kind", "source", "problem", "advice", "subject", "severity"} == set(content["findings"][0])
    assert Counter(f["kind"] for f in content["findings"]) == Counter(kind for kind, _, _ in DAMAGES.values())


def test_process_of_healthy_data(tmp_path: Path, longigen: Longigen) -> None:
    folder = Folder(tmp_path)
    for number in range(6):
        folder.images(f"s{number}")
    table = folder.write()
    result = longigen("doctor", f"csv:{table}")
    (line,) = result.stdout.splitlines()
    assert line.startswith("6 subjects, 18 visits read in ")
    assert line.endswith(f"nothing is wrong; next: longigen train --data csv:{table}")
    content = json.loads(longigen("doctor", table, "--set", "time_unit=months", "--json").stdout)
    assert (content["time_unit"], content["visits"], content["errors"], content["warnings"]) == ("months", 18, 0, 6)
    assert {finding["kind"] for finding in content["findings"]} == {
        "age-and-time"
    }  # ages increase by years, not months
    mistake = longigen("doctor", "no-such-data", status=2)
    assert mistake.stderr.startswith("longigen: There is neither a data set nor a path named 'no-such-data'.")
    assert mistake.stdout == ""
    result = CliRunner().invoke(app, ["doctor", str(table), "--set", "data.time_unt=days"])
    assert isinstance(result.exception, LongigenError)
    assert "has no 'time_unt'. Did you mean 'time_unit'?" in str(result.exception)


def test_repeated_findings_are_one_row(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    for number in range(8):
        folder.images(f"s{number}", times=(0,))
    result = CliRunner().invoke(app, ["doctor", str(folder.write())])
    assert result.exit_code == 1
    stdout = result.stdout
    assert stdout.count("single-visit") == 1
    words = " ".join(stdout.split())
    assert "s0, s1, s2 and 5" in words
    assert "8 errors" in words


@pytest.mark.parametrize(
    ("unit", "times", "kinds"),
    [
        ("years", (0, 182, 365), ["time-unit"]),
        ("years", (0, 30, 61), ["time-unit"]),
        ("years", (70.1, 71.2, 72.4), []),
        ("days", (70.1, 71.2, 72.4), ["time-unit"]),
        ("days", (0, 182, 365), []),
        ("months", (0, 182, 2000), ["time-unit"]),
        ("cycle", (0, 1, 2), ["time-unit"]),
        ("cycle", (0, 0.5, 1), []),
        ("frames", (0, 0.5, 1), ["time-unit"]),
        ("seconds", (0, 300, 900), []),
        ("years", (2, 1, 0), ["visit-order"]),
    ],
)
def test_units(unit: str, times: tuple[float, ...], kinds: list[str], tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    for number in range(4):
        folder.images(f"s{number}", times=times, age="60")
    found = examine(CSVDataset(path=folder.write(), time_unit=unit)).findings
    assert [finding.kind for finding in found] == kinds
    assert all(finding.severity == "warning" and finding.source == str(tmp_path / "visits.csv") for finding in found)


def test_ages_in_days(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    for number in range(4):
        folder.images(f"s{number}", age="22000")
    (finding,) = examine(CSVDataset(path=folder.write())).findings
    assert finding.kind == "age-unit"


def test_too_few_subjects_and_unusable_data_set(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.images("a")
    (finding,) = examine(CSVDataset(path=folder.write())).findings
    assert (finding.kind, finding.severity) == ("no-split", "error")
    for path in tmp_path.glob("a/*"):
        path.unlink()
    examination = examine(CSVDataset(path=tmp_path / "visits.csv"))
    assert Counter(f.kind for f in examination.findings) == {"missing-file": 3}
    assert (examination.subjects, examination.visits) == (0, 0)
    with pytest.raises(LongigenError, match="is not a file"):
        examine(CSVDataset(path=tmp_path / "nothing.csv"))


def test_1_mm_is_plausible_for_a_brain_but_not_for_thick_slices(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    for number in range(4):
        for visit, path in enumerate(folder.images(f"s{number}")):
            affine = np.array([[-1.0, 0, 0, 90], [0, 1, 0, -126], [0, 0, 1, -72], [0, 0, 0, 1]])
            write_image(path, scan(number, visit)[..., : 5 if number == 2 else None], affine)
    (finding,) = examine(CSVDataset(path=folder.write())).findings
    assert (finding.kind, finding.subject) == ("lost-zooms", "s2")
    assert "18 × 16 × 5" in finding.problem
    assert finding.problem.endswith("(and 2 more of its visits)")


class BrokenReader(Dataset):
    """A third-party data set whose reader raises its own exceptions."""

    def subjects(self, bad: object = None) -> list[Subject]:
        def visit(person: int, number: int, load: Callable[[], Volume]) -> Visit:
            return Visit(float(number), load, SHAPE, (2.0, 2.0, 2.5), f"p{person} v{number}", f"{person} {number}")

        def good(person: int, number: int) -> Visit:
            return visit(person, number, lambda: Volume(scan(person, number), AFFINE))

        def broken() -> Volume:
            raise KeyError("no such study")

        def nothing() -> Volume:
            return None  # type: ignore[return-value]

        def nans() -> Volume:
            return Volume(np.full(SHAPE, np.nan, np.float32), AFFINE)

        def nowhere() -> Volume:
            return Volume(scan(5, 5), np.diag([2.0, 2, 0, 1]))

        subjects = [Subject(f"p{person}", (good(person, 0), good(person, 1))) for person in range(5)]
        ill = tuple(visit(5, number, load) for number, load in enumerate((broken, nothing, nans, nowhere), 2))
        return [*subjects, Subject("p5", (good(5, 0), good(5, 1), *ill))]


def test_exception_of_a_reader_does_not_stop_the_examination() -> None:
    examination = examine(BrokenReader(), workers=3)
    assert [(f.kind, f.source, f.subject) for f in examination.findings] == [
        ("unreadable", "p5 v2", "p5"),
        ("unreadable", "p5 v3", "p5"),
        ("not-finite", "p5 v4", "p5"),
        ("bad-affine", "p5 v5", "p5"),
    ]
    assert "KeyError: 'no such study'" in examination.findings[0].problem
    assert (examination.subjects, examination.visits) == (6, 12)


def test_exception_in_longigen_is_not_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(cls: type, volume: Volume) -> VolumeStats:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(VolumeStats, "from_volume", classmethod(broken))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        examine(BrokenReader(), workers=2)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("doctor")]


def test_callback_counts_visits() -> None:
    calls: list[tuple[int, int]] = []
    examine(BrokenReader(), workers=2, callback=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (16, 16)
    assert all(a[0] < b[0] for a, b in pairwise(calls))


def test_thumbnail_is_invariant_to_storage() -> None:
    data = scan(1, 0)
    small = thumbnail(Volume(data, AFFINE))
    assert small.shape == (THUMBNAIL_SIZE,) * 3
    assert abs(float(small.mean())) < 1e-6
    np.testing.assert_allclose(np.linalg.norm(small), 1, rtol=1e-5)
    padded = np.pad(data, 3, constant_values=data.min())
    stored_otherwise = {
        "scaled": (3.0 * data - 700, AFFINE),
        "8 bits": (np.round(data / 4), AFFINE),
        "padded": (padded, AFFINE),
        "flipped": (data[::-1], AFFINE @ np.diag([-1, 1, 1, 1])),
        "permuted": (data.transpose(2, 0, 1), AFFINE[:, [2, 0, 1, 3]]),
    }
    for label, (other, affine) in stored_otherwise.items():
        assert float((small * thumbnail(Volume(other, affine))).sum()) > 0.9995, label
    assert float((small * thumbnail(Volume(scan(2, 0), AFFINE))).sum()) < 0.5
    # a volume whose sides are multiples of the thumbnail's is averaged block by block
    block = np.random.default_rng(0).uniform(1, 2, (24, 24, 24)).astype(np.float32)
    block[0] = block[-1] = block[:, 0] = block[:, -1] = block[..., 0] = block[..., -1] = 2
    block[12, 12, 12] = 0
    means = block.reshape(12, 2, 12, 2, 12, 2).mean((1, 3, 5))
    means -= means.mean()
    np.testing.assert_allclose(thumbnail(Volume(block, np.eye(4))), means / np.linalg.norm(means), atol=1e-5)


PEAK = """
import resource
from functools import partial
import numpy as np
from longigen import Dataset, Subject, Visit, Volume
from longigen.data.quality.inspect import examine

SHAPE = (96, 80, 64)

def load(seed):
    return Volume(np.random.default_rng(seed).standard_normal(SHAPE, dtype=np.float32), np.diag([2.0, 2, 2, 1]))

class Cohort(Dataset):
    def __init__(self, *, size: int) -> None:
        super().__init__()
        self.size = size

    def subjects(self, bad=None):
        def visit(number, time):
            return Visit(time, partial(load, 2 * number + time), SHAPE, (2, 2, 2), f"{number} {time}", "")
        return [Subject(f"s{number}", (visit(number, 0), visit(number, 1))) for number in range(self.size)]

examine(Cohort(size=4), workers=2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
examination = examine(Cohort(size=24), workers=2)
print(examination.visits, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in KiB on Linux")
def test_memory_does_not_grow_with_the_data() -> None:
    """Reading 48 visits of 2 MB needs little more memory than reading 8."""
    result = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True, timeout=120)
    visits, growth = map(int, result.stdout.split())
    assert visits == 48
    assert growth < 20e6 < visits * 4 * 96 * 80 * 64 / 4


INTERRUPTED = """
import os
import signal
import time
import numpy as np
from longigen import Dataset, Subject, Visit, Volume
from longigen.data.quality.inspect import examine

def load():
    time.sleep(0.2)
    os.write(1, b"read\\n")  # whole, though two workers write
    return Volume(np.random.default_rng(0).uniform(size=(8, 8, 8)).astype(np.float32), np.eye(4))

class Slow(Dataset):
    def subjects(self, bad=None):
        visits = tuple(Visit(t, load, (8, 8, 8), (1, 1, 1), str(t), str(t)) for t in range(5))
        return [Subject(f"s{n}", visits) for n in range(5000)]

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
print("reading", flush=True)
examine(Slow(), workers=2)
"""


def test_ctrl_c_stops_the_examination() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["reading\n", "read\n"]
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=300)
    assert "KeyboardInterrupt" in stderr
    assert process.returncode != 0
    assert stdout.count("read") < 100  # of 25,000


def test_acdc(tmp_path: Path) -> None:
    for number in range(1, 9):
        folder = tmp_path / f"patient{number:03d}"
        data = np.stack([scan(number, visit) for visit in range(5)], axis=-1)
        path = write_image(folder / f"{folder.name}_4d.nii.gz", data, AFFINE)
        (folder / "Info.cfg").write_text(f"ED: {4 if number == 1 else 1}\nES: {2 if number == 1 else 4}\n")
        if number == 2:
            (folder / "Info.cfg").write_text("ED: 3\nES: 3\n")
        elif number == 3:
            (folder / "Info.cfg").unlink()
        elif number == 4:
            (folder / "Info.cfg").write_text("ED: first\nES: 3\n")
        elif number == 5:
            path.write_bytes(path.read_bytes()[:-2000])
    examination = examine(ACDCDataset(path=tmp_path), workers=2)
    found = {(f.kind, f.subject, Path(f.source.partition(",")[0]).name) for f in examination.findings}
    assert found == {
        ("empty-range", "patient002", "Info.cfg"),
        ("missing-file", "patient003", "Info.cfg"),
        ("bad-info", "patient004", "Info.cfg"),
        ("truncated", "patient005", "patient005_4d.nii.gz"),
        ("single-visit", "patient005", "patient005_4d.nii.gz"),
    }


def test_bids(tmp_path: Path) -> None:
    (tmp_path / "dataset_description.json").write_text('{"Name": "test", "BIDSVersion": "1.9.0"}')
    for number in range(1, 8):
        folder = tmp_path / f"sub-{number:02d}"
        days = ["0", "n/a" if number == 2 else "200", "200" if number == 3 else "390"]
        rows = [f"ses-{visit + 1}\t{day}" for visit, day in enumerate(days)]
        write = folder / f"{folder.name}_sessions.tsv"
        for visit in range(3):
            name = f"{folder.name}_ses-{visit + 1}_T1w.nii.gz"
            path = write_image(folder / f"ses-{visit + 1}" / "anat" / name, scan(number, visit), AFFINE)
            if number == 4 and visit == 1:
                path.write_bytes(path.read_bytes()[:-300])
        write.write_text("\n".join(["session_id\tdays", *rows]) + "\n")
    examination = examine(BIDSDataset(path=tmp_path), workers=2)
    found = {(f.kind, f.subject) for f in examination.findings}
    assert found == {("no-time", "sub-02"), ("duplicate-time", "sub-03"), ("truncated", "sub-04")}


def test_simulated_brains_have_no_findings() -> None:
    assert examine(SimBrain(subject_count=4), workers=2).findings == ()


def test_real_hearts(shared: Path) -> None:
    dataset = NIfTI4DDataset(path=shared / "sunnybrook", pattern="*_ED_ES.nii.gz", time_unit="cycle")
    assert examine(dataset).findings == ()
    masks = examine(NIfTI4DDataset(path=shared / "sunnybrook", pattern="*_LV.nii.gz", time_unit="cycle"))
    assert [finding.kind for finding in masks.findings] == ["label-mask"] * 30


def test_real_brains(shared: Path) -> None:
    (finding,) = examine(BIDSDataset(path=shared / "ms_bids")).findings
    assert finding.kind == "no-split"  # two patients are too few


def test_real_acdc(shared: Path) -> None:
    dataset = ACDCDataset(path=shared / "acdc", frames=5)
    found = examine(dataset).findings
    assert {finding.kind for finding in found} == {"lost-zooms"}
    spacings = {s.id: s.visits[0].spacing for s in dataset.subjects()}
    assert [finding.subject for finding in found] == [name for name, size in spacings.items() if size == (1, 1, 1)]
