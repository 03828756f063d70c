"""As many volumes at once as memory holds, where it holds no more: an allocation that the CPU's allocator refuses."""

from pathlib import Path

import pytest
import torch

from helpers.models import FIXTURE
from longigen import LongigenError, LongigenWarning
from longigen.generation.session import GenerationSession
from longigen.models.batch_size import ON_CPU, BatchSize
from longigen.models.predict import GenerationSettings


@pytest.fixture
def session(manifest: Path) -> GenerationSession:
    return GenerationSession.open(str(FIXTURE), data=str(manifest), ids=["s0"])


def hold_at_most(session: GenerationSession, number: int) -> list[int]:
    """Let the network ask for too much memory for more volumes than `number`; return how many it is given."""
    sizes: list[int] = []

    def allocate(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        sizes.append(len(inputs[0]))
        if len(inputs[0]) > number:
            torch.empty(2**60, dtype=torch.uint8)

    session.model.denoiser.register_forward_pre_hook(allocate)
    return sizes


def test_auto_halves_the_batch_until_memory_holds_it_and_says_so(session: GenerationSession) -> None:
    settings, tasks = GenerationSettings(steps=1, guidance=0.0, order="direct"), session.tasks("full", seed=0)[:1]
    expected = list(session.generate(tasks, settings, samples=5, batch_size=1))
    sizes = hold_at_most(session, 1)
    with pytest.warns(LongigenWarning, match="does not hold 2 volumes at once; 1 are generated") as said:
        made = list(session.generate(tasks, settings, samples=5, batch_size="auto"))
    assert sizes == [ON_CPU, 2, 1, 1, 1, 1, 1]
    assert [str(each.message).split(";")[0] for each in said if "Memory" in str(each.message)] == [
        "Memory does not hold 4 volumes at once",
        "Memory does not hold 2 volumes at once",
    ]
    for one, other in zip(made, expected, strict=True):
        assert (one.images - other.images).abs().max() < 1e-5


def test_without_auto_the_number_is_refused_with_what_to_do(session: GenerationSession) -> None:
    tasks = session.tasks("full", seed=0)[:1]
    hold_at_most(session, 0)
    with pytest.raises(LongigenError, match="does not hold 3 volumes at once; give --batch-size auto, or a smaller"):
        list(session.generate(tasks, GenerationSettings(steps=1), samples=3, batch_size=3))
    with (
        pytest.warns(LongigenWarning, match="does not hold"),
        pytest.raises(LongigenError, match="Memory does not hold one volume; compute in --precision bf16"),
    ):
        list(session.generate(tasks, GenerationSettings(steps=1), samples=3, batch_size="auto"))


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    def fails(size: int) -> None:
        raise RuntimeError(f"shapes of {size} do not fit")

    for given in (3, "auto"):
        with pytest.raises(RuntimeError, match="do not fit"):
            BatchSize(given, torch.device("cpu")).run(fails)  # type: ignore[arg-type]
