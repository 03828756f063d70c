"""Measure what a GPU can do, then train SADM on it: ``python benchmarks/gpu.py --minutes 10 --out DIR``.

The tables are written to ``DIR/results.md`` and ``DIR/results.json`` after each part, so nothing is lost if the time is
cut short: `unet3d` beside MONAI's network at about equal numbers of parameters; time and peak memory of the paper-scale
recipes at batch size 1; what settings of CUDA are worth; how often a step makes the CPU wait for the GPU; graphs that
``torch.compile`` makes; and data loading. The minutes that are left train SADM at the grid of its paper (12 visits of
128 x 128 x 32, on simulated hearts or on ACDC) and score it beside copy-last, by ``longigen bench`` in ``DIR/bench``.

The script ends by itself before its minutes are over. A part that fails is named in the page with its error, the others
are measured all the same, and the exit status is 1. ``--tiny`` rehearses it at small sizes, on a CPU too, where what
only a GPU has is left out.
"""

import argparse
import json
import platform
import re
import statistics
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from longigen import Batch, Conditioning, Denoiser, LongitudinalModel, Routes, api
from longigen.data.training_pairs import TrainingPairs
from longigen.models.compilation import Compile, compiled
from longigen.registry.registry import registry
from longigen.testing.case import after, history
from longigen.testing.composition import model_of
from longigen.training.experiment import Experiment
from longigen.training.recipe import Recipe
from longigen.utils.memory import peak_memory, reset_peak_memory
from longigen.utils.precision import ComputingType, computing_in

PEERS = {"unet3d": {}, "monai": {"channels": (32, 64, 112), "head_channels": 16}}
SMALL_PEERS = {"unet3d": {"width": 16}, "monai": {"channels": (16, 32), "groups": 8}}
TRAINED = (
    "data.frames=12",
    "preprocess.shape=128,128,32",
    "fit=resize",
    "motion=true",
    "rates=8",
    "conditioner.patch=4,4,4",
    "conditioner.dim=96",
    "conditioner.features=8",
    "denoiser.width=32",
    "denoiser.blocks=2",
    "denoiser.refine=8",
    "learning_rate=1e-3",
    "warmup=100",
    "keep_background=false",
    "mixed_precision=bf16",
    "validate_every=100000",
    "sample_every=100000",
    "checkpoint_every=100000",
    "training.workers=8",
)
"""Changes of the row `sadm` of the table `sadm-ablation` for the grid of the paper."""
TINY = (
    "data.frames=3",
    "preprocess.shape=16,16,8",
    "training.workers=0",
    "conditioner.dim=24",
    "denoiser.width=16",
    "denoiser.blocks=1",
    "mixed_precision=no",
)
RESERVE = 0.35
"""The share of the last part's time that is left for scoring."""


@dataclass(frozen=True)
class Sizes:
    """The sizes of the measurements.

    Attributes:
        volume: size of a volume (W, H, D) for the comparison of networks.
        peers: configurations of the compared denoisers, of about equal numbers of parameters.
        kinds: the precisions that are compared; the last is that of the recipes.
        repeats: number of timed calls, of which the median counts.
        visits: number of given visits of the recipes.
        grids: grid (W, H, D) of each recipe.
        changes: changes of the trained row.
        simulated: more changes for simulated hearts.
    """

    volume: tuple[int, int, int] = (128, 128, 32)
    peers: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: PEERS)
    kinds: tuple[ComputingType, ...] = ("fp32", "bf16")
    repeats: int = 10
    visits: int = 11
    grids: dict[str, tuple[int, int, int]] = field(
        default_factory=lambda: {"sadm-acdc": (128, 128, 32), "dao-adni": (128, 160, 128)}
    )
    changes: tuple[str, ...] = TRAINED
    simulated: tuple[str, ...] = ("data.shape=128,128,32", "data.subject_count=60")


