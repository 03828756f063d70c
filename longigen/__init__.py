"""longigen: a plug-in model zoo for longitudinal 3D medical image generation.

Importing this package loads no torch; the public names load what they need when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from longigen._version import __version__

if TYPE_CHECKING:
    from longigen.api import (
        bench,
        compare,
        consistency,
        distill,
        evaluate,
        examine,
        generate,
        info,
        list_models,
        load,
        open_dataset,
        plan,
        prepare,
        pull,
        report,
        train,
        train_codec,
        train_segmenter,
        view,
    )
    from longigen.components.codec import Codec, IdentityCodec
    from longigen.components.conditioner import Conditioner
    from longigen.components.conditioning import Conditioning, Routes
    from longigen.components.deformation import doubled, flow, halved, warp
    from longigen.components.denoiser import Denoiser, Moved
    from longigen.components.metric import Metric, RegionMasks, RegionMetric, SeriesMetric, SetMetric
    from longigen.components.parameterization import Prediction, alpha_sigma, prediction_target
    from longigen.components.patches import patchify, unpatchify
    from longigen.components.ranges import Range
    from longigen.components.recomputation import recomputed
    from longigen.components.sampler import Sampler, Step
    from longigen.components.training_example import DiffusionTarget, Example
    from longigen.components.visit_sequence import BACKGROUND, Batch, Covariate, VisitSequence
    from longigen.data.augment import AugmentSettings
    from longigen.data.dataset import PARTS, Assigned, Dataset, Subject, Visit
    from longigen.data.issues import BadData, Finding, OnBad, refuse
    from longigen.data.pointers import require_fetched
    from longigen.data.preprocess import Preprocess, PreprocessSettings
    from longigen.data.quality.inspect import Examination
    from longigen.data.regions import parse_regions
    from longigen.data.segmenter import Segmenter
    from longigen.data.sidecar import read_sidecar
    from longigen.data.split import SplitSettings
    from longigen.data.statistics import Statistics
    from longigen.data.tables import Table, TableRow, has_decimal_comma, is_missing, parse_number, read_table
    from longigen.data.volume import (
        Volume,
        canonical_shape,
        canonical_spacing,
        file_identity,
        open_image,
        read_volume,
        spatial_shape,
    )
    from longigen.errors import LongigenError, LongigenWarning, did_you_mean
    from longigen.evaluation.benchmark_result import BenchmarkResult
    from longigen.evaluation.consistency import Consistency
    from longigen.evaluation.evaluate import Evaluation
    from longigen.evaluation.model_comparison import ModelComparison
    from longigen.generation.writer import WrittenVisits
    from longigen.hub.model_summary import ModelSummary
    from longigen.hub.publish import Publication, Release
    from longigen.hub.resolve import Pulled
    from longigen.models.forecast import Forecast, ForecastVisit
    from longigen.models.longitudinal import LongitudinalModel
    from longigen.models.network_codec import NetworkCodec
    from longigen.models.network_segmenter import NetworkSegmenter
    from longigen.models.settings import ModelSettings, Provenance
    from longigen.planning.plan import Plan
    from longigen.preparation.cohort import Preparation
    from longigen.registry import (
        register_codec,
        register_conditioner,
        register_dataset,
        register_denoiser,
        register_metric,
        register_sampler,
        register_segmenter,
    )
    from longigen.reporting.report import Report
    from longigen.reporting.view import View
    from longigen.training.recipe import Recipe
    from longigen.training.run import Run
    from longigen.training.settings import TrainingSettings
    from longigen.training.trainer import Trainer
    from longigen.utils.randomness import Generators, draw_rows, randn_like
    from longigen.utils.time_units import COUNT_UNITS, TIME_UNITS, time_unit

_MODULES = {
    "Assigned": "data.dataset",
    "AugmentSettings": "data.augment",
    "BACKGROUND": "components.visit_sequence",
    "BadData": "data.issues",
    "Batch": "components.visit_sequence",
    "BenchmarkResult": "evaluation.benchmark_result",
    "Codec": "components.codec",
    "Conditioner": "components.conditioner",
    "Conditioning": "components.conditioning",
    "Consistency": "evaluation.consistency",
    "Covariate": "components.visit_sequence",
    "Dataset": "data.dataset",
    "Denoiser": "components.denoiser",
    "DiffusionTarget": "components.training_example",
    "Evaluation": "evaluation.evaluate",
    "Examination": "data.quality.inspect",
    "Example": "components.training_example",
    "Finding": "data.issues",
    "Forecast": "models.forecast",
    "ForecastVisit": "models.forecast",
    "Generators": "utils.randomness",
    "IdentityCodec": "components.codec",
    "LongigenError": "errors",
    "LongigenWarning": "errors",
    "LongitudinalModel": "models.longitudinal",
    "Metric": "components.metric",
    "ModelComparison": "evaluation.model_comparison",
    "ModelSettings": "models.settings",
    "ModelSummary": "hub.model_summary",
    "Moved": "components.denoiser",
    "NetworkCodec": "models.network_codec",
    "NetworkSegmenter": "models.network_segmenter",
    "OnBad": "data.issues",
    "PARTS": "data.dataset",
    "Plan": "planning.plan",
    "Prediction": "components.parameterization",
    "Preparation": "preparation.cohort",
    "Preprocess": "data.preprocess",
    "PreprocessSettings": "data.preprocess",
    "Provenance": "models.settings",
    "Publication": "hub.publish",
    "Pulled": "hub.resolve",
    "Range": "components.ranges",
    "Recipe": "training.recipe",
    "RegionMasks": "components.metric",
    "RegionMetric": "components.metric",
    "Release": "hub.publish",
    "Report": "reporting.report",
    "Routes": "components.conditioning",
    "Run": "training.run",
    "Sampler": "components.sampler",
    "Segmenter": "data.segmenter",
    "SeriesMetric": "components.metric",
    "SetMetric": "components.metric",
    "SplitSettings": "data.split",
    "Statistics": "data.statistics",
    "Step": "components.sampler",
    "Subject": "data.dataset",
    "Table": "data.tables",
    "TableRow": "data.tables",
    "COUNT_UNITS": "utils.time_units",
    "TIME_UNITS": "utils.time_units",
    "Trainer": "training.trainer",
    "TrainingSettings": "training.settings",
    "View": "reporting.view",
    "Visit": "data.dataset",
    "VisitSequence": "components.visit_sequence",
    "Volume": "data.volume",
    "WrittenVisits": "generation.writer",
    "alpha_sigma": "components.parameterization",
    "bench": "api",
    "canonical_shape": "data.volume",
    "canonical_spacing": "data.volume",
    "compare": "api",
    "consistency": "api",
    "did_you_mean": "errors",
    "distill": "api",
    "doubled": "components.deformation",
    "draw_rows": "utils.randomness",
    "evaluate": "api",
    "examine": "api",
    "file_identity": "data.volume",
    "flow": "components.deformation",
    "generate": "api",
    "halved": "components.deformation",
    "has_decimal_comma": "data.tables",
    "info": "api",
    "is_missing": "data.tables",
    "list_models": "api",
    "load": "api",
    "open_dataset": "api",
    "open_image": "data.volume",
    "parse_number": "data.tables",
    "parse_regions": "data.regions",
    "patchify": "components.patches",
    "plan": "api",
    "prediction_target": "components.parameterization",
    "prepare": "api",
    "pull": "api",
    "report": "api",
    "randn_like": "utils.randomness",
    "read_sidecar": "data.sidecar",
    "read_table": "data.tables",
    "read_volume": "data.volume",
    "recomputed": "components.recomputation",
    "refuse": "data.issues",
    "register_codec": "registry",
    "register_conditioner": "registry",
    "register_dataset": "registry",
    "register_denoiser": "registry",
    "register_metric": "registry",
    "register_sampler": "registry",
    "register_segmenter": "registry",
    "require_fetched": "data.pointers",
    "spatial_shape": "data.volume",
    "time_unit": "utils.time_units",
    "train": "api",
    "train_codec": "api",
    "train_segmenter": "api",
    "view": "api",
    "unpatchify": "components.patches",
    "warp": "components.deformation",
}
"""In which module each public name is defined."""

__all__ = [
    "BACKGROUND",
    "COUNT_UNITS",
    "PARTS",
    "TIME_UNITS",
    "Assigned",
    "AugmentSettings",
    "BadData",
    "Batch",
    "BenchmarkResult",
    "Codec",
    "Conditioner",
    "Conditioning",
    "Consistency",
    "Covariate",
    "Dataset",
    "Denoiser",
    "DiffusionTarget",
    "Evaluation",
    "Examination",
    "Example",
    "Finding",
    "Forecast",
    "ForecastVisit",
    "Generators",
    "IdentityCodec",
    "LongigenError",
    "LongigenWarning",
    "LongitudinalModel",
    "Metric",
    "ModelComparison",
    "ModelSettings",
    "ModelSummary",
    "Moved",
    "NetworkCodec",
    "NetworkSegmenter",
    "OnBad",
    "Plan",
    "Prediction",
    "Preparation",
    "Preprocess",
    "PreprocessSettings",
    "Provenance",
    "Publication",
    "Pulled",
    "Range",
    "Recipe",
    "RegionMasks",
    "RegionMetric",
    "Release",
    "Report",
    "Routes",
    "Run",
    "Sampler",
    "Segmenter",
    "SeriesMetric",
    "SetMetric",
    "SplitSettings",
    "Statistics",
    "Step",
    "Subject",
    "Table",
    "TableRow",
    "Trainer",
    "TrainingSettings",
    "View",
    "Visit",
    "VisitSequence",
    "Volume",
    "WrittenVisits",
    "__version__",
    "alpha_sigma",
    "bench",
    "canonical_shape",
    "canonical_spacing",
    "compare",
    "consistency",
    "did_you_mean",
    "distill",
    "doubled",
    "draw_rows",
    "evaluate",
    "examine",
    "file_identity",
    "flow",
    "generate",
    "halved",
    "has_decimal_comma",
    "info",
    "is_missing",
    "list_models",
    "load",
    "open_dataset",
    "open_image",
    "parse_number",
    "parse_regions",
    "patchify",
    "plan",
    "prediction_target",
    "prepare",
    "pull",
    "randn_like",
    "read_sidecar",
    "read_table",
    "read_volume",
    "recomputed",
    "refuse",
    "register_codec",
    "register_conditioner",
    "register_dataset",
    "register_denoiser",
    "register_metric",
    "register_sampler",
    "register_segmenter",
    "report",
    "require_fetched",
    "spatial_shape",
    "time_unit",
    "train",
    "train_codec",
    "train_segmenter",
    "unpatchify",
    "view",
    "warp",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'longigen' has no attribute '{name}'")
    return getattr(import_module(f"longigen.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_MODULES)
