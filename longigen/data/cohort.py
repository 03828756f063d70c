"""`Cohort`: a data set split by subject and preprocessed for a model, with the statistics of its training part."""

import copy
import hashlib
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, Self

import numpy as np
import torch

from longigen.components.base import parameters
from longigen.components.privacy import public_values
from longigen.data.cache import VisitCache
from longigen.data.channels import channel_cautions, missing_channels
from longigen.data.codes import Codes
from longigen.data.dataset import Dataset, Subject
from longigen.data.issues import BadData, Finding, refuse, warn_of
from longigen.data.preprocess import Prepared, Preprocess, PreprocessSettings
from longigen.data.requirements import check_copied_subjects, check_copied_visits, check_subject, check_visits
from longigen.data.split import Part, Split, SplitSettings, fingerprint
from longigen.data.statistics import Statistics, fit_residual_variance
from longigen.data.trained_grid import TrainedGrid
from longigen.data.training_pairs import TrainingPairs
from longigen.errors import LongigenError, LongigenWarning
from longigen.utils.parallel import in_parallel
from longigen.utils.processes import agreeing, processes, share

RESIDUAL_PAIRS = 128
"""Number of training pairs from which the statistics of the residual are estimated."""

Callback = Callable[[int, int], None]
NewSubjects = Literal["train", "leave-out"]
"""What becomes of subjects that were added to the data of a run before it was continued."""