SMALL = Sizes(
    volume=(16, 16, 8),
    peers=SMALL_PEERS,
    kinds=("fp32",),
    repeats=1,
    visits=2,
    grids={"sadm-tiny": (16, 16, 8)},
    changes=(*TRAINED, *TINY),
    simulated=("data.subject_count=8",),
)
"""Without 16-bit types, which few CPUs compute in."""


@dataclass(frozen=True)
class Table:
    """A table of results: a title, the names of the columns, rows, and a note below."""

    title: str
    columns: Sequence[str]
    rows: list[list[str]]
    note: str = ""

    @property
    def markdown(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"## {self.title}\n\n{table}\n" + (f"\n{self.note}\n" if self.note else "")

    def show(self, out: Path | None) -> None:
        """Print the table, and append it to a Markdown file if one is given."""
        print(self.markdown)
        if out is not None:
            with out.open("a", encoding="utf-8") as file:
                file.write(f"{self.markdown}\n")


class Report:
    """The tables so far, written to a folder after each part."""

    def __init__(self, folder: Path, device: torch.device, minutes: float) -> None:
        self.folder, self.end = folder, time.monotonic() + 60 * minutes
        self.tables: list[Table] = []
        self.failures: dict[str, str] = {}
        folder.mkdir(parents=True, exist_ok=True)
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
        self.machine = {
            "device": name,
            "memory": f"{torch.cuda.get_device_properties(device).total_memory / 2**30:.0f} GiB"
            if device.type == "cuda"
            else "",
            "torch": torch.__version__,
            "cuda": torch.version.cuda or "",
            "python": platform.python_version(),
        }

    @property
    def minutes_left(self) -> float:
        return (self.end - time.monotonic()) / 60

    def measure(self, name: str, part: Callable[[], Table]) -> None:
        """Add the table of a part, or why there is none."""
        print(f"{name} … {self.minutes_left:.1f} minutes left", flush=True)
        try:
            self.tables.append(part())
            print(f"\n{self.tables[-1].markdown}", flush=True)
        except Exception as error:  # whatever it is, the other tables still count
            traceback.print_exc()
            self.failures[name] = reason(error)
        self.write()

    def write(self) -> None:
        head = "# " + ", ".join(value for value in self.machine.values() if value)
        failed = [f"## Failed: {name}\n\n{text}\n" for name, text in self.failures.items()]
        page = "\n".join([f"{head}\n", *(each.markdown for each in self.tables), *failed])
        (self.folder / "results.md").write_text(page, encoding="utf-8")
        tables = [asdict(each) for each in self.tables]
        content = {"machine": self.machine, "tables": tables, "failures": self.failures}
        (self.folder / "results.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


def seconds(function: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Return the median time of calls, after as many, two at most, that are not counted."""
    times, uncounted = [], min(repeats, 2)
    for _ in range(repeats + uncounted):
        started = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return statistics.median(times[uncounted:])


def milliseconds(value: float) -> str:
    return f"{1000 * value:.1f}"


def gigabytes(value: int | None) -> str:
    return "-" if value is None else f"{value / 1e9:.2f}"


def parameters(module: nn.Module) -> str:
    return f"{sum(each.numel() for each in module.parameters()) / 1e6:.2f} M"


def peers(device: torch.device, sizes: Sizes, compile: Compile = "none") -> Table:
    """Compare `unet3d` with MONAI's network: a training step and a guided denoising step (a batch of two)."""
    rows = []
    for name, config in sizes.peers.items():
        for kind in sizes.kinds if compile == "none" else sizes.kinds[-1:]:
            torch.manual_seed(0)
            denoiser = registry.make("denoiser", name, config)
            denoiser.build(channels=1, routes=Routes(concat=1))
            denoiser.to(device)
            with compiled([denoiser], compile):
                times = attempt(partial(step_times, denoiser, kind, device, sizes))
            rows.append([name, parameters(denoiser), kind, *times])
            torch.compiler.reset()
    columns = ["network", "parameters", "precision", "training step, ms", "guided step, ms", "peak, GB"]
    title = f"Networks on 1 × {' × '.join(map(str, sizes.volume))} voxels{'' if compile == 'none' else ', compiled'}"
    return Table(title, columns, rows)


def attempt(measure: Callable[[], list[str]]) -> list[str]:
    """Return what a measurement returns, or the reason why there is none; the other rows still count."""
    try:
        return measure()
    except Exception as error:  # no compiler, not enough memory
        return [reason(error)]


def reason(error: Exception) -> str:
    """Return the kind of an error and the first line of its message, shortened."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"


def step_times(denoiser: Denoiser, kind: ComputingType, device: torch.device, sizes: Sizes) -> list[str]:
    """Return the times of a training step and of a guided denoising step, and the training's peak memory."""
    optimizer = torch.optim.AdamW(denoiser.parameters(), fused=device.type == "cuda")
    z_t = torch.randn(2, 1, *sizes.volume, device=device)
    log_snr, concat = torch.zeros(2, device=device), torch.randn_like(z_t)

    def forward(count: int) -> Tensor:
        with computing_in(kind, device):
            return denoiser(z_t[:count], log_snr[:count], Conditioning(concat[:count]))

    def train() -> None:
        (forward(1) - z_t[:1]).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    reset_peak_memory(device)
    training = seconds(train, device, sizes.repeats)
    peak = peak_memory(device)
    with torch.no_grad():
        guided = seconds(lambda: forward(2), device, sizes.repeats)
    return [milliseconds(training), milliseconds(guided), gigabytes(peak)]


def composed(name: str, device: torch.device, *changes: str) -> LongitudinalModel:
    """Return the model of a recipe on a device."""
    torch.manual_seed(0)
    return model_of(Recipe.resolve(name, data="sim-heart", changes=changes)).to(device)


def batch_of(grid: tuple[int, int, int], visits: int, device: torch.device, count: int = 1) -> Batch:
    """Return a batch of random visits, whose target comes after them."""
    given = history(grid, lengths=(visits,) * count)
    return Batch(given, given.images[:, -1], after(given)).to(device)


def training_step(model: LongitudinalModel, batch: Batch, kind: ComputingType) -> Callable[[], None]:
    """Return a function that makes one training step."""
    optimizer = torch.optim.AdamW(model.parameters(), fused=model.device.type == "cuda")
    generator = torch.Generator(model.device).manual_seed(0)

    def step() -> None:
        with computing_in(kind, model.device):
            loss = model.loss(batch, generator)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def evaluation_seconds(model: LongitudinalModel, batch: Batch, kind: ComputingType, repeats: int) -> float:
    """Return the time of a guided network evaluation in generation: a visit of twelve less one of two."""

    def visit(steps: int) -> None:
        model.generate(batch.history, batch.target_time[:, None], steps=steps, guidance=0.1, precision=kind)

    few, more = (seconds(partial(visit, steps), model.device, repeats) for steps in (2, 12))
    return (more - few) / 10


def recipes(device: torch.device, sizes: Sizes) -> Table:
    """Measure the recipes of paper scale: a training step and a guided evaluation, and their memory."""
    rows: list[list[str]] = []
    kind, repeats = sizes.kinds[-1], max(1, sizes.repeats // 2)
    for name, grid in sizes.grids.items():
        for checkpointing in ("false", "true"):
            changes = [f"denoiser.checkpointing={checkpointing}"]
            model, batch = composed(name, device, *changes), batch_of(grid, sizes.visits, device)
            reset_peak_memory(device)
            train = seconds(training_step(model, batch, kind), device, repeats)
            training_peak = peak_memory(device)
            model.eval().zero_grad()
            reset_peak_memory(device)
            guided = evaluation_seconds(model, batch, kind, repeats)
            rows.append(
                [
                    name,
                    parameters(model),
                    checkpointing,
                    milliseconds(train),
                    gigabytes(training_peak),
                    milliseconds(guided),
                    gigabytes(peak_memory(device)),
                ]
            )
    columns = ["recipe", "parameters", "checkpointing", "training step, ms", "peak, GB", "guided evaluation, ms"]
    note = f"Batch size 1, {sizes.visits} given visits, {kind}, AdamW. A guided evaluation is of a batch of two."
    return Table("Recipes of paper scale", [*columns, "peak, GB"], rows, note)


def levers(device: torch.device, sizes: Sizes) -> Table:
    """Measure what settings of CUDA are worth for a training step and a guided evaluation of `sadm-acdc`."""
    rows, repeats = [], max(1, sizes.repeats // 2)
    settings: dict[str, tuple[ComputingType, bool, bool]] = {
        "fp32": ("fp32", False, False),
        "fp32, TF32": ("fp32", True, False),
        "bf16": ("bf16", True, False),
        "bf16, cudnn.benchmark": ("bf16", True, True),
        "fp16": ("fp16", True, False),
    }
    batch = batch_of(sizes.grids["sadm-acdc"], sizes.visits, device)
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    for name, (kind, tf32, benchmark) in settings.items():
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = benchmark
        model = composed("sadm-acdc", device).eval()
        guided = evaluation_seconds(model, batch, kind, repeats)
        train = seconds(training_step(model.train(), batch, kind), device, repeats)
        rows.append([name, milliseconds(train), milliseconds(guided)])
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = before
    columns = ["setting", "training step, ms", "guided evaluation, ms"]
    return Table("Settings, sadm-acdc at batch size 1", columns, rows, "fp16 is timed without scaling the loss.")


@contextmanager
def counted() -> Iterator[list[int]]:
    """Count how often the CPU waits for the GPU inside the context; the count is there after it."""
    found: list[int] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
        found.append(sum("synchroniz" in str(each.message) for each in caught))


def synchronisations(device: torch.device, sizes: Sizes) -> Table:
    """Count how often a training step and an evaluation of generation make the CPU wait for the GPU."""
    rows = []
    for name, grid in {**sizes.grids, "sadm-tiny": (32, 32, 32), "dao-tiny": (32, 32, 32)}.items():
        model, batch = composed(name, device), batch_of(grid, 3, device)
        step = training_step(model, batch, "bf16")
        step()
        with counted() as training:
            step()
        model.eval().zero_grad()
        waits = []
        for steps in (2, 2, 4):
            with counted() as found:
                model.generate(batch.history, batch.target_time[:, None], steps=steps, precision="bf16")
            waits += found
        rows.append([name, str(training[0]), str(waits[1]), f"{(waits[2] - waits[1]) / 2:g}"])
    columns = ["recipe", "in a training step", "in a visit of 2 evaluations", "in each further evaluation"]
    return Table("How often the CPU waits for the GPU", columns, rows, "A step of AdamW included.")


def graphs(device: torch.device) -> Table:
    """Count the graphs that ``compile=full`` makes of a model over noise levels, batch sizes and visits."""
    from torch._dynamo.utils import counters

    model = composed("sadm-tiny", device).eval()
    torch.compiler.reset()
    counters.clear()
    rows = []

    def new_graphs(visits: int, count: int) -> list[str]:
        before = counters["stats"]["unique_graphs"]
        batch = batch_of((32, 32, 32), visits, device, count)
        model.generate(batch.history, batch.target_time[:, None], steps=4, precision="bf16", compile="full")
        return [str(counters["stats"]["unique_graphs"] - before)]

    for visits, count in ((3, 1), (5, 1), (3, 2), (3, 4), (5, 4)):
        rows.append([f"{visits} visits, batch size {count}", *attempt(partial(new_graphs, visits, count))])
    torch.compiler.reset()
    return Table("Graphs compiled, sadm-tiny, in this order", ["generated", "new graphs"], rows)


def changes_of(data: str, sizes: Sizes) -> list[str]:
    """Return the changes of the trained row; simulated hearts are as large as the grid."""
    return [*sizes.changes, *(sizes.simulated if data == "sim-heart" else [])]


def loading(data: str, sizes: Sizes) -> Table:
    """Measure how many training pairs per second are loaded from the cache, at the grid that is trained on."""
    own = ("fit", "data", "preprocess")
    shared = [change for change in changes_of(data, sizes) if re.split("[.=]", change)[0] in own]
    cohort = Experiment.of(Recipe.resolve("sadm-tiny", data=data, changes=shared)).cohort
    cohort.read(cohort.part("train"))
    rows, number = [], 4 * sizes.repeats
    for workers in (0, 8) if sizes.repeats > 1 else (0,):
        pairs = TrainingPairs(cohort.part("train"), length=10**6, seed=0, causal=True)
        loader = DataLoader(
            pairs, batch_sampler=([k] for k in range(number + 16)), collate_fn=Batch.collate, num_workers=workers
        )
        started = 0.0
        for k, _ in enumerate(loader):
            if k == 15:
                started = time.perf_counter()
        rows.append([str(workers), f"{number / (time.perf_counter() - started):.0f}"])
    return Table("Data loading from the cache, at the grid that is trained on", ["workers", "pairs/s"], rows)


def trained(data: str, sizes: Sizes, minutes: float, folder: Path) -> Table:
    """Train SADM with ``longigen bench`` for some minutes, score it in three settings, and return its table."""
    started = time.perf_counter()
    result = api.bench(
        "sadm-ablation",
        folder,
        rows=["sadm"],
        data=data,
        changes=changes_of(data, sizes),
        minutes=max(minutes, 0.02),
        metrics=["psnr", "ssim", "ssim-slice", "sharpness"],
    )
    rows = [[row.setting, row.method, *(f"{value.mean:.4f}" for value in row.values.values())] for row in result.rows]
    steps, subjects = result.costs[0]["steps"], result.protocol.subjects
    note = (
        f"{steps} steps of batch size 2 on {data.partition(':')[0]}, {subjects} test subjects, in their own space; "
        f"{(time.perf_counter() - started) / 60:.1f} minutes with scoring. Tables, pictures and the model: "
        f"{folder.name}/."
    )
    return Table("SADM at the grid of its paper", ["setting", "method", *result.rows[0].values], rows, note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="the script ends before they are over")
    parser.add_argument("--data", default="sim-heart", help="data to train on: sim-heart, or acdc:PATH")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder of the results")
    parser.add_argument("--tiny", action="store_true", help="rehearse at small sizes, on a CPU too")
    arguments = parser.parse_args()
    if not arguments.tiny and not torch.cuda.is_available():
        parser.error("there is no CUDA device; --tiny rehearses the script on a CPU")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sizes = SMALL if arguments.tiny else Sizes()
    if arguments.tiny:
        torch.set_num_threads(1)  # several processes may share the machine of a rehearsal
    report = Report(arguments.out, device, arguments.minutes)
    parts: dict[str, Callable[[], Table]] = {"networks": partial(peers, device, sizes)}
    parts["recipes"] = partial(recipes, device, sizes)
    if device.type == "cuda":
        parts |= {"settings": partial(levers, device, sizes), "waiting": partial(synchronisations, device, sizes)}
    parts["loading"] = partial(loading, arguments.data, sizes)
    if device.type == "cuda":
        parts |= {"graphs": partial(graphs, device), "compiled networks": partial(peers, device, sizes, "full")}
    for name, part in parts.items():
        if arguments.tiny or report.minutes_left > arguments.minutes / 2:
            report.measure(name, part)
            reset_peak_memory(device)
    minutes = (1 - RESERVE) * report.minutes_left
    report.measure("training", lambda: trained(arguments.data, sizes, minutes, arguments.out / "bench"))
    if report.failures:
        sys.exit(f"{', '.join(report.failures)} failed; see {report.folder / 'results.md'}")


if __name__ == "__main__":
    main()
