"""The history's slices as tokens, by any of timm's 2D backbones."""

from longigen_timm.conditioner import TimmConditioner

__all__ = ["TimmConditioner"]
