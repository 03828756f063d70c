"""Names of BIDS: labels of subjects and times, and what the names of files say."""

import pytest

from longigen.models.bids_names import entity, guessed_suffix, stated_suffix, subject_labels, time_label


def test_labels_are_unique_letters_and_digits() -> None:
    ids = ["sub-01", "01", "patient_001", "patient-001", "S1", "s1", "Zoë", "患者"]
    subjects = [*((name, "scan.nii.gz") for name in ids), ("baseline", "/data/sub-7_ses-1_T1w.nii.gz")]
    labels = subject_labels(subjects)
    assert labels == subject_labels(reversed(subjects))  # whatever the order of the data set
    assert labels == {
        "sub-01": "01", "01": "01x2", "patient-001": "patient001", "patient_001": "patient001x2",
        "S1": "S1", "s1": "s1x2", "Zoë": "Zoe", "患者": "subject", "baseline": "7",
    }  # fmt: skip


def test_different_times_have_different_labels() -> None:
    times = [0.0, 1.0, 1.1, 11.0, -1.1, 1e-7, 1e7, 2.0001e7, 0.1 + 0.2, 0.3]
    assert time_label(3.5, "years") == "3p5years"
    labels = [time_label(time, "days") for time in times]
    assert len(set(labels)) == len(times)
    assert all(label.isalnum() and label.isascii() for label in labels)


@pytest.mark.parametrize(
    ("source", "session", "stated", "guessed"),
    [
        ("/data/sub-01_ses-M12_acq-x_FLAIR.nii.gz", "M12", "FLAIR", "FLAIR"),
        ("sub-002_S_0295_ses-1_T1w.nii", "1", "T1w", "T1w"),
        ("IXI012-HH-1211-T1_ds.nii.gz", None, None, "T1w"),
        ("scan_t2.nii.gz", None, None, "T2w"),
        ("patient001_4d.nii.gz, frame 3", None, None, None),
        ("sim-brain sim-0001 visit 2 (simulated)", None, None, None),
        ("sub-01_ses-a_task-rest_bold.nii.gz", "a", None, None),
    ],
)
def test_what_a_files_name_says(source: str, session: str | None, stated: str | None, guessed: str | None) -> None:
    assert (entity(source, "ses"), stated_suffix(source), guessed_suffix(source)) == (session, stated, guessed)
