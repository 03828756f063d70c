"""Trackers of a training, the loss by noise level, and the best weights by the scores of validation visits."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from helpers.trainings import SMALL, lines, trainer, weights
from longigen import LongigenError, LongigenWarning, LongitudinalModel, evaluate, load
from longigen.components.visit_sequence import Batch
from longigen.evaluation.metrics import load_metrics
from longigen.evaluation.validation import ValidationScores
from longigen.hub.resolve import ModelSource
from longigen.training.checkpoint import Best
from longigen.training.experiment import Experiment
from longigen.training.noise_loss import QUARTERS
from longigen.training.recipe import Recipe
from longigen.training.run import Run
from longigen.training.tracking import installed_tracker, tracked, tracking_note
from longigen.training.trainer import Trainer

PLAIN = [change for change in SMALL if not change.startswith("conditioner.")]
"""The settings of a small model whose conditioner has no weights."""
CHANGES = ("training.steps=6", "training.score_every=2", "training.checkpoint_every=3")


@dataclass
class Scores:
    """Scores that are known beforehand, by step."""

    training: Trainer
    best_by: str = "psnr_gain"

    def __call__(self, model: LongitudinalModel) -> Mapping[str, float]:
        assert not model.training
        return {"psnr_gain": {2: 1.0, 4: 3.0, 6: 2.0}[self.training.step]}


def scored(manifest: Path, folder: Path, *changes: str, resume: bool = False) -> Trainer:
    training = trainer(manifest, folder, *changes, resume=resume, small=PLAIN, components={"conditioner": "source"})
    training.scorer = Scores(training)
    return training


@pytest.fixture(scope="module")
def whole(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run whose scores are best at step 4."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    scored(manifest, folder, *CHANGES).fit()
    return folder


@pytest.fixture(scope="module")
def broken(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same run, tracked, and killed before it had written the best weights of step 4, and continued."""
    folder = tmp_path_factory.mktemp("broken") / "run"

    class KilledError(Exception):
        pass

    def kill(step: int, metrics: Mapping[str, float]) -> None:
        if step == 6:
            raise KilledError

    with pytest.raises(KilledError):
        scored(manifest, folder, *CHANGES, "training.track=auto").fit(kill)
    shutil.rmtree(folder / "best")
    resumed = scored(manifest, folder, resume=True)
    assert (resumed.step, resumed.best, Run(folder).best_step()) == (4, Best(4, 3.0), 4)
    resumed.fit()
    return folder


def events(folder: Path) -> Any:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )
    found = accumulator.EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    return found.Reload()


def test_the_best_weights_are_kept_and_exactly_resumable(whole: Path, broken: Path) -> None:
    assert [line["validation_psnr_gain"] for line in lines(whole) if "validation_psnr_gain" in line] == [1, 3, 2]
    again = {line["step"]: line for line in lines(broken)}
    for line in lines(whole):
        assert {**again[line["step"]], "steps_per_second": 0} == {**line, "steps_per_second": 0}
    for folder in (whole, broken):
        assert Run(folder).best_step() == 4
    best = [load_file(folder / "best" / "model.safetensors") for folder in (whole, broken)]
    for name, tensor in best[0].items():
        torch.testing.assert_close(tensor, best[1][name], rtol=0, atol=0)
    last = weights(whole)
    assert any(not torch.equal(tensor, last[name]) for name, tensor in best[0].items())
    for name, tensor in weights(broken).items():
        torch.testing.assert_close(tensor, last[name], rtol=0, atol=0)


def test_which_weights_are_taken_is_said_and_can_be_chosen(whole: Path, tmp_path: Path) -> None:
    note = ModelSource.parse(str(whole)).note
    assert note is not None
    assert "the last of" in note
    assert "of step 6; those of the best validation, of step 4, are chosen with --weights best" in note
    assert load(whole, weights="best").provenance.training["steps"] == 4
    assert load(whole).provenance.training["steps"] == 6
    without = shutil.copytree(whole, tmp_path / "run", ignore=shutil.ignore_patterns("best", "checkpoints"))
    assert ModelSource.parse(str(without)).note is None
    with pytest.raises(LongigenError, match="no best weights, since no validation visits were scored"):
        load(without, weights="best")
    with pytest.raises(LongigenError, match="is not a run, so it has no best weights"):
        load(whole / "model", weights="best")


def test_best_weights_of_another_step_than_the_checkpoint_says_are_forgotten(
    whole: Path, manifest: Path, tmp_path: Path
) -> None:
    """As where the checkpoint to continue from is an older one, since the last is damaged."""
    folder = shutil.copytree(whole, tmp_path / "run")
    config = folder / "best" / "config.json"
    config.write_text(config.read_text().replace('"steps": 4', '"steps": 5'))
    with pytest.warns(
        LongigenWarning, match=r"were of step 5, and those that the checkpoint of step 6 knows of step 4"
    ):
        resumed = scored(manifest, folder, resume=True)
    assert (resumed.best, Run(folder).best_step()) == (None, None)


