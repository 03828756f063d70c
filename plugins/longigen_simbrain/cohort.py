"""The `sim-brain` data set: simulated subjects, the images of their visits, and their true deformations."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from longigen import Dataset, LongigenError, OnBad, Range, Subject, Visit, Volume, refuse
from longigen_simbrain import template
from longigen_simbrain.deformation import flow, flow_with_jacobian, free_form, invert
from longigen_simbrain.grid import Grid
from longigen_simbrain.subject import BIAS_KNOTS, KNOTS, Cohort, Timing, Traits

VERSION = 1
"""Version of the simulation, part of the identity of its volumes in the cache; raise it if the images change."""


_alone = threading.RLock()


@contextmanager
def _in_one_thread() -> Iterator[None]:
    """Compute in one thread, and alone, inside the context: another number of threads rounds otherwise.

    Without it the same visit has other voxels on another machine, and is taken for another image.
    """
    with _alone:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


@dataclass(frozen=True)
class Truth:
    """The true change of a simulated subject between its first visit and another visit.

    Attributes:
        displacement: displacement (3, W, H, D) in mm along x, y and z of the tissue at each voxel of the first visit.
        jacobian: factor (W, H, D) by which the volume of the tissue at each voxel of the first visit has changed; > 0.
        csf_volume: volume of the ventricles at the other visit, in mm³.
    """

    displacement: np.ndarray
    jacobian: np.ndarray
    csf_volume: float


class SimBrain(Dataset):
    """A SIMULATED cohort of ageing brains, without any scanned person.

    Each subject is a smooth invertible deformation of the ICBM 2009a average brain, with its own gain and bias field.
    Between visits the ventricles and sulci widen and tissue is lost, along the flow of a smooth velocity field. The
    rate is log-normal, different for each subject and independent of the initial width of the ventricles, so it can be
    estimated from two visits but not from one. A subject has 4 to 8 visits, about one per year, some missed, unless
    `planned` and `timing` say otherwise. A subject depends on these and on (seed, subject) only, not on the number of
    subjects, the spacing or the order of access.

    The change is designed to be learnt and measured. It is not a model of a disease.

    Args:
        subject_count: number of subjects.
        spacing: voxel size in mm: 4 (40 × 48 × 48 voxels), 3 (56 × 64 × 56), 2 (80 × 96 × 88) or 1.5
            (112 × 128 × 120).
        noise: standard deviation of the noise, as a fraction of the intensity of white matter. The default corresponds
            to 2.6 % at 1 mm, averaged over voxels of 3 mm.
        seed: random seed of the cohort.
        planned: fewest and most planned visits of a subject.
        timing: "yearly": one visit a year, moved by up to .2 years, a fifth of those between first and last missed as
            long as the fewest remain; "uneven": as many years, but at random times at least .2 years apart.

    Raises:
        LongigenError: if the spacing is not supported, or more visits are the fewest than the most.
    """

    simulated = True
    time_unit = "years"

    def __init__(
        self,
        *,
        subject_count: Annotated[int, Range(1, 100_000)] = 48,
        spacing: Annotated[float, Range(1.5, 4)] = 3.0,
        noise: Annotated[float, Range(0, below=1)] = 0.005,
        seed: Annotated[int, Range(0, 4_294_967_295)] = 0,
        planned: tuple[Annotated[int, Range(2, 50)], Annotated[int, Range(2, 50)]] = (4, 8),
        timing: Timing = "yearly",
    ) -> None:
        super().__init__()
        if planned[0] > planned[1]:
            raise LongigenError(f"planned={planned[0]},{planned[1]} has the fewest visits last; give fewest,most.")
        if spacing not in template.GRIDS:
            raise LongigenError(f"sim-brain comes with a spacing of 4, 3, 2 or 1.5 mm, not {spacing}; choose one.")
        self.subject_count = subject_count
        self.spacing = spacing
        self.noise = noise
        self.seed = seed
        self.planned = planned
        self.timing: Timing = timing
        self.drawn = Cohort(seed, planned, timing)

    def subjects(self, bad: OnBad = refuse) -> Sequence[Subject]:
        return [self._subject(index) for index in range(self.subject_count)]

    @property
    def regions(self) -> Mapping[int, str]:
        return {1: "ventricles"}

    def traits(self, subject_id: str) -> Traits:
        """Return the random parameters of a subject, such as its rate of ageing.

        Raises:
            LongigenError: if there is no such subject.
        """
        return Traits.draw(self.drawn, self._index(subject_id))

    @_in_one_thread()
    def truth(self, subject_id: str, visit_index: int) -> Truth:
        """Return the true change between the subject's first visit and visit `visit_index` (from 0).

        Raises:
            LongigenError: if there is no such subject or visit.
        """
        volume = self.csf_volume(subject_id, visit_index)
        traits = self.traits(subject_id)
        grid = template.GRIDS[self.spacing]
        inside, _ = _first_visit(self.drawn, self._index(subject_id), self.spacing)
        # Tissue moves by g⁻¹ ∘ flow ∘ g, where g maps the subject's space to the template's. The ageing before the
        # first visit cancels, since flows of the same velocity commute. Nothing moves outside the skull.
        positions = _to_template(traits, grid)[:, inside]
        aged, growth = flow_with_jacobian(
            _velocity(traits), template.GRIDS[3.0], positions, traits.amount(traits.times[visit_index])
        )
        moved = _from_template(traits, grid, aged)
        # The determinant of g up to its scale, which cancels too.
        shape = grid.jacobian(grid.points + _shape_displacement(traits, grid))
        displacement, jacobian = torch.zeros(3, *grid.shape), torch.ones(grid.shape)
        displacement[:, inside] = moved - _from_template(traits, grid, positions)
        jacobian[inside] = growth * shape[inside] / grid.sample(shape[None], moved)[0]
        return Truth(displacement.numpy(), jacobian.numpy(), volume)

    def csf_volume(self, subject_id: str, visit_index: int) -> float:
        """Return the volume of the ventricles at visit `visit_index` (from 0), in mm³; faster than `truth`.

        Raises:
            LongigenError: if there is no such subject or visit.
        """
        return float(self._ventricles(subject_id, visit_index)[1].sum()) * self.spacing**3

    def ventricles(self, subject_id: str, visit_index: int) -> np.ndarray:
        """Return the fraction of ventricle in each voxel (W, H, D) at visit `visit_index` (from 0).

        Raises:
            LongigenError: if there is no such subject or visit.
        """
        inside, values = self._ventricles(subject_id, visit_index)
        fractions = torch.zeros(inside.shape)
        fractions[inside] = values
        return fractions.numpy()

    @_in_one_thread()
    def _ventricles(self, subject_id: str, visit_index: int) -> tuple[Tensor, Tensor]:
        """Return a mask (W, H, D), bool, of the voxels with brain, and the fraction of ventricle in each (N,)."""
        index, visits = self._index(subject_id), len(self.traits(subject_id).times)
        if not 0 <= visit_index < visits:
            raise LongigenError(
                f"{subject_id} of sim-brain has visits 0 to {visits - 1}, not {visit_index}; choose one of these."
            )
        positions = _template_points(self.drawn, index, visit_index, self.spacing)
        inside, _ = _first_visit(self.drawn, index, self.spacing)
        return inside, template.FINE.sample(template.cube_means(self.spacing)[2:], positions)[0]

    def _index(self, subject_id: str) -> int:
        number = subject_id.removeprefix("sim-")
        index = int(number) if number.isdecimal() else self.subject_count
        if index >= self.subject_count or _name(index) != subject_id:
            raise LongigenError(
                f"sim-brain has no subject '{subject_id}'; it has {_name(0)} to {_name(self.subject_count - 1)}."
            )
        return index

    def _subject(self, index: int) -> Subject:
        traits, name = Traits.draw(self.drawn, index), _name(index)
        # Volumes of the cohort as it was before it had these two keep their identity in caches.
        plan = "" if self.drawn == Cohort(self.seed) else f"{self.planned} {self.timing} "
        return Subject(
            name,
            tuple(
                Visit(
                    time=time,
                    load=partial(self._load, index, visit),
                    shape=template.GRIDS[self.spacing].shape,
                    spacing=(self.spacing, self.spacing, self.spacing),
                    identity=f"sim-brain {VERSION} {self.seed} {self.spacing} {self.noise} {plan}{name} {visit}",
                    source=f"sim-brain {name} visit {visit} (simulated)",
                    covariates={"age": round(traits.age + time, 2)},
                    labels=partial(self._load_labels, index, visit),
                )
                for visit, time in enumerate(traits.times)
            ),
        )

    def _load_labels(self, index: int, visit: int) -> Volume:
        """Return 1 where more than half of a voxel is ventricle."""
        mask = self.ventricles(_name(index), visit) > 0.5
        return Volume(mask.astype(np.float32), template.GRIDS[self.spacing].affine)

    @_in_one_thread()
    def _load(self, index: int, visit: int) -> Volume:
        traits, grid = Traits.draw(self.drawn, index), template.GRIDS[self.spacing]
        inside, _ = _first_visit(self.drawn, index, self.spacing)
        positions = _template_points(self.drawn, index, visit, self.spacing)
        t1, brain = template.FINE.sample(template.cube_means(self.spacing)[:2], positions)
        bias = free_form(torch.from_numpy(traits.bias).float(), BIAS_KNOTS, grid)[0][inside].exp()
        noise = np.random.default_rng((self.seed, index, visit + 1)).standard_normal(len(t1), dtype=np.float32)
        # Noise is scaled by the fraction of brain in the voxel, so that the background is exactly 0.
        values = traits.white * (t1 * bias / template.WHITE + self.noise * brain * torch.from_numpy(noise))
        data = torch.zeros(grid.shape)
        data[inside] = values.clamp(min=0)
        return Volume(data.numpy(), grid.affine)


def _name(index: int) -> str:
    return f"sim-{index:04d}"


def _velocity(traits: Traits) -> Tensor:
    """Return the velocity field (3, W, H, D) of the subject's ageing, in the template, on its 3 mm grid."""
    ventricles, sulci = template.ageing_velocities()
    return ventricles + traits.sulcal * sulci


