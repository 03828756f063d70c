"""SADM's attention module (Yoon et al., IPMI 2023, arXiv 2212.08228) as a conditioner."""

from longigen_sadm.conditioner import SADMConditioner

__all__ = ["SADMConditioner"]
