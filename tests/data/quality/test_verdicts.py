"""The doctor reports an error if and only if training refuses the data, and both say the same."""

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import longigen
from helpers.files import write_image
from longigen import LongigenError
from longigen.training.experiment import Experiment
from longigen.training.recipe import Recipe

SHAPE = (10, 9, 8)
AFFINE = np.array([[-2.0, 0, 0, 20], [0, 2, 0, -15], [0, 0, 2.5, 7], [0, 0, 0, 1]])
SMALL = ["conditioner.dim=16", "denoiser.width=8"]

Rows = list[str]
Fault = Callable[[Path], Rows]
FAULTS: dict[str, tuple[str | None, Fault]] = {}


def scan(person: int, visit: int, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Return a random pattern per person, which changes slightly between visits."""
    base, change = (np.random.default_rng(seed).standard_normal(shape) for seed in ((person, 0), (person, visit + 1)))
    return (500 + 100 * gaussian_filter(base, 1) + 5 * change).astype(np.float32)


def pair(folder: Path, affine: np.ndarray = AFFINE, shape: tuple[int, int, int] = SHAPE) -> list[Path]:
    return [write_image(folder / f"bad{visit}.nii.gz", scan(9, visit, shape), affine) for visit in range(2)]


def rows(paths: list[Path], times: tuple[float, ...] = (0, 1), age: float = 60) -> Rows:
    return [f"{time!r},{path},{age!r}" for time, path in zip(times, paths, strict=True)]


def fault(kind: str | None) -> Callable[[Fault], Fault]:
    """Register the rows of a faulty subject; the kind of the doctor's error, or None where the data can be used."""

    def add(function: Fault) -> Fault:
        FAULTS[function.__name__] = kind, function
        return function

    return add


@fault(None)
def nothing(folder: Path) -> Rows:
    return rows(pair(folder))


@fault("constant")
def first_visit_constant(folder: Path) -> Rows:
    paths = pair(folder)
    write_image(paths[0], np.zeros(SHAPE, np.float32), AFFINE)
    return rows(paths)


@fault("constant")
def second_visit_constant(folder: Path) -> Rows:
    paths = pair(folder)
    write_image(paths[1], np.zeros(SHAPE, np.float32), AFFINE)
    return rows(paths)


@fault("constant")
def one_voxel(folder: Path) -> Rows:
    return rows(pair(folder, shape=(1, 1, 1)))


@fault(None)
def two_voxels(folder: Path) -> Rows:
    return rows(pair(folder, shape=(2, 1, 1)))


@fault("impossible-grid")
def needles(folder: Path) -> Rows:
    """Three tiny files that no one grid can hold."""
    shapes = [(1000, 1, 1), (1, 1000, 1), (1, 1, 1000)]
    paths = [write_image(folder / f"{axis}.nii", scan(9, axis, shape), AFFINE) for axis, shape in enumerate(shapes)]
    return rows(paths, (0, 1, 2))


@fault("identical-visits")
def one_file_for_two_visits(folder: Path) -> Rows:
    path, _ = pair(folder)
    return rows([path, path])


@fault("duplicate-subject")
def a_training_subject_again(folder: Path) -> Rows:
    return rows([folder.parent / f"healthy0_{visit}.nii.gz" for visit in range(2)])


@fault("single-visit")
def single_visit(folder: Path) -> Rows:
    return rows(pair(folder)[:1], (0,))


@fault("time-too-large")
def huge_time(folder: Path) -> Rows:
    return rows(pair(folder), (0, 1e300))


@fault("times-too-close")
def dates_as_numbers(folder: Path) -> Rows:
    return rows(pair(folder), (20200102, 20200102.5))


@fault("covariate-too-large")
def huge_age(folder: Path) -> Rows:
    return rows(pair(folder), age=1e30)


@fault(None)
def sheared(folder: Path) -> Rows:
    affine = AFFINE.copy()
    affine[0, 1], affine[1, 2] = 1.5, 1
    return rows(pair(folder, affine))


@fault(None)
def second_visit_sheared(folder: Path) -> Rows:
    affine, paths = AFFINE.copy(), pair(folder)
    affine[0, 1] = 1.5
    write_image(paths[1], scan(9, 1), affine)
    return rows(paths)


@fault("bad-affine")
def flat_voxels(folder: Path) -> Rows:
    paths = pair(folder)
    content = bytearray(gzip.decompress(paths[1].read_bytes()))
    content[312:328] = bytes(16)  # srow_z
    paths[1].write_bytes(gzip.compress(bytes(content)))
    return rows(paths)


@fault("no-overlap")
def elsewhere(folder: Path) -> Rows:
    affine, paths = AFFINE.copy(), pair(folder)
    affine[1, 3] += 400
    write_image(paths[1], scan(9, 1), affine)
    return rows(paths)


@fault("bomb")
def bomb(folder: Path) -> Rows:
    """900³ voxels of a byte each in a file of 4 kB: 0.7 GB, and 2.9 as float32."""
    paths = pair(folder)
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((900, 900, 900))
    header["vox_offset"], header["magic"] = 352, b"n+1"
    header.set_sform(AFFINE, 1)
    paths[1].write_bytes(gzip.compress(header.binaryblock + bytes(2**22)))
    return rows(paths)


@fault("truncated")
def truncated(folder: Path) -> Rows:
    paths = pair(folder)
    paths[1].write_bytes(paths[1].read_bytes()[:-100])
    return rows(paths)


@fault("not-finite")
def not_finite(folder: Path) -> Rows:
    paths, data = pair(folder), scan(9, 1)
    data[0, 0, 0] = np.nan
    write_image(paths[1], data, AFFINE)
    return rows(paths)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Rows]:
    """Return the folder of six healthy subjects, four of them for training, and their rows."""
    folder, lines = tmp_path_factory.mktemp("healthy"), []
    for person in range(6):
        part = ("train", "validation", "test")[max(person - 3, 0)]
        for visit in range(2):
            path = write_image(folder / f"healthy{person}_{visit}.nii.gz", scan(person, visit), AFFINE)
            lines.append(f"healthy{person},{visit},{path},{60 + visit},{part}")
    return folder, lines


