"""Training in several processes: the same curve, batches that they share, and runs that go on in another number."""

import shutil
from pathlib import Path

import pytest
import torch
from torch import distributed

from helpers.launch import together, torchrun
from helpers.trainings import SMALL, lines, trainer, weights
from longigen import Batch, LongigenError, TrainingSettings
from longigen.testing.case import after, history
from longigen.testing.composition import model_of
from longigen.training.checkpoint import Trained
from longigen.training.recipe import Recipe
from longigen.training.run import Run
from longigen.training.sharding import is_shared, shard

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


def test_shared_weights_give_the_same_run_and_whole_checkpoints(manifest: Path, tmp_path: Path) -> None:
    one, shared = tmp_path / "one", tmp_path / "shared"
    trainer(manifest, one, *LENGTH, "sample_every=4").fit()
    sets = [*SETS, "--set", "sharding=full", "--set", "sample_every=4", "--set", "score_every=6"]
    printed = together(2, "train", "--data", manifest, "--out", shared, *sets, folder=tmp_path)
    assert printed.count("next: longigen evaluate") == 1, printed
    assert_same(one, shared)
    assert {name: tensor.shape for name, tensor in weights(shared).items()} == {
        name: tensor.shape for name, tensor in weights(one).items()
    }
    assert (shared / "samples" / "step-0000004.png").exists()
    shutil.rmtree(Run(shared).checkpoints()[-1])
    printed = together(2, "train", "--resume", "--out", shared, folder=tmp_path)  # from step 4
    assert_same(one, shared)
    shutil.rmtree(Run(shared).checkpoints()[-1])
    with pytest.warns(UserWarning, match="goes on in 1"):
        alone = trainer(manifest, shared, resume=True)
    assert alone.step == 4
    alone.fit()
    assert_same(one, shared)


def test_blocks_are_shared_one_by_one() -> None:
    """In a group of one process: blocks that repeat, and the model for the rest; a step has the same loss."""
    fsdp = pytest.importorskip("torch.distributed.fsdp")
    model = model_of(Recipe.resolve("sadm-tiny", changes=[change for change in SMALL if "." in change]))
    given = history((8, 8, 4), lengths=(3, 3))
    batch = Batch(given, given.images[:, -1], after(given))
    expected = model.loss(batch, torch.Generator().manual_seed(0)).item()
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        shard(model, torch.device("cpu"))
        shared = {name for name, module in model.named_modules() if isinstance(module, fsdp.FSDPModule)}
        assert {"", "conditioner.spatial.0", "denoiser.down.0.0", "denoiser.middle.0", "denoiser.up.0.0"} <= shared
        assert "conditioner.temporal.0" not in shared  # its weights are read without calling it
        loss = model.loss(batch, torch.Generator().manual_seed(0))
        loss.backward()
        assert loss.item() == pytest.approx(expected, rel=1e-5)
        assert all(is_shared(parameter) for parameter in model.parameters())
    finally:
        distributed.destroy_process_group()


def test_what_does_not_go_with_shared_weights() -> None:
    for changes in ({"own_visits": 0.5}, {"mixed_precision": "fp16"}):
        with pytest.raises(LongigenError, match="sharding=full does not go with"):
            TrainingSettings(sharding="full", **changes)  # type: ignore[arg-type]


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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_torchrun_on_gpus(manifest: Path, tmp_path: Path) -> None:
    """One process for each GPU trains; more are refused."""
    gpus = torch.cuda.device_count()
    sets = [*SETS, "--set", f"batch_size={4 * gpus}"]
    for sharding in ("none", "full"):
        folder = tmp_path / sharding
        started = torchrun(gpus, "train", "--data", manifest, "--out", folder, *sets, "--set", f"sharding={sharding}")
        _, printed = started.communicate(timeout=600)
        assert started.returncode == 0, printed
        assert "on cuda" in printed
    assert_same(tmp_path / "none", tmp_path / "full")
    started = torchrun(gpus + 1, "train", "--data", manifest, "--out", tmp_path / "more", *sets)
    _, printed = started.communicate(timeout=600)
    assert printed.count(f"{gpus + 1} processes were started on this machine, which has {gpus} GPUs") == 1, printed
