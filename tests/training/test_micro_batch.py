"""As many training pairs at once as memory holds: the losses of all at once, and a number that is kept."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.launch import together
from helpers.trainings import SMALL, lines, trainer, weights
from longigen import Conditioning, LongigenError, LongigenWarning, TrainingSettings, register_denoiser
from longigen.registry.registry import registry
from longigen.training.micro_batch import divisor
from longigen.training.trainer import Trainer
from longigen_unet3d import UNet3D

LENGTH = ("training.steps=3", "training.batch_size=4", "checkpoint_every=2")
SHORT = ("training.steps=2", "training.own_visits=0.5")


class Hungry(UNet3D):
    """A U-Net whose memory holds so many pairs in training; it notes how many it is given."""

    memory = 2
    seen: ClassVar[list[int]] = []

    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        if self.training:
            torch.rand(1), np.random.rand(), random.random()  # which a trial must not leave a trace of
            self.seen.append(len(z_t))
            if len(z_t) > self.memory:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 64 GiB.")
        return super().forward(z_t, log_snr, conditioning)


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    register_denoiser("hungry")(Hungry)
    remember(2)
    yield
    registry.unregister("denoiser", "hungry")


def remember(memory: int) -> None:
    Hungry.memory = memory
    Hungry.seen.clear()


def hungry(manifest: Path, folder: Path, *changes: str, **given: Any) -> Trainer:
    return trainer(manifest, folder, *LENGTH, *changes, components={"denoiser": "hungry"}, **given)


def states() -> list[str]:
    return [str(torch.get_rng_state().tolist()), str(np.random.get_state()), str(random.getstate())]


def test_what_does_not_fit_at_once_is_added_up(manifest: Path, tmp_path: Path) -> None:
    """The losses of a training with memory for all, by micro-batches of 2; the trial leaves no trace."""
    remember(4)
    hungry(manifest, tmp_path / "whole", *SHORT).fit()
    remember(2)
    training = hungry(manifest, tmp_path / "parts", *SHORT, "micro_batch=auto")
    before, weight = states(), {name: tensor.clone() for name, tensor in training.model.state_dict().items()}
    with pytest.warns(LongigenWarning, match="2 of the 4 training pairs .* its 2 parts .* a step is of 4 pairs"):
        training._find_micro_batch()
    assert Hungry.seen == [4, 2]
    assert states() == before
    assert not any(optimizer.state for optimizer in training.optimizers)
    assert all(parameter.grad is None for parameter in training.model.parameters())
    for name, tensor in training.model.state_dict().items():
        torch.testing.assert_close(tensor, weight[name], rtol=0, atol=0)
    training.fit()
    assert set(Hungry.seen[2:]) == {2}
    assert training.run.read()["micro_batch"] == 2
    for line, other in zip(lines(tmp_path / "parts"), lines(tmp_path / "whole"), strict=True):
        expected = {name: value for name, value in other.items() if name != "steps_per_second"}
        assert {name: line[name] for name in expected} == pytest.approx(expected, rel=1e-4)


def test_the_number_is_kept_on_resuming(manifest: Path, tmp_path: Path) -> None:
    def stop(step: int, _: object) -> None:
        if step == 3:
            raise RuntimeError

    with pytest.warns(LongigenWarning, match="2 of the 4"):
        hungry(manifest, tmp_path / "whole", "micro_batch=auto").fit()
    with pytest.warns(LongigenWarning, match="2 of the 4"), pytest.raises(RuntimeError):
        hungry(manifest, tmp_path / "broken", "micro_batch=auto").fit(stop)
    remember(4)  # a machine with more memory goes on as it was
    resumed = trainer(manifest, tmp_path / "broken", resume=True)
    assert resumed.step == 2
    resumed.fit()
    assert set(Hungry.seen) == {2}
    assert resumed.run.read()["micro_batch"] == 2
    whole = weights(tmp_path / "whole")
    for name, tensor in weights(tmp_path / "broken").items():
        torch.testing.assert_close(tensor, whole[name], rtol=0, atol=0)


def test_too_little_memory_is_said_in_one_sentence(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(LongigenError, match="4 pairs are computed at once; train with --batch-size auto, which"):
        hungry(manifest, tmp_path / "all").fit()
    remember(0)
    with pytest.raises(LongigenError, match=r"does not hold a training step of one pair .*'longigen plan'"):
        hungry(manifest, tmp_path / "auto", "micro_batch=auto").fit()


def test_processes_agree(manifest: Path, tmp_path: Path) -> None:
    """Two processes with 6 pairs each, of which a CPU computes 3 at once."""
    sets = [word for change in (*SMALL, "training.steps=2", "training.batch_size=12") for word in ("--set", change)]
    command = ("train", "--data", manifest, "--out", tmp_path / "two", "--batch-size", "auto", *sets)
    printed = together(2, *command, folder=tmp_path)
    assert printed.count("3 of the 6 training pairs that a process has of a batch are computed at once") == 1, printed
    trainer(manifest, tmp_path / "one", "training.steps=2", "training.batch_size=12").fit()
    for line, other in zip(lines(tmp_path / "two"), lines(tmp_path / "one"), strict=True):
        assert line["loss"] == pytest.approx(other["loss"], rel=1e-4)


def test_a_micro_batch_divides_a_batch() -> None:
    assert [divisor(12, most) for most in (20, 12, 11, 5, 1)] == [12, 12, 6, 4, 1]
    with pytest.raises(LongigenError, match=r"micro_batch=auto does not go with training\.sharding=full"):
        TrainingSettings(micro_batch="auto", sharding="full")
