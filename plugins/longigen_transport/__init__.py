"""Processes that start from a visit instead of noise: flow matching (`transport`) and Brownian bridges (`bridge`)."""

from longigen_transport.bridge import BridgeSampler
from longigen_transport.conditioner import CronosConditioner
from longigen_transport.transport import TransportSampler

__all__ = ["BridgeSampler", "CronosConditioner", "TransportSampler"]
