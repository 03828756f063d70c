"""How the heart contracts: a map of the tissue at end-diastole to any time, both ways in closed form."""

from dataclasses import dataclass

import torch
from torch import Tensor

from longigen_simheart.frame import cosine, turned
from longigen_simheart.heart import ATRIA, RV_WALL, Heart, Section

MARGIN = 22.0
"""How far around the heart at end-diastole its surroundings give way, in mm; beyond, nothing moves."""


@dataclass(frozen=True)
class Level:
    """What the motion does at some heights over the apex, each of the heights' shape.

    Attributes:
        section: of the heart at end-diastole.
        wall: ∂(ρ²)/∂(R²) in muscle, 1/λ in the ventricles: what the axis loses in length the wall gains in section.
        cavity: by how much the section of the left cavity has changed, as a factor.
        right: by how much the section of the right cavity has changed, as a factor.
        turn: the angle by which the section has turned.
        stretch: dz/dZ, λ in the ventricles.
    """

    section: Section
    wall: Tensor
    cavity: Tensor
    right: Tensor
    turn: Tensor
    stretch: Tensor

    @property
    def endocardium(self) -> Tensor:
        """ρ² of the left cavity's surface."""
        return self.cavity * self.section.cavity

    @property
    def epicardium(self) -> Tensor:
        """ρ² of the left ventricle's outer surface."""
        return self.wall * (self.section.outside - self.section.cavity) + self.endocardium


