"""The type that networks compute in when visits are generated, on a CPU; tests/test_gpu.py has those for a GPU."""

import pytest
import torch

from longigen import LongigenError, LongitudinalModel, VisitSequence
from longigen.models.predict import GenerationSettings, recorded_generation
from longigen.testing.case import after, history
from longigen.testing.composition import model_of
from longigen.training.recipe import Recipe
from longigen.utils.precision import computing_type

CPU = torch.device("cpu")


def model() -> LongitudinalModel:
    torch.manual_seed(0)
    made = model_of(Recipe.resolve("sadm-tiny", changes=["denoiser.width=8"])).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return made


@pytest.fixture
def visits() -> VisitSequence:
    return history((8, 8, 8))


def test_a_cpu_computes_in_fp32_unless_asked() -> None:
    assert computing_type("auto", CPU, torch.float32) == "fp32"
    assert computing_type("bf16", CPU, torch.float32) == "bf16"
    assert computing_type("auto", CPU, torch.bfloat16) == "bf16"


def test_weights_of_16_bits_do_not_compute_in_fp32() -> None:
    with pytest.raises(LongigenError, match="were loaded as bf16, so it cannot compute in fp32; load them without"):
        computing_type("fp32", CPU, torch.bfloat16)


def test_bf16_is_close_to_fp32_and_not_equal(visits: VisitSequence) -> None:
    made, times = model(), after(visits)[:, None]
    exact, rounded = (made.generate(visits, times, precision=kind) for kind in ("fp32", "bf16"))
    assert torch.equal(exact, made.generate(visits, times))
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    assert (rounded - exact).square().mean().sqrt() < 0.01


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(LongigenError, match="precision must be one of 'auto', 'fp32', 'bf16', 'fp16', got 'half'"):
        GenerationSettings(precision="half")  # type: ignore[arg-type]


def test_what_was_recorded_without_a_precision_was_computed_in_fp32() -> None:
    assert recorded_generation({"steps": 1})["precision"] == "fp32"
    assert recorded_generation({"steps": 1, "precision": "bf16"})["precision"] == "bf16"
