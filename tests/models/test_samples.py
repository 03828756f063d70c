"""Several samples of a visit in one batch: they do not depend on the batch, and share what is computed once."""

import pytest
import torch

from longigen import LongitudinalModel
from longigen.models.predict import GenerationSettings
from longigen.models.settings import Order
from longigen.testing.case import after, history
from longigen.testing.composition import model_of
from longigen.training.recipe import Recipe

DRAWS = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
ROUNDING = 1e-5
"""The largest difference, in model intensities, between a volume that is generated alone and in a batch."""


def model() -> LongitudinalModel:
    torch.manual_seed(0)
    made = model_of(Recipe.resolve("sadm-tiny", changes=["denoiser.width=8"])).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return made


@pytest.mark.parametrize("order", ["direct", "autoregressive"])
def test_samples_in_one_batch_are_those_that_are_generated_one_by_one(order: Order) -> None:
    made, visits = model(), history((8, 8, 8), lengths=(3, 2))
    times = torch.stack([after(visits, 1.0), after(visits, 2.0)], dim=1)
    settings = GenerationSettings(steps=2, order=order, guidance=0.5)
    together = made.generate_visits(visits, times, settings, draws=DRAWS).images
    alone = torch.cat([made.generate_visits(visits, times, settings, draws=[draw]).images for draw in DRAWS])
    by_sample = [made.generate(visits, times, steps=2, order=order, guidance=0.5, sample=sample) for sample in range(3)]
    assert together.shape == (6, 2, 1, 8, 8, 8)
    assert (together - alone).abs().max() < ROUNDING
    assert (together - torch.stack(by_sample, dim=1).flatten(0, 1)).abs().max() < ROUNDING
    assert (together[0] - together[1]).abs().max() > 1e-3


@pytest.mark.parametrize(("order", "rows"), [("direct", [2, 2]), ("autoregressive", [2, 6])])
def test_the_conditioning_is_computed_once_per_visit_while_histories_are_the_same(
    order: Order, rows: list[int]
) -> None:
    made, visits = model(), history((8, 8, 8), lengths=(3, 2))
    times = torch.stack([after(visits, 1.0), after(visits, 2.0)], dim=1)
    seen: list[int] = []
    made.conditioner.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].batch_size))
    made.generate_visits(visits, times, GenerationSettings(steps=3, order=order), draws=DRAWS)
    assert seen == rows
