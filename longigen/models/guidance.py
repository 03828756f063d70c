"""Classifier-free guidance."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from longigen.components.conditioning import Conditioning
from longigen.components.parameterization import Prediction, to_epsilon, to_x

Space = Literal["x", "epsilon"]


def guided(
    network: Callable[[Tensor, Tensor, Conditioning], Tensor],
    prediction: Prediction,
    z_t: Tensor,
    log_snr: Tensor,
    conditional: Conditioning,
    unconditional: Conditioning,
    *,
    weight: float,
    space: Space,
    low: Tensor,
    high: Tensor,
) -> Tensor:
    """Return the guided prediction of the clean volume, x̃ = (1 + w) x̂(z, c) - w x̂(z, ∅) (SADM, Eq. 4), within bounds.

    The conditional and the unconditional prediction are one batched call of the network; with w = 0 there is only the
    conditional one.

    Space: the paper writes Eq. 4 for x, Ho and Salimans (2022, Eq. 6) for ε. As x̂ is affine in ε̂ and the two weights
    sum to one, both are the same equation. They part where x̂ is bounded: in x-space each prediction is brought within
    bounds before they are combined (so an unconditional prediction that is off the scale at high noise cannot be
    amplified by w), in ε-space only the combination is.

    Args:
        network: the denoiser, from z_t, λ and a conditioning to its prediction.
        prediction: what it predicts.
        z_t: the noisy volume (B, C, W, H, D).
        log_snr: λ (B,).
        conditional: what the conditioner said.
        unconditional: ∅.
        weight: w ≥ 0; 0 is no guidance.
        space: where the two are combined, see above.
        low: the smallest possible values of x, broadcastable to `z_t`.
        high: the largest.
    """
    if weight == 0:
        return to_x(prediction, network(z_t, log_snr, conditional), z_t, log_snr).clamp(low, high)
    twice_z, twice_log_snr = torch.cat([z_t, z_t]), torch.cat([log_snr, log_snr])
    output = network(twice_z, twice_log_snr, conditional.cat_batch(unconditional))
    if space == "x":
        given, free = to_x(prediction, output, twice_z, twice_log_snr).chunk(2)
        given, free = given.clamp(low, high), free.clamp(low, high)
        return ((1 + weight) * given - weight * free).clamp(low, high)
    given, free = to_epsilon(prediction, output, twice_z, twice_log_snr).chunk(2)
    eps = (1 + weight) * given - weight * free
    return to_x("epsilon", eps, z_t, log_snr).clamp(low, high)
