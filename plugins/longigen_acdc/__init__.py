"""The data set of the ACDC challenge."""

from longigen_acdc.database import ACDCDataset

__all__ = ["ACDCDataset"]
