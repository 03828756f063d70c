"""The frames of a patient from end diastole to end systole, and visits interpolated between them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
from nibabel.spatialimages import SpatialImage

from longigen import (
    BadData,
    Finding,
    Visit,
    Volume,
    canonical_shape,
    canonical_spacing,
    file_identity,
    open_image,
    read_volume,
    spatial_shape,
)
from longigen_acdc.info import INFO, Info


@dataclass(frozen=True)
class Series:
    """A patient's cine image, from end diastole to end systole.

    Attributes:
        path: path of the 4D image.
        subject: id of the patient.
        image: the opened image.
        affine: affine of the file, from voxel index to millimetres (4, 4).
        frames: the frames from end diastole to end systole, counted from 0. If end systole is earlier in the file, they
            continue at the start of the file, since the image shows one heart beat.
        covariates: covariates of every visit.
    """

    path: Path
    subject: str
    image: SpatialImage
    affine: np.ndarray
    frames: tuple[int, ...]
    covariates: Mapping[str, float]

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Return the series in a patient's folder; only headers are read.

        Raises:
            BadData: if ``Info.cfg`` or the image is missing or invalid, or they contradict each other.
        """
        subject = folder.name
        info = Info.read(folder / INFO, subject)
        compressed = folder / f"{subject}_4d.nii.gz"
        path = next((path for path in (compressed, folder / f"{subject}_4d.nii") if path.is_file()), compressed)
        image = open_image(path, subject)
        if len(image.shape) != 4:
            problem = f"is {len(image.shape)}D, where a 4D series is needed"
            raise BadData(Finding("dimensions", str(path), problem, "copy it again from the challenge", subject))
        count, (ed, es) = image.shape[3], (info.ed, info.es)
        for key, frame in (("ED", ed), ("ES", es)):
            if not 1 <= frame <= count:
                problem = f"has {key}: {frame}, but {path.name} has {count} frames"
                advice = f"correct {key}, which counts frames from 1"
                raise BadData(Finding("no-frame", str(folder / INFO), problem, advice, subject))
        if ed == es:
            problem = f"has frame {ed} as both end diastole and end systole"
            raise BadData(Finding("empty-range", str(folder / INFO), problem, "correct ED or ES", subject))
        frames = tuple((ed - 1 + step) % count for step in range((es - ed) % count + 1))
        affine = np.asarray(image.affine, dtype=np.float64)
        return cls(path, subject, image, affine, frames, info.covariates)

    def every(self) -> tuple[Visit, ...]:
        """Return one visit per frame."""
        return tuple(self._frame(index) for index in range(len(self.frames)))

    def nearest(self, count: int) -> tuple[Visit, ...]:
        """Return the frames nearest to `count` equidistant times, each once and at its own time."""
        gaps = count - 1
        # The integer nearest to k (n - 1) / gaps, in integer arithmetic.
        indices = {(2 * k * (len(self.frames) - 1) + gaps) // (2 * gaps) for k in range(count)}
        return tuple(self._frame(index) for index in sorted(indices))

    def linear(self, count: int) -> tuple[Visit, ...]:
        """Return `count` visits at equidistant times, interpolated linearly between frames."""
        visits = []
        for k in range(count):
            below, rest = divmod(k * (len(self.frames) - 1), count - 1)
            if rest == 0:
                visits.append(self._frame(below))
                continue
            pair, weights = self.frames[below : below + 2], (1 - rest / (count - 1), rest / (count - 1))
            load = partial(read_blend, self.path, self.subject, pair, weights)
            label = f"interpolated at {weights[1]:.3g} between frames {pair[0]} and {pair[1]}"
            visits.append(self.blend(k / (count - 1), load, self.affine, self.shape, label, f"blend {pair} {weights}"))
        return tuple(visits)

    def blend(
        self,
        time: float,
        load: partial[Volume],
        affine: np.ndarray,
        shape: tuple[int, int, int],
        label: str,
        identity: str,
        labels: Callable[[], Volume] | None = None,
    ) -> Visit:
        """Return a visit that is computed from several frames.

        Args:
            time: time of the visit, 0 at end diastole and 1 at end systole.
            load: reads and computes the volume.
            affine: affine of that volume.
            shape: shape of that volume.
            label: description of the visit, for messages.
            identity: description of the computation, for the cache.
            labels: reads the visit's label map; None if it has none.
        """
        return replace(
            self._frame(0),
            time=time,
            load=load,
            labels=labels,
            shape=canonical_shape(affine, shape),
            spacing=canonical_spacing(affine),
            source=f"{self.path}, {label}",
            identity=f"{file_identity(self.path)} {identity}",
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a frame, in the axis order of the file."""
        return spatial_shape(self.image, self.path, self.subject, frame=0)

    def labels(self, index: int) -> Callable[[], Volume] | None:
        """Return what reads the challenge's label map of a frame; None if there is none beside the image."""
        name = f"{self.subject}_frame{self.frames[index] + 1:02d}_gt"
        files = (self.path.parent / f"{name}.nii.gz", self.path.parent / f"{name}.nii")
        return next((partial(read_volume, path, self.subject) for path in files if path.is_file()), None)

    def _frame(self, index: int) -> Visit:
        return Visit.of_file(
            self.path,
            subject=self.subject,
            time=index / (len(self.frames) - 1),
            frame=self.frames[index],
            covariates=self.covariates,
            image=self.image,
            labels=self.labels(index),
        )


def read_blend(path: Path, subject: str, frames: Sequence[int], weights: Sequence[float]) -> Volume:
    """Return the weighted sum of some frames, computed in float64.

    Raises:
        BadData: if a frame cannot be read.
    """
    volumes = [read_volume(path, subject, frame) for frame in frames]
    data = np.tensordot(weights, np.stack([volume.data for volume in volumes], dtype=np.float64), axes=1)
    return replace(volumes[0], data=data.astype(np.float32))
