"""The data set of 4D NIfTI series."""

from longigen_nifti4d.folder import NIfTI4DDataset

__all__ = ["NIfTI4DDataset"]
