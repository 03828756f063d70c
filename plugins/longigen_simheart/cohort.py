"""The `sim-heart` data set: simulated subjects, the images of their frames, and their true volumes and motion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
import torch

from longigen import Dataset, LongigenError, OnBad, Range, Subject, Visit, Volume, refuse
from longigen_simheart.frame import from_heart_frame, to_heart_frame
from longigen_simheart.grid import Grid
from longigen_simheart.heart import Heart
from longigen_simheart.motion import Motion, transform
from longigen_simheart.rendering import labels, render
from longigen_simheart.subject import Traits
from longigen_simheart.torso import Torso

VERSION = 1
"""Version of the simulation, part of the identity of its volumes in the cache; raise it if the images change."""

REGIONS = {1: "right ventricle", 2: "myocardium", 3: "left ventricle"}
"""The regions of the labels, as in the ACDC challenge; the ventricles are their cavities."""


@dataclass(frozen=True)
class Truth:
    """The true change of a simulated heart between end-diastole and another visit.

    Attributes:
        displacement: displacement (3, W, H, D) in mm along x, y and z of the tissue at each voxel of the first visit.
            The heart slides in its surroundings, so it is discontinuous at the heart's outline.
        jacobian: factor (W, H, D) by which the volume of the tissue at each voxel of the first visit has changed: 1 in
            muscle; its mean over a cavity at the first visit is the change of the cavity's volume.
        lv_volume: volume of the left cavity at this visit, including papillary muscles, in mm³.
        rv_volume: volume of the right cavity at this visit, in mm³.
        myocardium_volume: volume of the left ventricle's wall, in mm³, the same at all visits.
        ejection_fraction: fraction of the first `lv_volume` that has been ejected at this visit; at the last visit it
            is the subject's ejection fraction.
    """

    displacement: np.ndarray
    jacobian: np.ndarray
    lv_volume: float
    rv_volume: float
    myocardium_volume: float
    ejection_fraction: float


InPlane = Annotated[int, Range(8, 1024)]
Slices = Annotated[int, Range(2, 1024)]


class SimHeart(Dataset):
    """A SIMULATED cohort of beating hearts, without any scanned person.

    Each subject is an analytic phantom in short-axis slices, like a cine sequence: two ventricles, papillary muscles
    and trabeculae in a torso. From end-diastole (time 0) to end-systole (time 1) the cavities empty by the ejection
    fractions of the subject, with an individual time course; the base descends, the heart twists, and the muscle
    thickens at constant volume. The motion is independent of the appearance at end-diastole, so it can be estimated
    from later frames but not from the first. True volumes and motion are known in closed form. A subject depends on
    (seed, subject) only, not on the number of subjects, frames or voxels, nor on the order of access.

    The motion is designed to be learnt and measured. It is not a model of a disease.

    Args:
        subject_count: number of subjects.
        shape: (W, H, D) of a frame, over a field of view of 160 × 160 × 108 mm. Real scans have voxels of about
            1.5 × 1.5 × 10 mm.
        frames: number of frames from end-diastole to end-systole, equidistant in time.
        noise: standard deviation of the Gaussian noise, as a fraction of the intensity of blood. Negative intensities
            are set to 0; outside the body the image is exactly 0.
        seed: random seed of the cohort.
    """

    simulated = True
    time_unit = "cycle"

    def __init__(
        self,
        *,
        subject_count: Annotated[int, Range(1, 100_000)] = 48,
        shape: tuple[InPlane, InPlane, Slices] = (64, 64, 12),
        frames: Annotated[int, Range(2, 1000)] = 12,
        noise: Annotated[float, Range(0, below=1)] = 0.02,
        seed: Annotated[int, Range(0, 4_294_967_295)] = 0,
    ) -> None:
        super().__init__()
        self.subject_count = subject_count
        self.shape = shape
        self.frames = frames
        self.noise = noise
        self.seed = seed

    def subjects(self, bad: OnBad = refuse) -> Sequence[Subject]:
        return [self._subject(index) for index in range(self.subject_count)]

    @property
    def regions(self) -> Mapping[int, str]:
        return REGIONS

    def traits(self, subject_id: str) -> Traits:
        """Return the random parameters of a subject's heart, such as its ejection fraction.

        Raises:
            LongigenError: if there is no such subject.
        """
        return Traits.draw(self.seed, self._index(subject_id))

    def truth(self, subject_id: str, visit_index: int) -> Truth:
        """Return the true change between end-diastole and visit `visit_index` (from 0).

        Raises:
            LongigenError: if there is no such subject or visit.
        """
        motion = self._motion(subject_id, visit_index)
        heart, grid = motion.heart, Grid(self.shape)
        position, height = to_heart_frame(heart.traits, *grid.coordinates())
        position, height, jacobian = transform(motion, position, height)
        before = torch.stack(torch.broadcast_tensors(*grid.coordinates()))
        return Truth(
            displacement=(from_heart_frame(heart.traits, position, height) - before).numpy(),
            jacobian=jacobian.numpy(),
            lv_volume=self.lv_volume(subject_id, visit_index),
            rv_volume=heart.rv_volume * motion.rv_share,
            myocardium_volume=heart.myocardium_volume,
            ejection_fraction=1 - motion.lv_share,
        )

    def lv_volume(self, subject_id: str, visit_index: int) -> float:
        """Return the volume of the left cavity at visit `visit_index` (from 0), in mm³; faster than `truth`.

        Raises:
            LongigenError: if there is no such subject or visit.
        """
        motion = self._motion(subject_id, visit_index)
        return motion.heart.lv_volume * motion.lv_share

    def labels(self, subject_id: str, visit_index: int) -> np.ndarray:
        """Return the label at the centre of each voxel (W, H, D) of visit `visit_index` (from 0), uint8.

        As in the ACDC challenge: 1 right cavity, 2 muscle of the left ventricle, 3 left cavity with its papillary
        muscles, 0 everything else.

        Raises:
            LongigenError: if there is no such subject or visit.
        """
        return labels(self._motion(subject_id, visit_index), Grid(self.shape)).numpy()

    def _motion(self, subject_id: str, visit_index: int) -> Motion:
        traits = self.traits(subject_id)
        if not 0 <= visit_index < self.frames:
            raise LongigenError(
                f"{subject_id} of sim-heart has visits 0 to {self.frames - 1}, not {visit_index}; choose one of these."
            )
        return Motion(Heart(traits), self._time(visit_index))

    def _time(self, visit_index: int) -> float:
        return visit_index / (self.frames - 1)

    def _index(self, subject_id: str) -> int:
        number = subject_id.removeprefix("heart-")
        index = int(number) if number.isdecimal() else self.subject_count
        if index >= self.subject_count or _name(index) != subject_id:
            raise LongigenError(
                f"sim-heart has no subject '{subject_id}'; it has {_name(0)} to {_name(self.subject_count - 1)}."
            )
        return index

    def _subject(self, index: int) -> Subject:
        traits, name, grid = Traits.draw(self.seed, index), _name(index), Grid(self.shape)
        origin = f"sim-heart {VERSION} seed {self.seed} subject {index} shape {self.shape} noise {self.noise}"
        return Subject(
            name,
            tuple(
                Visit(
                    time=self._time(visit),
                    load=partial(_load, self.seed, index, visit, self._time(visit), self.shape, self.noise),
                    shape=self.shape,
                    spacing=grid.spacing,
                    source=f"sim-heart {name} visit {visit} (simulated)",
                    identity=f"{origin} visit {visit} of {self.frames}",
                    covariates={"height": traits.height, "weight": traits.weight},
                    labels=partial(_load_labels, self.seed, index, self._time(visit), self.shape),
                )
                for visit in range(self.frames)
            ),
        )


def _name(index: int) -> str:
    return f"heart-{index:04d}"


def _load(seed: int, index: int, visit: int, time: float, shape: tuple[int, int, int], noise: float) -> Volume:
    """Return the image of a subject at a time, with the noise of the visit."""
    grid, traits = Grid(shape), Traits.draw(seed, index)
    torso = Torso.draw(seed, index, traits)
    value, body = render(Motion(Heart(traits), time), torso, seed, grid)
    grain = np.random.default_rng((seed, index, visit, 1)).standard_normal(shape, dtype=np.float32)
    data = torso.gain * (value * torso.bias_field(*grid.coordinates()) + noise * body * torch.from_numpy(grain))
    return Volume(data.clamp(min=0).numpy(), grid.affine)


def _load_labels(seed: int, index: int, time: float, shape: tuple[int, int, int]) -> Volume:
    """Return the label map of a subject at a time."""
    grid = Grid(shape)
    return Volume(labels(Motion(Heart(Traits.draw(seed, index)), time), grid).numpy().astype(np.float32), grid.affine)
