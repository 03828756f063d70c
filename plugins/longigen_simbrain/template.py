"""The brain template, the ICBM 2009a average brain shipped with nilearn, and the velocity fields of its ageing."""

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
from longigen_simbrain.deformation import velocity_with_divergence
from longigen_simbrain.grid import Grid

GRIDS = {
    3.0: Grid((56, 64, 56), 3.0, (-82.5, -111.0, -76.5)),
    2.0: Grid((80, 96, 88), 2.0, (-79.0, -111.5, -81.0)),
    4.0: Grid((40, 48, 48), 4.0, (-78.0, -110.5, -88.0)),
    1.5: Grid((112, 128, 120), 1.5, (-83.25, -111.75, -83.25)),
}
"""The grids of visits, by spacing. They have the same centre and contain the template with a margin."""

FINE = Grid((153, 190, 161), 1.0, (-76.0, -111.0, -75.0))
"""The grid that images are interpolated from: the voxels of the template around the brain."""

WHITE = 222.0
"""The intensity of white matter in the T1 template."""

LOSS_SD = 16.0
"""Standard deviation, in mm, of the Gaussian distance at which tissue is lost around growing fluid."""

# Boxes that contain the ventricles, in mm: ranges of |x|, y and z. Frontal horns, bodies, atria, third ventricle.
VENTRICLES = (
    ((0, 26), (-5, 32), (-2, 24)),
    ((4, 28), (-45, 15), (14, 30)),
    ((12, 38), (-58, -25), (-2, 24)),
    ((0, 5), (-22, 8), (-12, 8)),
)
# Boxes with fluid that is neither ventricle nor cerebral sulcus: around the cerebellum, and the basal cisterns.
CISTERNS = (
    ((0, 80), (-120, -30), (-80, -12)),
    ((0, 26), (-60, 10), (-80, 14)),
)


@dataclass(frozen=True)
class Tissues:
    """Maps of the template on `FINE`, each (W, H, D): `t1` with the intensities of the file, and tissue fractions."""

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
        LongigenError: if nilearn or one of its files is missing.
    """
    t1, grey, white = (_read(name) for name in ("t1", "gm", "wm"))
    brain = (t1 > 0).float()  # the image is skull-stripped, with ventricles and sulci
    grey, white = grey / 255 * brain, white / 255 * brain
    fluid = (brain - grey - white).clamp(min=0)
    central, basal = _in_boxes(VENTRICLES), _in_boxes(CISTERNS)
    return Tissues(t1, brain, grey, white, fluid * central, fluid * ~(central | basal))


@cache
def cube_means(spacing: float) -> Tensor:
    """Return T1, brain and ventricles (3, W, H, D) on `FINE`, each voxel averaged over a cube of side `spacing`.

    Interpolated at the centre of a larger voxel they give the mean over that voxel, including partial volumes, so that
    a displacement by a fraction of a voxel changes the image by that fraction.
    """
    maps = tissues()
    return torch.stack([_cube_mean(field, spacing) for field in (maps.t1, maps.brain, maps.ventricles)])


@cache
def ageing_velocities() -> tuple[Tensor, Tensor]:
    """Return two velocity fields (3, W, H, D) in mm, on the 3 mm grid: widening ventricles and widening sulci.

    The divergence of each is positive in its fluid and negative in the tissue around it, which is lost. Neither crosses
    the skull. A flow by an amount a multiplies the volume of the fluid by about exp(a).
    """
    maps, grid = tissues(), GRIDS[3.0]
    openness, grey, white, ventricles, sulci = (
        FINE.sample(_cube_mean(field, grid.spacing)[None], grid.points)[0]
        for field in (maps.brain, maps.grey, maps.white, maps.ventricles, maps.sulci)
    )
    openness = ((openness - 0.6) / 0.4).clamp(min=0)  # a wall inside the brain's border, so that the border is fixed
    velocities = []
    for fluid in (ventricles, sulci.clamp(max=0.12)):  # clamped, or the widest sulci would grow most
        source, sink = fluid * (openness > 0), (grey + white) * (openness > 0) + 1e-6
        # Tissue near the growing fluid is lost. Smoothing is symmetric, so source and sink have the same sum.
        sink = sink * _smooth(source / _smooth(sink, LOSS_SD), LOSS_SD)
        velocity = velocity_with_divergence(source - sink, openness, grid.spacing)
        velocity = openness * torch.stack([_smooth(component, 2.0) for component in velocity])
        growth = (source * grid.divergence(velocity)).sum() / source.sum()
        velocities.append(velocity / growth)
    widening, sulcal = velocities
    # Widening sulci must not change the volume of the ventricles.
    squeeze = (ventricles * grid.divergence(sulcal)).sum() / (ventricles * grid.divergence(widening)).sum()
    return widening, sulcal - squeeze * widening


def _in_boxes(boxes: Sequence[Sequence[tuple[float, float]]]) -> Tensor:
    """Return a mask (W, H, D), bool, of the voxels of `FINE` in one of the boxes, given by ranges of |x|, y and z."""
    axes = [(o + torch.arange(n)) for o, n in zip(FINE.origin, FINE.shape, strict=True)]
    axes[0] = axes[0].abs()
    inside = torch.zeros(FINE.shape, dtype=torch.bool)
    for limits in boxes:
        a, b, c = ((low <= axis) & (axis <= high) for axis, (low, high) in zip(axes, limits, strict=True))
        inside |= a[:, None, None] & b[:, None] & c
    return inside


def _read(name: str) -> Tensor:
    """Read a map of the template on `FINE`."""
    spec = find_spec("nilearn")  # finds the folder of the package without importing it
    folder = next(iter(spec.submodule_search_locations or ()), None) if spec else None
    if folder is None:
        raise LongigenError("sim-brain needs the brain template in nilearn, which is not installed; install nilearn.")
    path = Path(folder) / "datasets" / "data" / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"
    if not path.is_file():
        raise LongigenError(f"sim-brain needs {path}, which this nilearn lacks; install nilearn 0.12 or later.")
    image = nibabel.Nifti1Image.from_filename(path)
    origin = np.asarray(image.affine, dtype=np.float64)[:3, 3]
    whole = torch.from_numpy(np.asarray(image.dataobj, dtype=np.float32))
    # Both grids have voxels of 1 mm with centres at whole millimetres, so cropping needs no interpolation.
    start = [round(o - t) for o, t in zip(FINE.origin, origin, strict=True)]
    cropped = torch.zeros(FINE.shape)
    low = [max(0, s) for s in start]
    high = [min(n, s + m) for n, s, m in zip(whole.shape, start, FINE.shape, strict=True)]
    source = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    target = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
    cropped[target] = whole[source]
    return cropped


def _cube_mean(field: Tensor, side: float) -> Tensor:
    """Return the mean over a cube of `side` voxels around each voxel, with zeros outside the volume."""
    for axis in range(3):
        result = field / side
        size = field.shape[axis] - 1
        result.narrow(axis, 1, size).add_(field.narrow(axis, 0, size), alpha=(side - 1) / (2 * side))
        result.narrow(axis, 0, size).add_(field.narrow(axis, 1, size), alpha=(side - 1) / (2 * side))
        field = result
    return field


def _smooth(field: Tensor, sd: float) -> Tensor:
    """Smooth a field (W, H, D) of the 3 mm grid by a Gaussian of `sd` mm, up to a constant factor."""
    x, y, z = (torch.exp(-0.5 * (3.0 / sd * (torch.arange(n)[:, None] - torch.arange(n))) ** 2) for n in field.shape)
    return torch.einsum("ijk,wi,hj,dk->whd", field, x, y, z)
