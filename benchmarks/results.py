"""Reproduce docs/results, which tests claims of the papers: ``python benchmarks/results.py [NAME ...]``.

Each name is a benchmark table on a data set. ``longigen bench`` trains and scores its rows (finished ones are reused);
the table and a figure of all rows are copied. For SADM's ablations the script also tests the order of settings and of
rows, paired by subject, and the attention shares of earlier visits; on sim-brain it also tests the rate of change
against the truth. The table of all methods is drawn in three planes besides. ``solvers`` is no table: it trains one
model with `ddpm` and samples from it with 1000 ancestral steps and with 20 evaluations of each solver. The results are
written to ``docs/results/NAME``, the runs to ``--work``. ACDC needs the folder of its patients: ``--acdc PATH``.
Several calls with different names may run at once.
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
from planes import last_visit, write_planes

import longigen
from longigen.evaluation.benchmark_spec import BenchmarkSpec
from longigen.utils.intervals import INTERVAL, Summary, holm

ABLATION, ATTENTION, DEPARTURES, FIELD = "sadm-ablation", "sadm-attention", "sadm-departures", "field"
SETTINGS = ("full", "missing", "single")
ORDER = ("sadm", "without attention", "without diffusion")
"""Rows from best to worst, according to the paper."""
ATTENTIVE = ("without attention", "gap as an embedding", "sadm")
"""Rows with and without attention, which are tested by themselves: of fewer tests each is adjusted for less."""
COMPARED = ("psnr", "ssim-slice", "sharpness", "change-correlation")
"""The metrics of these tests."""
RATE_ROWS = ("linear", "without attention", "sadm")
"""Rows whose rate of change is tested by benchmarks/progression.py."""
SIGNS = {"ssim": 1, "ssim-foreground": 1, "psnr": 1, "nrmse": -1}
"""The tested metrics: 1 if higher is better, -1 if lower is."""
SHORT = "--set learning_rate=2e-3 --set warmup=100"
BRIEF = "--set validate_every=200 --set sample_every=10000 --set checkpoint_every=200 --steps 400"
BRAIN = "--set validate_every=100 --set sample_every=10000 --set checkpoint_every=100 --steps 200"
AUGMENT = (
    "--set augment.rotate=0,0,30 --set augment.flip=true,true,false --set augment.scale=0.1 --set augment.shift=0.05"
)
ACDC = (
    f"--set data.frames=6 --set shape=64,64,8 --set fit=resize --set keep_background=false --set motion=true {AUGMENT} "
)
SADM = "--set rates=8 --set conditioner.patch=4,4,1"
"""Options of the conditioner `sadm` (and `raw`) on ACDC."""
SMALL = (
    "--set denoiser.width=8 --set conditioner.dim=32 --set learning_rate=2e-3 --set warmup=50 --set validate_every=300 "
    "--set sample_every=10000 --set checkpoint_every=300 --steps 300"
)
"""A size at which eleven rows with three seeds each can be trained on a CPU."""
FIELD_SIZE = (
    "--size tiny --set validate_every=200 --set sample_every=10000 --set checkpoint_every=200 --set score_every=0 "
    "--steps 400"
)
"""A budget at which the twelve trained rows of the table `field` with three seeds each can be trained on a CPU."""
SOLVER_MODEL = (
    "--set data.spacing=4 --set subject_count=60 --set denoiser.width=8 --set prediction=v "
    "--set sampler.train_steps=1000 --set beta_min=1e-4 --set beta_max=0.02 --set sampler.steps=1000 "
    f"{SHORT} --set validate_every=250 --set sample_every=10000 --set checkpoint_every=500 --steps 1500"
)
SOLVERS = {"ddpm": 1000, "ddim": 20, "dpmpp": 20, "unipc": 20, "euler": 20}
"""Samplers of ``solvers`` with their network evaluations; all are compared with the first, ancestral sampling."""


@dataclass(frozen=True)
class Measure:
    """A benchmark table on a data set, with options of ``longigen bench`` that suit two CPU cores.

    With several `seeds`, all rows are trained with each; of SADM's ablations only SADM and the row without attention.
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
    "sim-brain-attention": Measure(
        ATTENTION,
        "sim-brain",
        "--set data.spacing=4 --set subject_count=60 --set data.planned=8,8 --set data.timing=uneven "
        "--set denoiser.width=8 --set learning_rate=2e-3 --set warmup=50 --set validate_every=300 "
        "--set sample_every=10000 --set checkpoint_every=300 --steps 300",
        seeds=3,
    ),
    "acdc-attention": Measure(ATTENTION, "acdc", f"{ACDC} {SADM} {SMALL}", seeds=3),
    "sim-brain-departures": Measure(DEPARTURES, "sim-brain", f"--set data.spacing=4 {SMALL} --setting full", seeds=3),
    "sim-heart-departures": Measure(
        DEPARTURES,
        "sim-heart",
        f"--set data.frames=6 --set data.shape=48,48,8 --set conditioner.patch=4,4,2 {SMALL} --setting single",
        seeds=3,
    ),
    "acdc-departures": Measure(
        DEPARTURES,
        "acdc",
        f"--set data.frames=6 --set shape=48,48,8 --set fit=resize --set conditioner.patch=4,4,1 {AUGMENT} {SMALL} "
        "--setting single",
        seeds=3,
    ),
    "sim-brain-sadm-methods": Measure("sadm-methods", "sim-brain", BRAIN),
    "sim-brain-additive-methods": Measure("additive-methods", "sim-brain", BRAIN),
    "acdc-sadm-methods": Measure("sadm-methods", "acdc", f"{ACDC} {SADM} {SHORT} {BRIEF}"),
    "acdc-additive-methods": Measure("additive-methods", "acdc", f"{ACDC} {SHORT} {BRIEF}"),
    # The patients' own voxels and slices, up to 12 frames from end diastole to end systole.
    "acdc-field": Measure(
        FIELD,
        "acdc",
        f"--set data.frames=12 --set preprocess.shape=96,96,0 --set preprocess.pad=edge {FIELD_SIZE}",
        seeds=3,
    ),
    "sim-heart-field": Measure(FIELD, "sim-heart", f"--set subject_count=60 {FIELD_SIZE}", seeds=3),
    "sim-brain-field": Measure(
        FIELD, "sim-brain", f"--set data.spacing=4 --set subject_count=60 {FIELD_SIZE}", seeds=3
    ),
}
HERE = Path(__file__).parent
RESULTS = HERE.parent / "docs" / "results"


