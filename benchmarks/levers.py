"""What settings cost and save: ``python benchmarks/levers.py TABLE``, on a GPU if there is one, else on a CPU.

Each table compares variants of a recipe at batch size 1 by a training step, a guided denoising step (a batch of two)
and the peak memory of each. Variants are timed in turn, round after round, and the median of the rounds counts: CPU
seconds on a CPU, where other processes may compete for it; milliseconds of the clock on a GPU. The peak is that of
tensors on a GPU, and on a CPU that of the process over its start, each variant in a process of its own.

- ``equation11``: `dao-adni` on patches and literally (`--size literal`).
- ``memory``: what recomputing activations, by level and of the conditioner, and averaged weights on the CPU are worth.
- ``optimiser``: AdamW as it is by default, over all weights at once (`foreach`), and in one kernel (`fused`).
- ``compile``: `training.compile` of `sadm-tiny`; the time of the compilation itself is not in the table.

``--tiny`` rehearses a table at small sizes; ``--out FILE`` appends the table to a Markdown file.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from gpu import Table, batch_of, gigabytes, parameters

from longigen import Batch, LongitudinalModel
from longigen.models.compilation import Compile, compiled
from longigen.testing.composition import model_of
from longigen.training.averaging import averaged, update
from longigen.training.recipe import Recipe
from longigen.utils.memory import keep_freed_memory, peak_memory, reset_peak_memory
from longigen.utils.precision import ComputingType, computing_in

Grid = tuple[int, int, int]


@dataclass(frozen=True)
class Variant:
    """A variant of a recipe to measure.

    Attributes:
        recipe: name of the recipe.
        size: one of its sizes.
        changes: changes of it.
        kind: the type that the networks compute in.
        compile: which parts of them are compiled.
        optimizer: options of AdamW; by default fused on a GPU, as in training.
        ema_device: where averaged weights are held.
    """

    recipe: str
    size: str | None = None
    changes: tuple[str, ...] = ()
    kind: ComputingType = "fp32"
    compile: Compile = "none"
    optimizer: Mapping[str, Any] | None = None
    ema_device: Literal["model", "cpu"] = "model"

    def model(self, device: torch.device) -> LongitudinalModel:
        torch.manual_seed(0)
        recipe = Recipe.resolve(self.recipe, size=self.size, data="sim-heart", changes=self.changes)
        return model_of(recipe).to(device)


@dataclass(frozen=True)
class Comparison:
    """A table: its variants by name, its grid on a GPU, on a CPU and in a rehearsal, the number of given visits."""

    title: str
    variants: Mapping[str, Variant]
    gpu: Grid
    cpu: Grid
    visits: int = 1
    tiny: Grid = (16, 16, 16)

    def grid(self, device: torch.device, *, tiny: bool) -> Grid:
        return self.tiny if tiny else self.gpu if device.type == "cuda" else self.cpu


EQUATION11 = Comparison(
    "Equation 11 of Dao et al.: on patches and literally, dao-adni",
    {
        "patches": Variant("dao-adni"),
        "patches, H at full resolution": Variant("dao-adni", changes=("conditioner.source_patch=1",)),
        "literal": Variant("dao-adni", "literal", ("denoiser.checkpointing=false",)),
        "literal, checkpointing": Variant("dao-adni", "literal"),
    },
    gpu=(128, 160, 128),
    cpu=(32, 40, 32),
)
ACDC = {"gpu": (128, 128, 32), "cpu": (64, 64, 16), "visits": 11, "tiny": (16, 16, 8)}
MEMORY = Comparison(
    "Levers of memory, sadm-acdc",
    {
        "none": Variant("sadm-acdc"),
        "denoiser.checkpointing=1": Variant("sadm-acdc", changes=("denoiser.checkpointing=1",)),
        "denoiser.checkpointing=true": Variant("sadm-acdc", changes=("denoiser.checkpointing=true",)),
        "conditioner.recompute=true": Variant("sadm-acdc", changes=("conditioner.recompute=true",)),
        "both": Variant("sadm-acdc", changes=("denoiser.checkpointing=true", "conditioner.recompute=true")),
        "training.ema_device=cpu": Variant("sadm-acdc", ema_device="cpu"),
    },
    **ACDC,
)
OPTIMISER = Comparison(
    "Implementations of AdamW, sadm-acdc",
    {name: Variant("sadm-acdc", optimizer={name: True}) for name in ("foreach", "fused")}
    | {"neither": Variant("sadm-acdc", optimizer={"foreach": False, "fused": False})},
    **ACDC,
)
COMPILED = Comparison(
    "Compiled networks, sadm-tiny",
    {kind: Variant("sadm-tiny", compile=kind) for kind in ("none", "regional", "full")},
    gpu=(64, 80, 64),
    cpu=(32, 40, 32),
    visits=3,
)
TABLES = {"equation11": EQUATION11, "memory": MEMORY, "optimiser": OPTIMISER, "compile": COMPILED}


def training_step(model: LongitudinalModel, batch: Batch, variant: Variant) -> Callable[[], None]:
    """Return a function that makes one training step, with averaged weights."""
    device, weights = model.device, model.generator_parameters
    options: Mapping[str, Any] = {"fused": device.type == "cuda"} if variant.optimizer is None else variant.optimizer
    optimizer = torch.optim.AdamW(weights, **options)
    ema = averaged(weights, decay=0.999, device=torch.device("cpu") if variant.ema_device == "cpu" else device)
    generator = torch.Generator(device).manual_seed(0)

    def step() -> None:
        with computing_in(variant.kind, device), compiled(model.networks, variant.compile):
            loss = model.loss(batch, generator)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        update(ema, weights)

    return step


def guided_step(model: LongitudinalModel, batch: Batch, variant: Variant) -> Callable[[], None]:
    """Return a function that makes one evaluation of the denoiser with guidance, for a conditioning computed before."""
    sampler, z_t = model.sampler, torch.randn_like(batch.target)
    log_snr = sampler.log_snr(torch.full((len(z_t),), 0.5)).to(model.device, z_t.dtype)
    with torch.no_grad():
        example = model.example(batch, torch.Generator(model.device).manual_seed(0))

    def step() -> None:
        with torch.no_grad(), computing_in(variant.kind, model.device), compiled(model.networks, variant.compile):
            model.denoiser(z_t, log_snr, example.conditioning)

    return step


def clock(device: torch.device) -> float:
    """Return the time in seconds: of the CPU, or of the clock once a GPU has done what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def seconds(function: Callable[[], object], device: torch.device) -> float:
    """Return the time of a call."""
    started = clock(device)
    function()
    return clock(device) - started


