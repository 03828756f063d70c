"""The data set `bids`: times, units, images, tables and their problems."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from longigen import BadData, Finding, LongigenError
from longigen.testing import CHECKS
from longigen_bids import BIDSDataset
from longigen_bids.layout import list_images

AFFINE = np.diag([-2.0, 3.0, 4.0, 1.0])


class Tree:
    """A BIDS data set that a test writes."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def image(self, subject: str, session: str, name: str = "T1w", *, folder: str = "anat", root: str = "") -> Path:
        """Write ``sub-*_ses-*_NAME.nii.gz``."""
        place = self.root / root / f"sub-{subject}" / f"ses-{session}" / folder
        return self.save(place / f"sub-{subject}_ses-{session}_{name}.nii.gz")

    @staticmethod
    def save(path: Path, *shape: int) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(len(str(path))).uniform(0, 100, shape or (3, 4, 5)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(values, AFFINE), path)
        return path

    def table(self, name: str, *rows: str) -> Path:
        """Write a table; the cells of `rows` are separated by spaces."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join("\t".join(row.split()) + "\n" for row in rows), encoding="utf-8")
        return path

    def sessions(self, subject: str, *rows: str) -> Path:
        return self.table(f"sub-{subject}/sub-{subject}_sessions.tsv", *rows)

    def json(self, name: str, content: object) -> Path:
        path = self.root / name
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    def open(self, **config: Any) -> BIDSDataset:
        return BIDSDataset.from_config({"path": self.root, **config})


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Return a data set of two subjects with two sessions each, and no table."""
    tree = Tree(tmp_path / "ds")
    for subject in ("01", "02"):
        for session in ("a", "b"):
            tree.image(subject, session)
    tree.json("dataset_description.json", {"Name": "test", "BIDSVersion": "1.9.0"})
    return tree


@pytest.fixture
def aged(tree: Tree) -> Tree:
    """Return the same data set with ages."""
    tree.sessions("01", "session_id age", "ses-a 70.5", "ses-b 72")
    tree.sessions("02", "session_id age", "ses-b 61.25", "ses-a 60")
    return tree


def read(dataset: BIDSDataset) -> tuple[dict[str, tuple[float, ...]], list[Finding]]:
    """Return the times of each subject, and the findings, which must not change if the data set is opened again."""
    findings: list[Finding] = []
    subjects = dataset.subjects(findings.append)
    again: list[Finding] = []
    BIDSDataset(**dataset.config).subjects(again.append)
    assert again == findings
    return {subject.id: subject.times for subject in subjects}, findings


# Times


def test_ages_are_years(aged: Tree) -> None:
    dataset = aged.open()
    assert dataset.time_unit == "years"
    assert read(dataset) == ({"sub-01": (70.5, 72.0), "sub-02": (60.0, 61.25)}, [])
    assert dataset.cautions == ()


def test_a_visit_is_the_image_of_its_session(aged: Tree) -> None:
    first = aged.open().subjects()[1].visits[0]
    path = aged.root / "sub-02" / "ses-a" / "anat" / "sub-02_ses-a_T1w.nii.gz"
    assert first.source == str(path)
    assert (first.shape, first.spacing) == ((3, 4, 5), (2.0, 3.0, 4.0))
    volume = pickle.loads(pickle.dumps(first.load))()
    expected = nibabel.Nifti1Image.from_filename(path).get_fdata(dtype=np.float32)
    np.testing.assert_array_equal(volume.data, expected)


def test_it_can_be_pickled(aged: Tree) -> None:
    dataset = pickle.loads(pickle.dumps(aged.open()))
    assert read(dataset) == read(aged.open())


ORDER = [
    ("session_id years months acq_date age days", "ses-{} {y} {m} 200{i}-01-01 7{i}.5 {d}", "days", "days"),
    ("session_id years months acq_date age", "ses-{} {y} {m} 200{i}-01-01 7{i}.5", "age", "years"),
    ("session_id years months age acq_date", "ses-{} {y} {m} 7{i} 200{i}-01-01", "acq_date", "days"),
    ("session_id years months age", "ses-{} {y} {m} 7{i}", "months", "months"),
    ("session_id age years_since_baseline", "ses-{} 7{i} {y}", "years_since_baseline", "years"),
    ("session_id age note", "ses-{} 7{i} 1", "age", "years"),
    ("session_id Weeks_From_First_Visit other", "ses-{} {d} 3", "Weeks_From_First_Visit", "weeks"),
]


