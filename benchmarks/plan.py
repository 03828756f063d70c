"""Compare what ``longigen plan`` predicts with what is measured: ``python benchmarks/plan.py --minutes 8 --out DIR``.

For some recipes, each with batches of 1 and 2, with and without checkpointing, in fp32 and in bf16, in training and in
generation, it predicts peak memory and time, and measures both: on a GPU as ``torch.cuda.max_memory_allocated`` and
``max_memory_reserved``, on a CPU as the resident memory (RSS) of the process, one of its own for each. A row that would
need more than the memory that is free is predicted alone. Without a GPU, what was measured on an NVIDIA H200
(``docs/results/gpu``) is compared too, and the step that ``longigen plan`` measures with the largest resident memory of
a whole training by ``longigen train``, whose data are read before. The tables are written to ``DIR/results.md`` and
``DIR/results.json`` after each row; the script ends by itself before its minutes are over. ``--tiny`` rehearses it in
seconds.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import platform
import queue
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import longigen
from longigen import LongigenError
from longigen.planning.device import Device
from longigen.planning.estimate import Subject
from longigen.planning.sizes import Shape, Sizes
from longigen.training.recipe import Recipe

COLUMNS = (
    "recipe", "grid", "batch", "checkpointing", "precision", "work", "predicted peak, MB", "measured peak, MB",
    "reserved, MB", "error", "predicted, s", "measured, s", "time ratio",
)  # fmt: skip

GPU = (("sadm-acdc", (128, 128, 32), 12), ("dao-adni", (128, 160, 128), 12), ("sadm-tiny", (64, 64, 64), 6))
CPU = (("sadm-tiny", (48, 64, 48), 6), ("dao-tiny", (64, 64, 64), 4), ("heart", (96, 96, 8), 8))
TINY = (("sadm-tiny", (16, 16, 16), 3),)
TRAINED = (
    ("sadm-tiny", ("data.subject_count=8", "preprocess.shape=48,64,48", "training.batch_size=1")),
    ("dao-tiny", ("data.subject_count=8", "preprocess.shape=48,64,48", "training.batch_size=1")),
    ("heart", ("data.subject_count=8", "preprocess.shape=96,96,0")),
)
"""Recipes and changes of whole trainings."""
MINUTES_OF_A_TRAINING = 2.0
"""Minutes that must be left for a whole training to be started."""
"""Recipes, their grid (W, H, D), and visits."""

RECORDED = Path(__file__).parent.parent / "docs" / "results" / "gpu"
LITERAL = ("denoiser.patch=1", "conditioner.source_patch=1")
PATCHES = ("denoiser.patch=2", "conditioner.source_patch=2")
RUNS = {"results.json": {"dao-adni": LITERAL}, "second-run.json": {"dao-adni": PATCHES}}
"""What was recorded of each recipe, whatever it says now; a guided evaluation of each was timed."""


@dataclass(frozen=True)
class Case:
    """One row: what is predicted and measured."""

    recipe: str
    grid: Shape
    visits: int
    batch: int
    checkpointing: bool
    precision: str
    generation: bool
    device: Device

    @property
    def subject(self) -> Subject:
        changes = [f"training.batch_size={self.batch}", f"training.mixed_precision={self.precision}"]
        recipe = Recipe.resolve(self.recipe, data="sim-heart", changes=changes)
        subject = Subject(recipe, Sizes(self.grid, self.grid, self.visits), self.device)
        return subject.changed(f"denoiser.checkpointing={self.checkpointing}") if subject.can_checkpoint else subject

    @property
    def cells(self) -> dict[str, Any]:
        work = "generation" if self.generation else "training"
        grid = " × ".join(map(str, self.grid))
        kind = "fp32" if self.precision == "no" else self.precision
        return dict(zip(COLUMNS, (self.recipe, grid, self.batch, self.checkpointing, kind, work), strict=False))


def cases(rows: Any, device: Device, batches: tuple[int, ...], kinds: tuple[str, ...]) -> Iterator[Case]:
    """Yield the cases; checkpointing changes no generation, and the precision of generation is the device's own."""
    for (recipe, grid, visits), batch in itertools.product(rows, batches):
        for kind, checkpointing in itertools.product(kinds, (False, True)):
            case = Case(recipe, grid, visits, batch, checkpointing, kind, generation=False, device=device)
            if not checkpointing or case.subject.can_checkpoint:
                yield case
        if batch == 1:
            yield Case(recipe, grid, visits, 1, False, kinds[-1], generation=True, device=device)


