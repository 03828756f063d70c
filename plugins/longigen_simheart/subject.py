"""The random parameters of a simulated subject's heart."""

import math
from dataclasses import dataclass

import numpy as np

BASE_ABOVE_EQUATOR = 0.12
"""Height of the base above the equator, where the cavity is widest, as a fraction of the cavity's semi-axis."""

APEX_WALL = 0.6
"""Thickness of the wall at the apex, relative to that at the equator."""

RV_APEX = 0.18
"""Height of the right ventricle's apex above that of the heart, relative to the height of the base."""


@dataclass(frozen=True)
class Traits:
    """The random parameters of a subject's heart, drawn from (seed, index) only; lengths in mm, angles in radians.

    The motion is independent of the appearance at end-diastole, so that it cannot be estimated from one frame.

    Attributes:
        height: height of the subject, in cm; tall people have larger hearts.
        weight: weight of the subject, in kg; heavy people have thicker subcutaneous fat.
        radius: radius of the left cavity at its equator.
        semi_axis: semi-axis of the left cavity along the heart's axis, from its apex to its equator.
        wall: thickness of the left ventricle's wall at the equator.
        ejection_fraction: fraction of the left cavity's volume that is ejected at end-systole.
        rv_ejection_fraction: the same of the right ventricle.
        shortening: relative shortening of the heart's axis.
        twist: rotation of the apex relative to the base.
        rate: rate of contraction at its start, in contractions per time from end-diastole to end-systole.
        rv_depth: depth of the right ventricle at the base, from the septum to the free wall.
        rv_angle: half of the angle that the right ventricle covers, seen from the left one.
        centre: (x, y) of the left ventricle's axis at z = 0.
        tilt: (x, y) shift of that axis per mm of z.
        septum: direction of the right ventricle from the left one, from +x to +y.
        stretch: logarithm of the stretch along `septum` and of the shrinkage across it.
        apex: z of the outside of the apex.
        papillary: angles of the two papillary muscles to `septum`.
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
        base = APEX_WALL * wall + (1 + BASE_ABOVE_EQUATOR) * semi_axis
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
        """Height of the base above the outside of the apex at end-diastole, in mm."""
        return APEX_WALL * self.wall + (1 + BASE_ABOVE_EQUATOR) * self.semi_axis

    def contraction(self, time: float) -> float:
        """Return the fraction of the contraction at `time`, from 0 (end-diastole) to 1 (end-systole).

        It is the cubic from 0 to 1 that starts with slope `rate` and ends with slope 0; it is monotone for rates up to
        3.
        """
        return self.rate * time * (1 - time) ** 2 + time**2 * (3 - 2 * time)
