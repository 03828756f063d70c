"""Generation from Python refuses arguments outside their ranges."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from helpers.models import FIXTURE
from longigen import LongigenError, LongitudinalModel, VisitSequence, open_dataset
from longigen.api import bench, evaluate, examine, generate
from longigen.components.sampler import Sampler
from longigen.models.predict import GenerationSettings
from longigen_continuous import ContinuousSampler

REFUSED = [
    ({"steps": 0}, "steps must be a whole number from 1 to 100000, got 0."),
    ({"steps": 2.5}, "steps must be a whole number from 1 to 100000, got 2.5."),
    ({"guidance": -1}, "guidance must be a number from 0 to 1000, got -1."),
    ({"guidance": math.nan}, "guidance must be a number from 0 to 1000, got nan."),
    ({"guidance_interval": (0, 99)}, "guidance_interval must be 2 numbers from -60 to 60, got (0, 99)."),
    ({"seed": -1}, "seed must be a whole number from 0 to 4294967295, got -1."),
]


@pytest.fixture(scope="module")
def model() -> LongitudinalModel:
    return LongitudinalModel.from_pretrained(FIXTURE)


def assert_refused(message: str, function: Callable[..., object], **given: Any) -> None:
    with pytest.raises(LongigenError) as caught:
        function(**given)
    assert str(caught.value).replace(" or None", "") == message


@pytest.mark.parametrize(("given", "message"), REFUSED)
def test_settings_generate_and_forecast(model: LongitudinalModel, given: dict[str, Any], message: str) -> None:
    subject = open_dataset("sim-brain", subject_count=1).subjects()[0]
    there = torch.ones(1, 1, dtype=torch.bool)
    history = VisitSequence(torch.zeros(1, 1, 1, 16, 20, 16), torch.zeros(1, 1), there, there)
    assert_refused(message, GenerationSettings, **given)
    assert_refused(message, partial(model.generate, history, torch.ones(1, 1)), **given)
    assert_refused(message, partial(model.forecast, subject, at="+1"), **given)
    for function in (generate, evaluate):
        assert_refused(message, partial(function, "nowhere"), **given)


def test_counts(model: LongitudinalModel) -> None:
    subject = open_dataset("sim-brain", subject_count=1).subjects()[0]
    message = "samples must be a whole number of at least 1, got 0."
    for function in (
        partial(model.forecast, subject, at="+1"),
        partial(generate, "nowhere"),
        partial(evaluate, "nowhere"),
    ):
        assert_refused(message, function, samples=0)
    for function in (generate, evaluate):
        assert_refused(
            "batch_size must be a whole number of at least 1 or one of 'auto', got -2.",
            partial(function, "nowhere"),
            batch_size=-2,
        )
    assert_refused("workers must be a whole number of at least 1, got 0.", partial(examine, "nowhere"), workers=0)
    assert_refused("minutes must be a number of at least 0.01, got 0.", partial(bench, "sadm-ablation"), minutes=0)


def test_a_sampler_needs_at_least_one_step() -> None:
    class Loose(ContinuousSampler):
        def __init__(self, *, steps: int = 0) -> None:
            Sampler.__init__(self, steps=steps)
            self.v = 0.3

    given = (lambda z_t, _: z_t, torch.zeros(1, 1, 2, 2, 2), torch.Generator().manual_seed(0))
    message = "steps must be a whole number from 1 to 100000, got 0."
    assert_refused(f"Loose: {message}", partial(Loose().sample, *given))
    assert_refused(f"ContinuousSampler: {message}", partial(ContinuousSampler().sample, *given), steps=0)
