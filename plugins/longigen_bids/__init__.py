"""The data set of a BIDS folder with sessions."""

from longigen_bids.dataset import BIDSDataset

__all__ = ["BIDSDataset"]