@pytest.mark.parametrize(("header", "row", "column", "unit"), ORDER)
def test_the_finest_column_is_used(tree: Tree, header: str, row: str, column: str, unit: str) -> None:
    for subject in ("01", "02"):
        rows = [row.format(s, i=i, y=0.5 * i, m=6 * i, d=182 * i) for i, s in enumerate("ab")]
        tree.sessions(subject, header, *rows)
    dataset = tree.open()
    named = tree.open(time=column)
    assert read(dataset) == read(named)
    assert dataset.time_unit == named.time_unit == unit
    assert len(read(dataset)[0]["sub-01"]) == 2


def test_the_column_of_most_subjects_is_used_for_all(tree: Tree) -> None:
    tree.image("03", "a")
    tree.sessions("01", "session_id age days", "ses-a 70.5 0", "ses-b 72 500")
    tree.sessions("02", "session_id age", "ses-a 60.5", "ses-b 61")
    tree.sessions("03", "session_id days", "ses-a 0")
    times, (finding,) = read(tree.open())
    assert times == {"sub-01": (70.5, 72.0), "sub-02": (60.5, 61.0)}
    assert (finding.kind, finding.subject) == ("no-time", "sub-03")


def test_ages_in_whole_years_are_used_last_and_equal_ones_are_findings(tree: Tree) -> None:
    for subject in ("01", "02"):
        tree.sessions(subject, "session_id age months", "ses-a 70 0", "ses-b 70 6")
    assert tree.open().time_unit == "months"
    dataset = tree.open(time="age")
    times, findings = read(dataset)
    assert times == {"sub-01": (70.0,), "sub-02": (70.0,)}
    assert [finding.kind for finding in findings] == ["duplicate-time"] * 2
    assert "has ses-a and ses-b at the same age, 70 years" in str(findings[0])
    assert "whole years" in dataset.cautions[0]


def test_a_time_is_used_if_its_unit_is_stated_and_there_is_nothing_better(tree: Tree) -> None:
    for subject in ("01", "02"):
        tree.sessions(subject, "session_id time", "ses-a 0.25", "ses-b 0.5")
    with pytest.raises(LongigenError, match=r"columns: time\)"):  # it may be the time of the day
        tree.open()
    tree.json("sessions.json", {"time": {"Units": "cycle"}})
    dataset = tree.open()
    assert read(dataset) == ({"sub-01": (0.25, 0.5), "sub-02": (0.25, 0.5)}, [])
    assert (dataset.time_unit, dataset.subjects()[0].visits[0].covariates) == ("cycle", {})
    for subject in ("01", "02"):
        tree.sessions(subject, "session_id time age", "ses-a 0.25 70", "ses-b 0.5 71")
    assert tree.open().time_unit == "years"
    tree.json("sessions.json", {"time": {"Units": "cycle", "VisitTime": True}})  # as `longigen prepare` writes it
    dataset = tree.open()
    assert (dataset.time_unit, dict(dataset.subjects()[0].visits[1].covariates)) == ("cycle", {"age": 71.0})


def test_dates_are_days_since_the_first_session(tree: Tree) -> None:
    header = "session_id acq_time"
    tree.sessions("01", header, "ses-x 1900-02-27T12:00:00", "ses-a 1900-03-01T12:00:00", "ses-b 1900-03-03T00:00:00")
    tree.sessions("02", header, "ses-b 2020-01-01T01:00:00+01:00", "ses-a 2019-12-31T00:00:00Z")
    dataset = tree.open()
    assert dataset.time_unit == "days"
    # 1900 was not a leap year; ses-x has no image but is the first session; 01:00 at UTC+1 is midnight UTC.
    assert read(dataset) == ({"sub-01": (2.0, 3.5), "sub-02": (0.0, 1.0)}, [])


def test_dates_have_no_other_unit(tree: Tree) -> None:
    tree.sessions("01", "session_id acq_time", "ses-a 2020-01-01", "ses-b 2021-01-01")
    with pytest.raises(LongigenError, match=r"converted to days.*leave out time_unit=years"):
        tree.open(time_unit="years")