def table(healthy: tuple[Path, Rows], name: str, part: str) -> Path:
    """Write a table of the healthy subjects and a faulty one in a part of the split."""
    folder = healthy[0] / f"{name}-{part}"
    folder.mkdir()
    faulty = [f"bad,{row},{part}" for row in FAULTS[name][1](folder)]
    path = folder / "visits.csv"
    path.write_text("\n".join(["subject,time,path,age,split", *healthy[1], *faulty]) + "\n")
    return path


def prepare(data: Path, *changes: str) -> Experiment:
    """Do what training does before it composes the model."""
    experiment = Experiment.of(Recipe.resolve("sadm-tiny", data=str(data), changes=[*SMALL, *changes]))
    experiment.read()
    return experiment


IN_TRAINING = ("a_training_subject_again", "huge_time", "two_voxels", "second_visit_sheared")
"""The faults that are tried in the training part too, and not only in the test part, which training never draws."""


@pytest.mark.parametrize(
    ("name", "part"), [*((name, "test") for name in FAULTS), *((name, "train") for name in IN_TRAINING)]
)
@pytest.mark.filterwarnings("ignore::longigen.LongigenWarning")
def test_training_refuses_what_the_doctor_calls_an_error(name: str, part: str, healthy: tuple[Path, Rows]) -> None:
    kind = FAULTS[name][0]
    if name == "a_training_subject_again" and part == "train":
        kind = None  # both are in one part: a warning
    data = table(healthy, name, part)
    examination = longigen.examine(data, progress=False)
    errors = [finding for finding in examination.findings if finding.severity == "error"]
    assert kind in ({finding.kind for finding in errors} or {None})
    if not errors:
        experiment = prepare(data)
        if part == "train":
            experiment.compose()
        return
    with pytest.raises(LongigenError) as refused:
        prepare(data)
    said = str(refused.value)
    assert any(finding.problem in said or finding.advice in said for finding in errors) or "only one visit" in said


@pytest.mark.parametrize("name", ["second_visit_constant", "one_file_for_two_visits", "huge_time", "huge_age"])
@pytest.mark.filterwarnings("ignore::longigen.LongigenWarning")
def test_what_is_refused_can_be_left_out(name: str, healthy: tuple[Path, Rows]) -> None:
    cohort = prepare(table(healthy, name, "validation"), "training.skip_bad=true").cohort
    assert len(cohort.subjects) == 6
    assert cohort.skipped[0].kind == FAULTS[name][0]


def test_a_sheared_scan_is_warned_of(healthy: tuple[Path, Rows]) -> None:
    found = longigen.examine(table(healthy, "sheared", "validation"), progress=False).findings
    (finding,) = (finding for finding in found if finding.kind == "sheared")
    assert (finding.subject, finding.severity) == ("bad", "warning")
    assert "has axes that are 37° from a right angle" in finding.problem
