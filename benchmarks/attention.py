"""Test whether recent visits contribute most, as the SADM paper claims: ``python benchmarks/attention.py RUN``.

The last visit of each test subject is generated from all visits before it. The contribution of each of these visits is
measured in three ways, as a share of the sum over visits:

- attention: `Conditioner.explain`, averaged inside the foreground. Without any preference all shares are equal.
- untrained: the same for a conditioner with initial weights (mean of three), to see the effect of training.
- occlusion: mean absolute change of the generated visit inside the foreground, with the same noise, if the conditioner
  does not see the visit. It measures the whole model instead of its attention. The base of a residual remains the last
  visit, since that visit would otherwise always have the largest share.

Prints the mean share over subjects with its 95 % interval, by the rank of the visit (1 is the last one) and
by its gap to the target in typical gaps between visits. Prints also the rank correlation (Spearman) of share and
nearness within subjects. The paper's claim holds if shares fall with rank, the share at rank 1 is above the equal
share, and the interval of the correlation is above 0. Subjects with a single given visit are left out.
"""

import argparse
from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from longigen import Conditioner, LongigenError, LongitudinalModel, VisitSequence
from longigen.data.intensity import foreground_mask
from longigen.data.preprocess import Prepared
from longigen.data.training_pairs import make_sequence
from longigen.generation.explanation import require_explaining
from longigen.generation.session import GenerationSession
from longigen.utils.intervals import INTERVAL, Summary

MEASURES = ("attention", "untrained", "occlusion")


@dataclass(frozen=True)
class Shares:
    """Contributions of a subject's earlier visits to its last one.

    Attributes:
        gaps: gap of each visit to the last one (L,), in typical gaps between visits.
        by_measure: share of each visit (L,), by the name of the measure.
    """

    gaps: Tensor
    by_measure: dict[str, Tensor]


def untrained(conditioner: Conditioner, model: LongitudinalModel, seed: int) -> Conditioner:
    """Return a conditioner of the same configuration with initial weights."""
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
    """Return the share of each visit (L,) by occlusion.

    Args:
        model: the model.
        history: visits of one subject, as a batch of one.
        time: time of the target (1,), after all visits.
        inside: the foreground (W, H, D), bool.
    """
    number = len(history)
    # The first row keeps all visits, each other row leaves one out. The last column is the target itself.
    visible = torch.cat([torch.ones(1, number), 1 - torch.eye(number)]).bool().to(time.device)
    visible = torch.nn.functional.pad(visible, (0, 1))

    def occlude(_: torch.nn.Module, arguments: tuple[VisitSequence, Tensor]) -> tuple[VisitSequence, Tensor]:
        visits, target = arguments
        return replace(visits, observed=visits.observed & visible, valid=visits.valid & visible), target

    hook = model.conditioner.register_forward_pre_hook(occlude)
    repeated = VisitSequence.collate([history] * (number + 1))
    images = model.generate(repeated, time.expand(number + 1, 1), subjects=["same noise"] * (number + 1))[:, 0]
    hook.remove()
    change = (images[1:] - images[:1]).abs().mean(dim=1)[:, inside].mean(dim=1)
    return change / change.sum()


def shares_of(model: LongitudinalModel, fresh: list[Conditioner], prepared: Prepared) -> Shares:
    """Return the shares of a subject by all measures; `fresh` are conditioners with initial weights."""
    last = len(prepared.subject.visits) - 1
    history = make_sequence(prepared, range(last), set(), model.statistics.covariates).to(model.device)
    time = torch.tensor([prepared.subject.times[last]], dtype=history.times.dtype, device=model.device)
    inside = foreground_mask(prepared.visit(0)).to(model.device)

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
    """Return a table of mean shares with one row per key (a rank or a gap), averaged within each subject first.

    Args:
        subjects: shares of each subject.
        heading: name of the key.
        key: (subject, visit) pairs of each key.
    """
    lines = [f"{heading:<8} {'subjects':>8} {'equal':>7}" + "".join(f"{measure:>25}" for measure in MEASURES)]
    for value in sorted(key):
        by_subject: dict[int, list[int]] = defaultdict(list)
        for subject, visit in key[value]:
            by_subject[subject].append(visit)
        equal = sum(1 / len(subjects[subject].gaps) for subject in by_subject) / len(by_subject)
        line = f"{value:<8} {len(by_subject):>8} {equal:>7.3f}"
        for measure in MEASURES:
            shares = [subjects[s].by_measure[measure][v].mean().item() for s, v in by_subject.items()]
            line += cell(Summary.of(shares), "")
        lines.append(line)
    return "\n".join(lines)


def cell(summary: Summary, sign: str) -> str:
    """Return a mean with its interval, 25 characters wide."""
    return f"{f'{summary.mean:{sign}.3f} [{summary.low:{sign}.3f}, {summary.high:{sign}.3f}]':>25}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of a run or a model, or org/name of a Hub repository")
    parser.add_argument("--data", help="data set to generate for; by default the model's training data")
    arguments = parser.parse_args()
    session = GenerationSession.open(arguments.run, data=arguments.data)
    model = session.model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    require_explaining(model)
    fresh = [untrained(model.conditioner, model, seed) for seed in range(3)]
    chosen = [prepared for prepared in session.subjects if len(prepared.subject.visits) > 2]
    if not chosen:
        raise SystemExit("No subject has two visits before its last, so there are no shares to compare.")
    with torch.no_grad():
        subjects = [shares_of(model, fresh, prepared) for prepared in chosen]
    ranks: dict[int, list[tuple[int, int]]] = defaultdict(list)
    gaps: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for subject, shares in enumerate(subjects):
        for visit, gap in enumerate(shares.gaps.tolist()):
            ranks[len(shares.gaps) - visit].append((subject, visit))
            gaps[round(gap)].append((subject, visit))
    print(f"{session.cohort.name}: {len(subjects)} subjects ({session.note}), the last visit from all before it\n")
    print(f"mean share over subjects [{INTERVAL}]\n")
    print(table(subjects, "rank", ranks), end="\n\n")
    print(table(subjects, "gap", gaps), end="\n\n")
    correlations = {
        name: Summary.of(
            [float(np.corrcoef(rankdata(item.by_measure[name]), rankdata(-item.gaps))[0, 1]) for item in subjects]
        )
        for name in MEASURES
    }
    print(f"{'correlation with nearness':<25}" + "".join(cell(correlations[name], "+") for name in MEASURES))


if __name__ == "__main__":
    try:
        main()
    except LongigenError as error:
        raise SystemExit(str(error)) from None