def test_scans_tables_are_used_without_sessions_tables(tree: Tree) -> None:
    for subject in ("01", "02"):
        for session, day in (("a", 1), ("b", 11)):
            name = f"sub-{subject}/ses-{session}/sub-{subject}_ses-{session}_scans.tsv"
            rows = f"func/x.nii.gz 2020-01-{day:02}T10:00:00", f"anat/y.nii.gz 2020-01-{day:02}T09:00:00"
            tree.table(name, "filename acq_time", *rows)
    assert read(tree.open()) == ({"sub-01": (0.0, 10.0), "sub-02": (0.0, 10.0)}, [])
    tree.table("sub-02/ses-b/sub-02_ses-b_scans.tsv", "name acq_time", "x y")
    times, (finding,) = read(tree.open())
    assert times["sub-02"] == (0.0,)
    assert finding.kind == "bad-table"
    assert "has no column 'filename' (it has: name, acq_time)" in str(finding)


def test_json_sidecars_of_the_images_are_used_last(tree: Tree) -> None:
    for day, session in enumerate("ab"):
        content = {"AcquisitionDateTime": f"2020-01-0{day + 1}T09:00:00.250000"}
        tree.json(f"sub-01/ses-{session}/anat/sub-01_ses-{session}_T1w.json", content)
    dataset = tree.open()
    times, findings = read(dataset)
    assert (dataset.time_unit, times) == ("days", {"sub-01": (0.0, 1.0)})
    assert [finding.kind for finding in findings] == ["no-time"] * 2
    assert "sub-02_ses-a_T1w.json (subject sub-02) does not exist" in str(findings[0])


def test_the_error_for_missing_times_lists_all_places(tree: Tree) -> None:
    with pytest.raises(LongigenError) as error:
        tree.open()
    for word in ("sub-*_sessions.tsv (there are no columns)", "acq_time", "AcquisitionDateTime", "days_from_baseline"):
        assert word in str(error.value)
    tree.sessions("01", "session_id score", "ses-a 1", "ses-b 2")
    with pytest.raises(LongigenError, match=r"columns: score.*--set time="):
        tree.open()


def test_a_column_can_be_named(aged: Tree) -> None:
    aged.sessions("01", "session_id age wave", "ses-a 70.5 1", "ses-b 72 2")
    aged.sessions("02", "session_id age wave", "ses-a 60 1", "ses-b 61.25 3")
    with pytest.raises(LongigenError, match=r"unit of the column 'wave' is unknown.*--set time_unit="):
        aged.open(time="wave")
    dataset = aged.open(time="wave", time_unit="index")
    assert dataset.time_unit == "index"
    assert read(dataset)[0] == {"sub-01": (1.0, 2.0), "sub-02": (1.0, 3.0)}
    assert set(dataset.subjects()[0].visits[0].covariates) == {"age"}
    with pytest.raises(LongigenError, match=r"no session has a time in 'waves'. Did you mean 'wave'\?"):
        aged.open(time="waves")


@pytest.mark.parametrize(
    ("cell", "kind", "words"),
    [
        ("89+", "bad-time", "has age '89+' for ses-b; write a number"),
        ("n/a", "no-time", "has a missing age for ses-b"),
        (None, "no-time", "has no age for ses-b"),
    ],
)
def test_a_session_without_time_is_left_out(aged: Tree, cell: str | None, kind: str, words: str) -> None:
    rows = ["ses-a 70.5"] if cell is None else ["ses-a 70.5", f"ses-b {cell}"]
    path = aged.sessions("01", "session_id age", *rows)
    times, (finding,) = read(aged.open())
    assert times == {"sub-01": (70.5,), "sub-02": (60.0, 61.25)}
    assert (finding.kind, finding.subject, finding.source) == (kind, "sub-01", str(path))
    assert words in str(finding)
    with pytest.raises(BadData, match="sub-01"):
        aged.open().subjects()


def test_a_missing_table_is_one_finding(aged: Tree) -> None:
    (aged.root / "sub-01" / "sub-01_sessions.tsv").unlink()
    times, (finding,) = read(aged.open())
    assert set(times) == {"sub-02"}
    assert "sub-01_sessions.tsv (subject sub-01) does not exist; create it with the age of each session." in str(
        finding
    )


def test_labels_without_their_prefix_are_understood(tree: Tree) -> None:
    tree.sessions("01", "session_id age", "a 70.5", "b 72")
    tree.table("participants.tsv", "participant_id score", "01 3")
    dataset = tree.open()
    assert read(dataset)[0] == {"sub-01": (70.5, 72.0)}
    assert dataset.subjects(lambda _: None)[0].visits[0].covariates["score"] == 3


