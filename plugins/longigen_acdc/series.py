"""The frames of a patient from end diastole to end systole, and visits made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    """A patient's cine image, between end diastole and end systole.

    Attributes:
        path: of the 4D image.
        subject: whose it is.
        image: as `open_image` returned it.
        frames: from end diastole to end systole, counted from 0. Where end systole comes first in the file, they go
            over its end, since the heart beats on.
        covariates: of every visit.
    """

    path: Path
    subject: str
    image: SpatialImage
    frames: tuple[int, ...]
    covariates: Mapping[str, float]

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Return the series in a patient's folder; only headers are read.

        Raises:
            BadData: if ``Info.cfg`` or the image is missing or cannot be used, or they do not fit each other.
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
                problem = f"says {key}: {frame}, where {path.name} has {count} frames"
                raise BadData(Finding("no-frame", str(folder / INFO), problem, "frames count from 1", subject))
        if ed == es:
            problem = f"says that frame {ed} is both end diastole and end systole, so nothing lies between them"
            raise BadData(Finding("empty-range", str(folder / INFO), problem, "correct ED or ES", subject))
        frames = tuple((ed - 1 + step) % count for step in range((es - ed) % count + 1))
        return cls(path, subject, image, frames, info.covariates)

    def every(self) -> tuple[Visit, ...]:
        """Return a visit per frame."""
        return tuple(self._frame(index) for index in range(len(self.frames)))

    def nearest(self, count: int) -> tuple[Visit, ...]:
        """Return the frames nearest to `count` equidistant times, each once and at its own time."""
        gaps = count - 1
        # The nearest integer to k (n - 1) / gaps, in whole numbers.
        found = {(2 * k * (len(self.frames) - 1) + gaps) // (2 * gaps) for k in range(count)}
        return tuple(self._frame(index) for index in sorted(found))

    def linear(self, count: int) -> tuple[Visit, ...]:
        """Return `count` visits at equidistant times, each a blend of the frame before it and the one after it."""
        visits = []
        for k in range(count):
            below, rest = divmod(k * (len(self.frames) - 1), count - 1)
            if rest == 0:
                visits.append(self._frame(below))
                continue
            pair, weights = self.frames[below : below + 2], (1 - rest / (count - 1), rest / (count - 1))
            load = partial(read_blend, self.path, self.subject, pair, weights)
            place = f"{weights[1]:.3g} of the way from frame {pair[0]} to {pair[1]}"
            visits.append(self.blend(k / (count - 1), load, self.affine, self.shape, place, f"blend {pair} {weights}"))
        return tuple(visits)

    def blend(
        self,
        time: float,
        load: partial[Volume],
        affine: np.ndarray,
        shape: tuple[int, int, int],
        place: str,
        identity: str,
    ) -> Visit:
        """Return a visit that is made of several frames.

        Args:
            time: 0 at end diastole, 1 at end systole.
            load: reads it.
            affine: of what `load` returns.
            shape: of what `load` returns.
            place: in the series, for messages.
            identity: what `load` does to the file.
        """
        return Visit(
            time=time,
            load=load,
            shape=canonical_shape(affine, shape),
            spacing=canonical_spacing(affine),
            source=f"{self.path}, {place}",
            identity=f"{file_identity(self.path)} {identity}",
            covariates=self.covariates,
        )

    @property
    def affine(self) -> np.ndarray:
        """Of the file: voxel index to millimetres, (4, 4)."""
        assert self.image.affine is not None
        return self.image.affine

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a frame, as it lies in the file."""
        return spatial_shape(self.image, self.path, self.subject, frame=0)

    def _frame(self, index: int) -> Visit:
        return Visit.of_file(
            self.path,
            subject=self.subject,
            time=index / (len(self.frames) - 1),
            frame=self.frames[index],
            covariates=self.covariates,
            image=self.image,
        )


def read_blend(path: Path, subject: str, frames: Sequence[int], weights: Sequence[float]) -> Volume:
    """Return the weighted sum of some frames, summed in float64.

    Raises:
        BadData: as `read_volume`, for any of the frames.
    """
    volumes = [read_volume(path, subject, frame) for frame in frames]
    data = np.tensordot(weights, np.stack([volume.data for volume in volumes], dtype=np.float64), axes=1)
    return Volume(data.astype(np.float32), volumes[0].affine)
