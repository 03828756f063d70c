"""Make docs/results: SADM's ablation table and its claims, measured: ``python benchmarks/results.py [NAME ...]``.

For each data set `longigen bench sadm-ablation` trains and scores the rows (what is there is not made again); then the
order of settings and of rows is tested, subject by subject, attention is asked where it looked, and on sim-brain the
rate of change is compared with the truth. The small files that come of it go to ``docs/results/NAME``; runs stay in
``--work``. ACDC needs the folder of its patients: ``--acdc PATH``. Several calls may run at once on different names.
"""

import argparse
import csv
import itertools
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from longigen.evaluation import Summary
from longigen.table import Table

TABLE = "sadm-ablation"
SETTINGS = ("full", "missing", "single")
ORDER = ("sadm", "without attention", "without diffusion")
"""From best to worst, as the paper has them."""
PACED = ("linear", "without attention", "sadm")
"""Rows of which is asked whether each brain changes at its own rate."""
BETTER = {"ssim": 1, "ssim-foreground": 1, "psnr": 1, "nrmse": -1}
SHORT = "--set learning_rate=2e-3 --set warmup=100"
BENCH = {
    "sim-brain": f"--set data.spacing=4 --set subject_count=200 {SHORT} --set validate_every=100 "
    "--set sample_every=1500 --set checkpoint_every=250 --steps 1500",
    "sim-heart": f"--set subject_count=150 --set data.frames=6 --set rates=0 "
    f"--set keep_background=false --set conditioner.patch=4,4,2 {SHORT} "
    "--set validate_every=100 --set sample_every=800 --set checkpoint_every=400 --steps 800",
    "acdc": "--set data.frames=6 --set shape=64,64,8 --set fit=resize --set rates=0 "
    "--set keep_background=false --set conditioner.patch=4,4,1 "
    "--set augment.rotate=0,0,30 --set augment.flip=true,true,false --set augment.scale=0.1 --set augment.shift=0.05 "
    f"{SHORT} --set validate_every=250 --set sample_every=3000 --set checkpoint_every=500 --steps 3000",
}
"""Arguments of `longigen bench`, by data set: sizes for two CPU cores, and some 40 minutes each."""
HERE = Path(__file__).parent


def call(command: Sequence[str], shown: Sequence[str], file: Path | None = None) -> None:
    """Run a command, and keep what it prints under the line that anyone can run."""
    print("$", " ".join(shown), flush=True)
    if file is None:
        subprocess.run(command, check=True)
        return
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    file.write_text(f"$ {' '.join(shown)}\n\n{done.stdout}", encoding="utf-8")


def order(folder: Path, file: Path) -> None:
    """Test the order of the settings for each trained row, and of the rows in each setting, paired by subject."""
    values: dict[tuple[str, str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with (folder / "subjects.csv").open(encoding="utf-8") as lines:
        for line in csv.DictReader(lines):
            for metric in BETTER:
                values[metric, line["setting"], line["method"]][line["subject"]].append(float(line[metric]))

    def gain(metric: str, better: tuple[str, str], worse: tuple[str, str]) -> str:
        ours, theirs = (values[metric, *key] for key in (better, worse))
        paired = [BETTER[metric] * (np.mean(ours[subject]) - np.mean(theirs[subject])) for subject in ours]
        found = Summary.of([float(value) for value in paired])
        said = "yes" if found.low > 0 else "no, reversed" if found.high < 0 else "not decided"
        return f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]  {said}"

    text = ["paired gains over test subjects, positive where the paper's order holds, with 95 % bootstrap intervals"]
    for metric in BETTER:
        text.append(f"\n{metric}")
        for row in ORDER:
            for better, worse in itertools.pairwise(SETTINGS):
                text.append(f"  {row}: {better} > {worse}".ljust(52) + gain(metric, (better, row), (worse, row)))
        for setting in reversed(SETTINGS):
            for better, worse in (*itertools.pairwise(ORDER), ("sadm", "copy-last"), ("sadm", "linear")):
                text.append(
                    f"  {setting}: {better} > {worse}".ljust(52) + gain(metric, (setting, better), (setting, worse))
                )
    file.write_text("\n".join(text) + "\n", encoding="utf-8")


def curves(folder: Path, file: Path, title: str) -> None:
    """Draw the validation loss of each row that was trained, of every seed."""
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axis = figure.subplots()
    for color, row in enumerate(Table.of(TABLE).rows):
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


def measure(name: str, work: Path, acdc: str | None) -> None:
    """Make the results of one data set."""
    folder, results = work / name, HERE.parent / "docs" / "results" / name
    results.mkdir(parents=True, exist_ok=True)
    data = f"acdc:{acdc}" if name == "acdc" else name
    shown = ["longigen", "bench", TABLE, "--data", "acdc:PATH" if name == "acdc" else name, *BENCH[name].split()]
    call([*shown[:4], data, *BENCH[name].split(), "--out", str(folder)], shown)
    for source in ("table.txt", "pictures.png"):
        (results / source).write_bytes((folder / source).read_bytes())
    table = results / "table.txt"
    table.write_text(f"$ {' '.join(shown)}\n\n{table.read_text(encoding='utf-8')}", encoding="utf-8")
    order(folder, results / "order.txt")
    curves(folder, results / "curves.png", f"{TABLE} on {name}")
    runs = sorted(map(str, (folder / "sadm").glob("seed-*")))
    script = [sys.executable, str(HERE / "attention.py"), runs[0]]
    call(script, ["python", "benchmarks/attention.py", f"{name}/sadm/seed-0"], results / "attention.txt")
    if name == "sim-brain":
        for row in Table.of(TABLE).only(PACED):
            runs = sorted(map(str, (folder / row.folder).glob("seed-*")))
            command = ["python", "benchmarks/progression.py", *(f"{name}/{row.folder}/{Path(r).name}" for r in runs)]
            script = [sys.executable, str(HERE / "progression.py"), *runs]
            call(script, command, results / f"progression-{row.folder}.txt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(BENCH), metavar="NAME", help=f"of {', '.join(BENCH)}")
    parser.add_argument("--work", type=Path, default=Path("runs/results"), help="where the runs are")
    parser.add_argument("--acdc", help="the folder of the patients of ACDC")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in BENCH:
            parser.error(f"there is no data set '{name}'; choose of {', '.join(BENCH)}")
        if name == "acdc" and not arguments.acdc:
            parser.error("acdc needs --acdc PATH, the folder of its patients")
        measure(name, arguments.work, arguments.acdc)


if __name__ == "__main__":
    main()
