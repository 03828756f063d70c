"""The `sim-heart` data set: a simulated cohort of beating hearts in short-axis slices."""

from longigen_simheart.cohort import SimHeart, Truth

__all__ = ["SimHeart", "Truth"]