def measured(case: Case, minutes: float, answer: Any) -> None:
    """Predict and measure a case in a process of its own, and put the cells of its row into a queue."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    subject = case.subject
    try:
        if case.generation:
            found = subject.of_generation(2, limit=60 * minutes)
        else:
            found = subject.of_training(limit=60 * minutes)
    except (LongigenError, RuntimeError) as error:  # not enough memory, say
        answer.put({**case.cells, "error": f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"})
        return
    row = {**case.cells, "predicted peak, MB": found.predicted_peak / 1e6, "predicted, s": found.predicted_seconds}
    if found.measured is not None and found.measured.peak is not None:
        row["measured peak, MB"] = found.measured.peak / 1e6
        row["error"] = found.predicted_peak / found.measured.peak - 1
        row["measured, s"] = found.measured.seconds
        row["time ratio"] = found.predicted_seconds / found.measured.seconds
        if case.device.cuda:
            row["reserved, MB"] = torch.cuda.max_memory_reserved() / 1e6
    answer.put(row)


def in_process(case: Case, minutes: float) -> dict[str, Any]:
    """Return the row of a case from a new process, so that nothing of earlier ones is in its memory."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=measured, args=(case, minutes, answer))
    process.start()
    try:
        row = answer.get(timeout=60 * minutes)
    except queue.Empty:
        row = {**case.cells, "error": "no time left"}
        process.terminate()
    process.join()
    return row


def planned(recipe: str, changes: tuple[str, ...], answer: Any) -> None:
    """Plan a training as ``longigen train --dry-run`` does, which fills the cache; put what a step needs in a queue."""
    answer.put(longigen.plan(recipe, changes=changes, read=True, progress=False).training)


