"""Do the visits near the target matter most, as SADM's paper says: ``python benchmarks/attention.py RUN``.

For each test subject the last visit is asked for, all visits before it being given, and each of these gets a share of
what is made, in three ways:

- attention: `Conditioner.explain`, its mean inside the foreground. Equal shares mean indifference.
- untrained: the same, of the same conditioner with its initial weights (the mean of three), to see what training did.
- occlusion: how much the generated visit changes inside the foreground (mean |difference|, the same noise) if the visit
  is taken out of what the conditioner sees, as a share of the sum over visits. It asks the whole model, and attention
  not at all. What a residual is added to stays the last visit, which would otherwise win by construction.

It prints the mean share over subjects, with its 95 % bootstrap interval, by the visit's rank (1 is the last one) and by
its gap to the target in typical gaps between visits, and the rank correlation (Spearman) of share and nearness in each
subject. The paper's claim wants shares that fall with rank, above the equal share at rank 1, and a correlation whose
interval lies above 0. Subjects with one given visit have nothing to compare and are left out.
"""

import argparse
from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from longigen import Conditioner, LongigenError, LongitudinalModel, VisitSequence
from longigen.data.intensity import foreground_of
from longigen.data.preprocess import Prepared
from longigen.data.training_pairs import make_sequence
from longigen.generation.explanation import require_explaining
from longigen.generation.session import GenerationSession
from longigen.utils.intervals import Summary

WAYS = ("attention", "untrained", "occlusion")


@dataclass(frozen=True)
class Shares:
    """The shares of a subject's visits (L,) in its last one, in each of the ways, and their `gaps` (L,) to it."""

    gaps: Tensor
    by: dict[str, Tensor]


def untrained(conditioner: Conditioner, model: LongitudinalModel, seed: int) -> Conditioner:
    """Return the conditioner with initial weights."""
    torch.manual_seed(seed)
    fresh = type(conditioner).from_config(conditioner.config)
    statistics = model.statistics
    fresh.build(
        channels=statistics.channels,
        stem_features=model.denoiser.stem_features,
        time_scale=statistics.time_scale,
        covariates=statistics.covariates,
    )
    return fresh.eval().to(model.device)


def occlusion(model: LongitudinalModel, history: VisitSequence, time: Tensor, inside: Tensor) -> Tensor:
    """Return the share of each visit (L,) in what changes if the conditioner lacks it, inside the foreground (W, H, D).

    The target must be after every visit.
    """
    number = len(history)
    # One row with every visit, one without each. The target's own place, behind them, is never seen.
    kept = torch.cat([torch.ones(1, number), 1 - torch.eye(number)]).bool().to(time.device)
    kept = torch.nn.functional.pad(kept, (0, 1))

    def occluded(_: torch.nn.Module, arguments: tuple[VisitSequence, Tensor]) -> tuple[VisitSequence, Tensor]:
        seen, target = arguments
        return replace(seen, observed=seen.observed & kept, valid=seen.valid & kept), target

    hook = model.conditioner.register_forward_pre_hook(occluded)
    every = VisitSequence.collate([history] * (number + 1))
    made = model.generate(every, time.expand(number + 1, 1), subjects=["same noise"] * (number + 1))[:, 0]
    hook.remove()
    change = (made[1:] - made[:1]).abs().mean(dim=1)[:, inside].mean(dim=1)
    return change / change.sum()


def shares_of(model: LongitudinalModel, fresh: list[Conditioner], prepared: Prepared) -> Shares:
    last = len(prepared.subject.visits) - 1
    history = make_sequence(prepared, range(last), set(), model.statistics.covariates).to(model.device)
    time = torch.tensor([prepared.subject.times[last]], dtype=history.times.dtype, device=model.device)
    inside = foreground_of(prepared.visit(0)).to(model.device)

    def mean(conditioner: Conditioner) -> Tensor:
        return conditioner.explain(history, time)[0][:, inside].mean(dim=1).cpu()

    return Shares(
        (time - history.times[0]).cpu() / model.statistics.time_scale,
        {
            "attention": mean(model.conditioner),
            "untrained": torch.stack([mean(conditioner) for conditioner in fresh]).mean(dim=0),
            "occlusion": occlusion(model, history, time, inside).cpu(),
        },
    )


def table(subjects: list[Shares], heading: str, key: dict[int, list[tuple[int, int]]]) -> str:
    """Return a table with a row for each key, which names (subject, visit) pairs; a subject's are averaged first."""
    lines = [f"{heading:<8} {'subjects':>8} {'equal':>7}" + "".join(f"{way:>25}" for way in WAYS)]
    for value in sorted(key):
        by_subject: dict[int, list[int]] = defaultdict(list)
        for subject, visit in key[value]:
            by_subject[subject].append(visit)
        equal = sum(1 / len(subjects[subject].gaps) for subject in by_subject) / len(by_subject)
        line = f"{value:<8} {len(by_subject):>8} {equal:>7.3f}"
        for way in WAYS:
            line += cell(Summary.of([subjects[s].by[way][v].mean().item() for s, v in by_subject.items()]), "")
        lines.append(line)
    return "\n".join(lines)


def cell(summary: Summary, sign: str) -> str:
    return f"{f'{summary.mean:{sign}.3f} [{summary.low:{sign}.3f}, {summary.high:{sign}.3f}]':>25}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run's folder, a model's folder, or org/name of the Hub")
    parser.add_argument("--data", help="as in longigen generate")
    arguments = parser.parse_args()
    inquiry = GenerationSession.open(arguments.run, data=arguments.data)
    model = inquiry.model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    require_explaining(model)
    fresh = [untrained(model.conditioner, model, seed) for seed in range(3)]
    chosen = [prepared for prepared in inquiry.subjects if len(prepared.subject.visits) > 2]
    if not chosen:
        raise SystemExit("No subject has two visits before its last, so there is nothing to compare.")
    with torch.no_grad():
        found = [shares_of(model, fresh, prepared) for prepared in chosen]
    ranks: dict[int, list[tuple[int, int]]] = defaultdict(list)
    gaps: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for subject, shares in enumerate(found):
        for visit, gap in enumerate(shares.gaps.tolist()):
            ranks[len(shares.gaps) - visit].append((subject, visit))
            gaps[round(gap)].append((subject, visit))
    print(f"{inquiry.cohort.name}: {len(found)} subjects ({inquiry.note}), the last visit from all before it\n")
    print("mean share [95 % bootstrap interval over subjects]\n")
    print(table(found, "rank", ranks), end="\n\n")
    print(table(found, "gap", gaps), end="\n\n")
    correlations = {
        way: Summary.of(
            [float(np.corrcoef(rankdata(shares.by[way]), rankdata(-shares.gaps))[0, 1]) for shares in found]
        )
        for way in WAYS
    }
    print(f"{'correlation with nearness':<25}" + "".join(cell(correlations[way], "+") for way in WAYS))


if __name__ == "__main__":
    try:
        main()
    except LongigenError as error:
        raise SystemExit(str(error)) from None
