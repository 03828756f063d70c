"""The contraction of the heart: a map of the tissue from end-diastole to any time and its inverse, in closed form."""

from dataclasses import dataclass

import torch
from torch import Tensor

from longigen_simheart.frame import rotate, septum_cosine
from longigen_simheart.heart import ATRIA, RV_WALL, Heart, Section

MARGIN = 22.0
"""Distance from the heart at end-diastole, in mm, within which its surroundings move."""


@dataclass(frozen=True)
class Level:
    """Parameters of the motion at some heights above the apex, each with the shape of the heights.

    Attributes:
        section: sections of the heart at end-diastole.
        wall: ∂(ρ²)/∂(R²) in muscle, which is 1/λ in the ventricles: the wall gains in section what it loses in length.
        cavity: factor of the change of the left cavity's section.
        right: factor of the change of the right cavity's section.
        turn: angle of rotation of the section.
        stretch: dz/dZ, which is λ in the ventricles.
    """

    section: Section
    wall: Tensor
    cavity: Tensor
    right: Tensor
    turn: Tensor
    stretch: Tensor

    @property
    def endocardium(self) -> Tensor:
        """Squared radius ρ² of the left cavity's surface."""
        return self.cavity * self.section.cavity

    @property
    def epicardium(self) -> Tensor:
        """Squared radius ρ² of the left ventricle's outer surface."""
        return self.wall * (self.section.outside - self.section.cavity) + self.endocardium


