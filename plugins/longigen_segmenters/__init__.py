"""Segmenters: a small 3D U-Net to train on a data set's labels, and programs on this machine."""

from longigen_segmenters.program import CommandSegmenter
from longigen_segmenters.unet import UNetSegmenter

__all__ = ["CommandSegmenter", "UNetSegmenter"]
