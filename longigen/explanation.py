"""An explanation: which visits a generated one was made from, and where."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from longigen.errors import LongigenError
from longigen.evaluation import foreground_of
from longigen.generation import Answer
from longigen.model import LongitudinalModel
from longigen.pairs import sequence
from longigen.preprocess import Prepared
from longigen.pretrained import describe
from longigen.visits import Covariate, VisitSequence
from longigen.volume import Volume

Origin = Literal["given", "generated", "missing"]


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where a conditioner looked to make one visit.

    Attributes:
        prepared: the subject.
        time: of the visit that was made.
        image: the visit that was made (C, W, H, D).
        times: of the L visits that it could look at, ascending.
        origins: whether each of these was given, was generated before, or has no image.
        images: of these visits (L, C, W, H, D), background where missing.
        shares: of these visits at each voxel (L, W, H, D); see `Conditioner.explain`.
    """

    prepared: Prepared
    time: float
    image: Tensor
    times: tuple[float, ...]
    origins: tuple[Origin, ...]
    images: Tensor
    shares: Tensor

    @cached_property
    def means(self) -> list[float]:
        """The mean share of each visit inside the foreground."""
        return self.shares[:, foreground_of(self.prepared.visit(0))].mean(dim=1).tolist()

    @property
    def volume(self) -> Volume:
        """The shares on the first visit's own grid (W, H, D, L), 0 outside the model's grid."""
        placed = [self.prepared.placement.to_subject(share.numpy(), 0.0) for share in self.shares]
        return Volume(np.stack([volume.data for volume in placed], axis=-1), placed[0].affine)


def require_explaining(model: LongitudinalModel) -> None:
    """Refuse a model whose conditioner cannot say where it looked.

    Raises:
        LongigenError: naming the conditioner.
    """
    if not model.conditioner.explains:
        name = describe(model.conditioner)["name"]
        raise LongigenError(
            f"The conditioner '{name}' cannot say where it looked; leave --explain out, or take a model whose "
            "conditioner attends to visits."
        )


def explanations(model: LongitudinalModel, answer: Answer) -> Iterator[Explanation]:
    """Yield an explanation of each visit of an answer, from the history that it was made with.

    Raises:
        LongigenError: if the conditioner cannot say where it looked.
    """
    require_explaining(model)
    given = sequence(answer.prepared, answer.task.given, set(), model.statistics.covariates)
    every = _joined(given, answer)
    times = sorted([*(answer.prepared.subject.times[index] for index in answer.task.given), *answer.times])
    made = torch.isin(every.times, torch.tensor(answer.times, dtype=every.times.dtype))
    for time, image in zip(answer.times, answer.images, strict=True):
        target = torch.tensor([time], dtype=every.times.dtype)
        # As in generation: each visit that was made joined the history of the next.
        own = every.times == target
        history = replace(every, observed=~own & (~made | (every.times < target)), valid=~own)
        shares = model.conditioner.explain(history.to(model.device), target.to(model.device)).cpu()
        seen = (history.before(target) if model.conditioner.causal else history.valid)[0]
        origins: list[Origin] = [
            "missing" if not observed else "generated" if generated else "given"
            for observed, generated in zip(history.observed[0, seen].tolist(), made[0, seen].tolist(), strict=True)
        ]
        yield Explanation(
            answer.prepared,
            time,
            image,
            tuple(compress(times, seen.tolist())),
            tuple(origins),
            history.images[0, seen],
            shares[0, seen],
        )


def _joined(given: VisitSequence, answer: Answer) -> VisitSequence:
    """Return the visits that were given and those that were made, in order of time, as a batch of one."""
    number = len(answer.times)
    times = torch.cat([given.times, torch.tensor([answer.times], dtype=given.times.dtype)], dim=1)
    known = torch.ones_like(times, dtype=torch.bool)
    joined = VisitSequence(
        images=torch.cat([given.images, answer.images[None]], dim=1),
        times=times,
        observed=known,
        valid=known,
        covariates={
            name: Covariate(*(torch.nn.functional.pad(part, (0, number)) for part in item))
            for name, item in given.covariates.items()
        },
    )
    return joined.select(times.argsort(dim=1))
