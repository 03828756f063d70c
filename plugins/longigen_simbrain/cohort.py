"""The data set: simulated subjects, their visits as images, and the truth about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from longigen import Dataset, LongigenError, OnBad, Range, Subject, Visit, Volume, refuse
from longigen_simbrain import template
from longigen_simbrain.deformation import flow, flow_with_jacobian, free_form, undo
from longigen_simbrain.grid import Grid
from longigen_simbrain.subject import BIAS_KNOTS, KNOTS, Traits

VERSION = 1
"""Of what the simulation draws: a cache of its volumes is good for one version."""


@dataclass(frozen=True)
class Truth:
    """What happened to a simulated subject between its first visit and another.

    Attributes:
        displacement: (3, W, H, D), in mm: the tissue at a voxel of the first visit has moved by this much (x, y, z).
        jacobian: (W, H, D): the tissue at a voxel of the first visit takes this many times the volume. Positive.
        csf_volume: of the ventricles at this visit, in mm³.
    """

    displacement: np.ndarray
    jacobian: np.ndarray
    csf_volume: float


class SimBrain(Dataset):
    """A SIMULATED cohort of ageing brains: no scanner and no person was involved.

    Each subject is a smooth one-to-one deformation of the ICBM 2009a average brain, with its own gain and bias field.
    From visit to visit the ventricles and sulci widen and tissue is lost, along the flow of a smooth velocity field,
    at a log-normal rate that is the subject's own and independent of how wide the ventricles are at first: one visit
    does not tell it, two do. Visits are about yearly, 4 to 8 of them, some missed. Everything about a subject depends
    on (seed, subject) alone, not on the number of subjects, the spacing or the order of access.

    The change is made to be learnt and measured. It is not a model of a disease.

    Args:
        subject_count: how many subjects.
        spacing: of the voxels, in mm: 4 (40 × 48 × 48 voxels), 3 (56 × 64 × 56) or 2 (80 × 96 × 88).
        noise: the standard deviation of the noise, as a fraction of the intensity of white matter. The default is what
            2.6 % in voxels of 1 mm leaves after averaging over those of 3 mm.
        seed: of all that is random.

    Raises:
        LongigenError: for another spacing.
    """

    simulated = True
    time_unit = "years"

    def __init__(
        self,
        *,
        subject_count: Annotated[int, Range(1, 100_000)] = 48,
        spacing: Annotated[float, Range(2, 4)] = 3.0,
        noise: Annotated[float, Range(0, below=1)] = 0.005,
        seed: Annotated[int, Range(0, 4_294_967_295)] = 0,
    ) -> None:
        super().__init__()
        if spacing not in template.GRIDS:
            raise LongigenError(f"sim-brain comes with a spacing of 4, 3 or 2 mm, not {spacing}; choose one of these.")
        self.subject_count = subject_count
        self.spacing = spacing
        self.noise = noise
        self.seed = seed

    def subjects(self, bad: OnBad = refuse) -> Sequence[Subject]:
        return [self._subject(index) for index in range(self.subject_count)]

    def traits(self, subject_id: str) -> Traits:
        """Return what was drawn for a subject, its rate among it.

        Raises:
            LongigenError: if there is no such subject.
        """
        return Traits.draw(self.seed, self._index(subject_id))

    def truth(self, subject_id: str, visit_index: int) -> Truth:
        """Return what happened between the subject's first visit and visit `visit_index` (from 0).

        Raises:
            LongigenError: if there is no such subject or visit.
        """
        volume = self.csf_volume(subject_id, visit_index)
        traits = self.traits(subject_id)
        grid = template.GRIDS[self.spacing]
        inside, _ = _first(self.seed, self._index(subject_id), self.spacing)
        # Tissue moves by g⁻¹ ∘ flow ∘ g, where g takes the subject's space to the template's. What the subject had aged
        # before the first visit cancels, since flows of one velocity commute. Outside the skull nothing moves.
        places = _shaped(traits, grid)[:, inside]
        aged, growth = flow_with_jacobian(
            _velocity(traits), template.GRIDS[3.0], places, traits.amount(traits.times[visit_index])
        )
        moved = _unshaped(traits, grid, aged)
        shape = grid.jacobian(grid.points + _shape(traits, grid))  # of g, up to its scale, which cancels too
        displacement, jacobian = torch.zeros(3, *grid.shape), torch.ones(grid.shape)
        displacement[:, inside] = moved - _unshaped(traits, grid, places)
        jacobian[inside] = growth * shape[inside] / grid.sample(shape[None], moved)[0]
        return Truth(displacement.numpy(), jacobian.numpy(), volume)

    def csf_volume(self, subject_id: str, visit_index: int) -> float:
        """Return the volume of the ventricles at visit `visit_index` (from 0), in mm³: the truth's, but faster.

        Raises:
            LongigenError: if there is no such subject or visit.
        """
        return float(self._ventricles(subject_id, visit_index)[1].sum()) * self.spacing**3

    def ventricles(self, subject_id: str, visit_index: int) -> np.ndarray:
        """Return the share of each voxel (W, H, D) that the ventricles fill at visit `visit_index` (from 0).

        Raises:
            LongigenError: if there is no such subject or visit.
        """
        inside, share = self._ventricles(subject_id, visit_index)
        shares = torch.zeros(inside.shape)
        shares[inside] = share
        return shares.numpy()

    def _ventricles(self, subject_id: str, visit_index: int) -> tuple[Tensor, Tensor]:
        """Return the voxels that can hold brain (W, H, D), bool, and the share of each (N,) that ventricles fill."""
        index, visits = self._index(subject_id), len(self.traits(subject_id).times)
        if not 0 <= visit_index < visits:
            raise LongigenError(
                f"{subject_id} of sim-brain has visits 0 to {visits - 1}, not {visit_index}; choose one of these."
            )
        places = _places(self.seed, index, visit_index, self.spacing)
        inside, _ = _first(self.seed, index, self.spacing)
        return inside, template.FINE.sample(template.blurred(self.spacing)[2:], places)[0]

    def _index(self, subject_id: str) -> int:
        number = subject_id.removeprefix("sim-")
        index = int(number) if number.isdecimal() else self.subject_count
        if index >= self.subject_count or _name(index) != subject_id:
            raise LongigenError(
                f"sim-brain has no subject '{subject_id}'; it has {_name(0)} to {_name(self.subject_count - 1)}."
            )
        return index

    def _subject(self, index: int) -> Subject:
        traits, name = Traits.draw(self.seed, index), _name(index)
        return Subject(
            name,
            tuple(
                Visit(
                    time=time,
                    load=partial(self._load, index, visit),
                    shape=template.GRIDS[self.spacing].shape,
                    spacing=(self.spacing, self.spacing, self.spacing),
                    identity=f"sim-brain {VERSION} {self.seed} {self.spacing} {self.noise} {name} {visit}",
                    source=f"sim-brain {name} visit {visit} (simulated)",
                    covariates={"age": round(traits.age + time, 2)},
                )
                for visit, time in enumerate(traits.times)
            ),
        )

    def _load(self, index: int, visit: int) -> Volume:
        traits, grid = Traits.draw(self.seed, index), template.GRIDS[self.spacing]
        inside, _ = _first(self.seed, index, self.spacing)
        places = _places(self.seed, index, visit, self.spacing)
        t1, brain = template.FINE.sample(template.blurred(self.spacing)[:2], places)
        bias = free_form(torch.from_numpy(traits.bias).float(), BIAS_KNOTS, grid)[0][inside].exp()
        noise = np.random.default_rng((self.seed, index, visit + 1)).standard_normal(len(t1), dtype=np.float32)
        # Noise fades with the brain's share of the voxel, so that the background is exactly 0.
        values = traits.white * (t1 * bias / template.WHITE + self.noise * brain * torch.from_numpy(noise))
        data = torch.zeros(grid.shape)
        data[inside] = values.clamp(min=0)
        return Volume(data.numpy(), grid.affine)


def _name(index: int) -> str:
    return f"sim-{index:04d}"


def _velocity(traits: Traits) -> Tensor:
    """Return the velocity (3, W, H, D) at which the subject ages, in the template, on its 3 mm grid."""
    ventricles, sulci = template.ageing()
    return ventricles + traits.sulcal * sulci


def _age(traits: Traits, places: Tensor, amount: float) -> Tensor:
    """Return where in the template what is seen comes from after ageing by `amount`, given where it came from before.

    Tissue moves with the velocity, so the place that is seen at a fixed voxel moves against it.
    """
    return flow(_velocity(traits), template.GRIDS[3.0], places, -amount)


def _shape(traits: Traits, grid: Grid) -> Tensor:
    return free_form(torch.from_numpy(traits.shape).float(), KNOTS, grid)


def _scale(traits: Traits, grid: Grid) -> tuple[Tensor, Tensor]:
    """Return the subject's size over the template's, and the point that keeps its place: each (3, 1, 1, 1)."""
    return torch.from_numpy(traits.size).float().view(3, 1, 1, 1), grid.points.mean((1, 2, 3), keepdim=True)


def _shaped(traits: Traits, grid: Grid) -> Tensor:
    """Return where in the template (3, W, H, D), in mm, each voxel comes from in a subject that has not aged."""
    size, middle = _scale(traits, grid)
    return (grid.points + _shape(traits, grid) - middle) / size + middle


def _unshaped(traits: Traits, grid: Grid, places: Tensor) -> Tensor:
    """Return where in a subject that has not aged the `places` (3, N) of the template are: undoes `_shaped`."""
    size, middle = (part[..., 0, 0] for part in _scale(traits, grid))
    return undo(_shape(traits, grid), grid, (places - middle) * size + middle)


@lru_cache(maxsize=64)
def _first(seed: int, index: int, spacing: float) -> tuple[Tensor, Tensor]:
    """Return the voxels that can hold brain (W, H, D), bool, and where in the template they come from at visit 0."""
    traits = Traits.draw(seed, index)
    shaped = _shaped(traits, template.GRIDS[spacing])
    brain = template.FINE.sample(template.blurred(spacing)[1:2], shaped)
    inside = F.max_pool3d(brain, kernel_size=3, stride=1, padding=1)[0] > 0
    return inside, _age(traits, shaped[:, inside], traits.baseline)


@lru_cache(maxsize=64)
def _places(seed: int, index: int, visit: int, spacing: float) -> Tensor:
    """Return where in the template (3, N) the voxels that can hold brain come from at a visit.

    Each visit goes on from the one before, so that the visits of a subject read in order cost one short flow each.
    """
    if visit == 0:
        return _first(seed, index, spacing)[1]
    traits = Traits.draw(seed, index)
    before, now = (traits.amount(time) for time in traits.times[visit - 1 : visit + 1])
    return _age(traits, _places(seed, index, visit - 1, spacing), now - before)
