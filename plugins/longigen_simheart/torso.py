"""The static torso around the heart: chest wall, lung, liver, stomach, aorta and fat."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from longigen_simheart.subject import Traits
from longigen_simheart.texture import soft_edge


@dataclass(frozen=True)
class Torso:
    """The random parameters of a subject's torso and scan, drawn from (seed, index) only.

    Lengths are in mm, intensities relative to blood.

    Attributes:
        front: direction of the chest wall from the centre of the field of view, from +x to +y, in radians.
        inside: distance of the inside of the chest wall in that direction.
        muscle: thickness of the chest wall's muscle.
        fat: thickness of the subcutaneous fat.
        curvature: radius of the chest.
        liver: (x, y, radius) of the liver's dome at z = 0.
        stomach: (x, y, radius) of the stomach.
        aorta: (x, y, radius) of the descending aorta.
        rim: thickness of the fat around the heart.
        myocardium: intensity of the heart's muscle.
        organ: intensity of the liver.
        gain: intensity of blood, which determines the gain of all visits.
        bias: coefficients (5,) of the logarithm of the bias field: of x, y, z, x² + y² and x y, over half the field of
            view.
        offsets: positions of the heart and the torso in the noise (2, 3), in mm.
    """

    front: float
    inside: float
    muscle: float
    fat: float
    curvature: float
    liver: tuple[float, float, float]
    stomach: tuple[float, float, float]
    aorta: tuple[float, float, float]
    rim: float
    myocardium: float
    organ: float
    gain: float
    bias: np.ndarray
    offsets: np.ndarray

    @classmethod
    def draw(cls, seed: int, index: int, traits: Traits) -> "Torso":
        """Draw the torso of subject `index` around its heart."""
        rng = np.random.default_rng((seed, index, 0))

        def uniform(low: float, high: float) -> float:
            return float(rng.uniform(low, high))

        outer = traits.radius + traits.wall
        x, y = traits.centre
        front = math.radians(uniform(42, 62))
        # Extent of the heart towards the chest wall: W is about 0.7 there, some 45° from the septum's direction.
        near = math.sqrt(outer**2 + 0.7 * ((outer + traits.rv_depth) ** 2 - outer**2))
        inside = near + x * math.cos(front) + y * math.sin(front) + uniform(4, 9)
        floor = y - outer - uniform(1, 6)
        dome, bag = uniform(90, 120), uniform(20, 28)
        behind, far = math.radians(uniform(212, 226)), outer + uniform(17, 23)
        body_mass = traits.weight / (traits.height / 100) ** 2
        return cls(
            front=front,
            inside=inside,
            muscle=uniform(11, 16),
            fat=max(5.0, 5 + 1.1 * (body_mass - 20) + uniform(-2, 2)),
            curvature=uniform(140, 190),
            liver=(uniform(15, 40), floor - dome, dome),
            stomach=(uniform(-52, -42), floor - bag - uniform(-6, 4), bag),
            aorta=(x + far * math.cos(behind), y + far * math.sin(behind), uniform(10, 12.5)),
            rim=max(-1.0, 0.2 * (body_mass - 24) + uniform(-0.7, 0.7)),
            myocardium=uniform(0.24, 0.34),
            organ=uniform(0.24, 0.42),
            gain=uniform(250, 450),
            bias=np.clip(rng.standard_normal(5), -2, 2) * (0.12, 0.12, 0.06, 0.06, 0.06),
            offsets=rng.uniform(0, 128, (2, 3)),
        )

    def tissue(
        self, x: Tensor, y: Tensor, z: Tensor, rim: Tensor, noise: Tensor, width: float
    ) -> tuple[Tensor, Tensor]:
        """Return intensities relative to blood, and the fraction of body, of the torso.

        Args:
            x: x of the positions, in mm.
            y: y of the positions, in mm.
            z: z of the positions, in mm.
            rim: distance from the heart's outline at end-diastole, in mm.
            noise: noise (3, ...): fine, middle and coarse.
            width: width of the edges, in mm.
        """
        fine, middle, coarse = noise
        along = x * math.cos(self.front) + y * math.sin(self.front)
        across = y * math.cos(self.front) - x * math.sin(self.front)
        # Depth below the inside of the chest wall, a cylinder that is tilted towards the apex.
        axis = self.inside + 0.12 * z - self.curvature
        depth = self.curvature - torch.hypot(along - axis, across)
        vessels = soft_edge(middle - 2.2, 1.2)
        value = 0.07 + 0.02 * coarse + 0.6 * vessels
        cover = self.rim + 0.7 * middle + 1.2 * coarse + soft_edge(24 - depth, 30.0) * 5
        value = torch.lerp(value, 0.7 + 0.05 * coarse + 0.05 * fine, soft_edge(cover - rim, 1.5 * width))
        liver_x, liver_y, dome = self.liver
        below = dome - torch.hypot(x - liver_x, y - liver_y + 0.3 * z) + 1.5 * coarse
        organ = self.organ * (1 + 0.06 * fine + 0.05 * coarse) + 0.35 * vessels
        value = torch.lerp(value, organ, soft_edge(below, width))
        bag_x, bag_y, bag = self.stomach
        within = bag - torch.hypot(x - bag_x, (y - bag_y + 0.15 * z) * 1.15) + 2 * coarse
        value = torch.lerp(value, 0.2 + 0.02 * fine, soft_edge(within, width))
        value = torch.lerp(value, 0.55 + 0.12 * middle, soft_edge(within - 4, 1.5 * width))
        aorta_x, aorta_y, radius = self.aorta
        vessel = radius - torch.hypot(x - aorta_x + 0.08 * z, y - aorta_y - 0.05 * z)
        value = torch.lerp(value, 0.25 + 0.02 * fine, soft_edge(vessel + 1.5, width))
        value = torch.lerp(value, 0.92 + 0.03 * fine, soft_edge(vessel, width))
        ribs = soft_edge(coarse + torch.cos((across + 0.6 * z) * (2 * math.pi / 26)) - 0.4, 1.0)
        muscle = torch.lerp(0.3 + 0.04 * fine, 0.5 + 0.05 * fine, ribs)
        skin = depth + self.muscle + 0.8 * coarse
        value = torch.lerp(value, muscle, soft_edge(-depth - 1.0 + 0.6 * coarse, width))
        value = torch.lerp(value, 0.95 + 0.05 * coarse + 0.04 * middle, soft_edge(-skin, 1.5 * width))
        return value, soft_edge(depth + self.muscle + self.fat, width)

    def bias_field(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Return the bias field at positions in mm; it is the same for all visits and does not move."""
        x, y, z = x / 80, y / 80, z / 54
        terms = (x, y, z, x**2 + y**2 - 0.7, x * y)
        return torch.exp(
            sum((float(bias) * term for bias, term in zip(self.bias, terms, strict=True)), torch.zeros(()))
        )