def _aged_points(traits: Traits, positions: Tensor, amount: float) -> Tensor:
    """Return the template positions shown at fixed voxels after ageing by `amount`, given those before.

    Tissue moves with the velocity, so the position shown at a fixed voxel moves against it.
    """
    return flow(_velocity(traits), template.GRIDS[3.0], positions, -amount)


def _shape_displacement(traits: Traits, grid: Grid) -> Tensor:
    """Return the displacement (3, W, H, D) of the subject's shape from the template's, in mm."""
    return free_form(torch.from_numpy(traits.shape).float(), KNOTS, grid)


def _scale(traits: Traits, grid: Grid) -> tuple[Tensor, Tensor]:
    """Return the subject's size relative to the template's, and the fixed point of the scaling, each (3, 1, 1, 1)."""
    return torch.from_numpy(traits.size).float().view(3, 1, 1, 1), grid.points.mean((1, 2, 3), keepdim=True)


def _to_template(traits: Traits, grid: Grid) -> Tensor:
    """Return the template position (3, W, H, D), in mm, of each voxel of a subject before any ageing."""
    size, middle = _scale(traits, grid)
    return (grid.points + _shape_displacement(traits, grid) - middle) / size + middle


def _from_template(traits: Traits, grid: Grid, positions: Tensor) -> Tensor:
    """Return the subject positions (3, N) of template positions (3, N) before any ageing; inverse of `_to_template`."""
    size, middle = (part[..., 0, 0] for part in _scale(traits, grid))
    return invert(_shape_displacement(traits, grid), grid, (positions - middle) * size + middle)


@lru_cache(maxsize=64)
def _first_visit(cohort: Cohort, index: int, spacing: float) -> tuple[Tensor, Tensor]:
    """Return a mask (W, H, D), bool, of the voxels with brain, and their template positions (3, N) at visit 0."""
    traits = Traits.draw(cohort, index)
    shaped = _to_template(traits, template.GRIDS[spacing])
    brain = template.FINE.sample(template.cube_means(spacing)[1:2], shaped)
    inside = F.max_pool3d(brain, kernel_size=3, stride=1, padding=1)[0] > 0
    return inside, _aged_points(traits, shaped[:, inside], traits.baseline)


@lru_cache(maxsize=64)
def _template_points(cohort: Cohort, index: int, visit: int, spacing: float) -> Tensor:
    """Return the template positions (3, N) of the voxels with brain at a visit.

    Each visit is computed from the one before, so reading visits in order needs only one short flow each.
    """
    if visit == 0:
        return _first_visit(cohort, index, spacing)[1]
    traits = Traits.draw(cohort, index)
    before, now = (traits.amount(time) for time in traits.times[visit - 1 : visit + 1])
    return _aged_points(traits, _template_points(cohort, index, visit - 1, spacing), now - before)
