"""What settings cost and save: ``python benchmarks/levers.py TABLE``, on a GPU if there is one, else on a CPU.

Each table compares variants of a recipe at batch size 1 by a training step, a guided denoising step (a batch of two)
and the peak memory of each. Variants are timed in turn, round after round, and the median of the rounds counts: CPU
seconds on a CPU, where other processes may compete for it; milliseconds of the clock on a GPU. The peak is that of
tensors on a GPU, and on a CPU that of the process over its start, each variant in a process of its own.

- ``equation11``: `dao-adni` on patches and literally (`--size literal`).

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

import torch
from gpu import Table, batch_of, gigabytes, parameters, training_step

from longigen import LongitudinalModel
from longigen.testing.composition import model_of
from longigen.training.recipe import Recipe
from longigen.utils.memory import peak_memory, reset_peak_memory
from longigen.utils.precision import ComputingType, computing_in

Grid = tuple[int, int, int]


@dataclass(frozen=True)
class Variant:
    """A variant of a recipe to measure: its size, changes, and the type that its networks compute in."""

    recipe: str
    size: str | None = None
    changes: tuple[str, ...] = ()
    kind: ComputingType = "fp32"

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
    cpu=(48, 64, 48),
)
TABLES = {"equation11": EQUATION11}


def guided_step(model: LongitudinalModel, grid: Grid, visits: int, kind: ComputingType) -> Callable[[], None]:
    """Return a function that makes one evaluation of the denoiser with guidance, for a conditioning computed before."""
    batch = batch_of(grid, visits, model.device, 2)
    z_t, log_snr = torch.randn_like(batch.target), torch.zeros(2, device=model.device)
    with torch.no_grad():
        conditioning = model.conditioner(batch.history, batch.target_time)
        (conditioning,), _ = model._add_residual_base(batch.history, batch.target_time, conditioning)

    def step() -> None:
        with torch.no_grad(), computing_in(kind, model.device):
            model.denoiser(z_t, log_snr, conditioning)

    return step


def seconds(function: Callable[[], object], device: torch.device) -> float:
    """Return the time of a call: of the CPU, or of the clock on a GPU."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    started = clock()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - started


def in_turn(functions: Sequence[Callable[[], object]], device: torch.device, rounds: int) -> list[float]:
    """Return the median time of each function over rounds in turn, after a round that is not counted."""
    times = [[seconds(each, device) for each in functions] for _ in range(rounds + 1)][1:]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def steps_of(variant: Variant, grid: Grid, visits: int, device: torch.device, training: bool) -> Callable[[], None]:
    model = variant.model(device)
    if training:
        return training_step(model.train(), batch_of(grid, visits, device), variant.kind)
    return guided_step(model.eval(), grid, visits, variant.kind)


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
    table = compare(TABLES[arguments.table], device, rounds=arguments.rounds, tiny=arguments.tiny)
    print(table.markdown)
    if arguments.out is not None:
        with arguments.out.open("a", encoding="utf-8") as file:
            file.write(f"{table.markdown}\n")


if __name__ == "__main__":
    main()
