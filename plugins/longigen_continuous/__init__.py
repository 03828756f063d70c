"""The `continuous` sampler: SADM's continuous-time variance-preserving process with ancestral sampling."""

from longigen_continuous.ancestral import ContinuousSampler

__all__ = ["ContinuousSampler"]
