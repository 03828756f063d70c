"""A step that is really made, on random images of the real size: how long it takes, and its peak memory."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module

import torch

from longigen.components.visit_sequence import Batch
from longigen.models.longitudinal import LongitudinalModel, total
from longigen.training.averaging import averaged, update
from longigen.utils.memory import keep_freed_memory, peak_memory, reset_peak_memory
from longigen.utils.precision import ComputingType, computing_in

Make = Callable[[], LongitudinalModel]


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        seconds: duration of a step.
        peak: bytes at the peak: of tensors on a GPU, over those before; on a CPU resident memory of the whole process,
            with Python and PyTorch, as a training's process has them too; None where the system does not say.
    """

    seconds: float
    peak: int | None


def measure_training(
    make: Make,
    batch: Batch,
    kind: ComputingType,
    device: torch.device,
    *,
    frozen: Sequence[str] = (),
    average_on: torch.device | None = None,
    repeats: int = 1,
) -> Measured:
    """Make training steps as `longigen.training.trainer.Trainer` does, and measure one after the first.

    Args:
        make: makes the model.
        batch: what it is trained on.
        kind: the type that the networks compute in.
        device: where.
        frozen: components that are not trained.
        average_on: where the averaged weights are; on `device` if None.
        repeats: number of measured steps, of which the shortest counts.
    """
    import_module("diffusers.training_utils")  # before the base is taken
    base = _start(device)
    model, batch = make().to(device).train(), batch.to(device)
    for part in frozen:
        getattr(model, part).requires_grad_(False)
    adversary = model.denoiser.adversary if "denoiser" not in frozen else None
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=device.type == "cuda")
    average = averaged(model.generator_parameters, decay=0.999, device=average_on or device)
    generator = torch.Generator(device).manual_seed(0)

    def step() -> None:
        for second in (False,) if adversary is None else (False, True):
            with computing_in(kind, device):
                losses = model(batch, generator, adversary=second)
            total(losses).mean().backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        update(average, model.generator_parameters)

    return Measured(_shortest(step, device, repeats), _over(base, device))


def measure_generation(
    make: Make,
    batch: Batch,
    kind: ComputingType,
    device: torch.device,
    *,
    evaluations: int,
    guidance: float | None = None,
) -> Measured:
    """Generate a visit of each history by at most two network evaluations, and measure that after a first one.

    Args:
        make: makes the model.
        batch: histories and the times to generate.
        kind: the type that the networks compute in.
        device: where.
        evaluations: network evaluations; the second stands for all further ones.
        guidance: guidance weight; by default the model's own.
    """
    base = _start(device)
    model, batch = make().to(device).eval(), batch.to(device)
    ends: list[float] = []

    def note(done: int, total: int) -> None:
        _finish(device)
        ends.append(time.perf_counter())

    def visit() -> None:
        ends.clear()
        model.generate(
            batch.history,
            batch.target_time[:, None],
            steps=min(evaluations, 2),
            guidance=guidance,
            precision=kind,
            callback=note,
        )

    seconds = _shortest(visit, device, 1)
    further = (evaluations - 2) * (ends[-1] - ends[-2]) if evaluations > 2 else 0.0
    return Measured(seconds + further, _over(base, device))


def _start(device: torch.device) -> int:
    """Start measuring; return the bytes that do not count."""
    if device.type == "cpu":
        keep_freed_memory()  # as `longigen.api.train` does
    reset_peak_memory(device)
    return 0 if device.type == "cpu" else torch.cuda.memory_allocated(device)


def _over(base: int, device: torch.device) -> int | None:
    peak = peak_memory(device)
    return None if peak is None else peak - base


def _shortest(function: Callable[[], None], device: torch.device, repeats: int) -> float:
    """Return the shortest duration of some calls after a first one."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        function()
        _finish(device)
        times.append(time.perf_counter() - started)
    return min(times[1:])


def _finish(device: torch.device) -> None:
    """Wait until a GPU has done what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
