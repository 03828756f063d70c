"""Attention rollout: the share of each visit in the target's slot, through all levels of the temporal encoder."""

from collections.abc import Sequence

import torch
from torch import Tensor


def rollout(levels: Sequence[Tensor]) -> Tensor:
    """Return the attention flow of each visit into the target's slot, at each position of the finest grid.

    Abnar and Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020, arXiv 2005.00928, Section 3: a block
    propagates by Ã = ½ (A + I), half by attention and half by its residual connection, and blocks multiply:

        R(p) = Ã_ℓ(p_ℓ) ⋯ Ã_2(p_2) Ã_1(p_1)

    Here attention is along time at one position, and 2×2×2 positions are merged between two blocks. A merge is treated
    as the mean that its MLP is added to: it does not mix slots and weights its positions equally. So the flow from a
    fine position p = p_1 ⊂ p_2 ⊂ … ⊂ p_ℓ is the product of the matrices of the positions that contain it, up to a
    factor that is the same for all visits. The flow is the target's row of R(p), without the target itself, whose slot
    is empty. (With skip connections the decoder also weights the encoder's levels, which is not included.)

    Args:
        levels: attention A of each level (B, w, h, d, S, S), finest grid first, query before key, each row a
            distribution. The target is the last of the S = L + 1 slots. Each grid is half of the one before, rounded
            up.

    Returns:
        The flow of each visit (B, w, h, d, L).
    """
    flow = _with_residual(levels[-1])[..., -1, :]
    for attention in reversed(levels[:-1]):
        for axis, size in enumerate(attention.shape[1:4], start=1):
            flow = flow.repeat_interleave(2, dim=axis).narrow(axis, 0, size)
        flow = (flow[..., None, :] @ _with_residual(attention))[..., 0, :]
    return flow[..., :-1]


def shares(levels: Sequence[Tensor], visible: Tensor) -> Tensor:
    """Return the share of each visit in the target's slot, at each position of the finest grid.

    The flow of a visit is divided by R°, the rollout of uniform attention over the visible slots, and the ratios are
    normalised to sum to 1 over visits s:

        share(p, s) = (R(p)[target, s] / R°[target, s]) / Σ_s' (R(p)[target, s'] / R°[target, s'])

    The division is our addition. With causal attention the first visit also flows through all later ones and the last
    visit through none, so uniform attention would seem to prefer the first visit. With the division, uniform attention
    gives equal shares, and for one level the shares are the attention itself, without that of the target to itself.

    Args:
        levels: attention of each level, as in `rollout`.
        visible: which slots each slot may attend to (B, S, S), bool.

    Returns:
        The share of each visit (B, w, h, d, L); zeros for a target before every visit.
    """
    uniform = (visible / visible.sum(dim=-1, keepdim=True))[:, None, None, None]
    expected = rollout([uniform] * len(levels))
    ratio = torch.where(expected > 0, rollout(levels) / expected, 0.0)
    total = ratio.sum(dim=-1, keepdim=True)
    return torch.where(total > 0, ratio / total, 0.0)


def _with_residual(attention: Tensor) -> Tensor:
    """Return ½ (A + I), the propagation of a block with its residual connection."""
    return 0.5 * (attention + torch.eye(attention.shape[-1], device=attention.device))
