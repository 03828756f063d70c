"""Compiled networks: the same numbers, the same weights, and no graph for another step, batch or number of visits.

The backend `eager` traces networks as the default one does and generates no code, which would take minutes.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounter

from helpers.files import ball, write_image
from helpers.models import FIXTURE
from helpers.trainings import trainer, weights
from longigen import Batch, LongigenError, LongitudinalModel
from longigen.models import compilation
from longigen.models.compilation import Compile, compiled, regions
from longigen.models.predict import GenerationSettings
from longigen.testing.case import after, history, randomised
from longigen.testing.composition import model_of
from longigen.training.recipe import Recipe

SMALL = {
    "sadm-tiny": ("conditioner.dim=12", "conditioner.heads=2", "conditioner.depth=1", "denoiser.width=8"),
    "dao-tiny": ("conditioner.width=4", "denoiser.width=16"),  # two features in the stem: strides of one say nothing
}


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[CompileCounter]:
    """Count the graphs that are compiled."""
    counter = CompileCounter()
    monkeypatch.setattr(compilation, "BACKEND", counter)
    torch.compiler.reset()
    yield counter
    torch.compiler.reset()


def small(recipe: str, multipliers: str = "1") -> LongitudinalModel:
    torch.manual_seed(0)
    changes = [*SMALL[recipe], f"denoiser.multipliers={multipliers}", "denoiser.heads=2", "denoiser.motion=false"]
    return randomised(model_of(Recipe.resolve(recipe, changes=changes)))


def generate(model: LongitudinalModel, kind: Compile, visits: int = 3, count: int = 2, steps: int = 2) -> torch.Tensor:
    given = history((8, 8, 4), lengths=(visits,) * count)
    settings = GenerationSettings(steps=steps, guidance=0.5 if count > 1 else 0.0, compile=kind)
    return model.eval().generate_visits(given, after(given)[:, None], settings).images


def train(model: LongitudinalModel, kind: Compile, visits: int = 3, count: int = 2) -> None:
    given = history((8, 8, 8), lengths=(visits,) * count)
    batch = Batch(given, given.images[:, -1], after(given))
    with compiled(model.networks, kind):
        model.train().loss(batch, torch.Generator().manual_seed(visits)).backward()


def test_generation_compiles_each_network_once(graphs: CompileCounter) -> None:
    model = small("sadm-tiny")
    names = list(model.state_dict())
    expected = generate(model, "none")
    torch.testing.assert_close(generate(model, "full"), expected, atol=1e-5, rtol=1e-5)
    assert graphs.frame_count == 2
    for changed in ({"steps": 3}, {"visits": 4}, {"visits": 1}, {"count": 3}, {"count": 1}):
        generate(model, "full", **changed)
        assert graphs.frame_count == 2, changed
    assert list(model.state_dict()) == names
    assert not {"forward", "moved"} & {*vars(model.denoiser), *vars(model.conditioner)}


def test_a_forecast_is_compiled_as_it_is_asked(graphs: CompileCounter, tmp_path: Path) -> None:
    affine = np.diag([9.0, 9.0, 11.0, 1.0])
    paths = [write_image(tmp_path / f"{year}.nii.gz", ball((15, 18, 14), 0.5), affine) for year in (0, 1)]
    model = LongitudinalModel.from_pretrained(FIXTURE)
    for made, count in ((model.forecast, 2), (model.impute, 2)):
        given = {"times": [0.0, 1.0], "at": 0.5 if made == model.impute else "+1", "steps": 1, "progress": False}
        plain, compiled_ = (made(paths, **given, compile=each).mean[0].data for each in ("none", "full"))
        np.testing.assert_allclose(compiled_, plain, rtol=1e-3, atol=1e-3)
        assert graphs.frame_count == count


@pytest.mark.slow  # tracing the backward pass
@pytest.mark.parametrize(
    ("recipe", "multipliers", "kind", "number", "again"),
    [
        ("sadm-tiny", "1", "full", 2, 0),  # the conditioner, the denoiser
        ("dao-tiny", "1", "full", 2, 0),
        # The temporal block, the merging, the spatial block and the denoiser's; the first sees the visits.
        ("sadm-tiny", "1", "regional", 4, 1),
        ("dao-tiny", "1", "regional", 1, 0),  # the denoiser's blocks, of one shape; in the conditioner none repeats
        ("dao-tiny", "1,2", "regional", 5, 0),  # blocks of the way down, the middle, the way up; two convolutions
    ],
)
def test_training_compiles_once(
    recipe: str, multipliers: str, kind: Compile, number: int, again: int, graphs: CompileCounter
) -> None:
    """Blocks alone do not know which axis is that of the visits until their number has changed once."""
    model = small(recipe, multipliers)
    train(model, kind)
    assert graphs.frame_count == number
    train(model, kind, visits=4)
    assert graphs.frame_count == number + again
    for changed in ({}, {"visits": 5}, {"visits": 2}, {"count": 3}, {"count": 1}):
        train(model, kind, **changed)
        assert graphs.frame_count == number + again, changed


def test_regions_are_the_blocks_that_repeat() -> None:
    model = small("sadm-tiny", "1,1")
    names = {id(module): name for name, module in model.denoiser.named_modules()}
    found = [names[id(module)] for module in regions(model.denoiser, "regional")]
    assert found == ["down.0.0", "downsample.0", "up.0.0", "upsample.0", "middle.0", "middle.1"]
    assert regions(model.denoiser, "full") == [model.denoiser]
    assert regions(model.denoiser, "none") == []


class Doubling(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


def test_a_batch_of_one_in_another_layout_has_no_graph_of_its_own(graphs: CompileCounter) -> None:
    """As PyTorch's convolutions make it on a CPU."""
    module, several = Doubling(), torch.randn(2, 4, 3, 3, 3).to(memory_format=torch.channels_last_3d)
    one = torch.randn(1, 4, 3, 3, 3, requires_grad=True)
    with compiled([module], "full"):
        module(several.requires_grad_())
        doubled = module(one)
    assert graphs.frame_count == 1
    torch.testing.assert_close(doubled, 2 * one)
    doubled.sum().backward()
    assert one.grad is not None
    torch.testing.assert_close(one.grad, torch.full_like(one, 2.0))


