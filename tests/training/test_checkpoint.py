"""Checkpoints: no pickle is ever read, and a damaged one is never continued from."""

import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.trainings import trainer, weights
from longigen import LongigenError, LongigenWarning
from longigen.training.run import Run

FILES = ("SHA256SUMS", "random-0.json", "state.json", "state.safetensors")
PICKLES = (
    "custom_checkpoint_0.pkl",
    "custom_checkpoint_1.pkl",
    "optimizer.bin",
    "random_states_0.pkl",
    "scaler.pt",
    "pytorch_model.bin",
)
"""The files that Accelerate reads and that hold pickles."""


@pytest.fixture(scope="module")
def finished(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of six steps with the checkpoints of step 3 and 6; it is only copied."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    trainer(manifest, folder, "training.steps=6").fit()
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Run:
    """Return a copy of the run, as if it was killed before its last step."""
    shutil.copytree(finished, tmp_path / "run")
    run = Run(tmp_path / "run")
    recorded = (run.folder / "run.json").read_text()
    assert '"steps": 6' in recorded
    return run


class Hostile:
    """An object whose pickle writes a file when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.marker,)  # type: ignore[return-value]


def test_it_holds_safetensors_json_and_checksums(run: Run) -> None:
    for folder in run.checkpoints():
        assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)


def test_no_pickle_is_read(run: Run, manifest: Path, tmp_path: Path) -> None:
    """Files as Accelerate names them, from somebody else, run nothing: beside the state, instead of it, or alone."""
    marker = tmp_path / "owned"
    hostile = pickle.dumps(Hostile(marker))
    pickle.loads(hostile)
    assert marker.exists()  # the file would work
    marker.unlink()
    last = run.checkpoints()[-1]
    for name in PICKLES:
        (last / name).write_bytes(hostile)
    assert trainer(manifest, run.folder, resume=True).step == 6
    (last / "state.safetensors").write_bytes(hostile)
    with pytest.warns(LongigenWarning, match="checkpoint before"):
        assert trainer(manifest, run.folder, resume=True).step == 3
    for folder in run.checkpoints():
        shutil.rmtree(folder)
        folder.mkdir()
        for name in PICKLES:
            (folder / name).write_bytes(hostile)
    with pytest.raises(LongigenError, match=r"holds pickles, .* no pickle is ever read.*--init"):
        trainer(manifest, run.folder, resume=True)
    assert not marker.exists()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [cut, flip, empty, Path.unlink, folder_instead])
@pytest.mark.parametrize("name", FILES)
def test_the_one_before_a_damaged_one_is_continued_from(
    run: Run, finished: Path, manifest: Path, name: str, damage: Callable[[Path], None]
) -> None:
    damage(run.checkpoints()[-1] / name)
    with pytest.warns(LongigenWarning, match=r"step-0000006.* continues from the checkpoint before, of step 3\."):
        resumed = trainer(manifest, run.folder, resume=True)
    assert resumed.step == 3
    if name == "state.safetensors" and damage is flip:
        resumed.fit()
        assert [path.name for path in run.checkpoints()] == ["step-0000003", "step-0000006"]
        one, two = weights(finished), weights(run.folder)
        assert all(torch.equal(one[tensor], two[tensor]) for tensor in one)


def test_without_an_intact_one_nothing_starts_anew(run: Run, manifest: Path) -> None:
    for folder in run.checkpoints():
        cut(folder / "state.safetensors")
    log = run.metrics.read_text()
    with pytest.raises(LongigenError, match=r"step-0000006.*no intact checkpoint"):
        trainer(manifest, run.folder, resume=True)
    assert run.metrics.read_text() == log


def test_one_of_another_recipe_is_refused(run: Run, manifest: Path) -> None:
    with pytest.raises(LongigenError, match="does not fit the recipe of this run"):
        trainer(manifest, run.folder, "denoiser.width=16", resume=True)


def test_random_states_come_back(run: Run, manifest: Path) -> None:
    """Dropout draws from torch's generator; somebody's component may draw from the others."""

    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    training = trainer(manifest, run.folder, resume=True)
    expected = drawn()
    assert drawn() != expected
    training._state.load(run.checkpoints()[-1])
    assert drawn() == expected


@pytest.mark.parametrize("steps", [9, 5])
def test_other_steps_change_the_schedule_and_are_recorded(run: Run, manifest: Path, steps: int) -> None:
    shutil.rmtree(run.checkpoints()[-1])
    with pytest.warns(LongigenWarning, match=f"to end at step 6 and now ends at step {steps}: from step 3 on"):
        training = trainer(manifest, run.folder, f"training.steps={steps}", resume=True)
    whole = trainer(manifest, run.folder.parent / "whole", f"training.steps={steps}").schedules[0]
    assert training.schedules[0].get_last_lr() == [whole.base_lrs[0] * whole.lr_lambdas[0](3)]
    training.fit()
    schedule = [{"step": 0, "steps": 6}, {"step": 3, "steps": steps}]
    assert run.read()["schedule"] == schedule
    assert training.model.provenance.training["schedule"] == schedule
    assert trainer(manifest, run.folder, resume=True).step == steps  # unchanged: nothing is said, nothing added
    assert run.read()["schedule"] == schedule


def test_a_run_is_not_shortened_below_its_step(run: Run, manifest: Path) -> None:
    before = (run.folder / "run.json").read_text(), run.metrics.read_text()
    with pytest.raises(LongigenError, match="is at step 6, so it cannot be trained to step 4"):
        trainer(manifest, run.folder, "training.steps=4", resume=True)
    assert ((run.folder / "run.json").read_text(), run.metrics.read_text()) == before
