"""A session: which subjects, which tasks and which times, and what does not fit the model."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from helpers.files import write_image
from helpers.models import FIXTURE
from longigen import LongigenError, LongigenWarning
from longigen.generation.session import GenerationSession
from longigen.models.predict import GenerationSettings


@pytest.fixture(scope="module")
def session(manifest: Path) -> GenerationSession:
    return GenerationSession.open(str(FIXTURE), data=str(manifest), ids=["s0", "s1"])


def test_tasks_are_those_of_every_subject(session: GenerationSession) -> None:
    single = session.tasks("single", seed=0)
    assert [(prepared.subject.id, task.given, task.targets) for prepared, task in single] == [
        ("s0", (0,), (1, 2, 3)),
        ("s1", (0,), (1, 2, 3)),
    ]
    assert len(session.tasks("full", seed=0)) == 2 * 3


def test_times_of_choice_count_from_the_last_visit(session: GenerationSession) -> None:
    tasks, times = session.tasks_at(["+1", "5"], "single", seed=0)
    assert [task.given for _, task in tasks] == [(0,), (0,)]
    assert times == [[4.3, 5.0]] * 2  # the last visit is at 3.3
    with pytest.raises(LongigenError, match=r"Time 1\.1 cannot be generated for subject s0"):
        session.tasks_at(["1.1"], "full", seed=0)
    assert session.tasks_at(["1.1"], "single", seed=0)[1] == [[1.1], [1.1]]
    with pytest.raises(LongigenError, match=r"The time 1e\+300 of subject s0 is larger than a model reads, 1e\+18; "):
        session.tasks_at(["1e300"], "full", seed=0)


def test_times_in_another_unit_are_those_of_the_user(manifest: Path, session: GenerationSession) -> None:
    with pytest.warns(
        LongigenWarning, match=r"in weeks and are converted to the model's years, where 1 year is 52\.1786"
    ):
        weeks = GenerationSession.open(str(FIXTURE), data=str(manifest), changes=["time_unit=weeks"], ids=["s0"])
    tasks, times = weeks.tasks_at(["+1"], "full", seed=0)
    assert times == [[4.3]]
    (generated,) = weeks.generate(tasks, GenerationSettings(steps=1), times=times)
    assert generated.times == (4.3,)
    assert generated.model_times == [pytest.approx(4.3 * 7 / 365.25)]
    assert weeks.record("full", GenerationSettings()).time_unit == "weeks"


def test_frames_are_no_years(tmp_path: Path) -> None:
    series = write_image(tmp_path / "cine.nii.gz", np.random.default_rng(0).random((8, 8, 6, 3), np.float32))
    with pytest.raises(LongigenError, match="in frames and the model's in years, which cannot be converted"):
        GenerationSession.open(str(FIXTURE), data=str(series))


def test_visits_come_in_the_order_of_the_tasks_whatever_the_batch(session: GenerationSession) -> None:
    settings, tasks = GenerationSettings(steps=1), session.tasks("single", seed=0)
    done: list[tuple[int, int]] = []
    one = list(session.generate(tasks, settings, batch_size=1, callback=lambda *progress: done.append(progress)))
    two = list(session.generate(tasks, settings, batch_size=2))
    assert done == [(1, 2), (2, 2)]
    assert [each.prepared.subject.id for each in one] == ["s0", "s1"]
    for alone, together in zip(one, two, strict=True):
        assert (alone.images - together.images).abs().max() < 1e-4


def test_samples_of_a_task_come_together_whatever_the_batch(session: GenerationSession) -> None:
    settings, tasks = GenerationSettings(steps=2), session.tasks("single", seed=0)
    drawn = {size: list(session.generate(tasks, settings, samples=3, batch_size=size)) for size in (1, 4)}
    assert [each.prepared.subject.id for each in drawn[4]] == ["s0"] * 3 + ["s1"] * 3
    for alone, together in zip(drawn[1], drawn[4], strict=True):
        assert (alone.images - together.images).abs().max() < 1e-4
    assert (drawn[4][0].images - drawn[4][1].images).abs().max() > 1e-2


def test_a_record_says_how_visits_were_generated(session: GenerationSession) -> None:
    record = session.record("single", GenerationSettings(steps=3, guidance=0.5, seed=7))
    assert (record.steps, record.guidance, record.seed, record.scenario) == (3, 0.5, 7, "single")
    assert (record.time_unit, record.simulated) == ("years", False)


def test_a_sidecar_says_in_which_order_visits_were_generated(session: GenerationSession) -> None:
    tasks = session.tasks("single", seed=0)[:1]
    for order, before in (("direct", []), ("autoregressive", [1.1, 2.2]), (None, [1.1, 2.2])):
        settings = GenerationSettings(steps=1, order=order)  # type: ignore[arg-type]
        (generated,) = session.generate(tasks, settings)
        volume = generated.volume(generated.times.index(3.3))
        sidecar = session.record("single", settings).sidecar(generated, 3.3, volume)
        assert sidecar["order"] == (order or "autoregressive")  # a model of earlier versions has no order of its own
        assert sidecar["generated_before"] == pytest.approx(before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ids": ["s99"]}, "no subject 's99'"),
        ({"part": "test"}, "no part 'test'|has no part"),
        ({"changes": ["time_unit=frames"]}, "in frames and the model's in years, which cannot be converted"),
        ({"changes": ["preprocess.spacing=1,1,1"]}, r"preprocess has no 'spacing'.* It has: shape, extent"),
    ],
)
def test_what_does_not_fit_is_refused(manifest: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(LongigenError, match=message) as caught:
        GenerationSession.open(str(FIXTURE), data=str(manifest), **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_real_head_is_not_cut_to_a_small_box(shared: Path, tmp_path: Path) -> None:
    """It is put on the 4 mm that the model was trained at; the neck, outside of its box, is refused or covered."""
    head = shared / "ixi" / "IXI012-HH-1211-T1_ds.nii.gz"
    table = tmp_path / "visits.csv"
    image = nib.Nifti1Image.from_filename(head)
    later = image.get_fdata()
    later[0, 0, 0] += 1
    nib.Nifti1Image(later, image.affine).to_filename(tmp_path / "later.nii.gz")
    table.write_text(f"subject,time,path\nhead,0,{head}\nhead,1,later.nii.gz\n")
    with pytest.warns(LongigenWarning) as caught:
        own = GenerationSession.open("sadm-sim-brain", data=str(table))
    said = " ".join(str(warning.message) for warning in caught)
    assert "trained on voxels of 4 × 4 × 4 mm, so visits are resampled to that from 2 × 2 × 2 mm of head" in said
    assert "trained on simulated images only" in said
    with pytest.raises(LongigenError, match="11% of the foreground of subject head lies outside the model's grid of"):
        own.check_box()
    whole = GenerationSession.open("sadm-sim-brain", data=str(table), changes=["preprocess.shape=0,0,0"])
    whole.check_box()
    (prepared,) = whole.subjects
    assert (prepared.outside, prepared.placement.shape) == (0.0, (45, 60, 60))