# Units


@pytest.mark.parametrize(
    ("written", "unit"),
    [("year", "years"), ("yr", "years"), ("Months", "months"), ("mo", "months"), ("day(s)", "days"), ("w", "weeks")],
)
def test_units_are_those_of_the_json_file(aged: Tree, written: str, unit: str) -> None:
    aged.json("sessions.json", {"age": {"Description": "at scan", "Units": written}})
    assert aged.open().time_unit == unit


def test_the_nearest_json_file_counts(aged: Tree) -> None:
    aged.json("participants.json", {"age": {"Units": "day"}})
    assert aged.open().time_unit == "days"
    aged.json("sessions.json", {"age": {"Units": "week"}})
    assert aged.open().time_unit == "weeks"
    for subject in ("01", "02"):
        aged.json(f"sub-{subject}/sub-{subject}_sessions.json", {"age": {"Units": "month"}})
    assert aged.open().time_unit == "months"
    forced = aged.open(time_unit="years")
    assert forced.time_unit == "years"
    assert "say that 'age' is in months; its numbers are read as years, as time_unit says" in forced.cautions[0]
    aged.json("sub-02/sub-02_sessions.json", {"age": {"Units": "n/a"}})
    with pytest.raises(
        LongigenError, match=r"'age' is in months according to .*sub-01_sessions.json and weeks acc.*/sessions.json"
    ):
        aged.open()


def test_an_unknown_unit_is_refused(aged: Tree) -> None:
    aged.json("sessions.json", {"age": {"Units": "fortnight"}})
    with pytest.raises(LongigenError, match=r"sessions.json, column 'age': there is no time unit 'fortnight'"):
        aged.open()
    with pytest.raises(LongigenError, match=r"no time unit 'year'. Did you mean 'years'"):
        aged.open(time_unit="year")


# Images


def test_several_kinds_need_a_choice(aged: Tree) -> None:
    aged.image("01", "a", "FLAIR")
    aged.image("01", "a", "mask")
    with pytest.raises(
        LongigenError, match=r"several kinds; choose one with --set suffix=. Suffixes: T1w \(4\), FLAIR"
    ):
        aged.open()
    with pytest.raises(LongigenError, match=r"no image 'T2w'. Did you mean 'T1w'\? Suffixes: T1w \(4\)"):
        aged.open(suffix="T2w")
    dataset = aged.open(suffix="FLAIR")
    assert read(dataset) == ({"sub-01": (70.5,)}, [])
    assert "1 of 2 subjects are left out" in dataset.cautions[0]


def test_masks_are_used_only_if_chosen(aged: Tree) -> None:
    aged.image("01", "a", "desc-brain_mask")
    assert len(read(aged.open())[0]) == 2
    assert read(aged.open(suffix="mask"))[0] == {"sub-01": (70.5,)}


def test_several_images_of_a_session_are_ambiguous(aged: Tree) -> None:
    aged.image("01", "a", "acq-spgr_run-01_T1w")
    aged.image("01", "a", "acq-spgr_run-02_T1w")
    times, (finding,) = read(aged.open())
    assert times["sub-01"] == (72.0,)
    assert finding.kind == "ambiguous"
    assert "sub-01_ses-a_acq-spgr_run-02_T1w.nii.gz" in finding.problem
    assert "--set select=acq- or acq-spgr or run- or run-01 or run-02" in finding.advice
    assert read(aged.open(select="acq-"))[1] == []
    assert aged.open(select="acq-spgr,run-2").subjects()[0].visits[0].source.endswith("run-02_T1w.nii.gz")


def test_the_same_image_twice_is_ambiguous(aged: Tree) -> None:
    path = aged.image("01", "a")
    aged.save(path.with_name(path.name.removesuffix(".gz")))
    _, (finding,) = read(aged.open())
    assert (finding.kind, finding.advice) == ("ambiguous", "keep one of them")


def test_the_error_for_an_empty_selection_lists_the_labels(aged: Tree) -> None:
    aged.image("01", "a", "space-MNI152_T1w")
    with pytest.raises(LongigenError, match=r"no T1w image with space-MNI.*Labels: space- \(4\), space-MNI152 \(1\)"):
        aged.open(select="space-MNI")
    with pytest.raises(LongigenError, match=r"select takes ENTITY-LABEL.*got 'space=MNI'"):
        aged.open(select="space=MNI")


