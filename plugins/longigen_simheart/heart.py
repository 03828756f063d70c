"""The anatomy of the heart at end-diastole: two ventricles in closed form."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from longigen_simheart.subject import APEX_WALL, RV_APEX, Traits

RV_WALL = 0.18
"""Cross-section of the right ventricle's free wall, relative to that of its cavity."""

ATRIA = 60.0
"""Height of the atria above the base, in mm; nothing moves above them."""


@dataclass(frozen=True)
class Section:
    """Sections of a heart at some heights: squared radii in mm², with the shape of the heights.

    Attributes:
        cavity: squared radius of the left cavity; 0 where there is none.
        outside: squared radius of the left ventricle's outer surface.
        right: squared outer radius of the right cavity in the direction of the septum, minus `outside`.
    """

    cavity: Tensor
    outside: Tensor
    right: Tensor


class Heart:
    """The heart of a subject at end-diastole, in its own frame: mm, apex at 0, septum towards +x.

    With Z the height above the apex, R the distance from the left ventricle's axis and δ the angle to the septum,

        left cavity      R² < r² (1 - ((Z_e - Z) / a)²)
        left ventricle   R² < U = (r + w)² (1 - ((Z_e - Z) / Z_e)²)
        right cavity     U < R² < U + B s(Z) W(δ)
        its free wall    up to U + (1 + d) B s(Z) W(δ)

    for 0 < Z < Z_b = Z_e + 0.12 a, the base. These are two ellipsoids with the same equator, Z_e = a + 0.6 w, and a
    crescent with s = 1 - (1 - τ)², τ = (Z - Z_r) / (Z_b - Z_r), and W = (cos δ - cos δ₀) / (1 - cos δ₀), both 0 where
    negative. Above the base the sections are constant, and the thin wall of the atria and fat replace the muscle.
    """

    def __init__(self, traits: Traits) -> None:
        self.traits = traits
        self.base = traits.base
        self.equator = APEX_WALL * traits.wall + traits.semi_axis
        self.rv_apex = RV_APEX * self.base
        self.rv_reach = (traits.radius + traits.wall + traits.rv_depth) ** 2 - (traits.radius + traits.wall) ** 2

    def section(self, height: Tensor) -> Section:
        """Return the sections at `height` above the apex, in mm, at end-diastole."""
        traits = self.traits
        level = height.clamp(max=self.base)
        cavity = traits.radius**2 * (1 - ((self.equator - level) / traits.semi_axis) ** 2)
        outside = (traits.radius + traits.wall) ** 2 * (1 - ((self.equator - level) / self.equator) ** 2)
        along = ((level - self.rv_apex) / (self.base - self.rv_apex)).clamp(min=0)
        right = self.rv_reach * (1 - (1 - along) ** 2)
        return Section(torch.where(level > 0, cavity, 0).clamp(min=0), outside.clamp(min=0), right)

    def window(self, cosine: Tensor) -> Tensor:
        """Return W(δ) given cos δ."""
        edge = math.cos(self.traits.rv_angle)
        return ((cosine - edge) / (1 - edge)).clamp(min=0)

    @property
    def lv_volume(self) -> float:
        """Volume of the left cavity at end-diastole, including papillary muscles, in mm³."""
        traits = self.traits
        return _ellipsoid(traits.radius, traits.semi_axis, self.base - self.equator + traits.semi_axis)

    @property
    def myocardium_volume(self) -> float:
        """Volume of the left ventricle's wall, in mm³."""
        traits = self.traits
        return _ellipsoid(traits.radius + traits.wall, self.equator, self.base) - self.lv_volume

    @property
    def rv_volume(self) -> float:
        """Volume of the right cavity at end-diastole, in mm³: ½ B ∫ W dδ ∫ s dZ."""
        angle = self.traits.rv_angle
        around = 2 * (math.sin(angle) - angle * math.cos(angle)) / (1 - math.cos(angle))
        return 0.5 * self.rv_reach * around * 2 / 3 * (self.base - self.rv_apex)


def _ellipsoid(radius: float, semi_axis: float, height: float) -> float:
    """Return the volume of an ellipsoid of revolution up to `height` above its lower pole."""
    share = height / semi_axis
    return math.pi * radius**2 * semi_axis * (share**2 - share**3 / 3)
