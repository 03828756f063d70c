"""The layout of BIDS: names of visits and volumes, without generating any."""

from pathlib import Path

import pytest

from helpers.files import visit_of
from longigen import Subject, Visit
from longigen.models.bids_layout import BIDSLayout
from longigen.models.visit_files import GenerationRecord


@pytest.fixture
def record() -> GenerationRecord:
    return GenerationRecord(
        time_unit="days", model_time_unit="days", simulated=None, causal=True, scenario="full", seed=0, sampler=None,
        steps=1, guidance=0.0, guidance_interval=None, order="direct", precision="fp32", model={"weights_sha256": "0"},
    )  # fmt: skip


def layout_of(record: GenerationRecord, *sources: str, id: str = "s") -> tuple[BIDSLayout, Subject]:  # noqa: A002
    visits = tuple(visit_of(lambda: pytest.fail("read"), time=float(n), source=text) for n, text in enumerate(sources))
    subject = Subject(id, visits)
    return BIDSLayout(Path("made"), record, [subject], "csv"), subject


def test_entities_are_in_the_order_of_bids(record: GenerationRecord) -> None:
    source = "sub-01_ses-a_rec-norm_acq-x_ce-gd_run-3_space-MNI_res-2_desc-preproc_T2w.nii.gz"
    layout, subject = layout_of(record, source, id="sub-01")
    assert layout.notes == (
        "It is not recorded whether images are skull-stripped; SkullStripped, which BIDS requires, is false.",
    )
    start = "made/sub-01/ses-a/anat/sub-01_ses-a_acq-x_ce-gd_rec-norm"
    one, mean = layout.volume(subject, 0.0, 0, 1), layout.volume(subject, 0.0, "mean", 2)
    assert one.as_posix() == f"{start}_space-MNI_desc-synthetic_T2w.nii.gz"
    assert mean.as_posix() == f"{start}_space-MNI_desc-mean_T2w.nii.gz"
    assert layout.explanation(one).as_posix() == (
        "made/sub-01/ses-a/explain/sub-01_ses-a_acq-x_ce-gd_rec-norm_space-MNI_desc-synthetic_T2w_explain.nii.gz"
    )
    assert layout.volume(subject, 0.0, 1, 2).as_posix() == f"{start}_run-2_space-MNI_desc-synthetic_T2w.nii.gz"


def test_a_visit_has_the_label_of_its_time_unless_its_file_has_one_of_its_own(record: GenerationRecord) -> None:
    def sessions(*sources: str) -> list[str]:
        layout, subject = layout_of(record, *sources)
        return [layout.volume(subject, time, 0, 1).parents[1].name for time in (0.0, 1.0, 2.5)]

    assert sessions("sub-1_ses-a_T1w.nii", "sub-1_ses-b_T1w.nii") == ["ses-a", "ses-b", "ses-2p5days"]
    assert sessions("sub-1_ses-a_bold.nii, frame 0", "sub-1_ses-a_bold.nii, frame 1") == [
        "ses-0days", "ses-1days", "ses-2p5days",
    ]  # fmt: skip
    assert sessions("sub-1_ses-2p5days_T1w.nii", "b.nii") == ["ses-2p5days", "ses-1days", "ses-t2p5days"]


def test_a_guess_is_said(record: GenerationRecord) -> None:
    note, _ = layout_of(record, "scan-T1.nii.gz")[0].notes
    assert note.startswith("The images are named T1w, as scan-T1.nii.gz suggests")


def test_channels_have_their_own_suffixes_and_those_with_one_their_names(record: GenerationRecord) -> None:
    def names(sources: dict[str, str]) -> list[str]:
        images = {name: visit_of(lambda: pytest.fail("read"), source=text) for name, text in sources.items()}
        subject = Subject("s", (Visit.of_channels(images, subject="s"),))
        layout = BIDSLayout(Path("made"), record, [subject], "csv")
        return [layout.volume(subject.of_channel(name), 1.0, 0, 1).name for name in sources]

    start = "sub-s_ses-1days"
    assert names({"T1w": "sub-s_ses-a_T1w.nii.gz", "FLAIR": "sub-s_ses-a_FLAIR.nii.gz"}) == [
        f"{start}_desc-synthetic_{suffix}.nii.gz" for suffix in ("T1w", "FLAIR")
    ]
    assert names({"t1": "a.nii", "t1ce": "b.nii", "flair": "c.nii"}) == [
        f"{start}_{name}.nii.gz" for name in ("acq-t1_desc-synthetic_T1w", "acq-t1ce_desc-synthetic_T1w")
    ] + [f"{start}_desc-synthetic_FLAIR.nii.gz"]
