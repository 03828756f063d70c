"""Codecs: exact Haar wavelets, and a small autoencoder to train."""

from longigen_codecs.haar import HaarCodec
from longigen_codecs.kl import KLCodec

__all__ = ["HaarCodec", "KLCodec"]
