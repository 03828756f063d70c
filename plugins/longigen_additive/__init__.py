"""The source visit and the interval, added to the denoiser's first features (Dao, Yang and Kim 2024)."""

from longigen_additive.conditioner import AdditiveConditioner

__all__ = ["AdditiveConditioner"]
