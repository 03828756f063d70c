"""The training loop."""

from pathlib import Path

import pytest
import torch

from helpers.trainings import lines, trainer, weights
from longigen import LongigenError, LongitudinalModel
from longigen.training.run import Run


def test_a_run_holds_everything(manifest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    trainer(manifest, folder, "training.steps=4", "sample_every=2", "checkpoint_every=2").fit()
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoints", "metrics.jsonl", "model", "run.json", "samples",
    ]  # fmt: skip
    assert [path.name for path in Run(folder).checkpoints()] == ["step-0000002", "step-0000004"]
    assert [path.name for path in sorted((folder / "samples").iterdir())] == ["step-0000002.png", "step-0000004.png"]
    assert (folder / "samples" / "step-0000002.png").read_bytes()[:4] == b"\x89PNG"
    last = lines(folder)[-1]
    assert last["step"] == 4
    assert last["validation_loss"] > 0
    recorded = Run(folder).read()
    assert recorded["recipe"]["training"]["steps"] == 4
    ids = [name for part in recorded["split"].values() for name in part]
    assert sorted(ids) == [f"s{number}" for number in range(8)]
    model = LongitudinalModel.from_pretrained(folder)
    assert model.statistics.time_scale == pytest.approx(1.1)
    assert model.provenance.preprocess["shape"] == [13, 12, 10]
    assert model.provenance.data["parts"] == {part: len(ids) for part, ids in recorded["split"].items()}
    assert model.provenance.data["intervals"] == pytest.approx([1.1, 3.3])
    origin = model.provenance.training
    assert (origin["recipe"], origin["data"], origin["changes"]["training.steps"]) == ("sadm-tiny", "csv", 4)
    assert str(manifest.parent) not in (folder / "model" / "config.json").read_text()


def test_resuming_changes_nothing(manifest: Path, tmp_path: Path) -> None:
    """A run that is killed after step 3 and resumed ends with the same weights as one that was not killed."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    augment = ("elastic=0.05", "bias=0.3", "augment.blur=1", "augment.noise=0.1")
    trainer(manifest, whole, "training.steps=6", *augment).fit()

    class KilledError(Exception):
        pass

    def kill(step: int, metrics: dict[str, float]) -> None:
        if step == 5:
            raise KilledError

    with pytest.raises(KilledError):
        trainer(manifest, broken, "training.steps=6", *augment).fit(kill)
    before = LongitudinalModel.from_pretrained(broken).provenance.training
    resumed = trainer(manifest, broken, resume=True)
    assert resumed.step == 3
    resumed.fit()
    after = LongitudinalModel.from_pretrained(broken).provenance.training
    assert (before["steps"], after["steps"], after["processes"]) == (3, 6, 1)
    assert after["seconds"] > before["seconds"] > 0  # the time of both processes together
    one, two = weights(whole), weights(broken)
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], rtol=0, atol=0)
    assert [line["step"] for line in lines(broken)] == [1, 3, 4, 6]


def test_levers_of_memory_change_no_weight(manifest: Path, tmp_path: Path) -> None:
    levers = ("ema_device=cpu", "conditioner.recompute=true", "denoiser.checkpointing=1")
    for name, changes in (("plain", ()), ("saving", levers)):
        trainer(manifest, tmp_path / name, "training.steps=3", "conditioner.dropout=0.1", *changes).fit()
    plain, saving = weights(tmp_path / "plain"), weights(tmp_path / "saving")
    for name, tensor in plain.items():
        torch.testing.assert_close(saving[name], tensor, rtol=0, atol=0)


def test_an_interrupt_leaves_a_checkpoint(manifest: Path, tmp_path: Path) -> None:
    def interrupt(step: int, metrics: dict[str, float]) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(manifest, tmp_path / "run", "training.steps=6").fit(interrupt)
    assert trainer(manifest, tmp_path / "run", resume=True).step == 2


def test_trainings_in_one_process_have_their_own_precision(manifest: Path, tmp_path: Path) -> None:
    """As in a notebook: Accelerate keeps the first precision for the life of a process, and refuses another one."""
    for precision in ("no", "bf16", "no"):
        training = trainer(manifest, tmp_path / str(len(list(tmp_path.iterdir()))), f"mixed_precision={precision}")
        assert training.accelerator.mixed_precision == precision


def test_gradients_are_accumulated(manifest: Path, tmp_path: Path) -> None:
    """Two accumulated batches of one pair hold the same pairs as one batch of two."""
    together = trainer(manifest, tmp_path / "a", "training.steps=1", "batch_size=2")
    apart = trainer(manifest, tmp_path / "b", "training.steps=1", "batch_size=1", "gradient_accumulation=2")
    one = next(together._batches())
    batches = apart._batches()
    first, second = next(batches), next(batches)
    assert torch.equal(one.target, torch.cat([first.target, second.target]))
    apart.fit()
    assert apart.step == 1


def test_it_learns(manifest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    trainer(manifest, folder, "training.steps=60", "validate_every=20", "learning_rate=3e-3", "ema=0.9").fit()
    losses = [line["validation_loss"] for line in lines(folder) if "validation_loss" in line]
    # Copy-last has a loss of 1, since the residual is scaled to unit variance.
    assert losses[-1] < 0.8


def test_a_loss_of_nan_is_an_error(manifest: Path, tmp_path: Path) -> None:
    broken = trainer(manifest, tmp_path / "run", "training.steps=2")
    with torch.no_grad():
        next(broken.model.parameters()).fill_(float("nan"))
    with pytest.raises(LongigenError, match=r"The loss became NaN at step 1; lower training\.learning_rate"):
        broken.fit()


def test_losses_that_are_read_late_are_the_same(manifest: Path, tmp_path: Path) -> None:
    """As on a GPU, where reading them at each step would make the CPU wait."""
    shown: dict[int, list[float]] = {}
    for every in (1, 10):
        training = trainer(manifest, tmp_path / str(every), "training.steps=7")
        training.read_every = every
        shown[every] = []
        training.fit(lambda step, metrics, to=shown[every]: to.append(metrics["loss"]))
    now, late = (
        [{k: v for k, v in line.items() if k != "steps_per_second"} for line in lines(tmp_path / each)]
        for each in ("1", "10")
    )
    assert now == late
    assert [line["step"] for line in late] == [1, 3, 6, 7]
    assert [shown[1][step - 1] for step in (1, 1, 3, 3, 3, 6, 7)] == shown[10]


def test_a_nan_that_is_read_late_stops_before_a_checkpoint(manifest: Path, tmp_path: Path) -> None:
    broken = trainer(manifest, tmp_path / "run", "training.steps=6", "checkpoint_every=4", "validate_every=100")
    broken.read_every = 10

    def spoil(step: int, _: object) -> None:
        if step == 2:
            with torch.no_grad():
                next(broken.model.parameters()).fill_(float("nan"))

    with pytest.raises(LongigenError, match="The loss became NaN at step 3;"):
        broken.fit(spoil)
    assert broken.step == 4
    assert Run(tmp_path / "run").checkpoints() == []


def test_a_run_needs_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("keep me")
    with pytest.raises(LongigenError, match="is not empty; continue it with --resume"):
        Run.create(tmp_path)
    with pytest.raises(LongigenError, match=r"precious.txt is a file; give another --out \(nothing was changed\)"):
        Run.create(tmp_path / "precious.txt")
    assert (tmp_path / "precious.txt").read_text() == "keep me"
    with pytest.raises(LongigenError, match="holds no run"):
        Run.open(tmp_path)