def test_derivatives(aged: Tree) -> None:
    for session in "ab":
        for name in ("desc-preproc_T1w", "space-MNI_desc-preproc_T1w", "desc-brain_mask"):
            aged.image("01", session, name, root="derivatives/fmriprep")
    dataset = aged.open(derivatives="fmriprep", select="desc-preproc,space-MNI")
    assert read(dataset) == ({"sub-01": (70.5, 72.0)}, [])
    assert "/derivatives/fmriprep/sub-01/ses-a/anat/sub-01_ses-a_space-MNI_" in dataset.subjects()[0].visits[0].source
    assert [finding.kind for finding in read(aged.open(derivatives="fmriprep"))[1]] == ["ambiguous"] * 2
    with pytest.raises(LongigenError, match=r"no folder 'fmripre'. Did you mean 'fmriprep'\?"):
        aged.open(derivatives="fmripre")
    with pytest.raises(LongigenError, match=r"give the data set itself as path \(.*ds\) and derivatives=fmriprep"):
        BIDSDataset(path=aged.root / "derivatives" / "fmriprep", select=("space-MNI",))


def test_an_image_with_the_name_of_another_session_is_a_finding(aged: Tree) -> None:
    folder = aged.root / "sub-01" / "ses-b" / "anat"
    (folder / "sub-01_ses-b_T1w.nii.gz").rename(folder / "sub-01_ses-a_T1w.nii.gz")
    times, (finding,) = read(aged.open())
    assert times["sub-01"] == (70.5,)
    assert finding.kind == "misnamed"
    assert "does not start with sub-01_ses-b_" in str(finding)


