"""The `timm` conditioner: slices of the history as tokens, encoded by a 2D backbone of timm."""

from longigen_timm.conditioner import TimmConditioner

__all__ = ["TimmConditioner"]
