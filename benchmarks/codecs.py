"""Training on codes beside training on voxels, on a CPU: ``python benchmarks/codecs.py``.

First the CPU seconds and the peak memory of a training step at 128 × 160 × 128 voxels, of a model on voxels and on the
codes of each codec; steps are timed in turn, and each peak is of a process of its own, beyond what it held before. Then
models of the simulated brains, each trained for the same CPU seconds, and their SSIM, change correlation and grid: the
mean difference of neighbours on both sides of a border of 2 × 2 × 2 voxels over that of neighbours inside, which is
1 where there is no grid. ``--tiny`` rehearses it, ``--out FOLDER`` keeps tables, codec, runs and figures.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from gpu import Table
from levers import in_turn

import longigen
from longigen.models.open_codec import codec_choice, open_codec
from longigen.testing.case import after, history
from longigen.testing.composition import model_of
from longigen.training.experiment import Experiment
from longigen.training.recipe import Recipe
from longigen.training.run import Run
from longigen.utils.memory import peak_memory, reset_peak_memory

LARGE = (128, 160, 128)
COMPONENTS = {"conditioner": "source", "denoiser": "unet3d", "sampler": "ddpm"}
NETWORK = ["denoiser.width=8", "denoiser.multipliers=1,2,2", "denoiser.blocks=1", "denoiser.attention=[]"]
WAYS: dict[str, tuple[str, str]] = {
    "voxels": ("identity", "denoiser.patch=1"),
    "voxels, patch 2": ("identity", "denoiser.patch=2"),
    "haar": ("haar", "denoiser.patch=1"),
    "kl": ("kl", "denoiser.patch=1"),
}
"""By its name, the codec of a model and the patch of its denoiser, whose space to depth is a transform of its own."""
METRICS = ("ssim", "change-correlation")


@dataclass(frozen=True)
class Size:
    """The sizes of the comparison: the grid of the step, rounds, and CPU seconds of training, of each model."""

    step: tuple[int, int, int]
    rounds: int
    seconds: float
    codec_steps: int
    data: tuple[str, ...]


FULL = Size(LARGE, 2, 60.0, 400, ("data.subject_count=16",))
TINY = Size((16, 24, 16), 1, 2.0, 5, ("data.subject_count=8", "preprocess.shape=24,24,24", "training.batch_size=1"))


def training_step(way: str, size: tuple[int, int, int]) -> Callable[[], object]:
    """Return a function that makes one training step of a pair of images of a size, as codes where there is a codec."""
    codec, patch = WAYS[way]
    recipe = Recipe.resolve("sadm-tiny", components={**COMPONENTS, "codec": codec}, changes=[*NETWORK, patch])
    torch.manual_seed(0)
    model = model_of(recipe).train()
    optimizer = torch.optim.AdamW(model.generator_parameters, lr=1e-4)
    visits = history(size, lengths=(1,))
    with torch.no_grad():  # codes come from the cache in training
        coded = model.coded(visits)
        batch = longigen.Batch(coded, model.codec.encode(visits.images[:, 0]), after(visits), coded=True)

    def step() -> None:
        model.loss(batch, torch.Generator().manual_seed(0)).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def peak(way: str, size: tuple[int, int, int]) -> float:
    """Return by how many GB the largest resident memory of this process grows in a training step."""
    step, device = training_step(way, size), torch.device("cpu")
    reset_peak_memory(device)
    before = peak_memory(device) or 0
    step()
    return ((peak_memory(device) or 0) - before) / 1e9


def step_table(size: Size) -> Table:
    seconds = in_turn([training_step(way, size.step) for way in WAYS], torch.device("cpu"), size.rounds)
    rows = []
    for way, each in zip(WAYS, seconds, strict=True):
        words = [sys.executable, __file__, "--peak", way, *map(str, size.step)]
        memory = float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        rows.append([way, f"{each:.2f}", f"{seconds[0] / each:.1f}", f"{memory:.2f}"])
    note = f"A pair, fp32, {torch.get_num_threads()} thread, torch {torch.__version__}; {', '.join(NETWORK)}."
    return Table(
        f"A training step at {' × '.join(map(str, size.step))} voxels",
        ["on", "CPU s", "× as fast", "peak GB"],
        rows,
        note,
    )


def trained(way: str, codec: str, size: Size, out: Path) -> tuple[Run, int]:
    """Return a run that was trained for the CPU seconds, and its number of steps."""
    choice, changes = WAYS[way], [*NETWORK, WAYS[way][1], *size.data, "sampler.steps=10", "model.guidance=0"]
    changes += ["training.lr_schedule=constant", "training.ema=0.98", "training.steps=100000", "training.warmup=10"]
    changes += [f"training.{key}_every=100000" for key in ("validate", "sample", "checkpoint")]
    name = choice[0] if choice[0] != "kl" else codec
    chosen, of_codec = codec_choice(name)
    recipe = Recipe.resolve("sadm-tiny", components={**COMPONENTS, "codec": chosen}, changes=[*of_codec, *changes])
    experiment = Experiment.of(recipe)
    experiment.read()
    run = Run.create(out)
    trainer = experiment.trainer(run)
    started = time.process_time()

    def stop(step: int, metrics: dict[str, object]) -> None:
        if time.process_time() - started > size.seconds:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        trainer.fit(stop)
    return run, trainer.step


def grid(image: torch.Tensor) -> float:
    """Return the mean difference of neighbours across borders of cubes of 2 voxels over that inside (W, H, D)."""
    inside, across = [], []
    for axis in range(3):
        difference = image.diff(dim=axis).abs()
        inside.append(difference.index_select(axis, torch.arange(0, difference.shape[axis], 2)).mean())
        across.append(difference.index_select(axis, torch.arange(1, difference.shape[axis], 2)).mean())
    return float(torch.stack(across).mean() / torch.stack(inside).mean())


def scores_table(size: Size, out: Path) -> Table:
    longigen.train_codec("sim-brain", out / "codec", changes=[f"training.steps={size.codec_steps}", *size.data[:1]])
    error = open_codec(str(out / "codec")).error
    rows = []
    for way in WAYS:
        run, steps = trained(way, str(out / "codec"), size, out / way.replace(", ", "-").replace(" ", "-"))
        evaluation = longigen.evaluate(run, settings=["full"], metrics=METRICS, space="model")
        evaluation.save(run.folder / "evaluation")
        found = {row.method: row.values for row in evaluation.rows}
        borders = [grid(each.images[-1][0]) for each in evaluation.shown]
        true = [grid(each.true(len(each.times) - 1)[0]) for each in evaluation.shown]
        values = [found["model"][name].mean for name in METRICS]
        ceiling = [found[kind]["ssim"].mean for kind in ("copy-last", "true, coded") if kind in found]
        rows.append(
            [
                way,
                str(steps),
                *(f"{value:.4f}" for value in values),
                f"{ceiling[0]:.4f}",
                f"{ceiling[1]:.4f}" if len(ceiling) > 1 else "1",
                f"{sum(borders) / sum(true):.3f}",
            ]
        )
    data = ", ".join(size.data)
    note = (
        f"{size.seconds:g} CPU seconds each; kl trained before in {size.codec_steps} steps, error {error:.4f}; {data}."
    )
    columns = ["on", "steps", "SSIM ↑", "change correlation ↑", "copy-last's SSIM", "ceiling's SSIM", "grid, 1 is none"]
    return Table("Models of the simulated brains, trained for equal CPU seconds", columns, rows, note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="rehearse at a small size")
    parser.add_argument("--shape", type=int, nargs=3, metavar=("W", "H", "D"), help="voxels of the step that is timed")
    parser.add_argument("--rounds", type=int, help="number of rounds that are timed")
    parser.add_argument("--seconds", type=float, help="CPU seconds of the training of each model")
    parser.add_argument("--part", choices=["step", "scores"], help="make one of the two tables only")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the data or training")
    parser.add_argument("--out", type=Path, help="new folder for tables, codec, runs and figures")
    parser.add_argument("--peak", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        way, *numbers = arguments.peak
        width, height, depth = map(int, numbers)
        print(peak(way, (width, height, depth)))
        return
    size = TINY if arguments.tiny else FULL
    seconds = arguments.seconds or size.seconds
    width, height, depth = arguments.shape or size.step
    rounds = arguments.rounds or size.rounds
    size = Size((width, height, depth), rounds, seconds, size.codec_steps, (*size.data, *arguments.set))
    with tempfile.TemporaryDirectory() as temporary:
        out = arguments.out or Path(temporary)
        out.mkdir(parents=True, exist_ok=True)
        tables = out / "tables.md" if arguments.out else None
        if arguments.part != "scores":
            step_table(size).show(tables)
        if arguments.part != "step":
            scores_table(size, out).show(tables)


if __name__ == "__main__":
    main()
