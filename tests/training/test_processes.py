"""Training in several processes: the same curve, batches that they share, and runs that go on in another number."""

import shutil
from pathlib import Path

import pytest

from helpers.launch import together, torchrun
from helpers.trainings import SMALL, lines, trainer
from longigen import LongigenError, TrainingSettings
from longigen.training.checkpoint import Trained
from longigen.training.run import Run

LENGTH = ("training.steps=6", "training.batch_size=4", "checkpoint_every=2")
SETS = [word for change in (*SMALL, *LENGTH) for word in ("--set", change)]


def assert_same(one: Path, other: Path) -> None:
    """Check that a run has the curve of another one, but for rounding.

    Not its weights: where the gradient is 0 but for rounding, as in a bias before a normalisation, Adam makes steps.
    """
    logged = {line["step"]: line for line in lines(other)}
    for line in lines(one):
        names = line.keys() - {"steps_per_second"}
        assert {name: logged[line["step"]][name] for name in names} == pytest.approx(
            {name: line[name] for name in names}, rel=1e-4
        )


def stop_after_three(step: int, metrics: dict[str, float]) -> None:
    if step == 3:
        raise RuntimeError


def test_batches_that_processes_cannot_share() -> None:
    assert TrainingSettings(batch_size=6).batch_of(3) == 2
    with pytest.raises(LongigenError, match=r"batch_size is 6, .* 4 processes .* training\.batch_size=8"):
        TrainingSettings(batch_size=6).batch_of(4)


def test_a_run_goes_on_in_another_number_of_processes(manifest: Path, tmp_path: Path) -> None:
    """One, then two, then one process give the curve of one."""
    whole, changing = tmp_path / "whole", tmp_path / "changing"
    trainer(manifest, whole, *LENGTH).fit()
    with pytest.raises(RuntimeError):
        trainer(manifest, changing, *LENGTH).fit(stop_after_three)
    printed = together(2, "train", "--resume", "--out", changing, folder=tmp_path)
    for sentence in (
        "trained in 1 processes and goes on in 2; a batch has the same 4 pairs as before.",
        "2 processes; 4 pairs in a step, of which each process has 1 in 2",
        "next: longigen evaluate",
    ):
        assert printed.count(sentence) == 1, printed
    shutil.rmtree(Run(changing).checkpoints()[-1])  # as if it was killed after step 4
    with pytest.warns(UserWarning, match="trained in 2 processes and goes on in 1"):
        last = trainer(manifest, changing, resume=True)
    assert last.step == 4
    last.fit()
    assert [line["step"] for line in lines(changing)] == [1, 3, 5, 6]
    assert_same(whole, changing)


def test_a_checkpoint_of_an_earlier_version_is_said(manifest: Path, tmp_path: Path) -> None:
    """There, each process had as many pairs as the recipe says."""
    training = trainer(manifest, tmp_path / "run", *LENGTH)
    with pytest.warns(
        UserWarning, match="a batch has 4 pairs where it had 8, since training.batch_size is now that of"
    ):
        training._say_processes(Trained(step=2, seconds=1.0, processes=2))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        ("training.gradient_accumulation=2",),
        ("training.own_visits=0.5",),
        ("--denoiser", "gan", "training.gradient_accumulation=2"),
        ("--sampler", "ddpm"),
    ],
)
def test_torchrun_trains_as_one_process_does(manifest: Path, tmp_path: Path, changes: tuple[str, ...]) -> None:
    options = [part for text in changes for part in (("--set", text) if "=" in text else (text,))]
    sets = SETS if "gan" not in options else [word for word in SETS if not word.startswith("denoiser")]
    if "gan" in options:
        sets = [word for change in LENGTH for word in ("--set", change)]
    for number, folder in ((1, tmp_path / "one"), (2, tmp_path / "two")):
        started = torchrun(number, "train", "--data", manifest, "--out", folder, *sets, *options)
        _, printed = started.communicate(timeout=600)
        assert started.returncode == 0, printed
    assert_same(tmp_path / "one", tmp_path / "two")