def test_a_machine_that_cannot_compile_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise RuntimeError("no compiler was found")

    monkeypatch.setattr(compilation, "BACKEND", failing)
    module = Doubling()
    message = r"cannot compile the networks on this machine \(.*no compiler was found.*\); use compile=none"
    with compiled([module], "full"), pytest.raises(LongigenError, match=message):
        module(torch.ones(3))
    assert module(torch.ones(1)) == 2


@pytest.mark.slow
def test_training_compiled_and_resumed_gives_the_same_model(
    graphs: CompileCounter, manifest: Path, tmp_path: Path
) -> None:
    """With own visits, validation and averaged weights; exact resume, and a model that loads without a compiler."""
    changes = ("training.steps=6", "own_visits=0.5")
    trainer(manifest, tmp_path / "plain", *changes).fit()
    trainer(manifest, tmp_path / "whole", *changes, "compile=full").fit()

    def stop(step: int, _: object) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(manifest, tmp_path / "broken", *changes, "compile=full").fit(stop)
    trainer(manifest, tmp_path / "broken", resume=True).fit()
    assert graphs.frame_count >= 2
    plain, whole, broken = (weights(tmp_path / name) for name in ("plain", "whole", "broken"))
    assert plain.keys() == whole.keys() == broken.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(broken[name], tensor, rtol=0, atol=0)
        torch.testing.assert_close(plain[name], tensor, rtol=1e-3, atol=1e-3)  # AdamW enlarges rounding
    LongitudinalModel.from_pretrained(tmp_path / "broken")
