"""The conditioners that attention over the sequence is measured against: history as channels, last visit alone."""

from longigen_baselines.raw import RawConditioner
from longigen_baselines.source import SourceConditioner

__all__ = ["RawConditioner", "SourceConditioner"]
