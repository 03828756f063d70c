"""Find installed components by entry point, read registry.yaml files, and create new plugin packages."""

from longigen.registry.registry import (
    INTERACTIVE,
    KINDS,
    Registry,
    RegistryEntry,
    register_codec,
    register_conditioner,
    register_dataset,
    register_denoiser,
    register_metric,
    register_sampler,
    register_segmenter,
    registry,
)

__all__ = [
    "INTERACTIVE",
    "KINDS",
    "Registry",
    "RegistryEntry",
    "register_codec",
    "register_conditioner",
    "register_dataset",
    "register_denoiser",
    "register_metric",
    "register_sampler",
    "register_segmenter",
    "registry",
]
