"""Which components are installed: entry points, registry.yaml, the new-plugin template."""

from longigen.registry.registry import (
    INTERACTIVE,
    KINDS,
    Registry,
    RegistryEntry,
    register_conditioner,
    register_dataset,
    register_denoiser,
    register_metric,
    register_sampler,
    registry,
)

__all__ = [
    "INTERACTIVE",
    "KINDS",
    "Registry",
    "RegistryEntry",
    "register_conditioner",
    "register_dataset",
    "register_denoiser",
    "register_metric",
    "register_sampler",
    "registry",
]