class Motion:
    """The motion of a heart from end-diastole to a time, in the heart's frame (see `Heart`).

    With s the fraction of the contraction, λ = 1 - shortening · s, the map from (R, Θ, Z) to (ρ, θ, z) is:

        all of the heart   z = λ Z,   θ = Θ + turn(Z)
        left cavity        ρ² = C v / (A - B v),   v = R²/C,   A = 1 / (λ k²),   B = A - 1/k
        its wall           ρ² = k C + (R² - C) / λ
        right cavity       ρ² = ρ²(U) + q (R² - U)
        its free wall      ρ² = ρ²(inner) + (R² - inner) / λ

    where C(Z) is the squared radius of the cavity and U(Z) that of the outer surface. The Jacobian is triangular, so
    its determinant is λ ∂(ρ²)/∂(R²). It is 1 in muscle, which therefore thickens as the cavities narrow. The volume of
    the cavity is multiplied by λ k, where k = (1 - ejection fraction · s) / λ; q is defined in the same way. The map of
    the blood is an arbitrary choice: the Möbius map of R² that continues that of the wall smoothly, so that papillary
    muscles near the wall hardly change their size.

    Above the base all factors return to 1 linearly: the atria fill as the base descends. The surroundings slide along
    the heart, move towards it within their slice, and do not move beyond `MARGIN`.
    """

    def __init__(self, heart: Heart, time: float) -> None:
        traits = heart.traits
        contraction = traits.contraction(time)
        self.heart = heart
        self.shrink = 1 - traits.shortening * contraction
        self.lv_share = 1 - traits.ejection_fraction * contraction
        self.rv_share = 1 - traits.rv_ejection_fraction * contraction
        self.twist = traits.twist * contraction

    def forward_height(self, height: Tensor) -> Tensor:
        """Return the height above the apex, in mm, of tissue with the given height at end-diastole."""
        return _piecewise_linear(height, self.heart.base, self.shrink * self.heart.base, self.heart.base + ATRIA)

    def inverse_height(self, height: Tensor) -> Tensor:
        """Return the height at end-diastole, in mm, of tissue now at `height`; the inverse of `forward_height`."""
        return _piecewise_linear(height, self.shrink * self.heart.base, self.heart.base, self.heart.base + ATRIA)

    def level(self, height: Tensor) -> Level:
        """Return the parameters of the motion at `height` above the apex at end-diastole, in mm."""
        base = self.heart.base
        weight = ((base + ATRIA - height) / ATRIA).clamp(0, 1)
        atria = 1 + (1 - self.shrink) * base / ATRIA
        stretch = torch.where(height < base, torch.where(height < 0, 1, self.shrink), atria)
        return Level(
            section=self.heart.section(height),
            wall=1 + weight * (1 / self.shrink - 1),
            cavity=1 + weight * (self.lv_share / self.shrink - 1),
            right=1 + weight * (self.rv_share / self.shrink - 1),
            turn=self.twist * weight * (0.4 - height / base),
            stretch=torch.where(height > base + ATRIA, 1, stretch),
        )

    def forward_radius(self, square: Tensor, window: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        """Return the squared radius of tissue after the motion, and the factor of its area.

        Args:
            square: squared radius R² at end-diastole, in mm².
            window: W(δ) at end-diastole.
            level: parameters of the motion, broadcastable to them.

        Returns:
            ρ² and ∂(ρ²)/∂(R²).
        """
        cavity_square = level.section.cavity.clamp(min=1e-6)
        top, bottom = _moebius(level)
        below = top - bottom * (square / cavity_square).clamp(max=1)
        beyond = square - level.section.outside
        right = level.section.right * window
        wall = level.endocardium + level.wall * (square - level.section.cavity)
        chamber = level.epicardium + level.right * beyond
        free = level.epicardium + level.right * right + level.wall * (beyond - right)
        in_cavity, in_right, in_free = square < level.section.cavity, beyond > 0, beyond > right
        left = torch.where(in_cavity, square / below, wall)
        result = torch.where(in_right, torch.where(in_free, free, chamber), left)
        growth = torch.where(in_right & ~in_free, level.right, torch.where(in_cavity, top / below**2, level.wall))
        return result, growth

    def inverse_radius(self, square: Tensor, window: Tensor, level: Level) -> Tensor:
        """Return R² given ρ², the inverse of `forward_radius`; `window` is that of the tissue at end-diastole."""
        cavity_square = level.section.cavity.clamp(min=1e-6)
        top, bottom = _moebius(level)
        cavity = top * square / (1 + bottom * (square / cavity_square).clamp(max=1))
        wall = level.section.cavity + (square - level.endocardium) / level.wall
        beyond = square - level.epicardium
        right = level.section.right * window
        chamber = level.section.outside + beyond / level.right
        free = level.section.outside + right + (beyond - level.right * right) / level.wall
        outer = torch.where(beyond > level.right * right, free, chamber)
        return torch.where(beyond > 0, outer, torch.where(square < level.endocardium, cavity, wall))

    def outline(self, window: Tensor, level: Level) -> Tensor:
        """Return the squared radius ρ² of the heart's outer surface for tissue with the given `window`."""
        return level.epicardium + (level.right + RV_WALL * level.wall) * level.section.right * window


def _piecewise_linear(height: Tensor, corner: float, to: float, end: float) -> Tensor:
    """Return the piecewise linear function through (0, 0), (`corner`, `to`) and (`end`, `end`), else the identity."""
    inside = torch.where(height < corner, height * (to / corner), end + (height - end) * ((end - to) / (end - corner)))
    return torch.where((height > 0) & (height < end), inside, height)


def _moebius(level: Level) -> tuple[Tensor, Tensor]:
    """Return A and B of the Möbius map of the left cavity, see `Motion`."""
    top = level.wall / level.cavity**2
    return top, top - 1 / level.cavity


def displace_surroundings(square: Tensor, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """Return the squared radius of the surroundings as the heart's outline moves from `before` to `after`.

    They move in their slice, radially, in proportion to the remaining distance to `MARGIN`.

    Returns:
        ρ² and ∂(ρ²)/∂(R²).
    """
    return _interpolate(square, before, after, moving_limit(before))


def restore_surroundings(square: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Return the squared radius of the surroundings at end-diastole, the inverse of `displace_surroundings`."""
    return _interpolate(square, after, before, moving_limit(before))[0]


def moving_limit(outline: Tensor) -> Tensor:
    """Return the squared radius beyond which nothing moves, given that of the heart's outline at end-diastole."""
    return (outline.sqrt() + MARGIN) ** 2


def _interpolate(square: Tensor, start: Tensor, end: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
    ratio = torch.where(square < far, (far - end) / (far - start), 1)
    return torch.where(square < far, far - (far - square) * ratio, square), ratio


def transform(motion: Motion, position: Tensor, height: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return positions after the motion of tissue and surroundings, and the factor of the change of volume.

    Args:
        motion: the motion from end-diastole to a time.
        position: positions (2, ...) in the heart's frame at end-diastole, in mm.
        height: heights above the apex at end-diastole, in mm, broadcastable to ``...``.

    Returns:
        Position, height and the Jacobian determinant.
    """
    heart, at_rest = motion.heart, Motion(motion.heart, 0.0)
    square, window = position.square().sum(0), heart.window(septum_cosine(position))
    before = at_rest.outline(window, at_rest.level(height))
    in_heart = square < before

    level = motion.level(height)
    inner, growth = motion.forward_radius(square, window, level)

    outside_level = motion.level(motion.inverse_height(height))
    window_after = heart.window(septum_cosine(rotate(position, -outside_level.turn)))
    after = motion.outline(window_after, outside_level)
    outer, ratio = displace_surroundings(square, before, after)

    scale = (torch.where(in_heart, inner, outer) / square.clamp(min=1e-6)).sqrt()
    angle = torch.where(in_heart, level.turn, 0)
    height_after = torch.where(in_heart, motion.forward_height(height), height)
    return rotate(position * scale, angle), height_after, torch.where(in_heart, growth * level.stretch, ratio)
