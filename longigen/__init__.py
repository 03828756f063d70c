"""longigen: a plug-in model zoo for longitudinal 3D medical image generation.

Importing this package loads no torch; the public names load what they need when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from longigen.batch import Batch
    from longigen.conditioner import Conditioner
    from longigen.conditioning import Conditioning, Routes
    from longigen.dataset import Dataset, Subject, Visit
    from longigen.denoiser import Denoiser
    from longigen.errors import LongigenError, did_you_mean
    from longigen.metric import Metric
    from longigen.model import LongitudinalModel
    from longigen.prediction import Prediction
    from longigen.registry import (
        register_conditioner,
        register_dataset,
        register_denoiser,
        register_metric,
        register_sampler,
    )
    from longigen.sampler import Generators, Sampler, randn_like
    from longigen.visits import BACKGROUND, Covariate, VisitSequence
    from longigen.volume import Volume, canonical_shape, open_image, read_volume, spatial_shape

__version__ = "0.1.0"

_MODULES = {
    "BACKGROUND": "visits",
    "Batch": "batch",
    "Conditioner": "conditioner",
    "Conditioning": "conditioning",
    "Covariate": "visits",
    "Dataset": "dataset",
    "Denoiser": "denoiser",
    "Generators": "sampler",
    "LongigenError": "errors",
    "LongitudinalModel": "model",
    "Metric": "metric",
    "Prediction": "prediction",
    "Routes": "conditioning",
    "Sampler": "sampler",
    "Subject": "dataset",
    "Visit": "dataset",
    "VisitSequence": "visits",
    "Volume": "volume",
    "canonical_shape": "volume",
    "did_you_mean": "errors",
    "open_image": "volume",
    "randn_like": "sampler",
    "read_volume": "volume",
    "register_conditioner": "registry",
    "register_dataset": "registry",
    "register_denoiser": "registry",
    "register_metric": "registry",
    "register_sampler": "registry",
    "spatial_shape": "volume",
}

__all__ = [
    "BACKGROUND",
    "Batch",
    "Conditioner",
    "Conditioning",
    "Covariate",
    "Dataset",
    "Denoiser",
    "Generators",
    "LongigenError",
    "LongitudinalModel",
    "Metric",
    "Prediction",
    "Routes",
    "Sampler",
    "Subject",
    "Visit",
    "VisitSequence",
    "Volume",
    "__version__",
    "canonical_shape",
    "did_you_mean",
    "open_image",
    "randn_like",
    "read_volume",
    "register_conditioner",
    "register_dataset",
    "register_denoiser",
    "register_metric",
    "register_sampler",
    "spatial_shape",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'longigen' has no attribute '{name}'")
    return getattr(import_module(f"longigen.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_MODULES)
