"""longigen: a plug-in model zoo for longitudinal 3D medical image generation.

Importing this package loads no torch; the public names load what they need when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from longigen.batch import Batch
    from longigen.conditioner import Conditioner
    from longigen.conditioning import Conditioning, Routes
    from longigen.dataset import PARTS, Assigned, Dataset, Subject, Visit
    from longigen.deformation import doubled, flow, halved, warp
    from longigen.denoiser import Denoiser
    from longigen.diffused import Diffused
    from longigen.errors import LongigenError, did_you_mean
    from longigen.example import Example
    from longigen.finding import BadData, Finding, OnBad, refuse
    from longigen.metric import Metric, SetMetric
    from longigen.model import LongitudinalModel
    from longigen.prediction import Prediction
    from longigen.registry import (
        register_conditioner,
        register_dataset,
        register_denoiser,
        register_metric,
        register_sampler,
    )
    from longigen.sampler import Generators, Sampler, Step, randn_like
    from longigen.units import TIME_UNITS, time_unit
    from longigen.visits import BACKGROUND, Covariate, VisitSequence
    from longigen.volume import (
        Volume,
        canonical_shape,
        canonical_spacing,
        file_identity,
        open_image,
        read_volume,
        spatial_shape,
    )

__version__ = "0.1.0"

_MODULES = {
    "Assigned": "dataset",
    "BACKGROUND": "visits",
    "BadData": "finding",
    "Batch": "batch",
    "Conditioner": "conditioner",
    "Conditioning": "conditioning",
    "Covariate": "visits",
    "Dataset": "dataset",
    "Denoiser": "denoiser",
    "Diffused": "diffused",
    "Example": "example",
    "Finding": "finding",
    "Generators": "sampler",
    "LongigenError": "errors",
    "LongitudinalModel": "model",
    "Metric": "metric",
    "OnBad": "finding",
    "PARTS": "dataset",
    "Prediction": "prediction",
    "Routes": "conditioning",
    "Sampler": "sampler",
    "Step": "sampler",
    "SetMetric": "metric",
    "Subject": "dataset",
    "TIME_UNITS": "units",
    "Visit": "dataset",
    "VisitSequence": "visits",
    "Volume": "volume",
    "canonical_shape": "volume",
    "canonical_spacing": "volume",
    "did_you_mean": "errors",
    "doubled": "deformation",
    "file_identity": "volume",
    "flow": "deformation",
    "halved": "deformation",
    "open_image": "volume",
    "randn_like": "sampler",
    "read_volume": "volume",
    "refuse": "finding",
    "register_conditioner": "registry",
    "register_dataset": "registry",
    "register_denoiser": "registry",
    "register_metric": "registry",
    "register_sampler": "registry",
    "spatial_shape": "volume",
    "time_unit": "units",
    "warp": "deformation",
}

__all__ = [
    "BACKGROUND",
    "PARTS",
    "TIME_UNITS",
    "Assigned",
    "BadData",
    "Batch",
    "Conditioner",
    "Conditioning",
    "Covariate",
    "Dataset",
    "Denoiser",
    "Diffused",
    "Example",
    "Finding",
    "Generators",
    "LongigenError",
    "LongitudinalModel",
    "Metric",
    "OnBad",
    "Prediction",
    "Routes",
    "Sampler",
    "SetMetric",
    "Step",
    "Subject",
    "Visit",
    "VisitSequence",
    "Volume",
    "__version__",
    "canonical_shape",
    "canonical_spacing",
    "did_you_mean",
    "doubled",
    "file_identity",
    "flow",
    "halved",
    "open_image",
    "randn_like",
    "read_volume",
    "refuse",
    "register_conditioner",
    "register_dataset",
    "register_denoiser",
    "register_metric",
    "register_sampler",
    "spatial_shape",
    "time_unit",
    "warp",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'longigen' has no attribute '{name}'")
    return getattr(import_module(f"longigen.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_MODULES)
