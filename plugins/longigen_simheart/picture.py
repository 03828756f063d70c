"""What a scanner shows of a moving heart: bright blood, dark muscle, and the torso around them."""

import math

import torch
from torch import Tensor

from longigen_simheart.frame import cosine, frame, turned, unframe
from longigen_simheart.grid import Grid
from longigen_simheart.motion import Motion, drawn
from longigen_simheart.texture import soft, texture
from longigen_simheart.torso import Torso


def picture(motion: Motion, torso: Torso, seed: int, grid: Grid) -> tuple[Tensor, Tensor]:
    """Return intensities over blood's, and the body's share of each voxel, both (W, H, D), without bias and noise.

    All that is seen is carried by the tissue: the heart's texture moves with it. Edges are as soft as a voxel is wide,
    and a slice through the heart is the mean of its slabs.

    Args:
        motion: of the heart, to the time of the picture.
        torso: around it.
        seed: of the textures.
        grid: of the picture.
    """
    width = 0.8 * (grid.spacing[0] + grid.spacing[1])
    value, body = (field[..., None].repeat(1, 1, 1, grid.slabs) for field in _torso(motion, torso, seed, grid, width))
    x, y, z = grid.places(grid.slabs)
    place, height = frame(motion.heart.traits, x, y, z)
    first = motion.lowered(height)
    level = motion.level(first)
    window = motion.heart.window(cosine(turned(place, -level.turn)))
    distance = motion.outline(window, level).sqrt() - place.square().sum(0).sqrt()
    near = ((distance > -width) & (first > 0)).flatten().nonzero()[:, 0]
    shown = _heart(
        motion, torso, seed, place.flatten(1)[:, near], first[near % len(first)], window.flatten()[near], width
    )
    share = soft(distance.flatten()[near], width)
    for field, there in ((value, shown), (body, torch.ones(()))):
        flat = field.view(-1)
        flat[near] = torch.lerp(flat[near], there, share)
    return value.mean(3), body.mean(3)


def labels(motion: Motion, grid: Grid) -> Tensor:
    """Return what the centre of each voxel is in (W, H, D), uint8: 1 RV cavity, 2 LV muscle, 3 LV cavity, or 0."""
    place, height = frame(motion.heart.traits, *grid.places())
    first = motion.lowered(height)
    level = motion.level(first)
    square = place.square().sum(0)
    right = level.right * level.section.right * motion.heart.window(cosine(turned(place, -level.turn)))
    ventricles = (first > 0) & (first < motion.heart.base)
    found = (square < level.epicardium + right).to(torch.uint8)
    found[square < level.epicardium] = 2
    found[square < level.endocardium] = 3
    return found * ventricles


def _torso(motion: Motion, torso: Torso, seed: int, grid: Grid, width: float) -> tuple[Tensor, Tensor]:
    """Return the intensities, 0 outside the body, and the body's share, both (W, H, D), of the heart's surroundings."""
    heart, still = motion.heart, Motion(motion.heart, 0.0)
    place, height = frame(heart.traits, *grid.places())
    before = still.outline(heart.window(cosine(place)), still.level(height))
    level = motion.level(motion.lowered(height))
    after = motion.outline(heart.window(cosine(turned(place, -level.turn))), level)
    square = place.square().sum(0)
    came = drawn(square, before, after).clamp(min=0)
    x, y, z = unframe(heart.traits, place * (came / square.clamp(min=1e-6)).sqrt(), height)
    noise = texture(seed, torso.offsets[1], x.flatten(), y.flatten(), z.flatten()).view(3, *square.shape)
    # Below the apex there is no outline; the distance is then that from the apex.
    rim = torch.hypot(came.sqrt() - before.sqrt(), height.clamp(max=0)).copysign(came - before)
    value, body = torso.tissue(x, y, z, rim, noise, width)
    return value * body, body


def _heart(
    motion: Motion, torso: Torso, seed: int, place: Tensor, height: Tensor, window: Tensor, width: float
) -> Tensor:
    """Return the intensities (N,) of the heart at `place` (2, N), for tissue of `height` at end-diastole."""
    heart = motion.heart
    level = motion.level(height)
    square = place.square().sum(0)
    came = motion.origin(square, window, level)
    tissue = turned(place, -level.turn) * (came / square.clamp(min=1e-6)).sqrt()
    fine, middle, coarse = texture(seed, torso.offsets[0], tissue[0], tissue[1], height)
    radius, inner, outer = square.sqrt(), level.endocardium.sqrt(), level.epicardium.sqrt()
    free = (level.epicardium + level.right * level.section.right * window).sqrt()

    muscle = torso.myocardium * (1 + 0.1 * fine + 0.06 * middle)
    towards_apex = 1 - height / heart.base
    above = soft(height - heart.base, 2.5)

    # Above the base: the atria's thin walls, and the groove between them and the ventricles, with fat and vessels.
    groove = soft(radius - inner - 2.2, width) * torch.maximum(
        soft(outer - 1.2 - radius, width), soft(window - 0.35, 0.5)
    )
    filling = torch.lerp(0.62 + 0.12 * middle, torch.tensor(0.9), soft(window - 0.35, 0.5))
    ring = torch.lerp(muscle, torch.lerp(filling, 0.6 * muscle, soft(coarse - 0.8, 1.0)), above * groove)

    # Trabeculae: muscle where the noise exceeds a threshold that rises with the distance from the wall.
    inwards = level.section.cavity.sqrt() - came.clamp(min=0).sqrt()
    net = soft(0.75 * middle + 0.35 * fine + 1.5 * towards_apex - 0.45 - inwards / 3.0, 1.2)
    net = torch.maximum(net, _papillary(motion, tissue, height, middle, width)) * (1 - above)
    blood = torch.lerp(1.0 + 0.03 * fine + 0.03 * middle, muscle * 1.1, 0.92 * net)
    value = torch.lerp(ring, blood, soft(inner - radius, width) * (level.section.cavity > 0))

    rough = soft(0.8 * middle + 0.4 * fine + 1.2 * towards_apex - 1.5, 1.6) * (1 - above)
    blood = torch.lerp(0.93 + 0.04 * fine + 0.03 * middle, muscle * 1.2, 0.7 * rough)
    return torch.lerp(value, blood, soft(free - radius, width) * soft(radius - outer, width))


def _papillary(motion: Motion, tissue: Tensor, height: Tensor, noise: Tensor, width: float) -> Tensor:
    """Return the papillary muscles' share: two fingers that stand on the wall's lower half and point to the base."""
    heart, traits = motion.heart, motion.heart.traits
    cavity = heart.section(height).cavity.sqrt()
    along = height / heart.base
    share = torch.zeros_like(height)
    for angle in traits.papillary:
        out = tissue[0] * math.cos(angle) + tissue[1] * math.sin(angle)
        side = tissue[1] * math.cos(angle) - tissue[0] * math.sin(angle)
        middle = (0.95 - 0.4 * along) * cavity
        size = 0.21 * traits.radius * (1 - 0.35 * along)
        distance = torch.hypot((out - middle) / 1.25, side) - 0.7 * noise
        share = torch.maximum(share, soft(size - distance, width) * soft(0.66 - along, 0.15) * soft(along - 0.2, 0.1))
    return share
