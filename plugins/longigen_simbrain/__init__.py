"""The `sim-brain` data set: a simulated cohort of ageing brains."""

from longigen_simbrain.cohort import SimBrain, Truth

__all__ = ["SimBrain", "Truth"]
