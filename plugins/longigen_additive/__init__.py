"""The `additive` conditioner: source visit and interval, added to the denoiser's first features (Dao et al. 2024)."""

from longigen_additive.conditioner import AdditiveConditioner

__all__ = ["AdditiveConditioner"]
