"""One simulated subject: the numbers that make its heart, drawn without painting a voxel."""

import math
from dataclasses import dataclass

import numpy as np

ABOVE = 0.12
"""The base lies this fraction of the cavity's semi-axis above the equator, where the cavity is widest."""

APEX_WALL = 0.6
"""How thick the wall is at the apex, over what it is at the equator."""

RV_APEX = 0.18
"""How high over the apex of the heart that of the right ventricle is, over the height of the base."""


@dataclass(frozen=True)
class Traits:
    """What is drawn for a subject's heart, from (seed, index) alone; lengths in mm, angles in radians.

    How the heart moves is drawn independently of what it looks like at end-diastole, so that one frame cannot tell it.

    Attributes:
        height: of the subject, in cm; hearts are larger in tall people.
        weight: of the subject, in kg; the fat under the skin is thicker in heavy people.
        radius: of the left cavity at its equator.
        semi_axis: of the left cavity, along the heart's axis: from its apex to its equator.
        wall: the thickness of the left ventricle's wall at the equator.
        ejection_fraction: the share of the left cavity's volume that has left at end-systole.
        rv_ejection_fraction: of the right ventricle.
        shortening: by how much the heart's axis gets shorter, as a fraction.
        twist: by how much the apex turns against the base.
        rate: of the contraction at its start, in contractions per time from end-diastole to end-systole.
        rv_depth: of the right ventricle at the base, from the septum to the free wall.
        rv_angle: half of the angle that the right ventricle embraces, seen from the left one.
        centre: (x, y) of the left ventricle's axis at z = 0.
        tilt: (x, y) by which that axis goes sideways, per mm of z.
        septum: the direction of the right ventricle from the left one, from +x to +y.
        stretch: the logarithm of the stretch along `septum`, and of the shrinkage across.
        apex: z of the outside of the apex.
        papillary: (2,), the angles of the papillary muscles against `septum`.
    """

    height: float
    weight: float
    radius: float
    semi_axis: float
    wall: float
    ejection_fraction: float
    rv_ejection_fraction: float
    shortening: float
    twist: float
    rate: float
    rv_depth: float
    rv_angle: float
    centre: tuple[float, float]
    tilt: tuple[float, float]
    septum: float
    stretch: float
    apex: float
    papillary: tuple[float, float]

    @classmethod
    def draw(cls, seed: int, index: int) -> "Traits":
        """Draw the traits of subject `index`."""
        rng = np.random.default_rng((seed, index))

        def normal(mean: float, sd: float) -> float:
            return mean + sd * float(np.clip(rng.standard_normal(), -2, 2))

        def uniform(low: float, high: float) -> float:
            return float(rng.uniform(low, high))

        height = round(normal(172, 9), 0)
        weight = round(normal(26, 3.5) * (height / 100) ** 2, 0)
        radius = 25 * height / 172 * math.exp(normal(0, 0.09))
        semi_axis = min(67 * height / 172 * math.exp(normal(0, 0.06)), 78)
        wall = uniform(7, 13)
        ejection_fraction = uniform(0.2, 0.75)
        rv_depth, septum = uniform(20, 31), math.radians(normal(8, 9))
        base = APEX_WALL * wall + (1 + ABOVE) * semi_axis
        return cls(
            height=height,
            weight=weight,
            radius=radius,
            semi_axis=semi_axis,
            wall=wall,
            ejection_fraction=ejection_fraction,
            rv_ejection_fraction=uniform(0.25, 0.65),
            shortening=ejection_fraction * uniform(0.2, 0.3),
            twist=math.radians(uniform(5, 14)),
            rate=uniform(0.8, 2.4),
            rv_depth=rv_depth,
            rv_angle=math.radians(normal(80, 5)),
            centre=(
                uniform(-4, 4) - 0.5 * rv_depth * math.cos(septum),
                uniform(-4, 4) - 0.5 * rv_depth * math.sin(septum),
            ),
            tilt=(normal(0, 0.04), normal(0, 0.04)),
            septum=septum,
            stretch=normal(-0.02, 0.025),
            apex=uniform(0, 5) - base / 2,
            papillary=(math.pi + math.radians(normal(-48, 7)), math.pi + math.radians(normal(48, 7))),
        )

    @property
    def base(self) -> float:
        """The height of the base over the outside of the apex at end-diastole, in mm."""
        return APEX_WALL * self.wall + (1 + ABOVE) * self.semi_axis

    def contraction(self, time: float) -> float:
        """Return how much of the contraction is done at `time`, from 0 (end-diastole) to 1 (end-systole).

        It is the cubic that goes from 0 to 1, starts with slope `rate` and ends with slope 0; it is monotone for rates
        up to 3.
        """
        return self.rate * time * (1 - time) ** 2 + time**2 * (3 - 2 * time)
