"""Render the image of a moving heart: bright blood, dark muscle, and the torso around them."""

import math

import torch
from torch import Tensor

from longigen_simheart.frame import from_heart_frame, rotate, septum_cosine, to_heart_frame
from longigen_simheart.grid import Grid
from longigen_simheart.motion import Motion, restore_surroundings
from longigen_simheart.texture import soft_edge, texture
from longigen_simheart.torso import Torso


def render(motion: Motion, torso: Torso, seed: int, grid: Grid) -> tuple[Tensor, Tensor]:
    """Return intensities relative to blood, and the fraction of body in each voxel, both (W, H, D).

    The texture moves with the tissue. Edges are blurred by the width of a voxel, and a slice is the mean of its slabs.
    Bias field and noise are not included.

    Args:
        motion: the motion of the heart from end-diastole to the time of the image.
        torso: the torso around the heart.
        seed: random seed of the textures.
        grid: the grid of the image.
    """
    width = 0.8 * (grid.spacing[0] + grid.spacing[1])
    value, body = (field[..., None].repeat(1, 1, 1, grid.slabs) for field in _torso(motion, torso, seed, grid, width))
    x, y, z = grid.coordinates(grid.slabs)
    position, height = to_heart_frame(motion.heart.traits, x, y, z)
    first = motion.inverse_height(height)
    level = motion.level(first)
    window = motion.heart.window(septum_cosine(rotate(position, -level.turn)))
    distance = motion.outline(window, level).sqrt() - position.square().sum(0).sqrt()
    near = ((distance > -width) & (first > 0)).flatten().nonzero()[:, 0]
    heart_value = _heart(
        motion, torso, seed, position.flatten(1)[:, near], first[near % len(first)], window.flatten()[near], width
    )
    fraction = soft_edge(distance.flatten()[near], width)
    for field, inside in ((value, heart_value), (body, torch.ones(()))):
        flat = field.view(-1)
        flat[near] = torch.lerp(flat[near], inside, fraction)
    return value.mean(3), body.mean(3)


def labels(motion: Motion, grid: Grid) -> Tensor:
    """Return the label at the centre of each voxel (W, H, D), uint8: 1 RV cavity, 2 LV muscle, 3 LV cavity, else 0."""
    position, height = to_heart_frame(motion.heart.traits, *grid.coordinates())
    first = motion.inverse_height(height)
    level = motion.level(first)
    square = position.square().sum(0)
    right = level.right * level.section.right * motion.heart.window(septum_cosine(rotate(position, -level.turn)))
    ventricles = (first > 0) & (first < motion.heart.base)
    result = (square < level.epicardium + right).to(torch.uint8)
    result[square < level.epicardium] = 2
    result[square < level.endocardium] = 3
    return result * ventricles


def _torso(motion: Motion, torso: Torso, seed: int, grid: Grid, width: float) -> tuple[Tensor, Tensor]:
    """Return intensities (0 outside the body) and fraction of body, both (W, H, D), of the heart's surroundings."""
    heart, at_rest = motion.heart, Motion(motion.heart, 0.0)
    position, height = to_heart_frame(heart.traits, *grid.coordinates())
    before = at_rest.outline(heart.window(septum_cosine(position)), at_rest.level(height))
    level = motion.level(motion.inverse_height(height))
    after = motion.outline(heart.window(septum_cosine(rotate(position, -level.turn))), level)
    square = position.square().sum(0)
    square_before = restore_surroundings(square, before, after).clamp(min=0)
    x, y, z = from_heart_frame(heart.traits, position * (square_before / square.clamp(min=1e-6)).sqrt(), height)
    noise = texture(seed, torso.offsets[1], x.flatten(), y.flatten(), z.flatten()).view(3, *square.shape)
    # Below the apex there is no outline; the distance is then the distance from the apex.
    rim = torch.hypot(square_before.sqrt() - before.sqrt(), height.clamp(max=0)).copysign(square_before - before)
    value, body = torso.tissue(x, y, z, rim, noise, width)
    return value * body, body


def _heart(
    motion: Motion, torso: Torso, seed: int, position: Tensor, height: Tensor, window: Tensor, width: float
) -> Tensor:
    """Return the intensities (N,) of the heart at `position` (2, N), for tissue at `height` (N,) at end-diastole."""
    heart = motion.heart
    level = motion.level(height)
    square = position.square().sum(0)
    square_before = motion.inverse_radius(square, window, level)
    tissue = rotate(position, -level.turn) * (square_before / square.clamp(min=1e-6)).sqrt()
    fine, middle, coarse = texture(seed, torso.offsets[0], tissue[0], tissue[1], height)
    radius, inner, outer = square.sqrt(), level.endocardium.sqrt(), level.epicardium.sqrt()
    free = (level.epicardium + level.right * level.section.right * window).sqrt()

    muscle = torso.myocardium * (1 + 0.1 * fine + 0.06 * middle)
    towards_apex = 1 - height / heart.base
    above = soft_edge(height - heart.base, 2.5)

    # Above the base: the thin walls of the atria, and the groove between atria and ventricles, with fat and vessels.
    groove = soft_edge(radius - inner - 2.2, width) * torch.maximum(
        soft_edge(outer - 1.2 - radius, width), soft_edge(window - 0.35, 0.5)
    )
    filling = torch.lerp(0.62 + 0.12 * middle, torch.tensor(0.9), soft_edge(window - 0.35, 0.5))
    ring = torch.lerp(muscle, torch.lerp(filling, 0.6 * muscle, soft_edge(coarse - 0.8, 1.0)), above * groove)

    # Trabeculae: muscle where the noise exceeds a threshold that rises with the distance from the wall.
    inwards = level.section.cavity.sqrt() - square_before.clamp(min=0).sqrt()
    net = soft_edge(0.75 * middle + 0.35 * fine + 1.5 * towards_apex - 0.45 - inwards / 3.0, 1.2)
    net = torch.maximum(net, _papillary(motion, tissue, height, middle, width)) * (1 - above)
    blood = torch.lerp(1.0 + 0.03 * fine + 0.03 * middle, muscle * 1.1, 0.92 * net)
    value = torch.lerp(ring, blood, soft_edge(inner - radius, width) * (level.section.cavity > 0))

    rough = soft_edge(0.8 * middle + 0.4 * fine + 1.2 * towards_apex - 1.5, 1.6) * (1 - above)
    blood = torch.lerp(0.93 + 0.04 * fine + 0.03 * middle, muscle * 1.2, 0.7 * rough)
    return torch.lerp(value, blood, soft_edge(free - radius, width) * soft_edge(radius - outer, width))


def _papillary(motion: Motion, tissue: Tensor, height: Tensor, noise: Tensor, width: float) -> Tensor:
    """Return the fraction of papillary muscle: two cones on the lower half of the wall that point to the base."""
    heart, traits = motion.heart, motion.heart.traits
    cavity = heart.section(height).cavity.sqrt()
    along = height / heart.base
    fraction = torch.zeros_like(height)
    for angle in traits.papillary:
        out = tissue[0] * math.cos(angle) + tissue[1] * math.sin(angle)
        side = tissue[1] * math.cos(angle) - tissue[0] * math.sin(angle)
        middle = (0.95 - 0.4 * along) * cavity
        size = 0.21 * traits.radius * (1 - 0.35 * along)
        distance = torch.hypot((out - middle) / 1.25, side) - 0.7 * noise
        ends = soft_edge(0.66 - along, 0.15) * soft_edge(along - 0.2, 0.1)
        fraction = torch.maximum(fraction, soft_edge(size - distance, width) * ends)
    return fraction