def test_the_scores_are_those_of_evaluate(whole: Path, manifest: Path) -> None:
    recorded = Run(whole).read()
    experiment = Experiment.of(Recipe.from_dict(recorded["recipe"]))
    metrics = load_metrics(["ssim", "psnr"])
    scores = ValidationScores.of(experiment.cohort, experiment.training, metrics, "psnr")
    found = evaluate(
        whole, weights="best", part="validation", settings="full", metrics=["ssim", "psnr"], progress=False
    )
    assert found.model["weights_sha256"] == load(whole, weights="best").weights_sha256
    row, values = next(row for row in found.rows if row.method == "model"), scores(load(whole, weights="best"))
    assert list(values) == ["ssim", "ssim_gain", "psnr", "psnr_gain"]
    assert scores.best_by in values
    for name in metrics:
        assert values[name] == pytest.approx(row.values[name].mean, rel=1e-5)
        assert values[f"{name}_gain"] == pytest.approx(row.gains[name].mean, rel=1e-4, abs=1e-7)


def test_tensorboard_has_the_metrics_and_a_picture_also_after_a_restart(broken: Path, manifest: Path) -> None:
    found, written = events(broken), lines(broken)
    assert [line["step"] for line in written] == [1, 2, 3, 4, 5, 6]
    names = {name for line in written for name in line} - {"step"}
    assert names >= {"loss", "learning_rate", "gradient_norm", "validation_loss", "validation_psnr_gain"}
    assert names & {*QUARTERS}
    assert {*found.Tags()["scalars"]} == names
    for name in names:
        # Step 6 of the killed process is not shown a second time.
        expected = {line["step"]: line[name] for line in written if name in line}
        scalars = [(event.step, event.value) for event in found.Scalars(name)]
        assert [step for step, _ in scalars] == list(expected)
        for step, value in scalars:
            assert value == pytest.approx(expected[step], rel=1e-6)
    (picture,) = found.Images("sample")
    assert picture.step == 6
    assert (picture.width, picture.height) > (100, 100)
    text = str(found.Tensors("recipe/text_summary"))
    assert "learning_rate" in text
    assert str(manifest.parent) not in text


def test_a_tracker_that_is_not_installed_is_said_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = next((name for name in ("mlflow", "trackio", "wandb") if find_spec(name) is None), None)
    if absent is None:
        pytest.skip("all trackers are installed")
    with pytest.raises(LongigenError, match=rf"is not installed; install it with 'pip install {absent}', or set"):
        installed_tracker(absent)  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr("longigen.training.tracking.find_spec", lambda name: None)
    assert installed_tracker("auto") is None
    assert "as tensorboard is not installed (pip install tensorboard)" in tracking_note("auto", tmp_path)
    assert "'longigen report 'my run'' draws its curves" in tracking_note("auto", Path("my run"))


def test_a_tracker_that_fails_does_not_end_the_training(whole: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    run = Run(tmp_path)
    shutil.copy(whole / "run.json", tmp_path)
    with tracked("tensorboard", run, 0) as tracking:
        with pytest.warns(LongigenWarning, match=r"^Tracking by tensorboard failed \(No such file.* training goes on"):
            tracking.picture(tmp_path / "absent.png", 1)
        tracking.log({"loss": 1.0}, 2)
    assert "loss" not in events(tmp_path).Tags()["scalars"]


def test_the_loss_by_noise_level_is_the_mean_of_each_quarter_of_the_schedule(manifest: Path, tmp_path: Path) -> None:
    training = scored(manifest, tmp_path / "run", "training.steps=2")
    model, pairs, noise = training.model, training._pairs(), training.noise_loss
    batch = Batch.collate([pairs[index % len(pairs)] for index in range(5)])
    example = model.example(batch, torch.Generator().manual_seed(0))
    times = torch.tensor([0.1, 0.2, 0.3, 0.6, 0.9])
    with noise.watching(), torch.no_grad():
        model.denoiser(example.x, model.sampler.log_snr(times), example.conditioning)
        noise.add(torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]))
        noise.add(torch.full((5,), 100.0))  # of no call of the denoiser
    assert noise.read(training.accelerator) == dict(zip(QUARTERS, [1.5, 4.0, 8.0, 16.0], strict=True))
    noise.clear()
    assert noise.read(training.accelerator) == {}


def test_the_loss_of_a_step_is_that_of_its_quarters(whole: Path) -> None:
    line = lines(whole)[0]
    quarters = [line[name] for name in QUARTERS if name in line]
    assert 1 <= len(quarters) <= 2  # of two pairs
    assert sum(quarters) / len(quarters) == pytest.approx(line["loss"])


def test_one_noise_level_has_no_quarters(manifest: Path, tmp_path: Path) -> None:
    small = [change for change in PLAIN if not change.startswith("sampler.")]
    components = {"conditioner": "source", "sampler": "regression"}
    training = trainer(manifest, tmp_path / "run", components=components, small=small)
    with training.noise_loss.watching():
        training._train_step(training._batches())
    assert training.noise_loss.read(training.accelerator) == {}
