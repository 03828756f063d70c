"""Make docs/results, the claims of the papers measured: ``python benchmarks/results.py [NAME ...]``.

Each name is a table on a data set: `longigen bench` trains and scores its rows (what is there is not made again), and
the table and a picture of all rows are kept. Of SADM's ablations moreover the order of settings and of rows is tested,
subject by subject; attention is asked where it looked; and on sim-brain the rate of change is compared with the truth.
``solvers`` is no table: one model of `ddpm` is trained and walked by the chain of 1000 steps and by 20 evaluations of
each solver. The small files that come of it go to ``docs/results/NAME``; runs stay in ``--work``. ACDC needs the folder
of its patients: ``--acdc PATH``. Several calls may run at once on different names.
"""

import argparse
import csv
import itertools
import json
import shlex
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from longigen.evaluation.benchmark_spec import BenchmarkSpec
from longigen.utils.intervals import Summary

ABLATION = "sadm-ablation"
SETTINGS = ("full", "missing", "single")
ORDER = ("sadm", "without attention", "without diffusion")
"""From best to worst, as the paper has them."""
PACED = ("linear", "without attention", "sadm")
"""Rows of which is asked whether each brain changes at its own rate."""
BETTER = {"ssim": 1, "ssim-foreground": 1, "psnr": 1, "nrmse": -1}
SHORT = "--set learning_rate=2e-3 --set warmup=100"
BRIEF = "--set validate_every=200 --set sample_every=10000 --set checkpoint_every=200 --steps 400"
BRAIN = "--set validate_every=100 --set sample_every=10000 --set checkpoint_every=100 --steps 200"
ACDC = (
    "--set data.frames=6 --set shape=64,64,8 --set fit=resize --set keep_background=false --set motion=true "
    "--set augment.rotate=0,0,30 --set augment.flip=true,true,false --set augment.scale=0.1 --set augment.shift=0.05 "
)
SADM = "--set rates=8 --set conditioner.patch=4,4,1"
"""What concerns the conditioner `sadm` (and `raw`) on ACDC alone."""
SOLVED = (
    "--set data.spacing=4 --set subject_count=60 --set denoiser.width=8 --set prediction=v "
    "--set sampler.train_steps=1000 --set beta_min=1e-4 --set beta_max=0.02 --set sampler.steps=1000 "
    f"{SHORT} --set validate_every=250 --set sample_every=10000 --set checkpoint_every=500 --steps 1500"
)
SOLVERS = {"ddpm": 1000, "ddim": 20, "dpmpp": 20, "unipc": 20, "euler": 20}
"""Samplers of ``solvers``, with their network evaluations; the first is the chain that the others are held to."""


@dataclass(frozen=True)
class Measure:
    """A table on a data set, with the arguments of `longigen bench`: sizes for two CPU cores.

    With several `seeds`, SADM and the row without attention are trained with each, to see what training's luck does.
    """

    table: str
    data: str
    options: str
    seeds: int = 1


MEASURES = {
    "sim-brain": Measure(
        ABLATION,
        "sim-brain",
        f"--set data.spacing=4 --set subject_count=200 {SHORT} --set validate_every=100 "
        "--set sample_every=1500 --set checkpoint_every=250 --steps 1500",
    ),
    "sim-heart": Measure(
        ABLATION,
        "sim-heart",
        "--set subject_count=150 --set data.frames=6 --set rates=8 --set keep_background=false "
        f"--set conditioner.patch=4,4,2 --set motion=true --set residual_scale=gap {SHORT} "
        "--set validate_every=200 --set sample_every=10000 --set checkpoint_every=400 --steps 800",
    ),
    "acdc": Measure(
        ABLATION,
        "acdc",
        f"{ACDC} {SADM} {SHORT} --set validate_every=200 --set sample_every=10000 "
        "--set checkpoint_every=500 --steps 1000",
        seeds=3,
    ),
    "sim-brain-sadm-methods": Measure("sadm-methods", "sim-brain", BRAIN),
    "sim-brain-additive-methods": Measure("additive-methods", "sim-brain", BRAIN),
    "acdc-sadm-methods": Measure("sadm-methods", "acdc", f"{ACDC} {SADM} {SHORT} {BRIEF}"),
    "acdc-additive-methods": Measure("additive-methods", "acdc", f"{ACDC} {SHORT} {BRIEF}"),
}
HERE = Path(__file__).parent
RESULTS = HERE.parent / "docs" / "results"