def test_labels_that_bids_does_not_allow_are_distinguished(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    for subject in ("002_S_0295", "002_S_0413"):
        tree.image(subject, "M-00", "acq-x_T1w")
        tree.sessions(subject, "session_id age", "ses-M-00 70.5")
    assert read(tree.open(select="acq-x")) == ({"sub-002_S_0295": (70.5,), "sub-002_S_0413": (70.5,)}, [])


def test_content_that_was_not_fetched(aged: Tree) -> None:
    link = aged.root / "sub-01" / "ses-a" / "anat" / "sub-01_ses-a_T1w.nii.gz"
    link.unlink()
    link.symlink_to("../../../.git/annex/objects/aa/bb/MD5E-s1--c.nii.gz")
    unlocked = aged.root / "sub-02" / "ses-a" / "anat" / "sub-02_ses-a_T1w.nii.gz"
    unlocked.write_text("/annex/objects/MD5E-s1--c.nii.gz\n")
    times, findings = read(aged.open())
    assert times == {"sub-01": (72.0,), "sub-02": (61.25,)}
    assert [finding.kind for finding in findings] == ["missing-file"] * 2
    assert [finding.source for finding in findings] == [str(link), str(unlocked)]
    assert f"`datalad get {link}` or `git annex get" in findings[0].advice


def test_a_table_that_was_not_fetched(aged: Tree) -> None:
    path = aged.root / "sub-01" / "sub-01_sessions.tsv"
    path.unlink()
    path.symlink_to("nowhere")
    _, (finding,) = read(aged.open())
    assert (finding.kind, finding.subject, finding.source) == ("missing-file", "sub-01", str(path))


def test_a_bad_image_is_a_finding(aged: Tree) -> None:
    path = aged.image("01", "a")
    path.write_bytes(b"")
    aged.save(aged.image("02", "a"), 3, 4, 5, 2)
    times, findings = read(aged.open())
    assert times == {"sub-01": (72.0,), "sub-02": (61.25,)}
    assert [(finding.kind, finding.subject) for finding in findings] == [
        ("unreadable", "sub-01"),
        ("dimensions", "sub-02"),
    ]


def test_sessions_without_an_image_and_images_outside_sessions_are_not_visits(aged: Tree) -> None:
    aged.sessions("01", "session_id age", "ses-a 70.5", "ses-b 72", "ses-c 73")
    aged.image("01", "d", "bold", folder="func")
    aged.save(aged.root / "sub-01" / "anat" / "sub-01_desc-average_T1w.nii.gz")
    aged.save(aged.root / "derivatives" / "x" / "sub-01" / "sub-01_mask.nii.gz")
    assert read(aged.open()) == ({"sub-01": (70.5, 72.0), "sub-02": (60.0, 61.25)}, [])


# What cannot be read


def test_a_data_set_without_sessions(tmp_path: Path) -> None:
    Tree.save(tmp_path / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    with pytest.raises(LongigenError, match=r"has 1 images in sub-\*/anat and none in a session"):
        BIDSDataset(path=tmp_path)
    with pytest.raises(LongigenError, match=r"has no folder in any sub-\*/ses-\*"):
        BIDSDataset(path=tmp_path, datatype="pet")


def test_another_folder_of_images(aged: Tree) -> None:
    with pytest.raises(LongigenError, match=r"pet holds no image; choose .*datatype=. Folders: anat \(4\)"):
        aged.open(datatype="pet")


def test_the_error_for_a_wrong_path_suggests_another(aged: Tree) -> None:
    with pytest.raises(LongigenError, match="is not a folder"):
        BIDSDataset(path=aged.root / "nowhere")
    for below in ("sub-01", "sub-01/ses-a"):
        with pytest.raises(LongigenError, match=f"holds no sub-.*; give the data set's own folder, {aged.root}"):
            BIDSDataset(path=aged.root / below)
    with pytest.raises(LongigenError, match=rf"did you mean {aged.root}\?"):
        BIDSDataset(path=aged.root.parent)


def test_claims(aged: Tree, tmp_path: Path) -> None:
    assert BIDSDataset.claims(aged.root)
    (aged.root / "dataset_description.json").unlink()
    assert BIDSDataset.claims(aged.root)
    assert not BIDSDataset.claims(aged.root / "sub-01")
    assert not BIDSDataset.claims(aged.root / "sub-01" / "sub-01_sessions.tsv")
    assert not BIDSDataset.claims(tmp_path)


# Tables


def test_covariates(aged: Tree) -> None:
    aged.table(
        "participants.tsv",
        "participant_id age sex group site_id enrolled split",
        "sub-01 50 F MCI 3 2020-01-01 n/a",
        "sub-02 51 M n/a 4 2020-01-02 n/a",
        "sub-99 52 O AD 4 2020-01-03 n/a",
    )
    aged.sessions("02", "session_id age mmse drug", "ses-a 60 n/a yes", "ses-b 61.25 28 no")
    dataset = aged.open()
    assert dataset.levels == {"sex": ("F", "M", "O"), "group": ("AD", "MCI"), "drug": ("no", "yes")}
    one, two = dataset.subjects()
    assert one.visits[0].covariates == {"age": 70.5, "sex": 0, "group": 1}
    assert two.visits[0].covariates == {"age": 60, "sex": 1, "drug": 1}
    assert two.visits[1].covariates == {"age": 61.25, "sex": 1, "drug": 0, "mmse": 28}


def test_text_in_a_numeric_column_counts_as_missing(aged: Tree) -> None:
    aged.table("participants.tsv", "participant_id iq", "sub-01 110", "sub-02 refused")
    dataset = aged.open()
    one, two = dataset.subjects()
    assert one.visits[0].covariates["iq"] == 110
    assert "iq" not in two.visits[0].covariates
    assert dataset.cautions == ("The column 'iq' has numbers, so text in it counts as missing: refused.",)


@pytest.mark.parametrize(
    ("word", "part"),
    [("train", "train"), ("Training", "train"), ("val", "validation"), ("testing", "test"), ("n/a", None)],
)
def test_the_split_of_the_participants(aged: Tree, word: str, part: str | None) -> None:
    aged.table("participants.tsv", "participant_id split", f"sub-01 {word}")
    assert [subject.part for subject in aged.open().subjects()] == [part, None]


def test_an_unknown_split(aged: Tree) -> None:
    aged.table("participants.tsv", "participant_id split", "sub-01 holdout", "sub-02 test")
    times, (finding,) = read(aged.open())
    assert set(times) == {"sub-02"}
    assert (finding.kind, finding.subject) == ("bad-split", "sub-01")


def test_repeated_rows(aged: Tree) -> None:
    aged.table("participants.tsv", "participant_id score", "sub-01 1", "sub-01 2")
    aged.sessions("02", "session_id age", "ses-a 60", "ses-b 61", "ses-b 62")
    times, findings = read(aged.open())
    assert times == {"sub-02": (60.0,)}
    assert [(finding.kind, finding.subject) for finding in findings] == [
        ("repeated-row", "sub-01"),
        ("repeated-row", "sub-02"),
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"session_id,age\nses-a,70\n", "has columns that are separated by commas"),
        (b"", "has no column 'session_id' (it is empty)"),
        (b"session_id\tage\nses-a\t70\t3\n", "sessions.tsv, line 2 (subject sub-01) has 3 cells"),
        (b"session_id\tage\tage\nses-a\t70\t3\n", "has two columns 'age'"),
        (b"session_id\tage\nses-\xe9\t70\n", "cannot be read"),
    ],
)
def test_a_table_that_cannot_be_read(aged: Tree, content: bytes, words: str) -> None:
    (aged.root / "sub-01" / "sub-01_sessions.tsv").write_bytes(content)
    times, (finding,) = read(aged.open())
    assert set(times) == {"sub-02"}
    assert finding.kind == "bad-table"
    assert words in str(finding)
    aged.sessions("02", "session_id age").write_bytes(content)
    with pytest.raises(BadData, match=r"sub-01"):
        aged.open()


