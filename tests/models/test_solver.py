"""A model that is trained in many steps and generates in few: `Sampler.solver`."""

import pytest
import torch

from longigen import LongigenError, LongitudinalModel
from longigen.components.sampler import Sampler
from longigen.models.predict import GenerationSettings, generation_metadata, recorded_generation
from longigen.testing.case import after, history
from longigen.training.recipe import Recipe
from longigen_baselines import SourceConditioner
from longigen_continuous import ContinuousSampler
from longigen_ddpm import DDPMSampler, DPMSolverSampler
from longigen_unet3d import UNet3D


def model(sampler: Sampler) -> LongitudinalModel:
    return LongitudinalModel(SourceConditioner(), UNet3D(width=8, multipliers=(1,)), sampler).eval()


@pytest.mark.parametrize(
    "trained", [ContinuousSampler(steps=7, solver="dpmpp", solver_steps=5), DDPMSampler(steps=7, solver="dpmpp")]
)
def test_the_solver_generates_and_the_chain_is_one_option_away(trained: Sampler) -> None:
    made, visits = model(trained), history((8, 8, 8), lengths=(2,))
    levels: list[torch.Tensor] = []
    made.denoiser.register_forward_hook(lambda _, inputs, __: levels.append(inputs[1]))
    name = "continuous" if isinstance(trained, ContinuousSampler) else "ddpm"
    default = trained.solver_steps or 20  # that of dpmpp itself
    for chosen, steps in ((None, default), (name, 7), ("ddim", 50)):
        settings = GenerationSettings(sampler=chosen, guidance=0.0)
        levels.clear()
        made.generate_visits(visits, after(visits)[:, None], settings)
        assert len(levels) == steps == settings.steps_of(made)
    assert isinstance(GenerationSettings().sampler_of(made), DPMSolverSampler)
    assert GenerationSettings(sampler=name).sampler_of(made) is trained
    assert GenerationSettings(steps=3).steps_of(made) == 3


def test_the_sampler_is_recorded_unless_it_is_the_one_of_training() -> None:
    made = model(ContinuousSampler(solver="unipc"))
    assert generation_metadata(made, GenerationSettings())["sampler"] == "unipc"
    assert generation_metadata(made, GenerationSettings(sampler="continuous"))["sampler"] is None
    assert recorded_generation({"steps": 1})["sampler"] is None


def test_an_unknown_solver_is_refused_when_the_model_is_composed() -> None:
    with pytest.raises(LongigenError, match=r"no sampler 'dpmp'.*dpmpp"):
        model(ContinuousSampler(solver="dpmp"))


ON_FILES = ("sadm-acdc", "sadm-brain", "dao-adni", "med-ddpm", "diffusemorph")
SIMULATED = ("sadm-small", "dao-small", "med-ddpm-small", "sadm-tiny", "dao-tiny", "diffusemorph-tiny")


@pytest.mark.parametrize("name", [*ON_FILES, *SIMULATED])
def test_every_diffusion_recipe_generates_in_at_most_25_evaluations(name: str) -> None:
    sampler = Recipe.resolve(name, changes=["data.path=."] if name in ON_FILES else []).component("sampler")
    assert GenerationSettings().steps_of(model(sampler)) <= 25
