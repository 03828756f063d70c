"""Folders that tests read, and small volumes."""

import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import nibabel
import numpy as np

from longigen import Visit, Volume

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "fixtures"
SHARED = ROOT.parent / "shared" / "data"
"""Real data sets, where they are at hand."""


def visit_of(
    load: Callable[[], Volume],
    *,
    time: float = 0.0,
    shape: tuple[int, int, int] = (2, 2, 2),
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    source: str = "visit.nii",
    covariates: Mapping[str, float] | None = None,
) -> Visit:
    """Return a visit that no cache has seen."""
    return Visit(time, load, shape, spacing, source, uuid.uuid4().hex, covariates or {})


def write_image(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """Write a NIfTI image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(data, np.diag([2.0, 2, 2, 1]) if affine is None else affine), path)
    return path


def ball(size: tuple[int, int, int], radius: float) -> np.ndarray:
    """Return a volume with a bright ball on a smooth background, 0 to about 1000."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in size), indexing="ij")
    distance = np.sqrt(sum(axis**2 for axis in axes))
    return (900 / (1 + np.exp(12 * (distance - radius))) + 40 * (axes[0] + 1)).astype(np.float32)