def whole_training(recipe: str, changes: tuple[str, ...]) -> dict[str, Any]:
    """Return the row of a training of three steps: the peak that ``longigen plan`` says, and the training's own."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=planned, args=(recipe, changes, answer))
    process.start()
    step = answer.get()
    process.join()
    with tempfile.TemporaryDirectory() as folder:
        options = [word for change in changes for word in ("--set", change)]
        command = ["train", "--recipe", recipe, "--steps", "3", "--out", f"{folder}/run", *options]
        training = subprocess.Popen([sys.executable, "-m", "longigen_cli", *command], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(training.pid, 0)
        training.returncode = os.waitstatus_to_exitcode(status)
    if training.returncode:
        raise SystemExit(f"longigen {' '.join(command)} failed")
    peak = 1024 * usage.ru_maxrss
    return {
        "recipe": f"{recipe} {' '.join(changes)}",
        "work": f"a whole training; by plan a step was {'predicted' if step.measured is None else 'measured'}",
        "predicted peak, MB": step.peak / 1e6,
        "measured peak, MB": peak / 1e6,
        "error": step.peak / peak - 1,
    }


def recorded() -> Iterator[dict[str, Any]]:
    """Yield predictions for an NVIDIA H200 beside what was measured there, at batch size 1 and without an average."""
    device = Device.parse("NVIDIA H200")
    grids = {name: grid for name, grid, _ in GPU}
    for (name, _, checkpointing, step, peak, evaluation, visit), changes in _recorded_rows():
        case = Case(name, grids[name], 12, 1, checkpointing == "true", "bf16", generation=False, device=device)
        subject = case.subject.changed("model.guidance=0.1", *changes)
        memory = {**(training := subject.of_training()).memory, "average": 0}
        yield _compared(case, sum(memory.values()), float(peak), training.predicted_seconds, float(step))
        if not case.checkpointing:
            two, three = subject.of_generation(2), subject.of_generation(3)
            seconds = three.predicted_seconds - two.predicted_seconds
            yield _compared(
                replace(case, generation=True), two.predicted_peak, float(visit), seconds, float(evaluation)
            )


def _recorded_rows() -> Iterator[tuple[list[str], tuple[str, ...]]]:
    """Yield each row of the recipes in the recorded runs, and the changes of its recipe that it was recorded with."""
    for file, changes in RUNS.items():
        tables = json.loads((RECORDED / file).read_text())["tables"]
        for row in next(table["rows"] for table in tables if table["title"] == "Recipes of paper scale"):
            yield row, changes.get(row[0], ())


def _compared(case: Case, peak: float, gigabytes: float, seconds: float, milliseconds: float) -> dict[str, Any]:
    return {
        **case.cells,
        "predicted peak, MB": peak / 1e6,
        "measured peak, MB": 1e3 * gigabytes,
        "error": peak / (1e9 * gigabytes) - 1,
        "predicted, s": seconds,
        "measured, s": milliseconds / 1e3,
        "time ratio": 1e3 * seconds / milliseconds,
    }


def markdown(title: str, rows: list[dict[str, Any]]) -> str:
    """Return rows as a table, and their largest errors below it."""

    def text(column: str, value: Any) -> str:
        if value is None:
            return "-"
        if column == "error" and isinstance(value, float):
            return f"{100 * value:+.1f} %"
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    lines = [COLUMNS, ["---"] * len(COLUMNS), *([text(name, row.get(name)) for name in COLUMNS] for row in rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"## {title}\n\n{table}\n\n{summary(rows)}\n"


def summary(rows: list[dict[str, Any]]) -> str:
    """Return a sentence on the errors of the rows that were measured."""
    known = [row for row in rows if isinstance(row.get("error"), float)]
    if not known:
        return "Nothing was measured."
    errors = sorted(abs(row["error"]) for row in known)
    ratios = [max(row["time ratio"], 1 / row["time ratio"]) for row in known if "time ratio" in row]
    within = sum(error <= 0.15 for error in errors)
    memory = (
        f"Memory: {within} of {len(known)} within 15 %, median error {100 * errors[len(errors) // 2]:.1f} %, largest "
        f"{100 * errors[-1]:.1f} %."
    )
    return f"{memory} Time: off by a factor of at most {max(ratios):.2f}." if ratios else memory


def write(folder: Path, machine: Mapping[str, str], tables: Mapping[str, list[dict[str, Any]]]) -> None:
    """Write the tables so far."""
    folder.mkdir(parents=True, exist_ok=True)
    head = f"# {', '.join(machine.values())}\n\n"
    (folder / "results.md").write_text(head + "\n".join(markdown(*item) for item in tables.items()), encoding="utf-8")
    content = {"machine": machine, "tables": tables}
    (folder / "results.json").write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8, help="the script ends before they are over")
    parser.add_argument("--out", type=Path, default=Path("runs/plan"), help="folder of the results")
    parser.add_argument("--tiny", action="store_true", help="rehearse at small sizes")
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    device = Device.this()
    machine = {"device": device.name, "torch": torch.__version__, "python": platform.python_version()}
    tables: dict[str, list[dict[str, Any]]] = {}
    if not device.cuda and not arguments.tiny:
        tables["Predicted here for an NVIDIA H200, and measured there"] = list(recorded())
        trainings = tables.setdefault("The step that plan measures, and the largest memory of a training", [])
        for recipe, changes in TRAINED:
            if end - time.monotonic() > MINUTES_OF_A_TRAINING * 60:
                trainings.append(whole_training(recipe, changes))
                write(arguments.out, machine, tables)
                print(trainings[-1], flush=True)
    rows = TINY if arguments.tiny else GPU if device.cuda else CPU
    kinds = ("no", "bf16") if device.cuda else ("no",)  # few CPUs compute in 16 bits
    found = tables.setdefault(f"Predicted and measured on {device.name}", [])
    for case in cases(rows, device, (1,) if arguments.tiny else (1, 2), kinds):
        left = (end - time.monotonic()) / 60
        if left > 0.25 or arguments.tiny:
            found.append(in_process(case, max(left - 0.1, 0.5)))
            write(arguments.out, machine, tables)
            print(found[-1], f"{left:.1f} minutes left", flush=True)
    print(*(markdown(*item) for item in tables.items()), sep="\n")


if __name__ == "__main__":
    main()
