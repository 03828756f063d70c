"""Composition: any conditioner with any denoiser and any sampler."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from longigen.components.visit_sequence import Batch
from longigen.data.statistics import Statistics
from longigen.errors import LongigenError
from longigen.models.longitudinal import LongitudinalModel, total
from longigen.models.settings import ModelSettings
from longigen.registry.catalog import Catalog
from longigen.registry.registry import registry
from longigen.testing.case import COVARIATES, Case, after, history, with_covariates
from longigen.training.recipe import Recipe

PARTS = ("conditioner", "denoiser", "sampler")
SIZE = (9, 8, 7)


def model_of(recipe: Recipe, statistics: Statistics | None = None) -> LongitudinalModel:
    """Return the model of a recipe with random weights, without its data or with what is known of them."""
    parts = (recipe.component(part) for part in PARTS)
    settings = recipe.settings("model")
    return LongitudinalModel(*parts, settings=settings, statistics=statistics, codec=recipe.component("codec"))


def two_steps_and_a_visit(cases: Mapping[str, Case], settings: ModelSettings, channels: int = 1) -> None:
    """Train a composition for two steps and generate one visit with guidance; both must stay finite and in range.

    Of several channels, some visits lack one. A denoiser that moves the last visit's voxels must be refused where the
    codec does not keep them.
    """
    stds = tuple(0.3 * (1 + channel) for channel in range(channels)) if channels > 1 else ()
    statistics = Statistics(
        covariates=COVARIATES,
        channels=channels,
        channel_stds=stds,
        channel_noise_stds=stds,
        channel_stds_per_gap=stds,
    )
    parts = [cases[part].make() for part in PARTS]
    codec = cases["codec"].make() if "codec" in cases else None
    if codec is not None and parts[1].moves and not codec.keeps_voxels:
        try:
            LongitudinalModel(*parts, settings=settings, statistics=statistics, codec=codec)
        except LongigenError:
            return
        raise AssertionError("a denoiser that moves voxels was composed with a codec that does not keep them")
    model = LongitudinalModel(*parts, settings=settings, statistics=statistics, codec=codec)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4) if list(model.parameters()) else None
    visits = with_covariates(history(SIZE, channels=channels))
    batch = Batch(visits, -visits.images[:, 0], after(visits))
    if channels > 1:
        lacking = torch.ones(*visits.times.shape, channels, dtype=torch.bool)
        lacking[0, -1, 0] = lacking[1, :, -1] = False
        visits = replace(visits, observed_channels=lacking)
        batch = replace(batch, history=visits, target_channels=lacking[:, -1])
    for step, adversary in itertools.product(range(2), (False, True)[: 1 if model.denoiser.adversary is None else 2]):
        loss = total(model(batch, torch.Generator().manual_seed(step), adversary=adversary)).mean()
        assert bool(torch.isfinite(loss)), f"the loss of step {step + 1} is {loss.item()}"
        if optimizer is not None:
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    image = model.eval().generate(visits, after(visits)[:, None], steps=2, guidance=0.5)
    assert image.shape == (2, 1, channels, *SIZE), f"a generated visit is {tuple(image.shape)}"
    assert bool(torch.isfinite(image).all()), "the generated visit is not finite"
    assert image.abs().max() <= 1 + 1e-5, "the generated visit is not in [-1, 1]"


def composes_with_every_part(case: Case) -> None:
    """Run a component with every installed part of the other kinds that loads, for both targets of the diffusion.

    The other parts are small; see `small_config`. With the second target, visits have two channels.
    """
    others = [part for part in PARTS if part != case.kind]
    names = [[name for name in registry.entries(part) if _loads(part, name)] for part in others]
    catalog = Catalog()
    small = {part: {name: small_config(part, name, catalog) for name in registry.entries(part)} for part in others}
    for chosen in itertools.product(*names):
        cases = {case.kind: case} | {
            part: Case(part, name, small[part][name]) for part, name in zip(others, chosen, strict=True)
        }
        for channels, target in enumerate(("image", "residual"), start=1):
            try:
                two_steps_and_a_visit(cases, ModelSettings(target=target), channels)
            except Exception as error:
                partners = " and ".join(chosen)
                raise AssertionError(f"with {partners}, target {target}: {type(error).__name__}: {error}") from error


def works_with_every_part(case: Case) -> None:
    """Run a codec with every installed part of the other kinds that loads, each in one composition or more.

    Not with every combination, since a codec changes only how many channels and voxels the parts see. The targets of
    the diffusion take turns.
    """
    catalog = Catalog()
    names = [[name for name in registry.entries(part) if _loads(part, name)] for part in PARTS]
    for turn in range(max(map(len, names))):
        chosen = [known[turn % len(known)] for known in names]
        cases = {case.kind: case} | {
            part: Case(part, name, small_config(part, name, catalog)) for part, name in zip(PARTS, chosen, strict=True)
        }
        try:
            two_steps_and_a_visit(cases, ModelSettings(target="residual" if turn % 2 else "image"))
        except Exception as error:
            raise AssertionError(f"with {' and '.join(chosen)}: {type(error).__name__}: {error}") from error


def small_config(kind: str, name: str, catalog: Catalog | None = None) -> dict[str, Any]:
    """Return the configuration of a part for checks of others: ``check`` in its ``registry.yaml``, or its defaults."""
    described = (catalog or Catalog()).describe(f"{kind}s", name)
    return dict((described.content.get("check") if described else None) or {})


def _loads(kind: str, name: str) -> bool:
    """Say whether a part can be used at all: another's broken plugin is not this component's fault."""
    try:
        registry.load(kind, name)
    except LongigenError:
        return False
    return True