def call(command: Sequence[str], shown: Sequence[str], file: Path | None = None) -> None:
    """Run a command; write its output to a file, below the command as a reader would type it (`shown`)."""
    print("$", " ".join(shown), flush=True)
    if file is None:
        subprocess.run(command, check=True)
        return
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    file.write_text(f"$ {' '.join(shown)}\n\n{result.stdout}", encoding="utf-8")


def scores(folder: Path) -> Mapping[tuple[str, str, str], Mapping[str, Sequence[float]]]:
    """Return the scores of an evaluation or a benchmark: each subject's values by metric, setting and method."""
    values: dict[tuple[str, str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with (folder / "subjects.csv").open(encoding="utf-8") as lines:
        for line in csv.DictReader(lines):
            for metric in SIGNS:
                values[metric, line["setting"], line["method"]][line["subject"]].append(float(line[metric]))
    return values


PAIRED = f"paired gains over test subjects, positive if the paper's order holds [{INTERVAL}]"


def comparison(folder: Path) -> Callable[[str, tuple[str, str], tuple[str, str]], str]:
    """Return a function that describes the gain in a metric of one (setting, method) over another."""
    values = scores(folder)

    def describe(metric: str, better: tuple[str, str], worse: tuple[str, str]) -> str:
        result = gain(metric, values[metric, *better], values[metric, *worse])
        verdict = "yes" if result.low > 0 else "no, reversed" if result.high < 0 else "not decided"
        return f"{result.mean:+.4f} [{result.low:+.4f}, {result.high:+.4f}]  {verdict}"

    return describe


def seeds(folder: Path, file: Path, command: str, others: Sequence[str]) -> None:
    """Write the table of a benchmark with several seeds, and the gains of SADM over other rows and copy-last."""
    describe, text = comparison(folder), (folder / "table.txt").read_text(encoding="utf-8")
    lines = [f"$ {command}", "", text, f"{PAIRED}; seeds averaged first"]
    for metric in SIGNS:
        lines.append(f"\n{metric}")
        for setting in reversed(SETTINGS):
            for other in (*others, "copy-last"):
                result = describe(metric, (setting, ORDER[0]), (setting, other))
                lines.append(f"  {setting}: {ORDER[0]} > {other}".ljust(52) + result)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def departures(folder: Path, file: Path) -> None:
    """Test each row of a benchmark with several seeds against the row before it, over subjects and seeds."""
    spec, lines, found = BenchmarkSpec.of(DEPARTURES), [], []
    for before, row in itertools.pairwise(spec.rows):
        places = {each.name: sorted((folder / each.folder).glob("seed-*/evaluation")) for each in (before, row)}
        compared = longigen.compare(places, against=before.name, metrics=spec.metrics).rows
        found += [(row.name, each) for each in compared if each.model == row.name and each.difference is not None]
    adjusted = holm([each.difference.p for _, each in found])
    for metric in spec.metrics:
        lines.append(f"\n{metric}")
        for (name, each), p in zip(found, adjusted, strict=True):
            if each.metric == metric:
                change, chance = each.difference.summary, f"p {p:.3f}" if p >= 0.001 else "p <.001"
                lines.append(
                    f"  {name}".ljust(28) + f"{change.mean:+.4f} [{change.low:+.4f}, {change.high:+.4f}]  {chance}"
                )
    head = f"each row minus the row before it [{INTERVAL}]; p over subjects and seeds (Hillis 2014), adjusted for "
    file.write_text("\n".join([f"{head}{len(found)} tests (Holm 1979)", *lines]) + "\n", encoding="utf-8")


def compared(
    folder: Path, file: Path, against: str, *, rows: Sequence[str] = (".",), metrics: Sequence[str] = ()
) -> None:
    """Write what ``longigen compare`` says of a benchmark, or of some of its rows, over subjects and seeds."""
    options = ["--against", against, *(word for metric in metrics for word in ("--metric", metric))]
    call(
        ["longigen", "compare", *(str(folder / row) for row in rows), *options],
        ["longigen", "compare", *(str(Path(folder.name) / row) for row in rows), *options],
        file,
    )


def order(folder: Path, file: Path) -> None:
    """Test the order of the settings for each trained row, and of the rows in each setting, paired by subject."""
    describe, lines = comparison(folder), [PAIRED]
    for metric in SIGNS:
        lines.append(f"\n{metric}")
        for row in ORDER:
            for better, worse in itertools.pairwise(SETTINGS):
                lines.append(f"  {row}: {better} > {worse}".ljust(52) + describe(metric, (better, row), (worse, row)))
        for setting in reversed(SETTINGS):
            for better, worse in (*itertools.pairwise(ORDER), ("sadm", "copy-last"), ("sadm", "linear")):
                result = describe(metric, (setting, better), (setting, worse))
                lines.append(f"  {setting}: {better} > {worse}".ljust(52) + result)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def curves(folder: Path, file: Path, title: str) -> None:
    """Draw the validation losses of all trained rows and seeds."""
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axis = figure.subplots()
    for color, row in enumerate(BenchmarkSpec.of(ABLATION).rows):
        for log in sorted((folder / row.folder).glob("seed-*/metrics.jsonl")):  # a row without weights has no log
            lines = [json.loads(line) for line in log.read_text().splitlines()]
            points = [(line["step"], line["validation_loss"]) for line in lines if "validation_loss" in line]
            if points:
                axis.plot(
                    *zip(*points, strict=True), color=f"C{color}", marker=".", label=f"{row.name}, {log.parent.name}"
                )
    axis.set_xlabel("step")
    axis.set_ylabel("validation loss (of each row's own prediction type)")
    axis.set_yscale("log")
    axis.set_title(title, fontsize=9)
    axis.legend(fontsize=7)
    figure.savefig(file, dpi=110)


def gain(metric: str, ours: Mapping[str, Sequence[float]], theirs: Mapping[str, Sequence[float]]) -> Summary:
    """Return the mean gain of `ours` over `theirs`, paired by subject, positive if `ours` are better."""
    return Summary.of([float(SIGNS[metric] * (np.mean(ours[subject]) - np.mean(theirs[subject]))) for subject in ours])


def measure(name: str, work: Path, acdc: str | None) -> None:
    """Run the benchmark and the tests of one table on one data set, and write the results."""
    spec, folder, results = MEASURES[name], work / name, RESULTS / name
    results.mkdir(parents=True, exist_ok=True)
    data = f"acdc:{acdc}" if spec.data == "acdc" else spec.data
    shown = ["longigen", "bench", spec.table, "--data", "acdc:PATH" if spec.data == "acdc" else data]
    every_row = spec.seeds > 1 and spec.table != ABLATION
    options = [*spec.options.split(), *(["--seeds", str(spec.seeds)] if every_row else [])]
    call([*shown[:4], data, *options, "--out", str(folder)], [*shown, *options])
    (results / "pictures.png").write_bytes((folder / "pictures.png").read_bytes())
    table = (folder / "table.txt").read_text(encoding="utf-8")
    (results / "table.txt").write_text(f"$ {' '.join([*shown, *options])}\n\n{table}", encoding="utf-8")
    if spec.table == DEPARTURES:
        departures(folder, results / "steps.txt")
    if spec.table == FIELD:
        compared(folder, results / "compared.txt", "copy-last")
    if spec.table == ATTENTION:
        rows = {row.name: row.folder for row in BenchmarkSpec.of(ATTENTION).only(ATTENTIVE)}
        compared(folder, results / "compared.txt", ORDER[0], metrics=COMPARED)
        compared(folder, results / "attention.txt", rows[ORDER[1]], rows=tuple(rows.values()), metrics=COMPARED)
    if spec.table == FIELD:
        found = {
            row.name: last_visit(folder / row.folder / "seed-0", SETTINGS[-1]) for row in BenchmarkSpec.of(FIELD).rows
        }
        subject, _ = next(iter(found.values()))
        title = f"{FIELD} on {spec.data}, {subject}, its last visit from its first"
        write_planes({row: pair for row, (_, pair) in found.items()}, results / "planes.png", title=title)
    if spec.table != ABLATION:
        return  # the losses of methods with different objectives cannot be compared
    curves(folder, results / "curves.png", f"{ABLATION} on {spec.data}")
    order(folder, results / "order.txt")
    runs = sorted(map(str, (folder / "sadm").glob("seed-*")))
    script = [sys.executable, str(HERE / "attention.py"), runs[0]]
    call(script, ["python", "benchmarks/attention.py", f"{name}/sadm/seed-0"], results / "attention.txt")
    if spec.data == "sim-brain":
        for row in BenchmarkSpec.of(ABLATION).only(RATE_ROWS):
            runs = sorted(map(str, (folder / row.folder).glob("seed-*")))
            command = ["python", "benchmarks/progression.py", *(f"{name}/{row.folder}/{Path(r).name}" for r in runs)]
            script = [sys.executable, str(HERE / "progression.py"), *runs]
            call(script, command, results / f"progression-{row.folder}.txt")
    if spec.seeds > 1:
        more = ["--row", ORDER[1], "--row", ORDER[0], "--seeds", str(spec.seeds)]
        call([*shown[:4], data, *options, *more, "--out", str(folder)], [*shown, *options, *more])
        seeds(folder, results / "seeds.txt", shlex.join([*shown, *options, *more]), [ORDER[1]])


def solvers(work: Path) -> None:
    """Train one model with `ddpm`, and compare samples of few evaluations of each solver with ancestral sampling."""
    folder, run = work / "solvers", work / "solvers" / "run"
    train = ["longigen", "train", "--recipe", "dao-tiny", *SOLVER_MODEL.split()]
    if not (run / "model").exists():
        call([*train, "--out", str(run)], [*train, "--out", "RUN"])
    lines = [f"$ {' '.join([*train, '--out', 'RUN'])}"]
    results = {}
    for sampler, steps in SOLVERS.items():
        out = folder / sampler
        options = ["--setting", "full", "--sampler", sampler, "--steps", str(steps)]
        shown = ["longigen", "evaluate", "RUN", *options]
        if not (out / "subjects.csv").exists():
            call([*shown[:2], str(run), *options, "--out", str(out)], shown)
        lines.append(f"$ {' '.join(shown)}")
        results[sampler] = scores(out)
    reference, *others = SOLVERS
    count = len(results[reference]["ssim", "full", "model"])
    lines += [
        "",
        f"one sample of the last visit of {count} test subjects each, and the difference from {reference}, paired",
    ]
    lines += [f"by subject, positive if the solver's samples are better [{INTERVAL}]", ""]
    lines.append(
        f"{'sampler':<10}{'NFE':>6}" + "".join(f"{metric:>12}{'difference':>34}" for metric in ("ssim", "psnr"))
    )
    for sampler, steps in SOLVERS.items():
        line = f"{sampler:<10}{steps:>6}"
        for metric in ("ssim", "psnr"):
            key = metric, "full", "model"
            subjects = results[sampler][key]
            line += f"{np.mean([np.mean(values) for values in subjects.values()]):>12.4f}"
            difference = gain(metric, subjects, results[reference][key]) if sampler in others else None
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
    parser.add_argument("names", nargs="*", default=names, metavar="NAME", help=f"results to make: {', '.join(names)}")
    parser.add_argument("--work", type=Path, default=Path("runs/results"), help="folder of the runs")
    parser.add_argument("--acdc", help="folder of the ACDC patients")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in names:
            parser.error(f"there is no '{name}'; choose one of {', '.join(names)}")
        if name in MEASURES and MEASURES[name].data == "acdc" and not arguments.acdc:
            parser.error(f"{name} needs --acdc PATH, the folder of the ACDC patients")
    for name in arguments.names:
        if name == "solvers":
            solvers(arguments.work)
        else:
            measure(name, arguments.work, arguments.acdc)


if __name__ == "__main__":
    main()
