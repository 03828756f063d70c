"""Data augmentation: one random transform per subject, applied to all of its visits.

Bias fields and deformations are made of numpy's Legendre polynomials and scipy's B-splines, as MONAI's and TorchIO's
are. Theirs would need a further package, change the range and the background of images, and interpolate once more than
the rotation does.
"""

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from longigen.components.base import Settings
from longigen.components.ranges import GridSize, Range
from longigen.components.visit_sequence import BACKGROUND, Batch, VisitSequence
from longigen.data.preprocess import Pad
from longigen.utils.randomness import derive_seed, derived_generator

Angle = Annotated[float, Range(0, 180)]
Fraction = Annotated[float, Range(0, 1)]

DEGREE = 3
"""The degree of the polynomial of a bias field."""
SPANS = 4
"""Spans between the knots of a deformation's spline, along each axis. Below 0.403 of a span nothing folds over
(Choi and Lee 2000, Injectivity conditions of 2D and 3D uniform cubic B-spline functions)."""


@dataclass(frozen=True, kw_only=True)
class AugmentSettings(Settings):
    """What a recipe may say of augmentation; nothing is done by default.

    Args:
        crop: W, H and D of a random box of the grid that each pair is trained on, in voxels; 0 is the whole axis. It
            saves memory and time; generation is always on the whole grid. For thin slices, boxes of fewer slices.
        flip: for each axis of the grid, whether to flip half of the pairs along it.
        rotate: the largest rotation about each axis, in degrees (uniform). The grid is rotated in voxels, so with
            anisotropic voxels rotate only about the axis with the different size: 0,0,20 for a short-axis stack.
        scale: the largest change of size, as a fraction (log-uniform, up and down).
        shift: the largest shift along each axis, as a fraction of the grid (uniform).
        gamma: the largest exponent of a change of contrast, (x + 1) / 2 to the power g (log-uniform, g and 1 / g); 1
            changes nothing. Background and the brightest stay as they are. Each channel has its own.
        elastic: the largest displacement along each axis, as a fraction of the grid, of a smooth deformation: a cubic
            B-spline with four spans along each axis, its coefficients uniform. Nothing folds over.
        bias: the largest coefficient of a bias field, as of a scanner's coil: the exponential of a polynomial of degree
            3, a sum of products of Legendre polynomials from -1 to 1 over the grid, its coefficients uniform. Where
            the brightest voxel would exceed 1, all visits are divided by it, as preprocessing would scale such scans.
        blur: the largest standard deviation, in voxels, of a Gaussian filter (uniform from 0).
        noise: the largest standard deviation of Gaussian noise (uniform from 0). All visits get the same noise image:
            noise of its own in each visit would be a change that no history foretells. Intensities run from -1 to 1.
        history_noise: the largest standard deviation of Gaussian noise that is added to each observed image of the
            history, except where it is background (uniform from 0). Intensities run from -1 to 1.
        history_blur: the largest standard deviation, in voxels, of a Gaussian filter of each observed image of the
            history (uniform from 0).

    Raises:
        LongigenError: for a value that is not allowed.
    """

    crop: tuple[GridSize, GridSize, GridSize] = (0, 0, 0)
    flip: tuple[bool, bool, bool] = (False, False, False)
    rotate: tuple[Angle, Angle, Angle] = (0.0, 0.0, 0.0)
    scale: Fraction = 0.0
    shift: Fraction = 0.0
    gamma: Annotated[float, Range(1, 10)] = 1.0
    elastic: Annotated[float, Range(0, 0.1)] = 0.0
    bias: Fraction = 0.0
    blur: Annotated[float, Range(0, 10)] = 0.0
    noise: Annotated[float, Range(0, 2)] = 0.0
    history_noise: Annotated[float, Range(0, 2)] = 0.0
    history_blur: Annotated[float, Range(0, 10)] = 0.0

    @property
    def augment(self) -> "Augment | None":
        """The augmentation with these settings, or None if they change nothing."""
        return None if self == AugmentSettings() else Augment(self)


