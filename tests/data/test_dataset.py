"""Subjects of files, and one subject of a data set."""

from pathlib import Path

import pytest

import longigen
from helpers.files import ball, write_image
from longigen import LongigenError, Subject


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return [write_image(tmp_path / f"year{year}.nii.gz", ball((6, 5, 4), 0.5)) for year in (0, 1)]


def test_visits_are_put_in_order_of_time(paths: list[Path]) -> None:
    subject = Subject.from_files(paths, [1.0, 0.0], id="ward-7")
    assert (subject.id, subject.times, subject.time_unit) == ("ward-7", (0.0, 1.0), "years")
    assert [Path(visit.source).name for visit in subject.visits] == ["year1.nii.gz", "year0.nii.gz"]
    assert subject.visits[0].shape == (6, 5, 4)
    assert subject.visits[0].spacing == (2.0, 2.0, 2.0)


def test_one_path_is_one_visit(paths: list[Path]) -> None:
    assert Subject.from_files(str(paths[0]), [3.5]).times == (3.5,)
    assert Subject.from_files(paths[0], [3.5]).id == "year0"


def test_a_subject_of_a_data_set_says_its_unit() -> None:
    hearts = longigen.open_dataset("sim-heart", subject_count=3)
    subject = hearts.subject("heart-0001")
    assert (subject.id, subject.time_unit) == ("heart-0001", hearts.time_unit)
    with pytest.raises(LongigenError, match=r"no subject 'heart-001'\. Did you mean 'heart-0001'"):
        hearts.subject("heart-001")
