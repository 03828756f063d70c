"""Draw training pairs of a history and a target visit (SADM, Algorithm 1)."""

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from longigen.components.visit_sequence import BACKGROUND, Batch, Covariate, VisitSequence
from longigen.data.augment import Augment
from longigen.data.codes import Codes
from longigen.data.preprocess import Prepared
from longigen.utils.randomness import derive_seed

Missing = Literal["mixed", "slots", "absent"]
"""How the history represents missing visits: as ``slots``, whose time is known and whose image is not; ``absent``, left
out of the sequence; or ``mixed``, drawn for each pair."""


class TrainingPairs(Dataset[Batch]):
    """Random training pairs of a history and a target visit, drawn as in SADM, Algorithm 1.

    Each subject's visits are divided at random: one visit after the first is the target (of F in the paper), some of
    the others are missing (M), and the rest is given (C). The first visit is always given. The number of missing visits
    is uniform, so that training covers all scenarios from single to full, and gaps between the last given visit and the
    target of all sizes up to the longest. With a causal conditioner, only visits before the target are used.

    A missing visit is a slot in Algorithm 1: its time is known, its image not. A model that is trained with slots alone
    counts them instead of reading times: asked for one distant time, with no slot in between, it changes as little as
    for a near one. With ``mixed`` a pair's missing visits are slots, absent from the sequence, or independently either
    with probability ½; each of the three has probability ⅓.

    Pair number k depends only on (seed, k), and not on workers, processes or resuming. Each pass over the subjects uses
    a new permutation.

    Args:
        subjects: preprocessed subjects with at least two visits.
        length: the number of pairs.
        seed: random seed of all draws.
        causal: use only visits before the target.
        covariates: names of the covariates in the histories.
        augment: augmentation of each pair; None for no augmentation.
        missing: how missing visits are represented. It does not change which visits are targets, given or missing.
        last: probability that the target is the subject's last visit, in addition to its share of the other draws.
        single: probability that of the given visits only the first is kept, so that the visit is generated from one.
        codes: the codes of the visits, which the pairs then hold instead of images. Not with `augment`, which changes
            images: those pairs hold images, and the model encodes them.
    """

    def __init__(
        self,
        subjects: Sequence[Prepared],
        *,
        length: int,
        seed: int,
        causal: bool,
        covariates: tuple[str, ...] = (),
        augment: Augment | None = None,
        missing: Missing = "slots",
        last: float = 0.0,
        single: float = 0.0,
        codes: Codes | None = None,
    ) -> None:
        if not subjects:
            raise ValueError("there are no subjects")
        self.subjects: list[Prepared] = list(subjects)
        self.length = length
        self.seed = seed
        self.causal = causal
        self.covariates = covariates
        self.augment = augment
        self.missing = missing
        self.last, self.single = last, single
        self.codes: Codes | None = codes if augment is None else None

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> Batch:
        epoch, position = divmod(number, len(self.subjects))
        order = np.random.default_rng(derive_seed("order", self.seed, epoch)).permutation(len(self.subjects))
        prepared = self.subjects[order[position]]
        draw = np.random.default_rng(derive_seed("pair", self.seed, number))
        visits = len(prepared.subject.visits)
        target = int(draw.integers(1, visits))
        # A generator of its own, so that the other draws are the same whatever the probabilities.
        longest, alone = np.random.default_rng(derive_seed("single", self.seed, number)).random(2)
        if longest < self.last:
            target = visits - 1
        others = [index for index in range(1, target if self.causal else visits) if index != target]
        missing = {int(i) for i in draw.permutation(others)[: draw.integers(0, len(others) + 1)]}
        absent = self._absent(missing, draw)
        if alone < self.single:
            missing = absent = set(others)
        history = [index for index in (0, *others) if index not in absent]
        pair = make_pair(prepared, history, missing - absent, target, self.covariates, self.codes)
        if self.augment is None:
            return pair
        return self.augment(pair, seed=derive_seed("augment", self.seed, number), pad=prepared.pipeline.pad)

    def largest(self) -> Batch:
        """Return a pair with as many voxels as any: the subject with most, all its visits given but the last."""

        def voxels(prepared: Prepared) -> int:
            fixed = all(prepared.pipeline.grid.shape)
            return len(prepared.subject.visits) * (1 if fixed else prepared.visit(0).numel())

        prepared = max(self.subjects, key=voxels)
        last = len(prepared.subject.visits) - 1
        pair = make_pair(prepared, range(last), set(), last, self.covariates, self.codes)
        return pair if self.augment is None else self.augment(pair, seed=0, pad=prepared.pipeline.pad)

    def _absent(self, missing: set[int], draw: np.random.Generator) -> set[int]:
        """Return the missing visits that are left out of the sequence; drawn last, so that no other draw changes."""
        if self.missing == "slots":
            return set()
        share = 1.0 if self.missing == "absent" else (0.0, 1.0, 0.5)[draw.integers(3)]
        return {index for index in sorted(missing) if draw.random() < share}


def make_pair(
    prepared: Prepared,
    history: Sequence[int],
    missing: set[int],
    target: int,
    covariates: tuple[str, ...],
    codes: Codes | None = None,
) -> Batch:
    """Return a history and a target visit of a subject as a batch of size 1.

    Args:
        prepared: the subject.
        history: indices of the visits in the history.
        missing: indices of the history's visits that are not observed.
        target: index of the target visit.
        covariates: names of the covariates in the history.
        codes: the codes of the visits, which the batch then holds instead of images.
    """
    return Batch(
        make_sequence(prepared, history, missing, covariates, codes),
        (prepared.visit(target) if codes is None else codes.visit(prepared, target))[None],
        torch.tensor([prepared.model_time(prepared.subject.times[target])], dtype=torch.float32),
        coded=codes is not None,
        target_channels=None if all(prepared.has(target)) else torch.tensor([prepared.has(target)]),
    )


def make_sequence(
    prepared: Prepared,
    history: Sequence[int],
    missing: set[int],
    covariates: tuple[str, ...],
    codes: Codes | None = None,
) -> VisitSequence:
    """Return visits of a subject as a `VisitSequence` of batch size 1, in the model's time unit; as `make_pair`."""
    observed = [index not in missing for index in history]
    read = prepared.visit if codes is None else partial(codes.visit, prepared)
    shape = read(0).shape
    images = [
        read(index) if is_observed else torch.full(shape, BACKGROUND)
        for index, is_observed in zip(history, observed, strict=True)
    ]
    visits = [prepared.subject.visits[index] for index in history]
    has = [prepared.has(index) for index in history]
    return VisitSequence(
        images=torch.stack(images)[None],
        times=torch.tensor([[prepared.model_time(visit.time) for visit in visits]], dtype=torch.float32),
        observed=torch.tensor([observed]),
        valid=torch.ones(1, len(visits), dtype=torch.bool),
        covariates={name: _covariate([visit.covariates.get(name) for visit in visits]) for name in covariates},
        observed_channels=None if all(map(all, has)) else torch.tensor([has]),
    )


LARGEST = 1e18
"""The largest time or covariate, either sign, that a model can be given: its square is finite in single precision."""


def same_to_model(times: Iterable[float]) -> tuple[float, float] | None:
    """Return the first two different times that are one to a model, as it reads times in single precision, or None."""
    return next(((a, b) for a, b in pairwise(sorted({*times})) if np.float32(a) == np.float32(b)), None)


def _covariate(values: Sequence[float | None]) -> Covariate:
    def row(items: list[float] | list[bool]) -> Tensor:
        return torch.tensor([items])

    return Covariate(row([0.0 if value is None else value for value in values]), row([v is not None for v in values]))
