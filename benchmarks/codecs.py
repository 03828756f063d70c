"""Training on codes beside training on voxels, on a CPU: ``python benchmarks/codecs.py``.

First (``--part step``) the CPU seconds and the peak memory of a training step at 128 × 160 × 128 voxels, of a model on
voxels and on the codes of each codec, each in a process of its own. Then (``--part scores``) models of the simulated
brains of 1.5 mm, each trained for the same CPU seconds: their SSIM, change correlation and grid, the mean difference of
neighbours on both sides of a border of 2 × 2 × 2 voxels over that of neighbours inside, and over the same of true
images, so that 1 is no grid. ``planes.png`` has a visit of each in three planes beside copy-last, every voxel drawn, to
look for it. ``--tiny`` rehearses it, ``--out FOLDER`` keeps tables, codec, runs and pictures.
"""

import argparse
import contextlib
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from gpu import Table
from planes import last_visit, write_planes

import longigen
from longigen.models.open_codec import codec_choice, open_codec
from longigen.testing.case import after, history
from longigen.testing.composition import model_of
from longigen.training.experiment import Experiment
from longigen.training.recipe import Recipe
from longigen.training.run import Run
from longigen.utils.memory import resident_memory

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


FULL = Size(LARGE, 2, 600.0, 400, ("data.subject_count=24", "data.spacing=1.5"))
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


def measured(way: str, size: tuple[int, int, int], rounds: int) -> dict[str, float]:
    """Return the CPU seconds of a training step, and the largest resident memory of this process before and in all."""
    step = training_step(way, size)
    before, seconds = resident_memory(), []
    for _ in range(rounds + 1):
        started = time.process_time()
        step()
        seconds.append(time.process_time() - started)
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"seconds": statistics.median(seconds[1:]), "before": before / 1e9, "largest": largest / 1e9}


def step_table(size: Size) -> Table:
    rows, first = [], 0.0
    for way in WAYS:
        words = [sys.executable, __file__, "--measure", way, *map(str, size.step), str(size.rounds)]
        found = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
        first = first or found["seconds"]
        rows.append(
            [
                way,
                f"{found['seconds']:.2f}",
                f"{first / found['seconds']:.1f}",
                f"{found['largest']:.2f}",
                f"{found['largest'] - found['before']:.2f}",
            ]
        )
        print(f"{way}: {found}", file=sys.stderr, flush=True)
    note = (
        f"A pair, fp32, {torch.get_num_threads()} thread, torch {torch.__version__}; {', '.join(NETWORK)}; median of "
        f"{size.rounds} after a step that is not counted; each in a process of its own, whose largest resident memory "
        "(getrusage) it is, in all and beyond what it held before the first step."
    )
    return Table(
        f"A training step at {' × '.join(map(str, size.step))} voxels",
        ["on", "CPU s", "× as fast", "peak GB", "beyond GB"],
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
    same = [change for change in size.data if change.startswith(("data.", "preprocess."))]
    longigen.train_codec("sim-brain", out / "codec", changes=[f"training.steps={size.codec_steps}", *same])
    error = open_codec(str(out / "codec")).error
    rows, pairs = [], {}
    for way in WAYS:
        run, steps = trained(way, str(out / "codec"), size, out / way.replace(", ", "-").replace(" ", "-"))
        evaluation = longigen.evaluate(run, settings=["full"], metrics=METRICS, space="model")
        evaluation.save(run.folder / "evaluation")
        _, pairs[way] = last_visit(run.folder, "full", space="model")
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
    side = max(next(iter(pairs.values())).true.shape) * 2
    write_planes(pairs, out / "planes.png", title="the last visit, from all before it; two pixels a voxel", side=side)
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
    parser.add_argument("--measure", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        way, *numbers = arguments.measure
        width, height, depth, rounds = map(int, numbers)
        print(json.dumps(measured(way, (width, height, depth), rounds)))
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