class Motion:
    """The motion of a heart from end-diastole to a time, in the heart's frame (see `Heart`).

    With s the contraction done, λ = 1 - shortening · s, and (R, Θ, Z) going to (ρ, θ, z):

        all of the heart   z = λ Z,   θ = Θ + turn(Z)
        left cavity        ρ² = C v / (A - B v),   v = R²/C,   A = 1 / (λ k²),   B = A - 1/k
        its wall           ρ² = k C + (R² - C) / λ
        right cavity       ρ² = ρ²(U) + q (R² - U)
        its free wall      ρ² = ρ²(inner) + (R² - inner) / λ

    where C(Z) is the square of the cavity's radius and U(Z) of the outer one. The derivative is triangular, so its
    determinant is λ ∂(ρ²)/∂(R²): 1 in muscle, which therefore thickens as the cavities get narrower. The cavity keeps
    its form, and its volume is λ k times the first; k = (1 - ejection fraction · s) / λ, and so for q. The map of the
    blood, which is nobody's truth, is the one Möbius map of R² that joins the wall's without a kink, so that papillary
    muscles, which lie near the wall, keep about their size.

    Above the base all factors go back to 1 linearly: the atria fill as the base comes down. Around the heart the
    surroundings slide along it, move towards it within their slice, and rest beyond `MARGIN`.
    """

    def __init__(self, heart: Heart, time: float) -> None:
        traits = heart.traits
        done = traits.contraction(time)
        self.heart = heart
        self.shrink = 1 - traits.shortening * done
        self.lv_share = 1 - traits.ejection_fraction * done
        self.rv_share = 1 - traits.rv_ejection_fraction * done
        self.twist = traits.twist * done

    def raised(self, height: Tensor) -> Tensor:
        """Return the height over the apex, in mm, to which that at end-diastole goes."""
        return _bent(height, self.heart.base, self.shrink * self.heart.base, self.heart.base + ATRIA)

    def lowered(self, height: Tensor) -> Tensor:
        """Return the height at end-diastole, in mm, of what is now at `height` over the apex: undoes `raised`."""
        return _bent(height, self.shrink * self.heart.base, self.heart.base, self.heart.base + ATRIA)

    def level(self, height: Tensor) -> Level:
        """Return what happens at `height` over the apex at end-diastole, in mm."""
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

    def moved(self, square: Tensor, window: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        """Return where the heart's tissue goes within its section, and by how much its area grows.

        Args:
            square: R², in mm².
            window: W(δ) at end-diastole.
            level: broadcasts to them.

        Returns:
            ρ² and ∂(ρ²)/∂(R²).
        """
        hollow = level.section.cavity.clamp(min=1e-6)
        top, bottom = _moebius(level)
        below = top - bottom * (square / hollow).clamp(max=1)
        beyond = square - level.section.outside
        right = level.section.right * window
        wall = level.endocardium + level.wall * (square - level.section.cavity)
        chamber = level.epicardium + level.right * beyond
        free = level.epicardium + level.right * right + level.wall * (beyond - right)
        in_cavity, in_right, in_free = square < level.section.cavity, beyond > 0, beyond > right
        place = torch.where(in_right, torch.where(in_free, free, chamber), torch.where(in_cavity, square / below, wall))
        growth = torch.where(in_right & ~in_free, level.right, torch.where(in_cavity, top / below**2, level.wall))
        return place, growth

    def origin(self, square: Tensor, window: Tensor, level: Level) -> Tensor:
        """Return R² given ρ²: undoes `moved`. `window` is the tissue's, which is that at the angle less the turn."""
        hollow = level.section.cavity.clamp(min=1e-6)
        top, bottom = _moebius(level)
        cavity = top * square / (1 + bottom * (square / hollow).clamp(max=1))
        wall = level.section.cavity + (square - level.endocardium) / level.wall
        beyond = square - level.epicardium
        right = level.section.right * window
        chamber = level.section.outside + beyond / level.right
        free = level.section.outside + right + (beyond - level.right * right) / level.wall
        outer = torch.where(beyond > level.right * right, free, chamber)
        return torch.where(beyond > 0, outer, torch.where(square < level.endocardium, cavity, wall))

    def outline(self, window: Tensor, level: Level) -> Tensor:
        """Return ρ² of the heart's outer surface where the tissue's window is `window`."""
        return level.epicardium + (level.right + RV_WALL * level.wall) * level.section.right * window


def _bent(height: Tensor, corner: float, to: float, end: float) -> Tensor:
    """Return the piecewise linear function through (0, 0), (`corner`, `to`) and (`end`, `end`), the identity beyond."""
    bent = torch.where(height < corner, height * (to / corner), end + (height - end) * ((end - to) / (end - corner)))
    return torch.where((height > 0) & (height < end), bent, height)


def _moebius(level: Level) -> tuple[Tensor, Tensor]:
    """Return A and B of the map of the left cavity."""
    top = level.wall / level.cavity**2
    return top, top - 1 / level.cavity


def pushed(square: Tensor, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the surroundings go as the heart's outline goes from ρ² = `before` to `after`, and ∂(ρ²)/∂(R²).

    In their slice, towards or from the heart's axis, in proportion to what of `MARGIN` is left. With `before` and
    `after` exchanged, and `reach` kept, it goes back.
    """
    return _between(square, before, after, reach(before))


def drawn(square: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Return where the surroundings come from: undoes `pushed`."""
    return _between(square, after, before, reach(before))[0]


def reach(outline: Tensor) -> Tensor:
    """Return ρ² from which on nothing moves, given that of the heart's outline at end-diastole."""
    return (outline.sqrt() + MARGIN) ** 2


def _between(square: Tensor, start: Tensor, end: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
    ratio = torch.where(square < far, (far - end) / (far - start), 1)
    return torch.where(square < far, far - (far - square) * ratio, square), ratio


def carried(motion: Motion, place: Tensor, height: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return where all that is there at end-diastole goes, and how many times the volume it takes.

    Args:
        motion: to the time asked for.
        place: (2, ...), in the heart's frame, in mm.
        height: over the apex, in mm; it broadcasts to ``...``.

    Returns:
        Place, height and the determinant of the derivative.
    """
    heart, still = motion.heart, Motion(motion.heart, 0.0)
    square, window = place.square().sum(0), heart.window(cosine(place))
    before = still.outline(window, still.level(height))
    beats = square < before

    level = motion.level(height)
    inner, growth = motion.moved(square, window, level)

    there = motion.level(motion.lowered(height))
    after = motion.outline(heart.window(cosine(turned(place, -there.turn))), there)
    outer, ratio = pushed(square, before, after)

    scale = (torch.where(beats, inner, outer) / square.clamp(min=1e-6)).sqrt()
    angle = torch.where(beats, level.turn, 0)
    rise = torch.where(beats, motion.raised(height), height)
    return turned(place * scale, angle), rise, torch.where(beats, growth * level.stretch, ratio)
