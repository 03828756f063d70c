"""Compare samples of few network evaluations with a model's own chain: ``python benchmarks/few_steps.py MODEL``.

The last visit of each test subject is generated from all visits before it: by the sampler that the model was trained
with, in as many steps as ``--reference`` says, and by each of ``--samplers`` in each of ``--steps``, with one noise. A
line has the means over subjects, and the difference from the chain, subject by subject with its 95 % interval, positive
where few steps are better. NFE is the number of network evaluations per visit, twice the steps with guidance; seconds
are those of one visit, by the clock. The last line is copy-last, which needs no network.

    python benchmarks/few_steps.py RUN --samplers dpmpp,unipc,ddim --steps 4,8,16,25 --reference 1000
    python benchmarks/few_steps.py RUN --data acdc:PATH --subjects 8 --out docs/results/few-steps/acdc
    python benchmarks/few_steps.py sadm-sim-brain --tiny           # rehearses it in a minute

``--out`` writes ``table.txt`` and ``results.json``. A student of `longigen distill` is compared with its teacher by
``--student RUN``: its own sampler and steps, on the same subjects.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from longigen.evaluation.evaluate import Evaluation, protocol_of
from longigen.evaluation.metrics import load_metrics
from longigen.generation.session import GenerationSession
from longigen.hub.metrics_file import COPY_LAST, MODEL
from longigen.models.predict import GenerationSettings
from longigen.registry.registry import registry
from longigen.utils.files import write_json
from longigen.utils.intervals import INTERVAL, Summary

METRICS = ("ssim", "psnr", "change-correlation")
LIMIT = 0.005
"""How much SSIM few steps may lose."""


@dataclass(frozen=True)
class Line:
    """One way to generate: its name, steps and evaluations, seconds of a visit, and each metric's values by subject."""

    name: str
    steps: int
    evaluations: int
    seconds: float
    values: Mapping[str, Sequence[float]]


def measured(session: GenerationSession, name: str | None, steps: int | None, batch_size: int) -> tuple[Line, Line]:
    """Return the scores of one way to generate, and those of copy-last."""
    metrics = load_metrics(METRICS)
    protocol = protocol_of(session, metrics, ["full"], "last", 0)
    evaluation = Evaluation.of(
        session, GenerationSettings(sampler=name, steps=steps), protocol, metrics, batch_size=batch_size
    )
    made = evaluation.generation
    guided = made["guidance"] > 0 and session.model.denoiser.denoises

    def line(method: str, label: str) -> Line:
        scores = sorted((each for each in evaluation.scores if each.method == method), key=lambda each: each.subject)
        values = {metric: [each.values[metric] for each in scores] for metric in METRICS}
        return Line(label, made["steps"], made["steps"] * (1 + guided), float(np.median(evaluation.seconds)), values)

    own = Path(session.source).name if name is None else name
    return line(MODEL, own), replace(line(COPY_LAST, COPY_LAST), steps=0, evaluations=0, seconds=0.0)


def difference(line: Line, chain: Line, metric: str) -> Summary:
    """Return the mean difference of a metric from the chain, over subjects."""
    return Summary.of([a - b for a, b in zip(line.values[metric], chain.values[metric], strict=True)])


def text(line: Line, chain: Line) -> str:
    """Return a line of the table."""
    cells = f"{line.name:<18}{line.steps:>6}{line.evaluations:>6}{line.seconds:>9.2f}"
    for metric in METRICS:
        cells += f"{np.nanmean(line.values[metric]) if not np.isnan(line.values[metric]).all() else np.nan:>10.4f}"
        if metric == METRICS[0] and line is not chain:
            cells += f"{difference(line, chain, metric).cell(signed=True):>30}"
        elif metric == METRICS[0]:
            cells += " " * 30
    return cells


def content(line: Line, chain: Line) -> dict[str, Any]:
    """Return a line as plain values."""
    found = {metric: difference(line, chain, metric).to_dict() for metric in METRICS}
    means = {metric: Summary.of(line.values[metric]).to_dict() for metric in METRICS}
    values = {name: [None if np.isnan(value) else value for value in each] for name, each in line.values.items()}
    return {**vars(line), "values": values, "means": means, "difference": found}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="run or model")
    parser.add_argument("--data", help="data set, by default that of training")
    parser.add_argument("--subjects", type=int, help="number of test subjects, by default all")
    parser.add_argument("--samplers", default="ddim,dpmpp,unipc", help="names, with commas between them")
    parser.add_argument("--steps", default="4,8,16,25", help="numbers of steps, with commas between them")
    parser.add_argument("--reference", type=int, default=1000, help="steps of the model's own chain")
    parser.add_argument("--student", action="append", default=[], help="run or model to add, with its own steps")
    parser.add_argument("--batch-size", type=int, default=4, help="subjects at once")
    parser.add_argument("--tiny", action="store_true", help="two subjects, two steps and a chain of four")
    parser.add_argument("--out", type=Path, help="folder for table.txt and results.json")
    given = parser.parse_args()
    if given.tiny:
        given.subjects, given.steps, given.reference = 2, "2", 4

    def opened(model: str) -> GenerationSession:
        session = GenerationSession.open(model, data=given.data)
        return replace(session, subjects=session.subjects[: given.subjects])

    session = opened(given.model)
    lines: list[str] = []

    def show(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    show(f"{session.cohort.name}: {len(session.subjects)} subjects ({session.note}); {INTERVAL}")
    show(
        f"{'sampler':<18}{'steps':>6}{'NFE':>6}{'seconds':>9}{'ssim':>10}{'difference':>30}{'psnr':>10}{'change r':>10}"
    )
    chain, copied = measured(session, registry.name_of(session.model.sampler), given.reference, given.batch_size)
    show(text(chain, chain))
    found = [chain]
    ways = [(session, name, int(steps)) for name in given.samplers.split(",") for steps in given.steps.split(",")]
    for of_session, name, steps in [*ways, *((opened(student), None, None) for student in given.student)]:
        found.append(measured(of_session, name, steps, given.batch_size)[0])
        show(text(found[-1], chain))
    show(text(copied, chain))
    within = [line for line in found[1:] if difference(line, chain, "ssim").mean >= -LIMIT]
    best = min(within, key=lambda line: line.evaluations, default=None)
    show(
        f"no way is within {LIMIT:g} SSIM of the chain"
        if best is None
        else f"within {LIMIT:g} SSIM of the chain at the fewest evaluations: {best.name}, {best.steps} steps, "
        f"{chain.evaluations / best.evaluations:.0f} times fewer, {chain.seconds / best.seconds:.0f} times faster"
    )
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "table.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        write_json({"lines": [content(line, chain) for line in [*found, copied]]}, given.out / "results.json")


if __name__ == "__main__":
    main()