class Cohort:
    """A data set prepared for one model: its subjects, split, preprocessing pipeline and statistics.

    Args:
        name: name of the data set in the registry.
        dataset: the data set.
        preprocess: the pipeline, or settings from which one is chosen for these subjects.
        split: how subjects are split.
        skip_bad: read every visit now, and leave out visits and subjects that cannot be used (they are listed in
            `skipped`); otherwise the first unusable visit raises an error.
        time_factor: what the data set's times are multiplied by to be in the model's unit.
        callback: called as ``callback(visits read, all visits)`` while `skip_bad` reads them.

    Raises:
        LongigenError: if no subject can be used.
    """

    def __init__(
        self,
        name: str,
        dataset: Dataset,
        preprocess: Preprocess | PreprocessSettings,
        split: SplitSettings,
        *,
        skip_bad: bool = False,
        time_factor: float = 1.0,
        callback: Callback | None = None,
    ) -> None:
        self.name = name
        self.dataset = dataset
        self.split_settings = split
        self.time_factor = time_factor
        self.skipped: list[Finding] = []
        for caution in dataset.cautions:
            warnings.warn(caution, LongigenWarning, stacklevel=2)
        self.subjects: Sequence[Subject] = dataset.subjects(self.skipped.append if skip_bad else refuse)
        self._require_subjects()
        warn_of(caution for s in self.subjects for visit in s.visits for caution in visit.cautions)
        for caution in channel_cautions(self.subjects):
            warnings.warn(caution, LongigenWarning, stacklevel=2)
        self.pipeline: Preprocess = (
            preprocess if isinstance(preprocess, Preprocess) else preprocess.pipeline(self.subjects)
        )
        self._cache = VisitCache.default()
        self._prepared: dict[str, Prepared] = {}
        if skip_bad:
            with processes().main_process_first():  # the others find in the cache what it read
                self.subjects = self._usable(self.subjects, callback)
            self._require_subjects()

    @cached_property
    def split(self) -> Split:
        return Split.by_subject(self.subjects, self.split_settings)

    def with_split(self, settings: SplitSettings) -> Self:
        """Return the same data in another split; what was read and prepared is shared."""
        other = copy.copy(self)
        other.split_settings = settings
        vars(other).pop("split", None)  # it was drawn by the other settings
        return other

    def keep_split(self, recorded: Mapping[str, Sequence[str]], new: NewSubjects | None) -> None:
        """Keep the split that a run recorded, instead of drawing it from the subjects that there are now.

        A `LongigenWarning` names the recorded subjects that are missing now, and the new ones and where they go.

        Args:
            recorded: the subjects' ids by part.
            new: ``train`` adds subjects that are not recorded to the training part, ``leave-out`` leaves them out.

        Raises:
            LongigenError: if there are such subjects and `new` is None, or no training subject is left.
        """
        ids = [subject.id for subject in self.subjects]
        named = {name for part in recorded.values() for name in part}
        added, missing = [name for name in ids if name not in named], sorted(named.difference(ids))
        if added and new is None:
            raise LongigenError(
                f"'{self.name}' has {len(added)} subjects that are not in the run's split ({listed(added)}); add "
                "--new-subjects train to train on them too, or --new-subjects leave-out."
            )
        where = "join the training part" if new == "train" else "are left out"
        for names, what in (
            (missing, f"of the run are no longer in '{self.name}'"),
            (added, f"of '{self.name}' that are not in the run's split {where}"),
        ):
            if names:
                warnings.warn(f"{len(names)} subjects {what}: {listed(names)}.", LongigenWarning, stacklevel=3)
        if new == "leave-out":
            self.subjects = [subject for subject in self.subjects if subject.id in named]
        split = Split.recorded(self.subjects, recorded)
        self.split = replace(split, train=split.train + tuple(s for s in self.subjects if s.id not in named))
        if not self.split.train:
            raise LongigenError(f"None of the run's training subjects is in '{self.name}'; check the data.")

    @property
    def provenance(self) -> dict[str, Any]:
        """Description of the training data for a model's config.json: no ids, paths or free text.

        ``parts`` counts the subjects of each part of the split; ``intervals`` has the shortest and the longest time
        between two visits of a training subject; ``voxels`` and ``outside`` are of the model's grid in the training
        subjects, see `TrainedGrid.record`.
        """
        known = parameters(type(self.dataset))
        provenance: dict[str, Any] = {
            "name": self.name,
            "parameters": public_values(known, self.dataset.config),
            "simulated": self.dataset.simulated,
            "subjects": len(self.subjects),
            "visits": sum(len(subject.visits) for subject in self.subjects),
            "fingerprint": fingerprint(self.subjects),
            "split": vars(self.split_settings),
        }
        times = [subject.times for subject in self.split.train if len(subject.visits) > 1]
        provenance["parts"] = {part: len(ids) for part, ids in self.split.ids.items()}
        if times:
            shortest = min(b - a for each in times for a, b in pairwise(each))
            provenance["intervals"] = [round(shortest, 6), round(max(each[-1] - each[0] for each in times), 6)]
        return {**provenance, **TrainedGrid.of(self.part("train")).record}

    def part(self, name: Part) -> list[Prepared]:
        """Return the prepared subjects of one part of the split."""
        return self.prepared(self.subjects if name == "all" else self.split.part(name))

    def prepared(self, subjects: Sequence[Subject]) -> list[Prepared]:
        """Return subjects with their visits preprocessed lazily; later calls return the same objects."""
        for subject in subjects:
            if subject.id not in self._prepared:
                self._prepared[subject.id] = self.pipeline.subject(subject, self._cache, time_factor=self.time_factor)
        return [self._prepared[subject.id] for subject in subjects]

    def images(self, subjects: Sequence[Prepared]) -> str:
        """Return a hash of the images of subjects, by id and in order of time, whatever their files are called.

        It is of their voxels, which the cache knows or which are read; of simulated images it is of what determines
        them, since their voxels may differ in the last digit from machine to machine.
        """
        lines = []
        for prepared in sorted(subjects, key=lambda each: each.subject.id):
            simulated = [visit.identity for visit in prepared.subject.visits]
            lines.append("\t".join([prepared.subject.id, *(simulated if self.dataset.simulated else prepared.digests)]))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    def require(self, subjects: Sequence[Prepared], callback: Callback | None = None) -> None:
        """Read every visit as `read` does, and check what training requires besides.

        Raises:
            LongigenError: as `read`; also if a subject has fewer than two visits, or occurs in two parts of the split.
        """
        require_pairs(subjects)
        parts = self._parts  # so that a split that cannot be is refused before any volume is read
        needed = sum(
            4 * math.prod(self.shape_of(prepared.subject)) * len(prepared.subject.visits) for prepared in subjects
        )
        if 0 < self._cache.limit_bytes < needed:
            warnings.warn(
                f"The preprocessed visits take {needed / 1e9:.1f} GB and the cache holds "
                f"{self._cache.limit_bytes / 1e9:.1f}, so files are read again in each epoch; set LONGIGEN_CACHE_GB to "
                "more, or LONGIGEN_CACHE to a larger disk.",
                LongigenWarning,
                stacklevel=2,
            )
        self.read(subjects, callback)
        _require_apart(subjects, parts)

    def require_apart(self, subjects: Sequence[Prepared]) -> None:
        """Check that no subject occurs in two parts of the split under two ids.

        Raises:
            LongigenError: naming the two.
        """
        _require_apart(subjects, self._parts)

    @property
    def _parts(self) -> dict[str, str]:
        """The part of the split of each subject, by its id."""
        return {name: part for part, ids in self.split.ids.items() for name in ids}

    def read(self, subjects: Sequence[Prepared], callback: Callback | None = None) -> None:
        """Read and cache every visit of the given subjects, so that bad data are reported before any other work.

        Several processes share the subjects, and find in the cache what another one read.

        Raises:
            BadData: if a visit cannot be used, or occurs twice.
        """

        def read(prepared: Prepared) -> int:
            visits = len(prepared.subject.visits)
            for index in range(visits):
                prepared.visit(index)
            return visits

        mine = share(subjects)
        done, total = 0, sum(len(prepared.subject.visits) for prepared in mine)
        with agreeing():
            for visits in in_parallel(read, mine):
                done += visits
                if callback is not None:
                    callback(done, total)
            for prepared in mine:
                for channel in prepared.channels:
                    for _, finding in check_copied_visits(channel.subject, channel.digests):
                        raise BadData(finding)

    def shape_of(self, subject: Subject) -> tuple[int, int, int]:
        """Return (W, H, D) of the model's grid in a subject, from the header of its first visit.

        A grid that takes as many voxels as the foreground has is at most as large.
        """
        first = subject.visits[0]
        return self.pipeline.grid.shape_of(first.shape, first.spacing)

    def _usable(self, subjects: Sequence[Subject], callback: Callback | None) -> list[Subject]:
        """Return the subjects with at least two visits that can be read and preprocessed, and only those visits."""

        def usable_visits(subject: Subject) -> tuple[Subject, list[Finding]]:
            checked = list(check_visits(subject, self.pipeline, self._cache))
            bad = [finding for _, _, finding in checked if finding is not None]
            good = [(prepared, index) for prepared, index, finding in checked if finding is None]
            visits = tuple(prepared.subject.visits[index] for prepared, index in good)
            digests = [prepared.digest(index) for prepared, index in good]
            copies = dict(check_copied_visits(replace(subject, visits=visits), digests))
            distinct = replace(subject, visits=tuple(v for index, v in enumerate(visits) if index not in copies))
            unfit = list(check_subject(distinct))
            return replace(distinct, visits=() if unfit else distinct.visits), [*bad, *copies.values(), *unfit]

        usable, done, total = [], 0, sum(len(subject.visits) for subject in subjects)
        for original, (subject, bad) in zip(subjects, in_parallel(usable_visits, subjects), strict=True):
            self.skipped += bad
            if len(subject.visits) > 1:
                usable.append(subject)
            done += len(original.visits)
            if callback is not None:
                callback(done, total)
        return usable

    def _require_subjects(self) -> None:
        if not self.subjects:
            left = f": {len(self.skipped)} were left out, the first since {self.skipped[0]}" if self.skipped else ""
            raise LongigenError(f"The data set '{self.name}' has no subjects{left or '; choose another one.'}")

    def statistics(
        self, *, causal: bool, covariates: tuple[str, ...], seed: int, codes: Codes | None = None
    ) -> Statistics:
        """Compute the statistics of the training part: the typical gap between visits, and the residual's variance.

        Args:
            causal: use only visits before the target.
            covariates: names of the covariates of the model.
            seed: random seed of the pairs that the residual is measured on.
            codes: the codes of the visits, whose difference is then the residual.

        Raises:
            LongigenError: if all visits of a subject are identical, so that there is no change to learn.
        """
        training = self.part("train")
        gaps = np.concatenate([np.diff(prepared.subject.times) for prepared in training])
        pairs = TrainingPairs(training, length=RESIDUAL_PAIRS, seed=seed, causal=causal, codes=codes)
        scale = float(np.median(gaps))
        squares, lengths = [], []
        by_channel: list[list[tuple[float, float]]] = [[] for _ in self.channels]
        for number in range(len(pairs)):
            batch = pairs[number]
            base, time = batch.history.last(before=batch.target_time)
            length = (batch.target_time - time).item() / scale
            square = (batch.target - base) ** 2
            masks = (batch.target_channels, batch.history.channels_before(batch.target_time))
            counted = torch.stack([mask[0] for mask in masks if mask is not None] or [torch.tensor(True)]).all(dim=0)
            if not counted.any():
                continue
            squares.append(torch.mean(square if counted.all() else square[:, counted]).item())
            lengths.append(length)
            for place, found in enumerate(by_channel):
                if counted.expand(len(by_channel))[place]:
                    found.append((length, float(square[:, place].mean())))
        self._require_change(squares)
        for name, found in zip(self.channels, by_channel, strict=True):
            self._require_change([each for _, each in found], name)
        fits = [_residual_stds(*zip(*found, strict=True)) for found in by_channel]
        std, noise_std, std_per_gap = _residual_stds(lengths, squares)
        mixed = codes is not None and not codes.codec.trivial
        stds, noises, slopes = zip(*fits, strict=True) if fits and not mixed else ((), (), ())
        return Statistics(
            channels=max(1, len(self.channels)),
            residual_std=std,
            residual_noise_std=noise_std,
            residual_std_per_gap=std_per_gap,
            time_scale=scale,
            time_unit=self.dataset.time_unit,
            covariates=covariates,
            channel_names=self.channels,
            channel_stds=stds,
            channel_noise_stds=noises,
            channel_stds_per_gap=slopes,
        )

    def _require_change(self, squares: Sequence[float], channel: str = "") -> None:
        """Raise a `LongigenError` if mean squared residuals, of a channel or all, say that there is no change."""
        if channel and not squares:
            raise LongigenError(
                f"No training subject of '{self.name}' has two visits with {channel}, so it cannot be learnt; leave "
                "the channel out."
            )
        if not any(squares):
            what = f"All {channel} images" if channel else "All visits"
            raise LongigenError(
                f"{what} of the training subjects of '{self.name}' are identical, so there is no change to learn; "
                "check that the manifest does not name one file for several visits."
            )

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the channels of the visits, in order; none for visits of one image."""
        return self.subjects[0].channels

    def require_whole(self, why: str) -> None:
        """Check that no visit lacks a channel.

        Args:
            why: why none may, to be followed by a semicolon and advice.

        Raises:
            LongigenError: naming the first that does.
        """
        lacking = next(missing_channels(self.subjects), None)
        if lacking is not None:
            raise LongigenError(f"{why}, and {lacking.source} {lacking.problem}; leave such visits out.")

    @cached_property
    def covariates(self) -> tuple[str, ...]:
        """Names of the covariates that at least one visit has, sorted."""
        return tuple(sorted({name for s in self.subjects for visit in s.visits for name in visit.covariates}))


def _residual_stds(lengths: Sequence[float], squares: Sequence[float]) -> tuple[float, float, float]:
    """Return the standard deviation of residuals, that at a gap of 0, and its increase per typical gap.

    Args:
        lengths: gaps (N,), in typical gaps between visits.
        squares: mean squared residual of each (N,).
    """
    return float(np.sqrt(np.mean(squares))), *fit_residual_variance(np.array(lengths), np.array(squares))


def listed(names: Sequence[str], limit: int = 5) -> str:
    """Return the first names, and how many more there are."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _require_apart(subjects: Sequence[Prepared], parts: Mapping[str, str]) -> None:
    """Check that no subject occurs in two parts of a split under two ids.

    Raises:
        LongigenError: naming the two.
    """
    for finding in check_copied_subjects([p.subject for p in subjects], [p.digests for p in subjects], parts):
        if finding.severity == "error":
            raise LongigenError(str(finding))  # no BadData, since which of the two to leave out is not known


def require_pairs(subjects: Sequence[Prepared]) -> None:
    """Check that every subject has at least two visits, at times that a model can read and tell apart.

    Raises:
        LongigenError: naming the subjects that have fewer, or a visit whose time or covariate a model cannot use.
    """
    ids = [prepared.subject.id for prepared in subjects if len(prepared.subject.visits) < 2]
    if ids:
        names = f"Subject{'s' * (len(ids) > 1)} {listed(ids)}"
        subject, pronoun = (f"{names} has", "it") if len(ids) == 1 else (f"{names} have", "them")
        raise LongigenError(
            f"{subject} only one visit where at least two are needed; add visits, or leave {pronoun} out with "
            "--skip-bad."
        )
    for prepared in subjects:
        for finding in check_subject(prepared.subject):
            raise BadData(finding)
