"""The continuous-time variance-preserving process of SADM, with its ancestral sampler."""

from longigen_continuous.ancestral import ContinuousSampler

__all__ = ["ContinuousSampler"]
