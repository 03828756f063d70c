"""The `bids` data set: a BIDS folder with sessions."""

from longigen_bids.dataset import BIDSDataset

__all__ = ["BIDSDataset"]
