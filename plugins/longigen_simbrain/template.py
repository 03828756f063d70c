"""The template: the ICBM 2009a average brain that the nilearn wheel carries, and how it ages here."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import nibabel
import numpy as np
import torch
from torch import Tensor

from longigen import LongigenError
from longigen_simbrain.deformation import with_divergence
from longigen_simbrain.grid import Grid

GRIDS = {
    3.0: Grid((56, 64, 56), 3.0, (-82.5, -111.0, -76.5)),
    2.0: Grid((80, 96, 88), 2.0, (-79.0, -111.5, -81.0)),
    4.0: Grid((40, 48, 48), 4.0, (-78.0, -110.5, -88.0)),
}
"""The grids that a visit can have, by spacing. They share a centre and hold the template with a margin."""

FINE = Grid((153, 190, 161), 1.0, (-76.0, -111.0, -75.0))
"""The grid that images are interpolated from: the template's own voxels, around the brain."""

WHITE = 222.0
"""The intensity of white matter in the T1 template."""

REACH = 16.0
"""How far from the fluid that grows tissue is lost: the standard deviation of a Gaussian, in mm."""

# The ventricles, as boxes in mm: |x|, y and z, each from and to. Frontal horns, bodies, atria, third ventricle.
VENTRICLES = (
    ((0, 26), (-5, 32), (-2, 24)),
    ((4, 28), (-45, 15), (14, 30)),
    ((12, 38), (-58, -25), (-2, 24)),
    ((0, 5), (-22, 8), (-12, 8)),
)
# Fluid that is neither ventricle nor cerebral sulcus: around the cerebellum, and the cisterns of the base.
CISTERNS = (
    ((0, 80), (-120, -30), (-80, -12)),
    ((0, 26), (-60, 10), (-80, 14)),
)


@dataclass(frozen=True)
class Tissues:
    """Maps of the template on `FINE`, each (W, H, D): `t1`, as in the file, and fractions of the voxel, in [0, 1]."""

    t1: Tensor
    brain: Tensor
    grey: Tensor
    white: Tensor
    ventricles: Tensor
    sulci: Tensor


@cache
def tissues() -> Tissues:
    """Read the template.

    Raises:
        LongigenError: if nilearn, or a file of it, is missing.
    """
    t1, grey, white = (_read(name) for name in ("t1", "gm", "wm"))
    brain = (t1 > 0).float()  # the file has the skull removed, ventricles and sulci kept
    grey, white = grey / 255 * brain, white / 255 * brain
    fluid = (brain - grey - white).clamp(min=0)
    central, basal = _within(VENTRICLES), _within(CISTERNS)
    return Tissues(t1, brain, grey, white, fluid * central, fluid * ~(central | basal))


@cache
def blurred(spacing: float) -> Tensor:
    """Return T1, brain and ventricles (3, W, H, D) on `FINE`, each voxel the mean over a cube of side `spacing`.

    Interpolating these at the centre of a voxel gives the voxel's mean, partial volume included, so that a displacement
    of a fraction of a voxel changes the image by that fraction.
    """
    maps = tissues()
    return torch.stack([_cube_mean(field, spacing) for field in (maps.t1, maps.brain, maps.ventricles)])


@cache
def ageing() -> tuple[Tensor, Tensor]:
    """Return two velocities (3, W, H, D) in mm, on the 3 mm grid: ventricles that widen, and sulci that widen.

    The divergence of each is positive in its fluid and negative in the tissue around it, which is lost; none crosses
    the skull. The unit: following one for an amount a multiplies the volume of its fluid by about exp(a).
    """
    maps, grid = tissues(), GRIDS[3.0]
    openness, grey, white, ventricles, sulci = (
        FINE.sample(_cube_mean(field, grid.spacing)[None], grid.points)[0]
        for field in (maps.brain, maps.grey, maps.white, maps.ventricles, maps.sulci)
    )
    openness = ((openness - 0.6) / 0.4).clamp(min=0)  # the wall lies inside the brain's border, which thus stays put
    found = []
    for fluid in (ventricles, sulci.clamp(max=0.12)):  # or the widest sulci would outgrow all others
        source, sink = fluid * (openness > 0), (grey + white) * (openness > 0) + 1e-6
        # Growth is taken from the tissue near it. Spreading is symmetric, so source and sink have the same sum.
        sink = sink * _spread(source / _spread(sink, REACH), REACH)
        velocity = with_divergence(source - sink, openness, grid.spacing)
        velocity = openness * torch.stack([_spread(component, 2.0) for component in velocity])
        growth = (source * grid.divergence(velocity)).sum() / source.sum()
        found.append(velocity / growth)
    widening, sulcal = found
    # Sulci that widen leave the volume of the ventricles as it is.
    squeeze = (ventricles * grid.divergence(sulcal)).sum() / (ventricles * grid.divergence(widening)).sum()
    return widening, sulcal - squeeze * widening


def _within(boxes: Sequence[Sequence[tuple[float, float]]]) -> Tensor:
    """Say where (W, H, D) on `FINE` a point lies in one of the boxes, given by |x|, y and z."""
    axes = [(o + torch.arange(n)) for o, n in zip(FINE.origin, FINE.shape, strict=True)]
    axes[0] = axes[0].abs()
    inside = torch.zeros(FINE.shape, dtype=torch.bool)
    for limits in boxes:
        a, b, c = ((low <= axis) & (axis <= high) for axis, (low, high) in zip(axes, limits, strict=True))
        inside |= a[:, None, None] & b[:, None] & c
    return inside


def _read(name: str) -> Tensor:
    spec = find_spec("nilearn")  # finds the folder of the package without importing it
    folder = next(iter(spec.submodule_search_locations or ()), None) if spec else None
    if folder is None:
        raise LongigenError("sim-brain is made from a template in nilearn, which is not installed; install nilearn.")
    path = Path(folder) / "datasets" / "data" / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"
    if not path.is_file():
        raise LongigenError(f"sim-brain needs {path}, which this nilearn lacks; install nilearn 0.12 or later.")
    image = nibabel.Nifti1Image.from_filename(path)
    assert image.affine is not None
    whole = torch.from_numpy(np.asarray(image.dataobj, dtype=np.float32))
    # Both grids have voxels of 1 mm with centres at whole millimetres, so cutting needs no interpolation.
    start = [round(o - t) for o, t in zip(FINE.origin, image.affine[:3, 3], strict=True)]
    cut = torch.zeros(FINE.shape)
    low = [max(0, s) for s in start]
    high = [min(n, s + m) for n, s, m in zip(whole.shape, start, FINE.shape, strict=True)]
    source = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    target = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
    cut[target] = whole[source]
    return cut


def _cube_mean(field: Tensor, side: float) -> Tensor:
    """Return the mean over a cube of `side` (2 or 3, in voxels) around each voxel; beyond the border is 0."""
    for axis in range(3):
        result = field / side
        size = field.shape[axis] - 1
        result.narrow(axis, 1, size).add_(field.narrow(axis, 0, size), alpha=(side - 1) / (2 * side))
        result.narrow(axis, 0, size).add_(field.narrow(axis, 1, size), alpha=(side - 1) / (2 * side))
        field = result
    return field


def _spread(field: Tensor, sd: float) -> Tensor:
    """Smooth a field (W, H, D) of the 3 mm grid by a Gaussian of `sd` mm, up to a factor that no caller depends on."""
    x, y, z = (torch.exp(-0.5 * (3.0 / sd * (torch.arange(n)[:, None] - torch.arange(n))) ** 2) for n in field.shape)
    return torch.einsum("ijk,wi,hj,dk->whd", field, x, y, z)
