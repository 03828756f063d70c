"""Warm starts from another model's weights, frozen parts, fine-tuning, and pretraining without conditioning."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from helpers.files import FIXTURES
from helpers.processes import Longigen
from longigen import (
    Batch,
    Conditioner,
    Conditioning,
    LongigenError,
    LongitudinalModel,
    Routes,
    VisitSequence,
    register_conditioner,
)
from longigen.data.statistics import Statistics
from longigen.errors import LongigenWarning
from longigen.hub.model_config import read_config
from longigen.models.settings import ModelSettings
from longigen.registry.registry import registry
from longigen.testing.case import after, history
from longigen.training.experiment import Experiment
from longigen.training.recipe import Recipe
from longigen.training.run import Run
from longigen.training.settings import TrainingSettings
from longigen.training.trainer import Trainer
from longigen.training.warm_start import WarmStart
from longigen_baselines import IdentityDenoiser, RawConditioner, SourceConditioner
from longigen_cli.train import train
from longigen_continuous import ContinuousSampler
from longigen_sadm import SADMConditioner
from longigen_unet3d import UNet3D

SADM: dict[str, Any] = {"dim": 16, "heads": 2, "depth": 1, "features": 4}
UNET = {"width": 8, "multipliers": (1, 2), "blocks": 1, "heads": 2}
SMALL = (
    *(f"conditioner.{key}={value}" for key, value in SADM.items()),
    "denoiser.width=8", "denoiser.multipliers=1,2", "denoiser.blocks=1", "denoiser.heads=2", "sampler.steps=2",
    "validate_every=3", "sample_every=100", "checkpoint_every=3", "warmup=1", "learning_rate=1e-2",
    "score_every=0",
)  # fmt: skip


class Levels(Conditioner):
    """Emits `count` learned constants on the concat route; with a count of 0 it has no weights."""

    def __init__(self, *, count: int = 1) -> None:
        super().__init__()
        self.count = count

    def build(self, *, channels: int, stem_features: int, time_scale: float, covariates: tuple[str, ...]) -> None:
        self.routes = Routes(concat=self.count)
        self.levels = nn.Parameter(torch.zeros(self.count)) if self.count else None

    def forward(self, history: VisitSequence, target_time: Tensor) -> Conditioning:
        if self.levels is None:
            return Conditioning()
        batch, _, _, *size = history.images.shape
        return Conditioning(concat=self.levels.view(1, -1, 1, 1, 1).expand(batch, -1, *size))


def model(
    seed: int = 1,
    conditioner: Conditioner | None = None,
    unet: dict[str, Any] | None = None,
    settings: ModelSettings | None = None,
    **statistics: Any,
) -> LongitudinalModel:
    """Return a model whose tensors are all random, so that none are equal by chance."""
    torch.manual_seed(seed)
    result = LongitudinalModel(
        conditioner or SADMConditioner(**SADM),
        UNet3D(**{**UNET, **(unet or {})}),
        ContinuousSampler(prediction="x", steps=2),
        settings=settings,
        statistics=Statistics(**statistics),
    )
    with torch.no_grad():
        for parameter in result.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return result.eval()


def tensors(part: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in part.state_dict().items()}


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(tensor, two[name]) for name, tensor in one.items())


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, LongitudinalModel]:
    """Return a model and the folder that it is saved in."""
    saved, folder = model(seed=0), tmp_path_factory.mktemp("pretrained")
    saved.save_pretrained(folder)
    return str(folder), saved


@pytest.mark.parametrize(("part", "other"), [("conditioner", "denoiser"), ("denoiser", "conditioner")])
def test_one_part_is_copied_and_the_other_is_not_changed(
    pretrained: tuple[str, LongitudinalModel], part: Any, other: str
) -> None:
    folder, source = pretrained
    new = model()
    before = tensors(getattr(new, other))
    assert not same(tensors(getattr(new, part)), tensors(getattr(source, part)))
    assert WarmStart(part, folder).apply(new) is None
    assert same(tensors(getattr(new, part)), tensors(getattr(source, part)))
    assert same(tensors(getattr(new, other)), before)


def test_statistics_of_the_data_are_not_copied(pretrained: tuple[str, LongitudinalModel]) -> None:
    new = model(residual_std=0.25, time_scale=0.5)
    note = WarmStart("conditioner", pretrained[0]).apply(new)
    assert new.statistics == Statistics(residual_std=0.25, time_scale=0.5)
    assert new.conditioner.time_scale == 0.5
    assert note is not None
    assert note.endswith("it was configured with a typical gap of 1, now 0.5 years.")


def test_tensors_that_do_not_fit_are_listed_and_keep_their_values(pretrained: tuple[str, LongitudinalModel]) -> None:
    folder, source = pretrained
    new = model(conditioner=SADMConditioner(**{**SADM, "features": 6, "missing": "mask"}))
    before = tensors(new)
    note = WarmStart("conditioner", folder).apply(new)
    old, now = tensors(source), tensors(new)
    of_part = [name for name in now if name.startswith("conditioner.")]
    kept = [name for name in of_part if name not in old or old[name].shape != now[name].shape]
    assert "conditioner.mask_token" in kept
    assert len(kept) > 1
    for name in of_part:
        assert torch.equal(now[name], before[name] if name in kept else old[name]), name
    assert note is not None
    assert f"{len(of_part) - len(kept)} of {len(of_part)} tensors were copied" in note
    assert f"initial values remain in {len(kept) - 1} of another shape there (" in note
    assert "1 missing there (mask_token)" in note
    assert all(name.removeprefix("conditioner.") in note for name in kept)
    assert "features 4, now 6; with missing zero, now mask" in note


def test_a_first_layer_of_another_shape_is_not_copied_in_part(pretrained: tuple[str, LongitudinalModel]) -> None:
    """Another conditioner emits other channels, so the layer that reads them keeps its initial values."""
    new = model(conditioner=SourceConditioner())
    before = tensors(new.denoiser)
    note = WarmStart("denoiser", pretrained[0]).apply(new)
    old, now = tensors(pretrained[1].denoiser), tensors(new.denoiser)
    kept = [name for name in now if name not in old or old[name].shape != now[name].shape]
    assert any(name.startswith("stem") for name in kept)
    assert all(torch.equal(now[name], (before if name in kept else old)[name]) for name in now)
    assert note is not None
    assert all(name in note for name in kept)


def test_differences_that_do_not_show_in_shapes_are_listed(pretrained: tuple[str, LongitudinalModel]) -> None:
    new = model(unet={"heads": 4}, settings=ModelSettings(target="image"))
    note = WarmStart("denoiser", pretrained[0]).apply(new)
    assert note is not None
    assert "configured with heads 2, now 4; with target residual, now image." in note


def test_unused_tensors_are_listed(tmp_path: Path) -> None:
    model(conditioner=SADMConditioner(**{**SADM, "depth": 2})).save_pretrained(tmp_path)
    note = WarmStart("conditioner", str(tmp_path)).apply(model())
    assert note is not None
    assert "of its tensors were not used (" in note
    assert " more);" in note


def test_models_that_cannot_initialise_a_part_are_refused(
    pretrained: tuple[str, LongitudinalModel], tmp_path: Path
) -> None:
    folder, _ = pretrained
    other = r"conditioner of .* is 'sadm' and that of this model is 'raw', .*; choose --conditioner sadm"
    new = model(conditioner=RawConditioner())
    with pytest.raises(LongigenError, match=other):
        WarmStart("conditioner", folder).apply(new)
    with pytest.raises(LongigenError, match=other):
        WarmStart("conditioner", folder).check("raw")
    WarmStart("conditioner", folder).check("sadm")
    with pytest.raises(LongigenError, match=r"There is no model at .*nowhere"):
        WarmStart("denoiser", str(tmp_path / "nowhere")).check("unet3d")
    with pytest.raises(LongigenError, match="times in years and these data are in days; use a model"):
        WarmStart("conditioner", folder).apply(model(time_unit="days"))
    assert WarmStart("denoiser", folder).apply(model(time_unit="days")) is None


def test_a_source_without_fitting_tensors_is_refused(tmp_path: Path) -> None:
    register_conditioner("levels")(Levels)
    try:
        model(conditioner=Levels(count=2)).save_pretrained(tmp_path)
        new = model(conditioner=Levels(count=3))
        before = tensors(new)
        with pytest.raises(LongigenError, match="None of the 1 tensors of this conditioner has the name and shape of"):
            WarmStart("conditioner", str(tmp_path)).apply(new)
        assert same(tensors(new), before)
    finally:
        registry.unregister("conditioner", "levels")


def test_random_conditioning_is_noise_on_every_route() -> None:
    conditioning = Conditioning(
        torch.full((40, 2, 5, 6, 7), 9.0), torch.full((40, 3, 5, 6, 7), 9.0), torch.full((40, 50), 9.0),
        torch.full((40, 8, 9), 9.0),
    )  # fmt: skip
    dropped = torch.arange(40) < 20
    noise = conditioning.noise(torch.Generator().manual_seed(0))
    result = conditioning.drop(dropped, noise)
    for route in ("concat", "stem", "embedding", "tokens"):
        tensor = getattr(result, route)
        assert (tensor[20:] == 9).all()
        assert tensor[:20].mean().item() == pytest.approx(0, abs=0.1)
        assert tensor[:20].std().item() == pytest.approx(1, abs=0.1)
        assert torch.equal(tensor[:20], getattr(noise, route)[:20])
    assert Conditioning().noise(torch.Generator()) == Conditioning()


def test_pretraining_without_conditioning_does_not_see_the_history() -> None:
    """With p_uncond 1 the loss depends on the history only through the residual's base; guidance still uses zeros."""
    visits = history((8, 8, 8), lengths=(3, 3))
    first = visits.images.clone()
    first[:, 0] = -first[:, 0]
    others = type(visits)(first, visits.times, visits.observed, visits.valid)
    losses = {}
    for name, settings in {
        "zero": ModelSettings(p_uncond=1.0),
        "random": ModelSettings(p_uncond=1.0, unconditional="random"),
        "given": ModelSettings(p_uncond=0.0),
    }.items():
        composed = model(settings=settings)
        losses[name] = [
            composed.loss(Batch(given, visits.images[:, -1], after(visits)), torch.Generator().manual_seed(0)).item()
            for given in (visits, others)
        ]
        unconditional = composed.conditioner(visits, after(visits)).null().concat
        assert unconditional is not None
        assert not unconditional.any()
    assert losses["zero"][0] == losses["zero"][1]
    assert losses["random"][0] == losses["random"][1]
    assert losses["given"][0] != losses["given"][1]
    assert len({pair[0] for pair in losses.values()}) == 3