def in_turn(functions: Sequence[Callable[[], object]], device: torch.device, rounds: int) -> list[float]:
    """Return the median time of each function over rounds in turn, after a round that is not counted."""
    times = [[seconds(each, device) for each in functions] for _ in range(rounds + 1)][1:]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def steps_of(variant: Variant, grid: Grid, visits: int, device: torch.device, training: bool) -> Callable[[], None]:
    model = variant.model(device)
    if training:
        return training_step(model.train(), batch_of(grid, visits, device), variant)
    return guided_step(model.eval(), batch_of(grid, visits, device, 2), variant)


def peak(variant: Variant, grid: Grid, visits: int, device: torch.device, training: bool) -> int | None:
    """Return the peak memory of two steps, in bytes: of tensors on a GPU, on a CPU over that of the process before."""
    reset_peak_memory(device)
    before = 0 if device.type == "cuda" else peak_memory(device)
    step = steps_of(variant, grid, visits, device, training)
    step()
    step()
    after = peak_memory(device)
    return None if before is None or after is None else after - before


def peaks(variant: Variant, grid: Grid, visits: int, device: torch.device) -> list[int | None]:
    """Return the peaks of training and guided steps; on a CPU in new processes, where nothing else has memory."""
    if device.type == "cuda":
        return [peak(variant, grid, visits, device, training) for training in (True, False)]
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return [pool.apply(peak, (variant, grid, visits, device, training)) for training in (True, False)]


def compare(comparison: Comparison, device: torch.device, *, rounds: int, tiny: bool) -> Table:
    grid = comparison.grid(device, tiny=tiny)
    columns: list[list[float]] = []
    for training in (True, False):
        make = partial(steps_of, grid=grid, visits=comparison.visits, device=device, training=training)
        columns.append(in_turn([make(variant) for variant in comparison.variants.values()], device, rounds))
    rows = []
    for place, (name, variant) in enumerate(comparison.variants.items()):
        times = [f"{1000 * column[place]:.0f}" for column in columns]
        ratios = [f"{column[0] / column[place]:.2f}" for column in columns]
        memory = [gigabytes(each) for each in peaks(variant, grid, comparison.visits, device)]
        rows.append([name, parameters(variant.model(torch.device("cpu"))), times[0], ratios[0], memory[0], times[1]])
        rows[-1] += [ratios[1], memory[1]]
    unit = "ms" if device.type == "cuda" else "CPU ms"
    head = ["variant", "parameters", f"training step, {unit}", "× as fast", "peak, GB"]
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} thread"
    note = (
        f"{' × '.join(map(str, grid))} voxels, {comparison.visits} given visits, batch size 1; {where}; torch "
        f"{torch.__version__}; median of {rounds} rounds in turn. × as fast: as the first row."
    )
    return Table(comparison.title, [*head, f"guided step, {unit}", "× as fast", "peak, GB"], rows, note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=TABLES, help="what to compare")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds that are timed")
    parser.add_argument("--tiny", action="store_true", help="rehearse at small sizes")
    parser.add_argument("--out", type=Path, help="Markdown file to append the table to")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    keep_freed_memory()  # as the commands do
    table = compare(TABLES[arguments.table], device, rounds=arguments.rounds, tiny=arguments.tiny)
    table.show(arguments.out)


if __name__ == "__main__":
    main()