def test_json_that_cannot_be_read(aged: Tree) -> None:
    (aged.root / "sub-01" / "sub-01_sessions.json").write_text("{oops")
    times, (finding,) = read(aged.open())
    assert set(times) == {"sub-02"}
    assert (finding.kind, finding.subject) == ("bad-json", "sub-01")
    aged.json("sessions.json", ["age"])
    with pytest.raises(BadData, match=r"sessions.json is not a JSON object"):
        aged.open()


# Others


def test_the_real_data(shared: Path) -> None:
    dataset = BIDSDataset(path=shared / "ms_bids")
    assert dataset.time_unit == "days"
    one, two = dataset.subjects()
    assert (one.id, one.times, one.part) == ("sub-01", (0.0, 203.0), None)
    assert (two.id, two.times) == ("sub-12", (0.0, 81.0))
    assert dataset.levels == {"sex": ("F", "M")}
    assert one.visits[1].covariates == {"age": 20.56, "sex": 0, "days_between": 203}
    assert all(visit.source.endswith("_FLAIR.nii.gz") for visit in (*one.visits, *two.visits))
    assert one.visits[0].load().data.shape == one.visits[0].shape
    with pytest.raises(LongigenError, match="no folder in any sub-"):
        BIDSDataset(path=shared / "ms_bids", derivatives="change")


def test_the_command_line_checks_it(aged: Tree, longigen: Callable[..., Any]) -> None:
    result = longigen("check", "bids", "--set", f"path={aged.root}", "--set", "select=run-,acq-")
    assert "{0} of {0} checks passed".format(len(CHECKS["dataset"])) in result.stdout