def call(command: Sequence[str], shown: Sequence[str], file: Path | None = None) -> None:
    """Run a command, and keep what it prints under the line that anyone can run."""
    print("$", " ".join(shown), flush=True)
    if file is None:
        subprocess.run(command, check=True)
        return
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    file.write_text(f"$ {' '.join(shown)}\n\n{done.stdout}", encoding="utf-8")


def scores(folder: Path) -> Mapping[tuple[str, str, str], Mapping[str, Sequence[float]]]:
    """Return what an evaluation or a bench wrote down: by metric, setting and method the values of each subject."""
    found: dict[tuple[str, str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with (folder / "subjects.csv").open(encoding="utf-8") as lines:
        for line in csv.DictReader(lines):
            for metric in BETTER:
                found[metric, line["setting"], line["method"]][line["subject"]].append(float(line[metric]))
    return found


PAIRED = "paired gains over test subjects, positive where the paper's order holds, with 95 % bootstrap intervals"


def compared(folder: Path) -> Callable[[str, tuple[str, str], tuple[str, str]], str]:
    """Return what says, of a bench, by how much a metric is better in one (setting, method) than in another."""
    values = scores(folder)

    def said(metric: str, better: tuple[str, str], worse: tuple[str, str]) -> str:
        found = gain(metric, values[metric, *better], values[metric, *worse])
        verdict = "yes" if found.low > 0 else "no, reversed" if found.high < 0 else "not decided"
        return f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]  {verdict}"

    return said


def seeds(folder: Path, file: Path, command: str) -> None:
    """Write down a bench of several seeds: its table, and SADM beside the row without attention and copy-last."""
    said, text = compared(folder), (folder / "table.txt").read_text(encoding="utf-8")
    lines = [f"$ {command}", "", text, f"{PAIRED}; seeds averaged first"]
    for metric in BETTER:
        lines.append(f"\n{metric}")
        for setting in reversed(SETTINGS):
            for other in (ORDER[1], "copy-last"):
                gained = said(metric, (setting, ORDER[0]), (setting, other))
                lines.append(f"  {setting}: {ORDER[0]} > {other}".ljust(52) + gained)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def order(folder: Path, file: Path) -> None:
    """Test the order of the settings for each trained row, and of the rows in each setting, paired by subject."""
    said, text = compared(folder), [PAIRED]
    for metric in BETTER:
        text.append(f"\n{metric}")
        for row in ORDER:
            for better, worse in itertools.pairwise(SETTINGS):
                text.append(f"  {row}: {better} > {worse}".ljust(52) + said(metric, (better, row), (worse, row)))
        for setting in reversed(SETTINGS):
            for better, worse in (*itertools.pairwise(ORDER), ("sadm", "copy-last"), ("sadm", "linear")):
                text.append(
                    f"  {setting}: {better} > {worse}".ljust(52) + said(metric, (setting, better), (setting, worse))
                )
    file.write_text("\n".join(text) + "\n", encoding="utf-8")


def curves(folder: Path, file: Path, title: str) -> None:
    """Draw the validation loss of each row that was trained, of every seed."""
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axis = figure.subplots()
    for color, row in enumerate(BenchmarkSpec.of(ABLATION).rows):
        for log in sorted((folder / row.folder).glob("seed-*/metrics.jsonl")):  # what has no weights has none
            lines = [json.loads(line) for line in log.read_text().splitlines()]
            points = [(line["step"], line["validation_loss"]) for line in lines if "validation_loss" in line]
            if points:
                axis.plot(
                    *zip(*points, strict=True), color=f"C{color}", marker=".", label=f"{row.name}, {log.parent.name}"
                )
    axis.set_xlabel("step")
    axis.set_ylabel("validation loss, of what each row predicts")
    axis.set_yscale("log")
    axis.set_title(title, fontsize=9)
    axis.legend(fontsize=7)
    figure.savefig(file, dpi=110)


def gain(metric: str, ours: Mapping[str, Sequence[float]], theirs: Mapping[str, Sequence[float]]) -> Summary:
    """Return by how much `ours` are better, subject by subject."""
    return Summary.of([float(BETTER[metric] * (np.mean(ours[subject]) - np.mean(theirs[subject]))) for subject in ours])


def measure(name: str, work: Path, acdc: str | None) -> None:
    """Make the results of one table on one data set."""
    wanted, folder, results = MEASURES[name], work / name, RESULTS / name
    results.mkdir(parents=True, exist_ok=True)
    data = f"acdc:{acdc}" if wanted.data == "acdc" else wanted.data
    shown = ["longigen", "bench", wanted.table, "--data", "acdc:PATH" if wanted.data == "acdc" else data]
    options = wanted.options.split()
    call([*shown[:4], data, *options, "--out", str(folder)], [*shown, *options])
    (results / "pictures.png").write_bytes((folder / "pictures.png").read_bytes())
    table = (folder / "table.txt").read_text(encoding="utf-8")
    (results / "table.txt").write_text(f"$ {' '.join([*shown, *options])}\n\n{table}", encoding="utf-8")
    if wanted.table != ABLATION:
        return  # methods with objectives of their own have losses that cannot be compared
    curves(folder, results / "curves.png", f"{ABLATION} on {wanted.data}")
    order(folder, results / "order.txt")
    runs = sorted(map(str, (folder / "sadm").glob("seed-*")))
    script = [sys.executable, str(HERE / "attention.py"), runs[0]]
    call(script, ["python", "benchmarks/attention.py", f"{name}/sadm/seed-0"], results / "attention.txt")
    if wanted.data == "sim-brain":
        for row in BenchmarkSpec.of(ABLATION).only(PACED):
            runs = sorted(map(str, (folder / row.folder).glob("seed-*")))
            command = ["python", "benchmarks/progression.py", *(f"{name}/{row.folder}/{Path(r).name}" for r in runs)]
            script = [sys.executable, str(HERE / "progression.py"), *runs]
            call(script, command, results / f"progression-{row.folder}.txt")
    if wanted.seeds > 1:
        more = ["--row", ORDER[1], "--row", ORDER[0], "--seeds", str(wanted.seeds)]
        call([*shown[:4], data, *options, *more, "--out", str(folder)], [*shown, *options, *more])
        seeds(folder, results / "seeds.txt", shlex.join([*shown, *options, *more]))


def solvers(work: Path) -> None:
    """Train one model of `ddpm`, and compare samples of the chain with those of few evaluations of each solver."""
    folder, run = work / "solvers", work / "solvers" / "run"
    train = ["longigen", "train", "--recipe", "dao-tiny", *SOLVED.split()]
    if not (run / "model").exists():
        call([*train, "--out", str(run)], [*train, "--out", "RUN"])
    lines = [f"$ {' '.join([*train, '--out', 'RUN'])}"]
    found = {}
    for sampler, steps in SOLVERS.items():
        out = folder / sampler
        walk = ["--setting", "full", "--sampler", sampler, "--steps", str(steps)]
        shown = ["longigen", "evaluate", "RUN", *walk]
        if not (out / "subjects.csv").exists():
            call([*shown[:2], str(run), *walk, "--out", str(out)], shown)
        lines.append(f"$ {' '.join(shown)}")
        found[sampler] = scores(out)
    chain, *others = SOLVERS
    count = len(found[chain]["ssim", "full", "model"])
    lines += [
        "",
        f"one sample of the last visit of {count} test subjects each, and the difference from the chain, paired",
    ]
    lines += ["by subject, positive where the solver's samples are better [95 % bootstrap interval]", ""]
    lines.append(
        f"{'sampler':<10}{'NFE':>6}" + "".join(f"{metric:>12}{'difference':>34}" for metric in ("ssim", "psnr"))
    )
    for sampler, steps in SOLVERS.items():
        line = f"{sampler:<10}{steps:>6}"
        for metric in ("ssim", "psnr"):
            key = metric, "full", "model"
            own = found[sampler][key]
            line += f"{np.mean([np.mean(values) for values in own.values()]):>12.4f}"
            difference = gain(metric, own, found[chain][key]) if sampler in others else None
            line += (
                f"{difference.mean:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]".rjust(34)
                if difference
                else " " * 34
            )
        lines.append(line.rstrip())
    (RESULTS / "solvers").mkdir(parents=True, exist_ok=True)
    (RESULTS / "solvers" / "table.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    names = [*MEASURES, "solvers"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=names, metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--work", type=Path, default=Path("runs/results"), help="where the runs are")
    parser.add_argument("--acdc", help="the folder of the patients of ACDC")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in names:
            parser.error(f"there is no '{name}'; choose of {', '.join(names)}")
        if name in MEASURES and MEASURES[name].data == "acdc" and not arguments.acdc:
            parser.error(f"{name} needs --acdc PATH, the folder of the patients of ACDC")
    for name in arguments.names:
        if name == "solvers":
            solvers(arguments.work)
        else:
            measure(name, arguments.work, arguments.acdc)


if __name__ == "__main__":
    main()