def test_a_configuration_without_unconditional_means_zero(
    pretrained: tuple[str, LongitudinalModel], tmp_path: Path
) -> None:
    folder = shutil.copytree(pretrained[0], tmp_path / "old")
    config = json.loads((folder / "config.json").read_text())
    assert config["model"].pop("unconditional") == "zero"
    (folder / "config.json").write_text(json.dumps(config))
    assert LongitudinalModel.from_pretrained(folder).settings.unconditional == "zero"


def trainer(manifest: Path, folder: Path, *changes: str) -> Trainer:
    recipe = Recipe.resolve("sadm-tiny", data=str(manifest), changes=[*SMALL, *changes])
    return Experiment.of(recipe).trainer(Run.create(folder))


def resumed(folder: Path) -> Trainer:
    run = Run.open(folder)
    return Experiment.of(Recipe.from_dict(run.read()["recipe"])).trainer(run, resume=True)


def exported(folder: Path, part: str) -> dict[str, Tensor]:
    weights = load_file(folder / "model" / "model.safetensors")
    return {name: tensor for name, tensor in weights.items() if name.startswith(part)}


@pytest.fixture(scope="module")
def source(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of two steps."""
    folder = tmp_path_factory.mktemp("runs") / "source"
    trainer(manifest, folder, "training.steps=2", "training.seed=5").fit()
    return folder


@pytest.mark.parametrize("part", ["conditioner", "denoiser"])
def test_a_frozen_part_does_not_change(manifest: Path, source: Path, tmp_path: Path, part: str) -> None:
    """It has no gradient, weight decay, averaging or dropout; the other part is trained."""
    other = "denoiser" if part == "conditioner" else "conditioner"
    starts = [f"training.init_{name}={source}" for name in ("conditioner", "denoiser")]
    changes = ("training.steps=2", f"training.freeze={part}", "weight_decay=0.5", f"{part}.dropout=0.5")
    with pytest.warns(LongigenWarning, match=r"configured with dropout 0\.0, now 0\.5"):
        frozen = trainer(manifest, tmp_path / "run", *starts, *changes)
    steps = []
    frozen.fit(lambda step, metrics: steps.append(step))
    assert steps == [1, 2]
    assert same(exported(tmp_path / "run", part), exported(source, part))
    assert not same(exported(tmp_path / "run", other), exported(source, other))
    assert not any(module.training for module in getattr(frozen.model, part).modules())
    assert all(module.training for module in getattr(frozen.model, other).modules())
    assert all(parameter.grad is None for parameter in getattr(frozen.model, part).parameters())


def test_freezing_everything_is_refused(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(LongigenError, match="names both parts, so there is nothing to train; leave one out"):
        TrainingSettings(freeze=("denoiser", "conditioner"))
    weightless = model(conditioner=Levels(count=0))
    cohort = Experiment.of(Recipe.resolve("sadm-tiny", data=str(manifest))).cohort
    with pytest.raises(LongigenError, match=r"The denoiser, which training\.freeze names, is the only part .* with w"):
        Trainer(weightless, cohort, TrainingSettings(freeze=("denoiser",)), Run(tmp_path))
    with pytest.raises(LongigenError, match="freeze must be a list of one of 'conditioner', 'denoiser', got 'sampler'"):
        trainer(manifest, tmp_path / "run", "training.freeze=sampler")


def test_the_moving_average_starts_from_the_copied_weights(manifest: Path, source: Path, tmp_path: Path) -> None:
    initialised = trainer(manifest, tmp_path / "run", f"init_denoiser={source}")
    names = [name for name, _ in initialised.model.named_parameters()]
    averaged = dict(zip(names, initialised.ema.shadow_params, strict=True))
    for name, tensor in exported(source, "denoiser").items():
        assert torch.equal(averaged[name], tensor), name


def test_resuming_does_not_need_the_source(manifest: Path, source: Path, tmp_path: Path) -> None:
    """A run continues from its checkpoint even if its source was deleted; without a checkpoint it starts from it."""
    copied, whole = shutil.copytree(source, tmp_path / "copied"), tmp_path / "whole"
    trainer(manifest, whole, "training.steps=4", f"init_conditioner={copied}").fit()
    assert Run(whole).read()["recipe"]["training"]["init_conditioner"] == str(copied)
    assert str(copied) not in (whole / "model" / "config.json").read_text()

    fresh = tmp_path / "fresh"
    started = tensors(trainer(manifest, fresh, "training.steps=4", f"init_conditioner={copied}").model)
    assert same(tensors(resumed(fresh).model), started)

    def stop(step: int, metrics: dict[str, Any]) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resumed(fresh).fit(stop)
    shutil.rmtree(copied)
    again = resumed(fresh)
    assert again.step == 2
    again.fit()
    assert same(exported(fresh, ""), exported(whole, ""))


def test_on_the_command_line(longigen: Longigen, manifest: Path, source: Path, tmp_path: Path) -> None:
    sets = [word for change in SMALL[len(SADM) :] for word in ("--set", change)]
    result = longigen(
        "train", "--data", manifest, "--conditioner", "source", *sets, "--steps", 1, "--out", tmp_path / "run",
        "--init-denoiser", source, "--freeze", "conditioner",
    )  # fmt: skip
    notes = [line for line in result.stderr.splitlines() if line.startswith("longigen: ")]
    assert len(notes) == 1
    assert notes[0].startswith(f"longigen: The denoiser of {source}: ")
    assert "of another shape there (stem." in notes[0]
    assert f"denoiser from {source}, conditioner frozen, on cpu" in result.stderr
    training = json.loads((tmp_path / "run" / "run.json").read_text())["recipe"]["training"]
    assert training["init_denoiser"] == str(source)
    assert training["freeze"] == ["conditioner"]


def test_wrong_options_fail_before_data_are_read(source: Path, tmp_path: Path) -> None:
    with pytest.raises(LongigenError, match=f"^The conditioner of {source} is 'sadm' and that of this model is 'raw'"):
        train(conditioner="raw", init_conditioner=str(source), out=tmp_path / "run")
    with pytest.raises(LongigenError, match=r"^\. has no model"):
        train(init_denoiser="", out=tmp_path / "run")
    with pytest.raises(LongigenError, match="continues a run with the options that it was started with"):
        train(out=source, resume=True, freeze=["denoiser"])


FIXTURE = FIXTURES / "schema-1"
SHORT = ("training.steps=1", "batch_size=1", "validate_every=1", "sample_every=9", "warmup=1", "score_every=0")


def test_fine_tuning_starts_from_the_whole_model(
    manifest: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Components, settings, grid and intensity scaling are the model's; the data and the changes are the user's."""
    run = tmp_path / "run"
    changes = [
        *SHORT,
        "preprocess.shape=12,12,10",
        "preprocess.spacing=2,2,3",
        "preprocess.upper=100",
        "learning_rate=0",
    ]
    with pytest.warns(LongigenWarning) as caught, caplog.at_level(logging.INFO, logger="longigen"):
        train(data=str(manifest), init=str(FIXTURE), changes=changes, out=run)
    assert f"Fine-tuning {FIXTURE}: sadm + unet3d + continuous, with its settings, grid (16 × 20 ×" in caplog.text
    assert "grid (16 × 20 × 16 voxels of 10 × 10 × 10 mm) and intensity scaling" in caplog.text
    assert "grid 12 × 12 × 10" in caplog.text
    assert (
        f"Where the recipe 'sadm-tiny' differs, the values of {FIXTURE} hold: conditioner.dim=6 (recipe: 48)"
        in caplog.text
    )
    assert "denoiser.width=2 (recipe: 16)" in caplog.text
    notes = " ".join(str(warning.message) for warning in caught)
    assert "preprocess.shape [16, 20, 16], now [12, 12, 10]" in notes
    assert "preprocess.upper 99.9, now 100.0" in notes
    config, base = (json.loads((folder / "config.json").read_text()) for folder in (run / "model", FIXTURE))
    for part in ("conditioner", "denoiser", "sampler"):
        assert config[part]["name"] == base[part]["name"]
        assert base[part]["config"].items() <= config[part]["config"].items()  # newer parameters may have been added
    assert base["model"].items() <= config["model"].items()
    assert config["preprocess"] == {
        **base["preprocess"],
        "shape": [12, 12, 10],
        "spacing": [2.0, 2.0, 3.0],
        "upper": 100.0,
    }
    assert config["data"]["name"] == "csv"
    assert config["training"]["init"] is True
    assert config["training"]["initialised"] == {"conditioner": None, "denoiser": None}  # a folder has no public name
    recorded = json.loads((run / "run.json").read_text())["recipe"]["training"]
    assert recorded["init_conditioner"] == recorded["init_denoiser"] == str(FIXTURE)
    old, new = (load_file(folder / "model.safetensors") for folder in (FIXTURE, run / "model"))
    assert same(old, new)  # the learning rate was 0
    with pytest.raises(LongigenError, match="continues a run with the options that it was started with"):
        train(out=run, resume=True, init=str(FIXTURE))


def test_fine_tuning_with_a_change_lists_what_did_not_fit(manifest: Path, tmp_path: Path) -> None:
    config = read_config(FIXTURE)
    changes = [*SHORT, "denoiser.width=4", *(f"training.init_{part}={FIXTURE}" for part in ("conditioner", "denoiser"))]
    recipe = Recipe.resolve("sadm-tiny", data=str(manifest), changes=changes, model=config)
    assert recipe.names["data"] == "csv"
    assert recipe.configs["preprocess"]["shape"] == (16, 20, 16)
    assert recipe.configs["training"]["ema"] == 0.99  # of the recipe
    copied = r"The denoiser of .*: \d+ of \d+ tensors were copied; initial values remain in .* of another shape .*"
    with pytest.warns(LongigenWarning, match=f"{copied} it was configured with width 2, now 4"):
        Experiment.of(recipe).trainer(Run.create(tmp_path / "run"))


def test_fine_tuning_on_the_models_own_data() -> None:
    config = read_config(FIXTURE)
    recipe = Recipe.resolve("sadm-acdc", model=config)
    assert recipe.names["data"] == "sim-brain"
    assert recipe.configs["preprocess"]["spacing"] == (10.0, 10.0, 10.0)


def test_a_part_without_weights_needs_no_warm_start(tmp_path: Path) -> None:
    parts = SourceConditioner(), IdentityDenoiser(), ContinuousSampler(prediction="x")
    LongitudinalModel(*parts).save_pretrained(tmp_path)
    new = LongitudinalModel(*parts)
    for part in ("conditioner", "denoiser"):
        assert WarmStart(part, str(tmp_path)).apply(new) is None


def test_init_and_its_conflicts(tmp_path: Path) -> None:
    for part in ("conditioner", "denoiser"):
        given: Any = {f"init_{part}": str(FIXTURE)}
        message = f"initialises both parts, so it cannot be combined with --init-{part}; leave"
        with pytest.raises(LongigenError, match=message):
            train(init=str(FIXTURE), out=tmp_path / "run", **given)
    with pytest.raises(LongigenError, match=r"is 'sadm' and that of this model is 'raw', .*; choose --conditioner sa"):
        train(init=str(FIXTURE), conditioner="raw", out=tmp_path / "run")
    with pytest.raises(LongigenError, match="There is no model 'nothing'"):
        train(init="nothing", out=tmp_path / "run")
