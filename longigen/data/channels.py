"""`PreparedChannels`: a preprocessed subject whose visits have several images, such as T1w and FLAIR."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import NoReturn

import torch
from torch import Tensor

from longigen.components.visit_sequence import BACKGROUND
from longigen.data.cache import VisitCache
from longigen.data.dataset import Subject
from longigen.data.grid import Placement
from longigen.data.issues import Finding
from longigen.data.preprocess import Prepared, Preprocess
from longigen.utils.time_units import time_text


class PreparedChannels(Prepared):
    """A preprocessed subject with several images per visit, which are the channels of one image (C, W, H, D).

    - Each channel is a `Prepared` of its own (`channels`): it is scaled by an intensity range of its own, that of the
      first visit that has it, and what is generated of it is mapped back to its own images.
    - All channels have one placement of the model's grid, that of the first image of the first visit. An image on
      another grid is resampled to it.
    - A channel that a visit lacks is background, -1. `has` tells which it has.

    What maps volumes back (`restore`, `own`, `range_of`, …) is asked of one of the `channels`.
    """

    def __init__(
        self, pipeline: Preprocess, subject: Subject, cache: VisitCache | None, time_factor: float = 1.0
    ) -> None:
        super().__init__(pipeline, subject, cache, time_factor)
        self._reference = next(name for name, image in subject.visits[0].channels.items() if image is not None)
        first = Prepared(pipeline, subject.of_channel(self._reference), cache, time_factor)
        self._parts: dict[str, Prepared] = {}
        for name in subject.channels:
            of_channel = subject.of_channel(name)
            if name == self._reference:
                self._parts[name] = first
            elif of_channel.visits:
                self._parts[name] = Prepared(pipeline, of_channel, cache, time_factor, placed_by=first)

    @property
    def channels(self) -> tuple[Prepared, ...]:
        return tuple(self._parts.values())

    def has(self, index: int) -> tuple[bool, ...]:
        return tuple(image is not None for image in self.subject.visits[index].channels.values())

    def visit(self, index: int) -> Tensor:
        shape = self.placement.shape
        images = [
            self._parts[name].visit(self._place(name, index)) if has else torch.full((1, *shape), BACKGROUND)
            for name, has in zip(self.subject.channels, self.has(index), strict=True)
        ]
        return torch.cat(images)

    def digest(self, index: int) -> str:
        """Return a hash of the own voxels of all images of a visit."""
        if index not in self._digests:
            hashes = (
                self._parts[name].digest(self._place(name, index)) if has else ""
                for name, has in zip(self.subject.channels, self.has(index), strict=True)
            )
            self._digests[index] = hashlib.blake2b(" ".join(hashes).encode(), digest_size=16).hexdigest()
        return self._digests[index]

    @property
    def outside(self) -> float:
        """The largest share of a channel's foreground that is outside the model's grid, from 0 to 1."""
        return max(channel.outside for channel in self.channels)

    @property
    def placement(self) -> Placement:
        return self._parts[self._reference].placement

    def _fit(self) -> NoReturn:
        raise TypeError(f"subject {self.subject.id} has several channels; ask one of them")

    def _key(self, index: int) -> str:
        keys = (
            self._parts[name]._key(self._place(name, index)) if has else ""
            for name, has in zip(self.subject.channels, self.has(index), strict=True)
        )
        return VisitCache.key(*keys)

    def _place(self, name: str, index: int) -> int:
        """Return the index, among the visits that have a channel, of a visit of the subject that has it."""
        return sum(visit.channels[name] is not None for visit in self.subject.visits[:index])


def missing_channels(subjects: Sequence[Subject]) -> Iterator[Finding]:
    """Yield a warning for each subject and channel that some of its visits lack, or all of them."""
    for subject in subjects:
        for name in subject.channels:
            without = [visit for visit in subject.visits if visit.channels[name] is None]
            source = without[0].source if without else ""
            if len(without) == len(subject.visits):
                problem = f"is of a subject that has no {name} at any visit"
                advice = f"add its {name}; without, none is learnt from it or generated for it"
                yield Finding("no-channel", source, problem, advice, subject.id, "warning")
            elif without:
                times = ", ".join(time_text(visit.time) for visit in without)
                visits = "visits at times" if len(without) > 1 else "visit at time"
                problem = f"is without {name} ({len(without)} {visits} {times})"
                advice = f"add its {name}; without, it is taken as missing, and does not count in losses and scores"
                yield Finding("missing-channel", source, problem, advice, subject.id, "warning")


def channel_cautions(subjects: Sequence[Subject]) -> Iterator[str]:
    """Yield in one sentence for each channel how many visits lack it, and how many subjects never have it."""
    for name in subjects[0].channels:
        visits = [visit for subject in subjects for visit in subject.visits]
        without = [visit for visit in visits if visit.channels[name] is None]
        never = [subject.id for subject in subjects if not subject.of_channel(name).visits]
        if without:
            of_them = f", among them all of {len(never)} subjects, such as {never[0]}" if never else ""
            yield (
                f"{name} is missing at {len(without)} of {len(visits)} visits{of_them}; it is background there and "
                "does not count in losses and scores, and what a subject was never given is not generated for it."
            )
