"""Print what training and generation at the size of a study cost: ``python benchmarks/costs.py [--out FILE]``.

The times of a step and of an evaluation are those that benchmarks/gpu.py measured (docs/results/gpu/results.json), on
one GPU; the numbers of steps and pairs are the recipes'. More GPUs are arithmetic: they share the pairs, and each step
they exchange the gradients, at `BANDWIDTH`, which is assumed and not measured. Nothing is overlapped. Reading, writing
and validation are not in it.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from longigen.training.recipe import Recipe

MEASURED = Path(__file__).parents[1] / "docs" / "results" / "gpu" / "results.json"
RECIPES = {"sadm-acdc": "12 × 128 × 128 × 32", "dao-adni": "128 × 160 × 128"}
SUBJECTS = 50_000
"""Subjects of a cohort like UK Biobank's imaging, with one visit to generate for each."""
GPUS = (1, 8, 64)
EVALUATIONS = (1000, 25, 4)
BANDWIDTH = {8: 200e9, 64: 25e9}
"""Bytes per second of each GPU that are assumed within one node (NVLink) and between nodes."""


def hours(seconds: float) -> str:
    """Return a duration with two digits, in days, hours or minutes."""
    for unit, length in (("d", 86_400), ("h", 3600)):
        if seconds >= 2 * length:
            return f"{seconds / length:.{0 if seconds >= 100 * length else 1}f} {unit}"
    return f"{seconds / 60:.2g} min"


def measured() -> dict[str, dict[str, float]]:
    """Return by recipe the measured ms of a training step of one pair and of a guided evaluation, and parameters."""
    tables = json.loads(MEASURED.read_text())["tables"]
    table = next(table for table in tables if table["title"] == "Recipes of paper scale")
    found: dict[str, dict[str, float]] = {}
    for name, parameters, checkpointing, step, _, evaluation, _ in table["rows"]:
        if checkpointing == "false":
            weights = float(parameters.removesuffix(" M")) * 1e6
            found[name] = {"step": float(step) / 1e3, "evaluation": float(evaluation) / 1e3, "parameters": weights}
    return found


def training(name: str, cost: dict[str, float]) -> list[str]:
    """Return the row of a recipe's training."""
    settings: Any = Recipe.resolve(name, data="sim-brain").settings("training")
    batch = settings.batch_size * settings.gradient_accumulation
    pairs = settings.steps * batch
    cells = []
    for number in GPUS:
        steps = pairs / max(batch, number)  # a larger batch where there is less than a pair for each GPU
        exchange = 0.0 if number == 1 else steps * 2 * 4 * cost["parameters"] / BANDWIDTH[number]
        cells.append(hours(pairs / number * cost["step"] + exchange))
    return [name, RECIPES[name], f"{settings.steps}", f"{batch}", f"{1e3 * cost['step']:.0f} ms", *cells]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file to write, in Markdown")
    arguments = parser.parse_args()
    machine = json.loads(MEASURED.read_text())["machine"]
    costs = measured()
    titles = " | ".join(f"{number} GPU{'s' if number > 1 else ''}" for number in GPUS)
    lines = [
        f"# What a study costs, by arithmetic from times measured on one {machine['device']}\n",
        f"| training | grid | steps | pairs in a step | measured, a pair | {titles} |",
        "|" + " --- |" * (5 + len(GPUS)),
        *(f"| {' | '.join(training(name, costs[name]))} |" for name in RECIPES),
        f"\n| {SUBJECTS} visits generated | evaluations | measured, an evaluation | {titles} |",
        "|" + " --- |" * (3 + len(GPUS)),
    ]
    for name in RECIPES:
        for evaluations in EVALUATIONS:
            seconds = SUBJECTS * evaluations * costs[name]["evaluation"]
            cells = [hours(seconds / number) for number in GPUS]
            each = f"{1e3 * costs[name]['evaluation']:.1f} ms"
            lines.append(f"| {name} | {evaluations} | {each} | {' | '.join(cells)} |")
    lines += [
        "\nbf16, guided, batch size 1, 11 given visits. The conditioning of a visit, reading, writing and validation "
        "are not in it.",
        "With more GPUs than pairs in a step, a step has as many pairs as there are GPUs, and there are fewer steps.",
        f"Gradients are exchanged at {BANDWIDTH[8] / 1e9:.0f} GB/s within a node and at {BANDWIDTH[64] / 1e9:.0f} GB/s "
        "between nodes, which is assumed. Only the column of one GPU is of measured times.",
    ]
    print("\n".join(lines))
    if arguments.out is not None:
        arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
