"""The `acdc` data set: cardiac cine MRI of the ACDC challenge."""

from longigen_acdc.database import ACDCDataset

__all__ = ["ACDCDataset"]
