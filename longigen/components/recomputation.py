"""Gradient checkpointing: activations that are computed again in the backward pass instead of being kept."""

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def recomputed(layer: nn.Module, *inputs: Any) -> Any:
    """Return ``layer(*inputs)``; in training, the layer's activations are not kept but computed again for the gradient.

    It saves memory and costs about the time of one more forward pass; the numbers are the same, with dropout too.
    """
    if not torch.is_grad_enabled():
        return layer(*inputs)
    return checkpoint(layer, *inputs, use_reentrant=False)
