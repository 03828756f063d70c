"""The data set `csv`: subjects, visits, covariates and mistakes of a manifest."""

import pickle
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from helpers.files import SHARED
from longigen import BadData, Finding, LongigenError
from longigen.data.grid import Grid
from longigen.data.preprocess import Preprocess
from longigen_csv import CSVDataset

DATA = SHARED
SUNNYBROOK = sorted(DATA.glob("sunnybrook/*_ED_ES.nii.gz"))[:3]

PIR = np.array([[0, 0, 3.0, 0], [-2.0, 0, 0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1]])

Write = Callable[[str], CSVDataset]


def save(path: Path, *shape: int, seed: int = 0, affine: np.ndarray = PIR) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).uniform(0, 100, shape).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a manifest, one visit per image: a0, a1, b0, b1 (3D) and cine (4D, 3 frames)."""
    for number, name in enumerate(("a0", "a1", "b0", "b1")):
        save(tmp_path / "img" / f"{name}.nii.gz", 4, 5, 6, seed=number)
    save(tmp_path / "img" / "cine.nii.gz", 4, 5, 6, 3)
    save(tmp_path / "img" / "flat.nii.gz", 4, 5)

    def manifest(text: str) -> CSVDataset:
        (tmp_path / "m.csv").write_text(text, encoding="utf-8")
        return CSVDataset(path=tmp_path / "m.csv")

    return manifest


GOOD = """\
subject,time,path,age,sex
b,2.5,img/b1.nii.gz,72.5,M
b,0,img/b0.nii.gz,70,M
a,1,img/a1.nii.gz,n/a,F
a,0,img/a0.nii.gz,61,
"""


def test_subjects_in_order_of_appearance_and_visits_in_order_of_time(write: Write, tmp_path: Path) -> None:
    dataset = write(GOOD)
    b, a = dataset.subjects()
    assert (b.id, b.times) == ("b", (0.0, 2.5))
    assert (a.id, a.times) == ("a", (0.0, 1.0))
    assert a.visits[0].source == str(tmp_path / "img" / "a0.nii.gz")
    assert a.visits[0].shape == (6, 4, 5)  # in RAS order, where the file is PIR
    volume = a.visits[1].load()
    assert volume.data.shape == (4, 5, 6)
    stored = nibabel.load(tmp_path / "img" / "a1.nii.gz")
    np.testing.assert_array_equal(volume.data, np.asarray(stored.dataobj))  # type: ignore[attr-defined]
    assert dataset.time_unit == "years"
    assert not dataset.simulated


def test_covariates_are_numbers_codes_or_absent(write: Write) -> None:
    dataset = write(GOOD)
    b, a = dataset.subjects()
    assert [visit.covariates for visit in b.visits] == [{"age": 70.0, "sex": 1.0}, {"age": 72.5, "sex": 1.0}]
    assert [visit.covariates for visit in a.visits] == [{"age": 61.0}, {"sex": 0.0}]
    assert dataset.levels == {"sex": ("F", "M")}


def test_frames_of_a_4d_image(write: Write, tmp_path: Path) -> None:
    rows = "".join(f"c,{frame / 3},img/cine.nii.gz,{text}\n" for frame, text in enumerate(("0", "1.0", "2")))
    dataset = write("subject,time,path,frame\n" + rows + "a,0,img/a0.nii.gz,\na,1,img/a1.nii.gz,n/a\n")
    cine, a = dataset.subjects()
    stored = np.asarray(nibabel.load(tmp_path / "img" / "cine.nii.gz").dataobj)  # type: ignore[attr-defined]
    for frame, visit in enumerate(cine.visits):
        np.testing.assert_array_equal(visit.load().data, stored[..., frame])
        assert visit.source.endswith(f"cine.nii.gz, frame {frame}")
        assert visit.covariates == {}
    assert a.visits[0].shape == cine.visits[0].shape == (6, 4, 5)


def test_tabs_quotes_byte_order_mark_windows_lines_and_absolute_paths(write: Write, tmp_path: Path) -> None:
    write(GOOD)
    image = tmp_path / "img" / "with, comma.nii.gz"
    save(image, 4, 5, 6)
    (tmp_path / "m.csv").write_bytes(
        b"\xef\xbb\xbfsubject, time ,path\r\na,0," + f'"{image}"'.encode() + b"\r\n\r\na,1,img/a1.nii.gz\r\n , ,\r\n"
    )
    (tmp_path / "m.tsv").write_text(f"time\tsubject\tpath\n0\ta\t{image}\n1\ta\timg/a1.nii.gz\n")
    for name in ("m.csv", "m.tsv"):
        (subject,) = CSVDataset(path=tmp_path / name).subjects()
        assert subject.times == (0.0, 1.0)
        assert subject.visits[0].load().data.shape == (4, 5, 6)


def test_subjects_reads_no_voxels_and_visits_go_to_workers(write: Write, tmp_path: Path) -> None:
    path = tmp_path / "img" / "a1.nii.gz"
    dataset = write(GOOD)
    save(path, 20, 20, 20)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    _, a = dataset.subjects()
    with pytest.raises(LongigenError, match=r"a1\.nii\.gz \(subject a\) is truncated"):
        a.visits[1].load()
    path.write_bytes(whole)
    assert pickle.loads(pickle.dumps(a)).visits[1].load().data.shape == (20, 20, 20)


HEAD = "subject,time,path\n"
PAIR = "a,0,img/a0.nii.gz\na,1,img/a1.nii.gz\n"
BAD: dict[str, tuple[str, str]] = {
    "empty": ("", r"m\.csv is empty; its first line must name the columns subject, time, path"),
    "header-only": (HEAD, "no row below its header"),
    "missing-column": ("subject,when,path\n" + PAIR, "no column 'time'; its columns are: subject, when, path"),
    "foreign-columns": ("ID,date,file\na,0,x.nii\n", "Name those that hold a subject's id, .* subject, time, path"),
    "semicolons": (
        "id;time;path\n" + PAIR,
        "by semicolons; .* by tabs in a file named .tsv, and",
    ),
    "column-twice": ("subject,time,path,time\n" + PAIR, "two columns 'time'"),
    "column-unnamed": ("subject,time,path,\n" + PAIR, "two columns '', or one without a name"),
    "short-row": (HEAD + PAIR + "b,0\n", r"line 4 has 2 cells where the header has 3 columns"),
    "long-row": (HEAD + PAIR + "b,0,x,y\n", r"line 4 has 4 cells"),
    "broken-quotes": (HEAD + 'a,0,"img/a0.nii.gz\n', "line 2 has a quote that is not closed on its line"),
    "nul": (HEAD + "a,0,img/a\0.nii.gz\n" + PAIR, r"m\.csv cannot be read \(it has NUL characters"),
    "time-text": (
        HEAD + PAIR + "a,baseline,img/b0.nii.gz\n",
        r"line 4 \(subject a\) has time 'baseline', which is not a finite",
    ),
    "time-date": (
        HEAD + PAIR + "a,2019-03-01,img/b0.nii.gz\n",
        r"time '2019-03-01', which is not .*; write the years since the subject's first visit instead of a date",
    ),
    "time-date-slashes": (HEAD + PAIR + "a,1/3/2019 10:30,img/b0.nii.gz\n", "first visit instead of a date"),
    "time-nan": (HEAD + PAIR + "a,nan,img/b0.nii.gz\n", r"line 4 \(subject a\) has time 'nan', which is not a finite"),
    "time-inf": (HEAD + PAIR + "a,inf,img/b0.nii.gz\n", r"line 4 \(subject a\) has time 'inf', which is not a finite"),
    "time-empty": (HEAD + PAIR + "a,,img/b0.nii.gz\n", r"line 4 \(subject a\) has time '', which is not a finite"),
    "duplicate-time": (
        HEAD + PAIR + "a,1.0,img/b0.nii.gz\n",
        r"lines 3 and 4 \(subject a\) are two visits at time 1; correct or remove one",
    ),
    "no-subject": (HEAD + PAIR + ",0,img/b0.nii.gz\n", "line 4 has subject '', which cannot name a file"),
    "subject-slash": (HEAD + "x/y,0,img/b0.nii.gz\n", r"subject 'x/y', which cannot name a file"),
    "subject-backslash": (HEAD + "x\\y,0,img/b0.nii.gz\n", "cannot name a file"),
    "subject-up": (HEAD + "..,0,img/b0.nii.gz\n", r"subject '\.\.', which cannot name a file"),
    "no-path": (HEAD + PAIR + "a,2,\n", r"line 4 \(subject a\) has path '', which names no file"),
    "path-missing": (HEAD + PAIR + "a,2,img/gone.nii.gz\n", r"m\.csv, line 4: .*gone\.nii\.gz \(subject a\) does not"),
    "path-folder": (HEAD + PAIR + "a,2,img\n", r"line 4: .*img \(subject a\) cannot be opened"),
    "4d-without-frame": (HEAD + PAIR + "a,2,img/cine.nii.gz\n", r"line 4: .*cine.* is 4D, .* in a column 'frame'"),
    "2d": (HEAD + PAIR + "a,2,img/flat.nii.gz\n", r"line 4: .*flat\.nii\.gz \(subject a\) is 2D"),
    "frame-out-of-range": ("subject,time,path,frame\na,0,img/cine.nii.gz,3\na,1,img/cine.nii.gz,0\n", "no frame 3"),
    "frame-negative": (
        "subject,time,path,frame\na,0,img/cine.nii.gz,-1\n",
        "frame '-1', which is not a whole number from 0",
    ),
    "frame-fraction": (
        "subject,time,path,frame\na,0,img/cine.nii.gz,0.5\n",
        r"line 2 \(subject a\) has frame '0.5', which is",
    ),
    "split-unknown": ("subject,time,path,split\na,0,img/a0.nii.gz,tets\n", r"line 2 \(subject a\) has split 'tets'"),
    "two-splits": (
        "subject,time,path,split\na,0,img/a0.nii.gz,test\na,1,img/a1.nii.gz,train\n",
        r"lines 2, 3 \(subject a\) are in the splits test and train",
    ),
    "mixed-covariate": (
        GOOD.replace("61", "6l"),
        r"line 5 \(subject a\) has '6l' in column 'age', whose other rows are numbers",
    ),
}


def test_bad_rows_are_left_out_and_listed(write: Write) -> None:
    dataset = write(
        "subject,time,path,age,split\n"
        "a,0,img/a0.nii.gz,60,train\na,1,img/a1.nii.gz,61,\na,1,img/b1.nii.gz,61,\na,x,img/b1.nii.gz,61,\n"
        "b,0,img/gone.nii.gz,60,val\nb,1,img/b1.nii.gz,old,\nb,2,img/b0.nii.gz,62,\n"
        "c,0,img/b0.nii.gz,60,test\nc,1,img/b1.nii.gz,60,train\n"
        "d,0,img/gone.nii.gz,60,\n"
    )
    for _ in range(2):
        findings: list[Finding] = []
        a, b = dataset.subjects(findings.append)
        assert (a.id, a.times, a.part, b.id, b.times, b.part) == ("a", (0, 1), "train", "b", (2,), "validation")
        assert [(finding.kind, finding.subject) for finding in findings] == [
            ("bad-time", "a"),
            ("duplicate-time", "a"),
            ("missing-file", "b"),
            ("bad-covariate", "b"),
            ("two-splits", "c"),
            ("missing-file", "d"),
        ]
    with pytest.raises(BadData) as caught:
        dataset.subjects()
    assert caught.value.finding == findings[0]


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_one_sentence(name: str, write: Write, tmp_path: Path) -> None:
    text, message = BAD[name]
    dataset = write(text)
    with pytest.raises(LongigenError, match=message) as caught:
        dataset.subjects()
    assert str(caught.value).startswith(str(tmp_path / "m.csv"))
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_a_manifest_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(LongigenError, match=r"gone\.csv is not a file"):
        CSVDataset(path=tmp_path / "gone.csv").subjects()
    with pytest.raises(LongigenError, match="is not a file"):
        CSVDataset(path=tmp_path).subjects()
    (tmp_path / "latin.csv").write_bytes("subject,time,path\nJosé,0,x.nii\n".encode("latin-1"))
    with pytest.raises(LongigenError, match=r"latin\.csv cannot be read .* save it as CSV or TSV in UTF-8"):
        CSVDataset(path=tmp_path / "latin.csv").subjects()


def test_claims_by_name_only() -> None:
    assert CSVDataset.claims(Path("visits.csv"))
    assert CSVDataset.claims(Path("visits.TSV"))
    assert not CSVDataset.claims(Path("visits.txt"))
    assert not CSVDataset.claims(Path("folder"))


def test_time_unit(tmp_path: Path) -> None:
    assert CSVDataset(path=tmp_path / "m.csv", time_unit="days").time_unit == "days"
    with pytest.raises(LongigenError, match=r"no time unit 'year'\. Did you mean 'years'"):
        CSVDataset(path=tmp_path / "m.csv", time_unit="year")
    dataset = CSVDataset.from_config({"path": str(tmp_path / "m.csv"), "time_unit": "cycle"})
    assert dataset.config == {"path": tmp_path / "m.csv", "time_unit": "cycle", "regions": ()}


@pytest.mark.skipif(not SUNNYBROOK, reason="needs the Sunnybrook volumes beside the checkout, in ../shared/data")
def test_real_cine_images_survive_preprocessing_and_restoring(tmp_path: Path) -> None:
    lines = [
        f"{path.name.removesuffix('_ED_ES.nii.gz')},{frame / 2},{path},{frame}"
        for path in SUNNYBROOK
        for frame in (0, 1)
    ]
    (tmp_path / "m.csv").write_text("\n".join(["subject,time,path,frame", *lines]))
    dataset = CSVDataset(path=tmp_path / "m.csv", time_unit="cycle")
    subjects = dataset.subjects()
    assert len(subjects) == len(SUNNYBROOK)
    pipeline = Preprocess(Grid.default(subjects), upper=100.0)
    for subject, path in zip(subjects, SUNNYBROOK, strict=True):
        stored = nibabel.load(path)
        data = np.asarray(stored.dataobj)  # type: ignore[attr-defined]
        prepared = pipeline.subject(subject)
        for frame in (0, 1):
            volume = prepared.restore(prepared.visit(frame))
            expected = np.clip(data[..., frame], data[..., 0].min(), data[..., 0].max())
            np.testing.assert_array_equal(np.rint(volume.data), expected)
            assert np.abs(volume.data - expected).max() < 1e-4
            assert (volume.affine == stored.affine).all()  # type: ignore[attr-defined]