@pytest.mark.filterwarnings("ignore")
def test_pybids_finds_the_same_images(aged: Tree) -> None:
    layout: Callable[..., Any] = pytest.importorskip("bids", reason="pybids is not installed").BIDSLayout
    aged.image("01", "a", "acq-spgr_run-01_T1w")
    aged.image("02", "b", "ce-gd_FLAIR")
    aged.image("02", "b", "task-rest_bold", folder="func")
    aged.save(aged.root / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    theirs = {
        (f"sub-{file.entities['subject']}", f"ses-{file.entities['session']}", str(file.path))
        for file in layout(aged.root, validate=False).get(suffix="T1w", datatype="anat", extension=".nii.gz")
        if "session" in file.entities
    }
    listing = list_images(aged.root, "anat")
    ours = {(i.subject, i.session, str(i.path)) for i in listing.images if i.suffix == "T1w"}
    assert ours == theirs
    assert len(ours) == 5


# What is said, and what leads out


def test_the_time_of_an_image_is_that_of_its_own_row(tree: Tree) -> None:
    for subject in ("01", "02"):
        for session, day in (("a", 10), ("b", 20)):
            name = f"sub-{subject}/ses-{session}/sub-{subject}_ses-{session}"
            own = f"anat/sub-{subject}_ses-{session}_T1w.nii.gz 2020-01-{day}"
            tree.table(f"{name}_scans.tsv", "filename acq_time", f"pet/x_pet.nii.gz 2020-01-0{day // 10}", own)
    dataset = tree.open()
    assert read(dataset)[0] == {"sub-01": (0.0, 10.0), "sub-02": (0.0, 10.0)}
    assert not dataset.cautions
    tree.table("sub-01/ses-b/sub-01_ses-b_scans.tsv", "filename acq_time", "pet/x_pet.nii.gz 2020-01-12")
    dataset = tree.open()
    assert read(dataset)[0]["sub-01"] == (0.0, 2.0)
    assert dataset.cautions[0].startswith("*_scans.tsv of 1 sessions has no row of the image")


def test_a_selected_run_keeps_sessions_with_one_image(aged: Tree) -> None:
    path = aged.image("01", "a")
    aged.save(path.with_name("sub-01_ses-a_run-2_T1w.nii.gz"))
    path.replace(path.with_name("sub-01_ses-a_run-1_T1w.nii.gz"))
    dataset = aged.open(select="run-2")
    assert read(dataset)[0] == {"sub-01": (70.5, 72.0), "sub-02": (60.0, 61.25)}
    assert dataset.subjects()[0].visits[0].source.endswith("run-2_T1w.nii.gz")
    assert not dataset.cautions


def test_sessions_that_a_selection_loses_are_counted(aged: Tree) -> None:
    aged.image("01", "a", "acq-spgr_T1w")
    cautions = aged.open(select="acq-spgr").cautions
    assert "3 of 4 sessions are left out, since none of their T1w images is selected by select=acq-spgr." in cautions


def test_a_named_column_without_times_is_not_mistaken_for_a_typing_error(aged: Tree) -> None:
    aged.sessions("01", "session_id age acq_time", "ses-a 70.5 soon", "ses-b 72 later")
    with pytest.raises(LongigenError, match=r"no session has a time in 'acq_time'\. Its cells, such as 'soon', are no"):
        aged.open(time="acq_time")
    with pytest.raises(LongigenError, match=r"'acq_tme'\. Did you mean 'acq_time'"):
        aged.open(time="acq_tme")


def test_labels_that_are_dates_are_the_last_resort(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "ds")
    for session in ("20150924", "20151004"):
        tree.image("01", session)
    dataset = tree.open()
    assert (dataset.time_unit, read(dataset)[0]) == ("days", {"sub-01": (0.0, 10.0)})
    assert "dates in the labels of the sessions, such as ses-20150924" in dataset.cautions[0]
    tree.image("01", "baseline")
    with pytest.raises(LongigenError, match="has no times of its sessions"):
        tree.open()


def test_participants_with_a_row_per_session(tree: Tree) -> None:
    rows = [f"sub-{s} {k} {60 + i} {'F' if s == '01' else 'M'} test" for s in ("01", "02") for i, k in enumerate("ab")]
    tree.table("participants.tsv", "participant_id session age sex split", *rows)
    tree.json("participants.json", {"age": {"Units": "months"}})
    dataset = tree.open()
    assert read(dataset) == ({"sub-01": (60.0, 61.0), "sub-02": (60.0, 61.0)}, [])
    assert (dataset.time_unit, dataset.covariate_units) == ("months", {"age": "months"})
    assert [subject.part for subject in dataset.subjects()] == ["test", "test"]
    assert dataset.subjects()[1].visits[1].covariates == {"age": 61.0, "sex": 1.0}
    assert dataset.cautions[0].startswith("participants.tsv has a row per session")
    tree.table("participants.tsv", "participant_id session age sex split", rows[0], rows[1].replace("test", "train"))
    assert [finding.kind for finding in read(tree.open())[1]] == ["repeated-row", "no-time"]


def test_ages_whose_unit_is_known_are_plausible(aged: Tree, longigen: Callable[..., Any]) -> None:
    aged.sessions("01", "session_id days age", "ses-a 0 840", "ses-b 365 852")
    aged.sessions("02", "session_id days age", "ses-a 0 720", "ses-b 365 732")
    assert "age-unit" in longigen("doctor", aged.root, "--json", status=1).stdout  # of two subjects none can be split
    aged.json("participants.json", {"age": {"Units": "months"}})
    assert "age-unit" not in longigen("doctor", aged.root, "--json", status=1).stdout


def test_numbers_with_a_decimal_comma_are_named(aged: Tree) -> None:
    aged.sessions("01", "session_id age dose", "ses-a 70,5 0,5", "ses-b 72 1,5")
    dataset = aged.open()
    _, (finding,) = read(dataset)
    assert finding.kind == "bad-time"
    assert finding.advice == "write 70.5 with a decimal point, or n/a to leave the session out"
    assert "text in it counts as missing: 0,5, 1,5" in "".join(dataset.cautions)
