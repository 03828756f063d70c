"""Volumes for the viewer of a page: cropped to the foreground, rounded to whole numbers, and compressed NIfTI."""

import gzip
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import nibabel
import numpy as np
from nibabel.affines import apply_affine, voxel_sizes

from longigen.data.volume import Volume
from longigen.generation.planes import Cut, Window
from longigen.generation.strip import difference_limit
from longigen.generation.trajectory import FOREGROUND, Trajectory
from longigen.utils.time_units import time_text

MARGIN = 2
"""Voxels that are kept around the foreground."""
LEVELS = {np.uint8: 256, np.uint16: 4096}
"""The number of intensities that are told apart, by type of the voxels; twelve bits compress to half of sixteen."""


@dataclass(frozen=True)
class Compared:
    """A volume to compare another one with, and what it is."""

    label: str
    key: str


@dataclass(frozen=True)
class Stop:
    """One stop of the viewer's slider: a volume to show, and those that it can be compared with."""

    label: str
    key: str
    against: Sequence[Compared] = ()


@dataclass(frozen=True)
class Scene:
    """What the viewer shows of one subject.

    Attributes:
        title: the subject, and its setting.
        stops: the stops of the slider.
        volumes: the volumes by key, all on one grid.
        window: the intensities that are drawn black and white.
        limit: the end of the colour scale of differences.
        place: where the planes cut at first, in mm (RAS): where the last visit changes most.
        note: what was done to the volumes, in a sentence.
    """

    title: str
    stops: Sequence[Stop]
    volumes: dict[str, bytes] = field(repr=False)
    window: Window
    limit: float
    place: Sequence[float]
    note: str

    @property
    def size(self) -> int:
        """The number of characters that the volumes take in a page."""
        return sum(4 * -(-len(content) // 3) for content in self.volumes.values())

    @property
    def description(self) -> dict[str, Any]:
        """What the page's script reads, as plain values for JSON."""
        return {
            "title": self.title,
            "window": [self.window.low, self.window.high],
            "limit": self.limit,
            "place": list(self.place),
            "note": self.note,
            "stops": [
                {"label": stop.label, "key": stop.key, "against": [vars(other) for other in stop.against]}
                for stop in self.stops
            ],
        }

    @classmethod
    def of_trajectory(
        cls, trajectory: Trajectory, name: str, *, fine: bool = False, largest: int | None = None
    ) -> "Scene":
        """Return the visits of a subject in order of time; a generated one is compared with the true and the last one.

        Args:
            trajectory: the visits.
            name: start of the keys of the volumes, unlike that of other scenes of the page.
            fine: keep 4096 intensities and not 256.
            largest: volumes that take more characters are reduced to half their resolution until they do not.
        """
        unit, images = trajectory.time_unit, {}
        generated = {visit.time: visit for visit in trajectory.visits}
        stops = []
        own = dict(trajectory.given) | {v.time: v.true for v in trajectory.visits if v.true is not None}
        for time, volume in own.items():
            images[f"{name}-own-{time_text(time)}"] = volume
        for time in sorted({*dict(trajectory.given), *generated}):
            visit, own_key = generated.get(time), f"{name}-own-{time_text(time)}"
            if visit is None:
                stops.append(Stop(f"given, {time_text(time)} {unit}", own_key))
                continue
            key = f"{name}-generated-{time_text(time)}"
            images[key] = visit.generated
            against = [Compared(f"true, {time_text(time)} {unit}", own_key)] if visit.true is not None else []
            if visit.previous is not None:
                last = time_text(visit.previous[0])
                against.append(Compared(f"last given, {last} {unit}", f"{name}-own-{last}"))
            stops.append(Stop(f"generated, {time_text(time)} {unit}", key, against))
        setting = f" ({trajectory.setting})" if trajectory.setting else ""
        title, change = f"{trajectory.name}{setting}", trajectory.visits[-1].shown_change
        return cls._of(title, stops, images, change, fine=fine, largest=largest)

    @classmethod
    def of_volumes(cls, title: str, volumes: Sequence[tuple[str, Volume]], name: str) -> "Scene":
        """Return volumes on one grid, each with its label, in their order; each is compared with those before it."""
        images = {f"{name}-{number}": volume for number, (_, volume) in enumerate(volumes)}
        labels = [label for label, _ in volumes]
        stops = [
            Stop(
                label,
                f"{name}-{n}",
                [Compared(labels[m], f"{name}-{m}") for m in (*range(n), *range(n + 1, len(labels)))],
            )
            for n, label in enumerate(labels)
        ]
        first, *others = (volume.data for _, volume in volumes)
        return cls._of(title, stops, images, others[-1] - first if others else None, fine=True, largest=None)

    @classmethod
    def _of(
        cls,
        title: str,
        stops: Sequence[Stop],
        images: dict[str, Volume],
        change: np.ndarray | None,
        *,
        fine: bool,
        largest: int | None,
    ) -> "Scene":
        window = Window.of(list(images.values()))
        volumes = list(images.values())
        cut = Cut.through(window.scaled(volumes[-1].data) > FOREGROUND if change is None else np.abs(change))
        limit, place = difference_limit(change, cut, window), apply_affine(volumes[-1].affine, cut.index).tolist()
        box = foreground_box(volumes, window)
        kind = np.uint16 if fine else np.uint8
        cropped = {key: _cropped(volume, box) for key, volume in images.items()}
        step = (window.high - window.low) / (LEVELS[kind] - 1)
        own = " × ".join(f"{size:.3g}" for size in voxel_sizes(next(iter(images.values())).affine))

        def scene() -> "Scene":
            sizes = " × ".join(f"{size:.3g}" for size in voxel_sizes(next(iter(cropped.values())).affine))
            reduced = "" if sizes == own else f", reduced from {own} mm to fit into the page"
            note = (
                f"Voxels of {sizes} mm{reduced}, cropped to the foreground; intensities are rounded to {step:.3g}, and "
                f"clipped to {window.low:.4g} to {window.high:.4g}."
            )
            volumes = {key: encoded(volume, window, kind) for key, volume in cropped.items()}
            return cls(title, stops, volumes, window, limit, place, note)

        found = scene()
        while largest is not None and found.size > largest:
            cropped = {key: _halved(volume) for key, volume in cropped.items()}
            found = scene()
        return found


def foreground_box(volumes: Sequence[Volume], window: Window) -> tuple[slice, ...]:
    """Return the box of the foreground of several volumes on one grid, with a margin; all if there is no foreground."""
    inside = np.zeros(volumes[0].data.shape, bool)
    for volume in volumes:
        inside |= window.scaled(volume.data) > FOREGROUND
    box = []
    for axis, length in enumerate(inside.shape):
        found = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
        low, high = (found[0], found[-1] + 1) if found.size else (0, length)
        box.append(slice(max(0, int(low) - MARGIN), min(length, int(high) + MARGIN)))
    return tuple(box)


def encoded(volume: Volume, window: Window, kind: type[np.uint8] | type[np.uint16] = np.uint8) -> bytes:
    """Return a volume as compressed NIfTI of whole numbers; the header's slope and intercept give the intensities."""
    levels = LEVELS[kind] - 1
    data = np.rint(window.scaled(volume.data) * levels).astype(kind)
    header = nibabel.Nifti1Header()
    header.set_data_dtype(kind)
    header.set_data_shape(data.shape)
    header.set_sform(volume.affine, code=volume.form)
    header.set_qform(volume.affine, code=volume.form, strip_shears=True)
    header.set_xyzt_units("mm")
    header["magic"], header["vox_offset"] = b"n+1", 352
    header["scl_slope"], header["scl_inter"] = (window.high - window.low) / levels, window.low
    header["cal_min"], header["cal_max"] = window.low, window.high
    return gzip.compress(header.binaryblock + bytes(4) + data.tobytes(order="F"), compresslevel=6, mtime=0)


def _cropped(volume: Volume, box: tuple[slice, ...]) -> Volume:
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [part.start for part in box]
    return Volume(volume.data[box], affine, volume.form)


def _halved(volume: Volume) -> Volume:
    """Return the means of two voxels along each axis of which there are several; an odd last one is left out."""
    data, affine = volume.data, volume.affine.copy()
    for axis in range(3):
        pairs = data.shape[axis] // 2
        if pairs:
            even = np.take(data, range(0, 2 * pairs, 2), axis)
            data = (even + np.take(data, range(1, 2 * pairs, 2), axis)) / 2
            affine[:3, 3] += affine[:3, axis] / 2
            affine[:3, axis] *= 2
    return Volume(data, affine, volume.form)