class Augment:
    """Applies one random transform per training pair to every visit of the history and to the target.

    So a change between two visits is moved and scaled with the anatomy, and no change is added or removed: equal visits
    stay equal. Intensities stay in [-1, 1], background and missing images stay background.

    Then `history_noise` and `history_blur` corrupt the history alone, each of its images by its own amount, as the
    errors of a model corrupt the visits that it generated before the next one. The last visit is corrupted too, and
    with it the base of a residual, which is the last visit of the history: in generation the base is a generated visit
    with its errors, and only a residual that leads from such a base to the true target teaches the model to mend them.
    A base without the errors would tell the network what to correct, and make it pass them on when it is not there.
    """

    def __init__(self, settings: AugmentSettings) -> None:
        self.settings = settings

    def __call__(self, batch: Batch, *, seed: int, pad: Pad = "background") -> Batch:
        """Return the transformed batch; each pair of the batch has a different transform, drawn from `seed`.

        Args:
            batch: training pairs.
            seed: random seed of the transforms.
            pad: what a transform moves in from outside the volume; as in preprocessing (`Preprocess.pad`).
        """
        generator = torch.Generator().manual_seed(seed)
        images, targets = [], []
        for row in range(len(batch.target)):
            visits = torch.cat([batch.history.images[row], batch.target[row, None]])
            # A generator of its own for each pair, so that the transforms are the same with and without a crop.
            visits = self._crop(visits, torch.Generator().manual_seed(derive_seed("crop", seed, row)))
            deformation = self._deformation(visits.shape[2:], derived_generator("elastic", seed, row))
            visits = self._transform(visits, generator, pad, deformation)
            # Generators of their own too, so that no draw depends on which of the others there are.
            visits = self._blur(visits, derived_generator("blur", seed, row))
            visits = self._bias(visits, derived_generator("bias", seed, row))
            given = self._given(batch, row)
            visits = self._noise(visits, given, derived_generator("noise", seed, row))
            images.append(visits[:-1])
            targets.append(visits[-1])
        history = replace(batch.history, images=torch.stack(images))
        if self.settings.history_noise or self.settings.history_blur:
            # A generator of its own, so that the transforms are the same with and without corruption.
            history = self._corrupt(history, torch.Generator().manual_seed(derive_seed("history", seed)))
        return replace(batch, history=history, target=torch.stack(targets))

    def _corrupt(self, history: VisitSequence, generator: torch.Generator) -> VisitSequence:
        """Return the history with blurred and noisy images, clipped to [-1, 1]; background stays as it is."""
        settings, clean = self.settings, history.images

        def amounts() -> Tensor:
            return torch.rand(*clean.shape[:2], generator=generator)

        blur, noise = settings.history_blur * amounts(), settings.history_noise * amounts()
        corrupted = torch.stack(
            [
                torch.stack([_blurred(image, float(sigma)) for image, sigma in zip(visits, sigmas, strict=True)])
                for visits, sigmas in zip(clean, blur, strict=True)
            ]
        )
        corrupted = corrupted + noise[:, :, None, None, None, None] * torch.randn(clean.shape, generator=generator)
        return replace(history, images=torch.where(clean > BACKGROUND, corrupted.clamp(BACKGROUND, 1), clean))

    def _crop(self, visits: Tensor, generator: torch.Generator) -> Tensor:
        """Return a random box of visits (L, C, W, H, D), the same of each."""
        for axis, size in enumerate(self.settings.crop, start=2):
            spare = visits.shape[axis] - size
            if size and spare > 0:
                start = int(torch.randint(spare + 1, (1,), generator=generator))
                visits = visits.narrow(axis, start, size)
        return visits

    def _deformation(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor | None:
        """Return a smooth random displacement (3, W, H, D), as a fraction of the grid, or None for none."""
        if not self.settings.elastic:
            return None
        from scipy.interpolate import BSpline  # slow to import

        knots = np.arange(-3, SPANS + 4) / SPANS  # uniform, with three beyond each end
        weights = [BSpline.design_matrix((np.arange(n) + 0.5) / n, knots, 3).toarray() for n in shape]
        field = np.asarray(2 * torch.rand(3, *[SPANS + 3] * 3, generator=generator, dtype=torch.float64) - 1)
        for matrix in weights:  # each turns an axis of coefficients into one of voxels; sums do not depend on threads
            field = np.einsum("vijk,wi->vjkw", field, matrix)
        moves = np.array(shape)[:, None, None, None] > 1  # an axis with one slice has nowhere to move to
        return torch.from_numpy(self.settings.elastic * moves * field)

    def _blur(self, visits: Tensor, generator: torch.Generator) -> Tensor:
        """Blur visits (L, C, W, H, D), all by the same width."""
        if not self.settings.blur:
            return visits
        sigma = self.settings.blur * float(torch.rand(1, generator=generator))
        blurred = torch.stack([_blurred(visit, sigma) for visit in visits])
        return torch.where(visits > BACKGROUND, blurred.clamp(BACKGROUND, 1), visits)

    def _bias(self, visits: Tensor, generator: torch.Generator) -> Tensor:
        """Multiply visits (L, C, W, H, D), counted from background, by one smooth field (Van Leemput et al. 1999)."""
        if not self.settings.bias:
            return visits
        degrees = np.indices([DEGREE + 1] * 3).sum(axis=0)
        drawn = 2 * torch.rand(*degrees.shape, generator=generator, dtype=torch.float64).numpy() - 1
        coefficients = np.where((degrees > 0) & (degrees <= DEGREE), self.settings.bias * drawn, 0)
        x, y, z = (np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in visits.shape[2:])
        factor = np.exp(np.polynomial.legendre.leggrid3d(x, y, z, coefficients))
        scaled = (visits - BACKGROUND) * torch.from_numpy(factor).to(visits.dtype)
        return (scaled * (2 / scaled.amax().clamp(min=2)) + BACKGROUND).clamp(max=1)

    def _given(self, batch: Batch, row: int) -> Tensor:
        """Return which channels of a pair's visits, the target last, have an image (L, C)."""
        channels = batch.target.shape[1]
        target = torch.ones(channels, dtype=torch.bool) if batch.target_channels is None else batch.target_channels[row]
        return torch.cat([batch.history.channel_mask[row].expand(-1, channels), target[None]])

    def _noise(self, visits: Tensor, given: Tensor, generator: torch.Generator) -> Tensor:
        """Add one noise image to the visits (L, C, W, H, D), where none that is given (L, C) is background."""
        if not self.settings.noise:
            return visits
        sigma = self.settings.noise * torch.rand(1, generator=generator)
        noise = sigma * torch.randn(visits.shape[1:], generator=generator)
        # Where one visit is background, noise in the others would be a change.
        given = given[:, :, None, None, None]
        anatomy = ((visits > BACKGROUND) | ~given).all(dim=0) & given
        return torch.where(anatomy, (visits + noise).clamp(BACKGROUND, 1), visits)

    def _transform(
        self, visits: Tensor, generator: torch.Generator, pad: Pad, deformation: Tensor | None = None
    ) -> Tensor:
        """Apply one random transform to visits (L, C, W, H, D), and a `deformation` in the same interpolation."""
        settings = self.settings

        def uniform(*shape: int) -> Tensor:
            return 2 * torch.rand(*shape, generator=generator) - 1

        flips, shift = uniform(3) > 0, uniform(3) * settings.shift
        angles = uniform(3) * torch.tensor(settings.rotate).deg2rad()
        size, gamma = (1 + settings.scale) ** uniform(1), settings.gamma ** uniform(visits.shape[1])
        axes = [axis + 2 for axis in range(3) if settings.flip[axis] and flips[axis]]
        visits = visits.flip(axes) if axes else visits
        if any(settings.rotate) or settings.scale or settings.shift or deformation is not None:
            visits = _resample_affine(visits, _rotation_matrix(angles) / size, shift, pad, deformation)
        if settings.gamma != 1:
            visits = 2 * ((visits + 1) / 2).clamp(0, 1) ** gamma[:, None, None, None] - 1
        return visits


def _blurred(image: Tensor, sigma: float) -> Tensor:
    """Return an image (C, W, H, D) filtered by a Gaussian of `sigma` voxels; outside, the nearest voxel is repeated."""
    from scipy.ndimage import gaussian_filter  # slow to import

    filtered = gaussian_filter(image.numpy(), (0, sigma, sigma, sigma), mode="nearest")
    return torch.from_numpy(filtered)


def _resample_affine(
    visits: Tensor, matrix: Tensor, shift: Tensor, pad: Pad = "background", deformation: Tensor | None = None
) -> Tensor:
    """Resample visits (L, C, W, H, D) linearly at matrix · (x + deformation) + shift.

    Args:
        visits: the images.
        matrix: (3, 3), in voxels; x is in voxels from the grid's centre.
        shift: (3,), as a fraction of the grid.
        pad: what is outside of the volume.
        deformation: (3, W, H, D), as a fraction of the grid; None for none.
    """
    half = torch.tensor(visits.shape[2:]) / 2
    # The rotation is in voxels; affine_grid needs fractions of half the grid, and the last axis first.
    matrix = matrix * half[None, :] / half[:, None]
    theta = torch.cat([matrix.flip(0, 1), (2 * shift).flip(0)[:, None]], dim=1)
    grid = F.affine_grid(theta[None], [1, 1, *visits.shape[2:]], align_corners=False)
    if deformation is not None:
        turned = np.einsum("ij,jwhd->whdi", matrix.double().numpy(), deformation.numpy())
        grid = grid + torch.from_numpy(2 * turned[..., ::-1].copy()).to(grid.dtype)
    moved = F.grid_sample(
        visits - BACKGROUND,
        grid.expand(len(visits), *grid.shape[1:]),
        padding_mode="border" if pad == "edge" else "zeros",
        align_corners=False,
    )
    return moved + BACKGROUND


def _rotation_matrix(angles: Tensor) -> Tensor:
    """Return the matrix (3, 3) of a rotation about the first, then the second, then the third axis."""
    matrix = torch.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (other for other in range(3) if other != axis)
        turn = torch.eye(3)
        turn[first, first] = turn[second, second] = angle.cos()
        turn[first, second], turn[second, first] = -angle.sin(), angle.sin()
        matrix = turn @ matrix
    return matrix
