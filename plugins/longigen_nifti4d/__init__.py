"""The `nifti4d` data set: a folder of 4D NIfTI series."""

from longigen_nifti4d.folder import NIfTI4DDataset

__all__ = ["NIfTI4DDataset"]
