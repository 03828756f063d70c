"""The `csv` data set: a CSV or TSV manifest of NIfTI images."""

from longigen_csv.manifest import CSVDataset

__all__ = ["CSVDataset"]
