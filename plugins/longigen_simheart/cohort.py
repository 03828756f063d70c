"""The data set: simulated subjects, their frames as images, and the truth about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
import torch

from longigen import Dataset, LongigenError, OnBad, Range, Subject, Visit, Volume, refuse
from longigen_simheart.frame import frame, unframe
from longigen_simheart.grid import Grid
from longigen_simheart.heart import Heart
from longigen_simheart.motion import Motion, carried
from longigen_simheart.picture import labels, picture
from longigen_simheart.subject import Traits
from longigen_simheart.torso import Torso

VERSION = 1
"""Counts the changes of what a visit looks like, for those who keep images."""


@dataclass(frozen=True)
class Truth:
    """What happened to a simulated heart between end-diastole and another visit.

    Attributes:
        displacement: (3, W, H, D), in mm: the tissue at a voxel of the first visit has moved by this much (x, y, z).
            The heart slides in its surroundings, so it jumps at the heart's outline.
        jacobian: (W, H, D): the tissue at a voxel of the first visit takes this many times the volume: 1 in muscle;
            over a cavity at the first visit its mean is the change of the cavity's volume.
        lv_volume: of the left cavity at this visit, papillary muscles included, in mm³.
        rv_volume: of the right cavity at this visit, in mm³.
        myocardium_volume: of the left ventricle's wall, in mm³: the same at all visits.
        ejection_fraction: the share of the first `lv_volume` that has left by this visit; at the last, the subject's.
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
    """A SIMULATED cohort of beating hearts: no scanner and no person was involved.

    Each subject is an analytic phantom in short-axis slices: two ventricles, papillary muscles and trabeculae in a
    torso, as a cine sequence shows them. From end-diastole (time 0) to end-systole (time 1) the cavities empty by the
    subject's own ejection fractions, with a time course of its own; the base comes down, the heart twists, and its
    muscle, which keeps its volume, thickens. How the heart moves is drawn independently of how it looks at
    end-diastole: one frame does not tell it, later ones do. The truth about volumes and motion is known in closed form.
    Everything about a subject depends on (seed, subject) alone, not on the number of subjects, of frames or of voxels,
    nor on the order of access.

    The beat is made to be learnt and measured. It is not a model of a disease.

    Args:
        subject_count: how many subjects.
        shape: (W, H, D) of a frame, over a field of view of 160 × 160 × 108 mm. Scans have about 1.5 × 1.5 × 10 mm.
        frames: from end-diastole to end-systole, evenly in time.
        noise: the standard deviation of the noise, as a fraction of the intensity of blood: Gaussian, cut at 0, and
            none outside the body, which is exactly 0.
        seed: of all that is random.
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

    def traits(self, subject_id: str) -> Traits:
        """Return what was drawn for a subject's heart, its ejection fraction among it.

        Raises:
            LongigenError: if there is no such subject.
        """
        return Traits.draw(self.seed, self._index(subject_id))

    def truth(self, subject_id: str, visit_index: int) -> Truth:
        """Return what happened between end-diastole and visit `visit_index` (from 0).

        Raises:
            LongigenError: if there is no such subject or visit.
        """
        motion = self._motion(subject_id, visit_index)
        heart, grid = motion.heart, Grid(self.shape)
        place, height = frame(heart.traits, *grid.places())
        place, height, jacobian = carried(motion, place, height)
        there = torch.stack(torch.broadcast_tensors(*grid.places()))
        return Truth(
            displacement=(unframe(heart.traits, place, height) - there).numpy(),
            jacobian=jacobian.numpy(),
            lv_volume=self.lv_volume(subject_id, visit_index),
            rv_volume=heart.rv_volume * motion.rv_share,
            myocardium_volume=heart.myocardium_volume,
            ejection_fraction=1 - motion.lv_share,
        )

    def lv_volume(self, subject_id: str, visit_index: int) -> float:
        """Return the volume of the left cavity at visit `visit_index` (from 0), in mm³: the truth's, but faster.

        Raises:
            LongigenError: if there is no such subject or visit.
        """
        motion = self._motion(subject_id, visit_index)
        return motion.heart.lv_volume * motion.lv_share

    def labels(self, subject_id: str, visit_index: int) -> np.ndarray:
        """Return what is at the centre of each voxel (W, H, D) of visit `visit_index` (from 0), uint8.

        As in the ACDC challenge: 1 right cavity, 2 the left ventricle's muscle, 3 left cavity with its papillary
        muscles, 0 all else.

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
        drawn = f"sim-heart {VERSION} seed {self.seed} subject {index} shape {self.shape} noise {self.noise}"
        return Subject(
            name,
            tuple(
                Visit(
                    time=self._time(visit),
                    load=partial(_load, self.seed, index, visit, self._time(visit), self.shape, self.noise),
                    shape=self.shape,
                    spacing=grid.spacing,
                    source=f"sim-heart {name} visit {visit} (simulated)",
                    identity=f"{drawn} visit {visit} of {self.frames}",
                    covariates={"height": traits.height, "weight": traits.weight},
                )
                for visit in range(self.frames)
            ),
        )


def _name(index: int) -> str:
    return f"heart-{index:04d}"


def _load(seed: int, index: int, visit: int, time: float, shape: tuple[int, int, int], noise: float) -> Volume:
    """Return the image of a subject at a time; noise is that of the visit."""
    grid, traits = Grid(shape), Traits.draw(seed, index)
    torso = Torso.draw(seed, index, traits)
    value, body = picture(Motion(Heart(traits), time), torso, seed, grid)
    grain = np.random.default_rng((seed, index, visit, 1)).standard_normal(shape, dtype=np.float32)
    data = torso.gain * (value * torso.coil(*grid.places()) + noise * body * torch.from_numpy(grain))
    return Volume(data.clamp(min=0).numpy(), grid.affine)
