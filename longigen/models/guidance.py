"""Classifier-free guidance."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from longigen.components.conditioning import Conditioning
from longigen.components.parameterization import Prediction, expand, to_epsilon, to_x
from longigen.components.ranges import NoiseLevels
from longigen.errors import LongigenError

Space = Literal["x", "epsilon"]


def untrained_null(weight: float, *, p_uncond: float, unconditional: str) -> str | None:
    """Return a warning if guidance of a weight uses a prediction without conditioning that was never trained, or None.

    Args:
        weight: guidance weight w ≥ 0.
        p_uncond: probability with which training dropped the conditioning.
        unconditional: what replaced it: ``zero`` for ∅, ``random`` for noise.
    """
    if not weight or (p_uncond and unconditional == "zero"):
        return None
    why = f"model.unconditional={unconditional}" if p_uncond else "model.p_uncond=0"
    return (
        f"Guidance with weight {weight:g} uses the model's prediction without conditioning, which it was never trained "
        f"on ({why}); set guidance to 0, or train with model.p_uncond=0.1 and model.unconditional=zero."
    )


def check_interval(interval: NoiseLevels | None) -> None:
    """Raise a `LongigenError` for an interval of noise levels whose ends are in the wrong order."""
    if interval is not None and interval[0] > interval[1]:
        low, high = interval
        raise LongigenError(
            f"guidance_interval is the lowest and the highest λ, got {low:g} and {high:g}; give the lower one first."
        )


def guided(
    network: Callable[[Tensor, Tensor, Conditioning], Tensor],
    prediction: Prediction,
    z_t: Tensor,
    log_snr: Tensor,
    conditional: Conditioning,
    unconditional: Conditioning,
    *,
    weight: float,
    interval: NoiseLevels | None = None,
    space: Space,
    low: Tensor,
    high: Tensor,
) -> Tensor:
    """Return the guided prediction x̃ = (1 + w) x̂(z, c) - w x̂(z, ∅) of the clean volume (SADM, Eq. 4), clamped.

    The conditional and the unconditional prediction are computed in one batched call of the network; with w = 0 only
    the conditional one is computed.

    Interval: guidance helps at middle noise levels; at high noise it makes samples alike, and at low noise it changes
    nothing (Kynkäänniemi et al. 2024, arXiv 2404.07724). Outside of the interval x̃ is x̂(z, c), from one evaluation. It
    is one of λ, as all noise levels here are; the paper's σ is exp(-λ/2), so its interval (σ_low, σ_high] is λ from
    -2 log σ_high to -2 log σ_low. On a GPU the CPU waits for λ at each step, if there is an interval.

    Space: the SADM paper writes Eq. 4 for x, Ho and Salimans (2022, Eq. 6) write it for ε. As x̂ is affine in ε̂ and
    the two weights sum to one, both equations agree until x̂ is clamped. In x-space each prediction is clamped before
    they are combined, so that w cannot amplify an unconditional prediction that is far out of range at high noise; in
    ε-space only the combination is clamped.

    Args:
        network: the denoiser, a function of z_t, λ and a conditioning.
        prediction: prediction type of the network's output.
        z_t: noisy volume (B, C, W, H, D).
        log_snr: log-SNR λ (B,).
        conditional: the conditioner's output.
        unconditional: the null conditioning ∅.
        weight: guidance weight w ≥ 0; 0 turns guidance off.
        interval: the lowest and the highest λ with guidance; None for all.
        space: variable in which the two predictions are combined, see above.
        low: lower bound of x, broadcastable to `z_t`.
        high: upper bound of x, broadcastable to `z_t`.
    """
    inside = None if interval is None else (log_snr >= interval[0]) & (log_snr <= interval[1])
    if weight == 0 or (inside is not None and not bool(inside.any())):
        return to_x(prediction, network(z_t, log_snr, conditional), z_t, log_snr).clamp(low, high)
    twice_z, twice_log_snr = torch.cat([z_t, z_t]), torch.cat([log_snr, log_snr])
    output = network(twice_z, twice_log_snr, conditional.cat_batch(unconditional))
    w = weight if inside is None else weight * expand(inside.to(z_t.dtype), z_t)
    if space == "x":
        with_c, without_c = to_x(prediction, output, twice_z, twice_log_snr).chunk(2)
        with_c, without_c = with_c.clamp(low, high), without_c.clamp(low, high)
        return ((1 + w) * with_c - w * without_c).clamp(low, high)
    with_c, without_c = to_epsilon(prediction, output, twice_z, twice_log_snr).chunk(2)
    eps = (1 + w) * with_c - w * without_c
    return to_x("epsilon", eps, z_t, log_snr).clamp(low, high)
