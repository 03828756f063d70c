"""The data set of a CSV or TSV manifest."""

from longigen_csv.manifest import CSVDataset

__all__ = ["CSVDataset"]
