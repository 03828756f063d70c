"""`VisitSequence`, a batch of subjects' visits as tensors, and `Batch`, histories with their target visits."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor

BACKGROUND = -1.0
"""The intensity of background, and the fill value of images that were not observed."""


class Covariate(NamedTuple):
    """A covariate of each visit: `values` (B, L), and a mask (B, L), bool, of where they are `present`."""

    values: Tensor
    present: Tensor


@dataclass(frozen=True)
class VisitSequence:
    """The visits of B subjects, up to L each: images, times, masks and covariates.

    Contract:

    - `images` (B, L, C, W, H, D), floating, in [-1, 1]; background is -1. To a conditioner of a model with a codec they
      are codes of C channels, of that codec's range.
    - `times` (B, L), floating, in the data set's unit, ascending over each subject's valid visits.
    - `observed` (B, L), bool: whether the visit has an image. Images that are not observed are set to background here,
      so that they cannot leak.
    - `valid` (B, L), bool: whether there is a visit. Subjects with fewer visits are padded with invalid ones.
    - `covariates`: by name, each with its values and its mask.
    - `observed_channels` (B, L, C), bool: which channels of an observed visit have an image, such as its T1w and not
      its FLAIR. The others are set to background here, as an image that is not observed is. None if every observed
      visit has all channels, as with one channel and with codes.

    Raises:
        ValueError: if shapes disagree, or, of tensors on a CPU, an image is observed at a visit that is not valid.
    """

    images: Tensor
    times: Tensor
    observed: Tensor
    valid: Tensor
    covariates: Mapping[str, Covariate] = field(default_factory=dict)
    observed_channels: Tensor | None = None

    def __post_init__(self) -> None:
        if self.images.ndim != 6:
            raise ValueError(f"images must be (B, L, C, W, H, D), got {tuple(self.images.shape)}")
        for name in ("times", "observed", "valid"):
            if getattr(self, name).shape != self.images.shape[:2]:
                raise ValueError(
                    f"{name} must be (B, L) = {tuple(self.images.shape[:2])}, got {tuple(getattr(self, name).shape)}"
                )
        for name, covariate in self.covariates.items():
            if any(part.shape != self.times.shape for part in covariate):
                raise ValueError(f"covariate '{name}' must have values and a mask of shape {tuple(self.times.shape)}")
        if _known((self.observed & ~self.valid).any()):
            raise ValueError("an image is observed at a visit that is not valid")
        if self.observed_channels is not None:
            if self.observed_channels.shape != self.images.shape[:3]:
                raise ValueError(
                    f"observed_channels must be (B, L, C) = {tuple(self.images.shape[:3])}, got "
                    f"{tuple(self.observed_channels.shape)}"
                )
            object.__setattr__(self, "observed_channels", self.observed_channels & self.observed[:, :, None])
        mask = self.channel_mask[:, :, :, None, None, None]
        object.__setattr__(self, "images", torch.where(mask, self.images, BACKGROUND))

    def __len__(self) -> int:
        """Return L."""
        return self.images.shape[1]

    @property
    def batch_size(self) -> int:
        return self.images.shape[0]

    def to(self, device: torch.device | str) -> Self:
        return self._with(lambda tensor: tensor.to(device, non_blocking=tensor.is_pinned()))

    def pin_memory(self) -> Self:
        """Return the sequences in page-locked memory, from which a GPU copies while the CPU goes on."""
        return self._with(Tensor.pin_memory)

    def _with(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Return the sequences with each tensor moved; the constructor, which makes new images, is not called."""
        moved = copy.copy(self)
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "covariates":
                value = {name: Covariate(*map(change, item)) for name, item in value.items()}
            elif value is not None:
                value = change(value)
            object.__setattr__(moved, each.name, value)
        return moved

    def without_images(self) -> Self:
        """Return the sequences with images of no voxels, on the CPU: the times and masks, for checks."""
        return replace(self, images=self.images[..., :0]).to("cpu")

    @property
    def channel_mask(self) -> Tensor:
        """Which channels of which visits have an image: (B, L, C), or (B, L, 1) where all channels are alike."""
        return self.observed[:, :, None] if self.observed_channels is None else self.observed_channels

    def with_images(self, images: Tensor) -> Self:
        """Return the sequences with other volumes (B, L, K, W, H, D) of the same visits, such as codes.

        They have all K channels wherever a visit is observed.
        """
        return replace(self, images=images, observed_channels=None)

    def channels_before(self, time: Tensor) -> Tensor | None:
        """Return a mask (B, C), bool, of the channels that a visit before a time (B,) has; None if each has all."""
        if self.observed_channels is None:
            return None
        return (self.observed_channels & self.before(time)[:, :, None]).any(dim=1)

    def before(self, time: Tensor) -> Tensor:
        """Return a mask (B, L), bool, of the valid visits strictly before `time` (B,)."""
        return self.valid & (self.times < time[:, None])

    def last(self, before: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last observed visit before a time (B,): its image (B, C, W, H, D) and its time (B,).

        A channel that it lacks is that of the last visit before which has it; background if none has.

        Raises:
            ValueError: if a subject has no observed visit before its time.
        """
        image, time, exists = self._last(before)
        if _known(~exists.all()):
            raise ValueError("every subject needs an observed visit before the target's time")
        return image, time

    def _last(self, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return image and time as `last`, and a mask (B,), bool, of the subjects that have such a visit."""
        candidates = self.observed & self.before(before)
        index = torch.where(candidates, self.times, -torch.inf).argmax(dim=1)
        rows = torch.arange(self.batch_size, device=index.device)
        time, exists = self.times[rows, index], candidates.any(dim=1)
        if self.observed_channels is None:
            return self.images[rows, index], time, exists
        own = self._last_of_channels(before)
        channels = torch.arange(self.images.shape[2], device=index.device)
        return self.images[rows[:, None], own, channels], time, exists

    def _last_of_channels(self, before: Tensor) -> Tensor:
        """Return the index (B, C) of the last visit before a time (B,) that has each channel; 0 where none has it."""
        candidates = self.channel_mask & self.before(before)[:, :, None]
        return torch.where(candidates, self.times[:, :, None], -torch.inf).argmax(dim=1)

    def bases(self, number: int, before: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last observed visits before a time (B,) as channels, and the time of the last one.

        Returns:
            `number` images in order of time (B, number · C, W, H, D), the last one repeated where there are fewer or
            one lacks a channel, and the time of the last one (B,).

        Raises:
            ValueError: as `last`.
        """
        last, time = self.last(before)
        if number == 1:
            return last, time
        latest = self.latest_observed(number, before)
        images = torch.where(latest.channel_mask[:, :, :, None, None, None], latest.images, last[:, None])
        return images.flatten(1, 2), time

    def rates(self, before: Tensor) -> Tensor:
        """Return the rate of change between each visit and the last observed visit before a time (B,).

        Returns:
            (x_last - x) / (t_last - t), (B, L, C, W, H, D), intensity per unit of time. It is 0 for a visit that is not
            observed, for the last visit itself, and for a subject without an observed visit before that time. Of each
            channel, the visits are those that have it.
        """
        image, time, exists = self._last(before)
        gap, known = (self.times - time[:, None])[:, :, None], self.channel_mask & exists[:, None, None]
        if self.observed_channels is not None:
            index, ever = self._last_of_channels(before), self.channels_before(before)
            gap = self.times[:, :, None] - self.times.gather(1, index)[:, None]
            known = known & ever[:, None] if ever is not None else known
        defined = (known & (gap != 0))[:, :, :, None, None, None]
        gap = torch.where(defined, gap[:, :, :, None, None, None], 1.0)
        return torch.where(defined, (self.images - image[:, None]) / gap, 0.0)

    def latest(self, number: int, before: Tensor) -> Self:
        """Return the `number` latest visits before a time (B,), in order; padded in front if there are fewer."""
        key = torch.where(self.before(before), self.times, -torch.inf)
        padding = max(0, number - len(self))
        index = key.argsort(dim=1, stable=True)[:, max(0, len(self) - number) :]
        selected = self.select(index)
        allowed = torch.gather(self.before(before), 1, index)
        selected = replace(selected, observed=selected.observed & allowed, valid=allowed)
        return selected if padding == 0 else selected.pad_front(padding)

    def latest_observed(self, number: int, before: Tensor) -> Self:
        """Return the `number` latest observed visits before a time (B,), in order; padded in front as `latest`."""
        return replace(self, valid=self.observed).latest(number, before)

    def select(self, index: Tensor) -> Self:
        """Return the visits at the indices (B, K) of each subject."""
        rows = torch.arange(self.batch_size, device=index.device)[:, None]
        return replace(
            self,
            images=self.images[rows, index],
            times=self.times[rows, index],
            observed=self.observed[rows, index],
            valid=self.valid[rows, index],
            covariates={
                name: Covariate(item.values[rows, index], item.present[rows, index])
                for name, item in self.covariates.items()
            },
            observed_channels=None if self.observed_channels is None else self.observed_channels[rows, index],
        )

    def take(self, rows: Tensor) -> Self:
        """Return the subjects at the batch indices `rows` (K,)."""
        return replace(
            self,
            images=self.images[rows],
            times=self.times[rows],
            observed=self.observed[rows],
            valid=self.valid[rows],
            covariates={name: Covariate(*(part[rows] for part in item)) for name, item in self.covariates.items()},
            observed_channels=None if self.observed_channels is None else self.observed_channels[rows],
        )

    def hide(self, index: Tensor) -> Self:
        """Return the sequences with one visit of each subject, at `index` (B,), marked as not valid."""
        positions = torch.arange(len(self), device=index.device).expand(len(index), len(self))
        shown = positions != index[:, None]
        return replace(self, observed=self.observed & shown, valid=self.valid & shown)

    def with_slots(self, times: Tensor, valid: Tensor) -> tuple[Self, Tensor]:
        """Insert an unobserved visit at each target time, and sort the visits by time.

        Args:
            times: target times (B, K).
            valid: mask (B, K), bool; targets that are not valid are padding.

        Returns:
            The sequences with the inserted visits, and the indices (B, K) of the targets in them.

        Raises:
            ValueError: if a target's time is that of an observed visit.
        """
        same = (self.times[:, :, None] == times[:, None, :]) & self.valid[:, :, None] & valid[:, None, :]
        if _known((same.any(dim=2) & self.observed).any()):
            raise ValueError("a target's time is that of an observed visit")
        others = self.valid & ~same.any(dim=2)  # a missing visit at a target's time is the target itself
        length, count = len(self), times.shape[1]
        shape = self.images.shape
        images = torch.cat([self.images, self.images.new_full((shape[0], count, *shape[2:]), BACKGROUND)], dim=1)
        covariates = {
            name: Covariate(*(torch.cat([part, part.new_zeros(times.shape)], dim=1) for part in item))
            for name, item in self.covariates.items()
        }
        channels = self.observed_channels
        if channels is not None:
            channels = torch.cat([channels, channels.new_zeros((shape[0], count, shape[2]))], dim=1)
        merged = replace(
            self,
            images=images,
            observed_channels=channels,
            times=torch.cat([self.times, times.to(self.times)], dim=1),
            observed=torch.cat([self.observed & others, torch.zeros_like(valid)], dim=1),
            valid=torch.cat([others, valid], dim=1),
            covariates=covariates,
        )
        order = torch.where(merged.valid, merged.times, torch.inf).argsort(dim=1, stable=True)
        slots = order.argsort(dim=1)[:, length:]
        return merged.select(order), slots

    def pad_front(self, number: int) -> Self:
        """Return the sequences with `number` padding visits (not valid) inserted before the first."""

        def padded(tensor: Tensor) -> Tensor:
            zeros = tensor.new_zeros((tensor.shape[0], number, *tensor.shape[2:]))
            return torch.cat([zeros, tensor], dim=1)

        return replace(
            self,
            images=padded(self.images),
            times=padded(self.times),
            observed=padded(self.observed),
            valid=padded(self.valid),
            covariates={name: Covariate(*map(padded, item)) for name, item in self.covariates.items()},
            observed_channels=None if self.observed_channels is None else padded(self.observed_channels),
        )

    @classmethod
    def collate(cls, sequences: Sequence[Self]) -> Self:
        """Concatenate sequences along the batch axis; shorter ones are padded at the end, smaller volumes too.

        A smaller volume repeats its last voxels along each axis (`pad_to`).
        """
        length = max(len(sequence) for sequence in sequences)
        size = _largest([sequence.images for sequence in sequences])

        def stacked(tensors: Sequence[Tensor]) -> Tensor:
            parts = []
            for tensor in tensors:
                pad = tensor.new_zeros((tensor.shape[0], length - tensor.shape[1], *tensor.shape[2:]))
                parts.append(torch.cat([tensor, pad], dim=1))
            return torch.cat(parts)

        names = sorted({name for sequence in sequences for name in sequence.covariates})
        covariates = {}
        for name in names:
            items = [
                s.covariates.get(name, Covariate(torch.zeros_like(s.times), torch.zeros_like(s.valid)))
                for s in sequences
            ]
            covariates[name] = Covariate(stacked([i.values for i in items]), stacked([i.present for i in items]))
        return cls(
            images=stacked([pad_to(s.images, size) for s in sequences]),
            times=stacked([s.times for s in sequences]),
            observed=stacked([s.observed for s in sequences]),
            valid=stacked([s.valid for s in sequences]),
            covariates=covariates,
            observed_channels=_joined([s.observed_channels for s in sequences], [s.images for s in sequences], stacked),
        )


@dataclass(frozen=True)
class Batch:
    """A training batch: histories and target visits.

    Attributes:
        history: the visits that the model is given.
        target: the image of the target visit (B, C, W, H, D) in [-1, 1].
        target_time: its time (B,), in the data set's unit.
        coded: whether the images are codes of the model's codec already, so that the model does not encode them.
        target_channels: which channels of the target have an image (B, C), bool; the others are background and do not
            count in the loss. None if all targets have all channels.
    """

    history: VisitSequence
    target: Tensor
    target_time: Tensor
    coded: bool = False
    target_channels: Tensor | None = None

    def to(self, device: torch.device | str) -> Self:
        def moved(part: Tensor) -> Tensor:
            return part.to(device, non_blocking=part.is_pinned())

        channels = None if self.target_channels is None else moved(self.target_channels)
        return type(self)(self.history.to(device), moved(self.target), moved(self.target_time), self.coded, channels)

    def pin_memory(self) -> Self:
        """Return the batch in page-locked memory; the name is that which `torch.utils.data.DataLoader` calls."""
        target, time = self.target.pin_memory(), self.target_time.pin_memory()
        channels = None if self.target_channels is None else self.target_channels.pin_memory()
        return type(self)(self.history.pin_memory(), target, time, self.coded, channels)

    @classmethod
    def collate(cls, batches: Sequence[Self]) -> Self:
        """Concatenate batches; their histories may differ in length, and their volumes in size, see `pad_to`."""
        size = _largest([batch.target for batch in batches])
        return cls(
            VisitSequence.collate([batch.history for batch in batches]),
            torch.cat([pad_to(batch.target, size) for batch in batches]),
            torch.cat([batch.target_time for batch in batches]),
            batches[0].coded,
            _joined([batch.target_channels for batch in batches], [batch.target for batch in batches], torch.cat),
        )


def _joined(
    masks: Sequence[Tensor | None], images: Sequence[Tensor], join: Callable[[list[Tensor]], Tensor]
) -> Tensor | None:
    """Return the masks of channels of images (…, C, W, H, D), joined; None where all images have all channels."""
    if all(mask is None for mask in masks):
        return None
    whole = [image.new_ones(image.shape[:-3], dtype=torch.bool) for image in images]
    return join([full if mask is None else mask for mask, full in zip(masks, whole, strict=True)])


def _known(problem: Tensor) -> bool:
    """Return whether a problem is known to be there: a condition (), bool, is read on a CPU only.

    Reading it on a GPU would make the CPU wait for all that it has asked of the GPU. Batches and histories are made on
    the CPU, where these checks are done.
    """
    return problem.device.type == "cpu" and not torch.compiler.is_compiling() and bool(problem)


def pad_to(volumes: Tensor, size: Sequence[int]) -> Tensor:
    """Return volumes (…, W, H, D) enlarged to W, H, D = `size`, by repeating the last voxels along each axis.

    The first voxel stays where it is, so that a position along an axis means the same in a batch as in generation,
    where no volume is padded.
    """
    for axis, number in zip((-3, -2, -1), size, strict=True):
        if volumes.shape[axis] < number:
            index = torch.arange(number, device=volumes.device).clamp(max=volumes.shape[axis] - 1)
            volumes = volumes.index_select(axis, index)
    return volumes


def _largest(volumes: Sequence[Tensor]) -> tuple[int, ...]:
    """Return the largest W, H and D of volumes (…, W, H, D)."""
    return tuple(max(sizes) for sizes in zip(*(item.shape[-3:] for item in volumes), strict=True))
