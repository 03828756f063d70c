"""Files of data sets that never end, a pipe or a device, and JSON that is nested without an end: each is a sentence."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helpers.files import ball, write_image
from longigen import BadData, LongigenError, open_dataset
from longigen.data.volume import read_volume

DEEP = "[" * 100_000


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def device(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def deep(path: Path) -> None:
    path.write_text(DEEP)


def csv(folder: Path) -> Path:
    write_image(folder / "a.nii.gz", ball((8, 8, 8), 0.5))
    (folder / "visits.csv").write_text("subject,time,path\ns,0,a.nii.gz\ns,1,a.nii.gz\n")
    return folder / "visits.csv"


def bids(folder: Path) -> Path:
    for session in ("ses-1", "ses-2"):
        write_image(folder / "sub-1" / session / "anat" / f"sub-1_{session}_T1w.nii.gz", ball((8, 8, 8), 0.5))
    (folder / "sub-1" / "sub-1_sessions.tsv").write_text("session_id\tage\nses-1\t60\nses-2\t61\n")
    (folder / "participants.tsv").write_text("participant_id\tsex\nsub-1\tF\n")
    (folder / "participants.json").write_text('{"sex": {}}')
    return folder


def series(folder: Path) -> Path:
    write_image(folder / "s.nii.gz", np.stack([ball((8, 8, 8), 0.5)] * 3, axis=-1))
    (folder / "s.json").write_text('{"RepetitionTime": 1.0}')
    return folder


@pytest.mark.parametrize("damage", [pipe, device])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mgz"])
def test_an_image(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(tmp_path / name)
    with pytest.raises(BadData, match=r"cannot be opened as an image .it is not a regular file"):
        read_volume(tmp_path / name, "s")


@pytest.mark.parametrize("damage", [pipe, device, deep])
@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        (csv, "visits.csv"),
        (bids, "participants.tsv"),
        (bids, "participants.json"),
        (bids, "sub-1/sub-1_sessions.tsv"),
        (series, "s.json"),
    ],
)
def test_a_table_or_a_sidecar(
    tmp_path: Path, dataset: Callable[[Path], Path], name: str, damage: Callable[[Path], None]
) -> None:
    path = dataset(tmp_path)
    open_dataset(path)
    damage(tmp_path / name)
    with pytest.raises(LongigenError):
        open_dataset(path).subjects()
